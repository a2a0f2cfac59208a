"""What a diff found, said in a few statements: labelled differences of the proposing half go to the LLM, a direction
at a time, and come back as statements that each name the latents behind them.

The LLM is shown the proposing half alone: its labels, its shares, its passages. What a statement is expected to show
is looked up in the other half afterwards, by us.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from saeray.analysis.evidence import collect
from saeray.analysis.hypotheses.merge import Asking, gather
from saeray.analysis.hypotheses.statements import LATENTS, Hypothesis
from saeray.analysis.sides import Side
from saeray.llm.prompts import Difference
from saeray.stats.frequency import flat


@dataclass(frozen=True)
class Found:
    """A latent that differs. side: where it is more frequent, 0 the target, 1 the other. expected: its difference in
    the verifying half, target less other. shares: of the proposing half's documents, its own side and the highest
    other. passage: where it is active."""

    latent: int
    side: int
    label: str
    expected: float
    shares: tuple[float, float]
    passage: str = ""


@dataclass(frozen=True)
class Proposal:
    """Statements, and what is in none of them. dropped: why -> how many statements; left_out: why -> the latents."""

    hypotheses: tuple[Hypothesis, ...]
    dropped: Mapping[str, int]
    left_out: Mapping[str, tuple[int, ...]]


def propose(found: Sequence[Found], most: int, asking: Asking) -> Proposal:
    """At most `most` statements on what was found, strongest first. With findings of both sides each is asked for half
    of them, at least one; the target's first. Raises what the client raises."""
    hypotheses: list[Hypothesis] = []
    dropped: Counter[str] = Counter()
    left_out: dict[str, list[int]] = {}
    for side, share in divided(most, {one.side for one in found}).items():
        own = [one for one in found if one.side == side]
        items = [Difference(n, one.label, *one.shares, one.passage) for n, one in enumerate(own, start=1)]
        got = gather(items, share, asking)
        for one in got.statements:
            latents = [own[number - 1] for number in one.numbers]
            expected = max((latent.expected for latent in latents), key=abs)
            numbers = tuple(latent.latent for latent in latents)
            hypotheses.append(Hypothesis(one.text, LATENTS, side, numbers, expected, one.reason))
        dropped.update(got.refused)
        for why, numbers_lost in got.lost.items():
            left_out.setdefault(why, []).extend(own[number - 1].latent for number in numbers_lost)
    return Proposal(tuple(hypotheses), dict(dropped), {why: tuple(lost) for why, lost in left_out.items()})


def divided(most: int, sides: set[int]) -> dict[int, int]:
    """How many statements each side is asked for: all for one, half each for two (at least one, an odd one to the
    target)."""
    if len(sides) < 2:
        return dict.fromkeys(sides, most)
    return {0: max(1, -(-most // 2)), 1: max(1, most // 2)}


def found_in(
    sides: Sequence[Side], direction: int, labels: Mapping[int, str], expected: Mapping[int, float]
) -> list[Found]:
    """The labelled latents of one direction with their shares and a passage from the proposing half's `sides`, target
    first, in the order of `labels`. direction: 0 for those more frequent in the target, 1 in the other."""
    if not labels:
        return []
    own, others = (sides[0], sides[1:]) if direction == 0 else (sides[1], sides[:1])
    wanted = np.array(sorted(labels), np.int64)
    here, there = _shares(own, wanted), np.max([_shares(side, wanted) for side in others], axis=0)
    place = {int(latent): i for i, latent in enumerate(wanted)}
    evidence = collect(own, wanted.tolist(), examples=1, tokens=0)
    found = []
    for latent, label in labels.items():
        examples = evidence[latent].examples
        passage = examples[0].excerpt if examples else None
        text = f"{passage.before}{passage.peak}{passage.after}".strip() if passage else ""
        shares = float(here[place[latent]]), float(there[place[latent]])
        found.append(Found(latent, direction, label, expected[latent], shares, text))
    return found


def _shares(side: Side, wanted: np.ndarray) -> np.ndarray:
    """The share of the side's documents with each of `wanted` (ascending), float64."""
    counts = np.zeros(len(wanted), np.int64)
    for table in side.scan(["latents"]):
        for batch in table.to_batches():
            latents = flat(batch, "latents").astype(np.int64)
            there = latents[np.isin(latents, wanted)]
            counts += np.bincount(np.searchsorted(wanted, there), minlength=len(wanted))
    return counts / max(1, side.n_documents)
