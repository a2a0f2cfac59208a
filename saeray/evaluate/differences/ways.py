"""The ways to say how two sides differ, each a list of at most ten names: the diff's own, and what it is held against.

Beside the diff's names: the stored labels of the same findings; labelled latents by plain difference of frequency, with
no test, no grouping and no look at the documents; the words that differ most; and latents picked at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saeray.analysis.diff.claims import claim_of
from saeray.analysis.diff.options import Options
from saeray.analysis.diff.result import DiffResult
from saeray.analysis.diff.run import compare
from saeray.analysis.diff.setup import arrange
from saeray.analysis.sides import Side
from saeray.evaluate.differences.documents import PAIR, frequencies
from saeray.evaluate.differences.keywords import Keywords
from saeray.evaluate.differences.words import log_odds
from saeray.labels.groups import LatentGroup
from saeray.labels.meanings import Meanings

#: As many names as count, and the few that are read first.
TOP, FIRST = 10, 3
NAMES, LABELS, RAW, WORDS, RANDOM = "diff: names", "diff: labels", "raw difference", "words", "random latents"
WAYS = (NAMES, LABELS, RAW, WORDS, RANDOM)

#: Why the diff's names miss, from what there is to find to what is shown.
NO_LABEL = "no label says it"
TOO_RARE = "its latents are too rare here"
NO_DIFFERENCE = "its latents do not differ more in the target"
LENGTH = "set aside: not separable from length"
GROUPED = "not confirmed, or behind another latent of a finding"
UNNAMED = "a finding's label says it, and no name of the finding holds here"
RENAMED = "a finding's label says it, its name does not"
BELOW = "below the first ten"


@dataclass(frozen=True)
class Said:
    """What a way says first, and the place from 1 of the first name that names the difference; None: none does.
    `in_first`, `in_top`: 1 or 0, or for random latents the chance."""

    way: str
    names: tuple[str | None, ...]
    place: int | None
    in_first: float
    in_top: float

    @classmethod
    def of(cls, way: str, names: Sequence[str | None], keywords: Keywords, task: str) -> Said:
        """The way's names, best first; those after the first ten are looked through and not kept."""
        place = keywords.first(task, names)
        ranks = (float(place is not None and place <= k) for k in (FIRST, TOP))
        return cls(way, tuple(names[:TOP]), place, *ranks)


def run_diff(sides: Sequence[Side], made_with: Mapping[str, Any], meanings: Meanings) -> DiffResult:
    """The diff of two sides as `saeray diff` does it by default, paired where they carry keys."""
    options = Options(pair_on=PAIR if all(PAIR in side.stored for side in sides) else None)
    made = arrange(sides, None, options)
    return compare(made.design, made_with, options, meanings, made.facts, made.partners)


def all_ways(
    result: DiffResult, sides: Sequence[Side], labels: Mapping[int, str], d_sae: int, keywords: Keywords, task: str
) -> list[Said]:
    """Every way on the same documents. `labels`: the store's, one a latent."""
    found = [
        Said.of(NAMES, names_of(result), keywords, task),
        Said.of(LABELS, [result.row(group.latents[0])["label"] for group in shown(result)], keywords, task),
        Said.of(RAW, by_difference(sides, labels, d_sae), keywords, task),
    ]
    if all("text" in side.stored for side in sides):
        words = log_odds(*(_texts(side) for side in sides))
        found.append(Said.of(WORDS, [word for word, z in words if z > 0], keywords, task))
    return [*found, _random(result, keywords, task)]


def shown(result: DiffResult) -> tuple[LatentGroup, ...]:
    """The findings that are more in the target, in the order of the page: those that stand, then the guesses."""
    order = result.order(0)
    return (*order.best, *order.guesses)


def names_of(result: DiffResult) -> list[str | None]:
    """What the page calls its findings that are more in the target; None: a guess, which has no name that holds."""
    found = [(group, result.called(group)) for group in shown(result)]
    return [claim_of(name) if name and result.stands(group) else None for group, name in found]


def by_difference(sides: Sequence[Side], labels: Mapping[int, str], d_sae: int) -> list[str | None]:
    """Labels of the labelled latents that are more frequent in the target, largest difference first."""
    target, other = (frequencies(side, d_sae) for side in sides)
    difference = np.round(target - other, 12)
    order = np.argsort(-difference, kind="stable").tolist()
    return [labels[latent] for latent in order if difference[latent] > 0 and latent in labels]


def lost_to(result: DiffResult, labels: Mapping[int, str], said: Sequence[Said], keywords: Keywords, task: str) -> str:
    """Why no name of the first ten names the difference: the first thing on the way that left no latent whose label
    does. Empty when one is named."""
    names, by_label = said[0], said[1]
    if names.in_top:
        return ""
    if names.place is not None:
        return BELOW
    known = {latent for latent, text in labels.items() if keywords.name(task, text)}
    if not known:
        return NO_LABEL
    rows = [row for row in result.rows.to_pylist() if row["latent"] in known]
    if not rows:
        return TOO_RARE
    keep, q = result.parameters["keep"], result.parameters["q"]
    rows = [row for row in rows if row["q"] <= q and row["proposed_difference"] > keep]
    if not rows:
        return NO_DIFFERENCE
    rows = [row for row in rows if row["separable_from_length"]]
    if not rows:
        return LENGTH
    if by_label.place is None:
        return GROUPED
    return RENAMED if names_of(result)[by_label.place - 1] else UNNAMED


def _random(result: DiffResult, keywords: Keywords, task: str) -> Said:
    """The chance that of so many tested latents, drawn at random, one label names the difference."""
    labels = result.rows.column("label").to_pylist()
    hits, n = sum(keywords.name(task, label) for label in labels), len(labels)
    return Said(RANDOM, (), None, *(any_of(n, hits, k) for k in (FIRST, TOP)))


def any_of(n: int, hits: int, drawn: int) -> float:
    """The chance of a hit among `drawn` of `n` without replacement: the hypergeometric, 1 - P(0)."""
    missed = 1.0
    for i in range(min(drawn, n)):
        missed *= max(0, n - hits - i) / (n - i)
    return 1 - missed


def _texts(side: Side) -> list[str]:
    return [text or "" for table in side.scan(["text"]) for text in table.column("text").to_pylist()]
