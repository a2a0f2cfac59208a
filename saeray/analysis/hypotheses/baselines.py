"""What an LLM finds by reading the documents alone, so that latents are never praised for what reading would find too.

Both baselines of the method's authors start with the same notes: texts of the sides are read together, the answers to
one prompt where prompts are shared, else a few of each side, and what the one side has and the other lacks is written
down. `llm-summary` sums the notes up in batches and then again; `llm-cluster` embeds them and names clusters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.cluster.vq import ClusterError, kmeans2

from saeray.analysis.diff.design import Design
from saeray.analysis.hypotheses.merge import Asking, Gathered, gather, told
from saeray.analysis.hypotheses.propose import Proposal, divided
from saeray.analysis.hypotheses.statements import CLUSTER, SUMMARY, Hypothesis
from saeray.analysis.hypotheses.steps import LONGEST
from saeray.analysis.sides import Side
from saeray.errors import UsageError
from saeray.labels.embedding import Embedder
from saeray.llm import Client
from saeray.llm.prompts import Difference, properties

#: Texts of a group where no prompts are shared, and notes that a reader may write of one side.
FEW, NOTES = 5, 5
#: Readings whose notes are summed up in one call, and notes nearest to a cluster's centre that name it: the authors'.
SUMMED, NEAREST = 100, 5
RESTARTS = 10

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True)
class Reading:
    """Texts that are read together: the target's, and those of all other sides."""

    first: tuple[str, ...]
    second: tuple[str, ...]


@dataclass(frozen=True)
class Note:
    """What somebody saw in one reading: a property of side 0, the target, or 1."""

    text: str
    side: int
    reading: int


@dataclass(frozen=True)
class Notes:
    """All notes. missing: why -> readings whose call came to nothing."""

    notes: tuple[Note, ...]
    readings: int
    missing: Mapping[str, int]


def readings(design: Design, most: int | None = None) -> list[Reading]:
    """What is read together of a design without halves: one text a side for each key, or FEW texts of the target with
    as many of the others. most: documents of the target that are read at most, spread over all. Raises UsageError
    where the texts are not stored."""
    for side in design.sides:
        if "text" not in side.stored:
            raise UsageError(f"{side.name} was stored without its texts; encode it with them to ask an LLM about it")
    if design.keys is not None:
        keys = _spread(design.n_keys, most)
        first_of = [np.unique(key, return_index=True)[1] for key in design.keys]
        texts = [_texts(side, rows[keys]) for side, rows in zip(design.sides, first_of, strict=True)]
        return [Reading((own[0],), tuple(own[1:])) for own in zip(*texts, strict=True)]
    target, others = design.sides[0], design.sides[1:]
    rows = _spread(target.n_documents, most)
    groups = np.array_split(rows, max(1, -(-len(rows) // FEW)))
    share = max(1, FEW // len(others))
    read = [_texts(side, _spread(side.n_documents, share * len(groups))) for side in others]
    own = iter(_texts(target, rows))
    found = []
    for number, group in enumerate(groups):
        # Of a side with too few documents some are read twice: none is left without a counterpart.
        second = [t[(number + i * len(groups)) % len(t)] for t in read for i in range(share)]
        found.append(Reading(tuple(next(own) for _ in group), tuple(dict.fromkeys(second))))
    return found


def take_notes(read: Sequence[Reading], both: bool, asking: Asking) -> Notes:
    """The notes on every reading. both: of the other side too. Raises what the client raises."""
    options: dict[str, Any] = {"both": both, "most": NOTES, "thinking_budget": asking.thinking}
    requests = [properties(asking.model, one.first, one.second, **options) for one in read]
    notes: list[Note] = []
    missing: Counter[str] = Counter()
    for number, reply in enumerate(asking.client.complete_many(requests, asking.stage, asking.on_progress)):
        if reply.missing is not None:
            missing[f"notes: a reading came to nothing ({reply.missing})"] += 1
            continue
        for one in reply.value["properties"]:
            text = " ".join(one["property"].split())
            if text:
                notes.append(Note(text, int(one["group"] == "second"), number))
    return Notes(tuple(notes), len(read), dict(missing))


def summarise(notes: Notes, most: int, asking: Asking) -> Proposal:
    """`llm-summary`: notes of SUMMED readings at a time, then what came of these."""
    found: list[Hypothesis] = []
    dropped = Counter(notes.missing)
    for side, share in _shares(notes, most).items():
        own = [note for note in notes.notes if note.side == side]
        items = [Difference(number, note.text) for number, note in enumerate(own, start=1)]
        batches: dict[int, list[Difference]] = {}
        for note, item in zip(own, items, strict=True):
            batches.setdefault(note.reading // SUMMED, []).append(item)
        got = gather(items, share, asking, source="readers", batches=list(batches.values()))
        found += _hypotheses(got, SUMMARY, side)
        _count(dropped, got)
    return Proposal(tuple(found), dict(dropped), {})


def cluster(notes: Notes, most: int, asking: Asking, embed: Embed) -> Proposal:
    """`llm-cluster`: k-means of the notes' embeddings, k = the statements wanted; each cluster, largest first, is named
    from the NEAREST notes to its centre."""
    found: list[Hypothesis] = []
    dropped = Counter(notes.missing)
    for side, share in _shares(notes, most).items():
        texts = [note.text for note in notes.notes if note.side == side]
        vectors = embed(texts)
        parts = [[Difference(row + 1, texts[row]) for row in rows[:NEAREST]] for rows in _clusters(vectors, share)]
        got = told(parts, 1, asking, "readers")
        found += _hypotheses(got, CLUSTER, side)
        _count(dropped, got)
    return Proposal(tuple(found), dict(dropped), {})


def embedding(model: str | None, client: Client) -> Embed:
    """What embeds notes: a model of the LLM's service, or MiniLM on this machine. Raises SaerayError where it is not
    there, UsageError where a cap in dollars could not count it."""
    if model is None:
        embedder = Embedder()
        return lambda texts: embedder.embed(texts)
    capped = client.sender.budget.cap.money is not None and not client.backend.free
    if capped and client.sender.table.of(model) is None:
        raise UsageError(f"the price of {model} is unknown: cap the tokens, give a price table, or use MiniLM")
    return lambda texts: client.embed(model, texts, "embed")


def _clusters(vectors: NDArray[np.float32], k: int) -> list[list[int]]:
    """Rows of each of at most `k` clusters, nearest to its centre first; the largest cluster first. The best of
    RESTARTS seeded runs, from spread starts (k-means++)."""
    data, best = vectors.astype(np.float64), None
    k = min(k, len(np.unique(data, axis=0)))
    for seed in range(RESTARTS):
        with suppress(ClusterError):  # a cluster ran empty
            centres, label = kmeans2(data, k, minit="++", missing="raise", rng=np.random.default_rng(seed))
            far = np.linalg.norm(data - centres[label], axis=1)
            if best is None or (far**2).sum() < best[0]:
                best = (far**2).sum(), far, label
    if best is None:
        return _clusters(vectors, k - 1)
    _, far, label = best
    found = [np.flatnonzero(label == number) for number in range(k)]
    ordered = [rows[np.argsort(far[rows], kind="stable")].tolist() for rows in found]
    return sorted(ordered, key=lambda rows: -len(rows))


def _shares(notes: Notes, most: int) -> dict[int, int]:
    return divided(most, {note.side for note in notes.notes})


def _hypotheses(got: Gathered, method: str, side: int) -> list[Hypothesis]:
    return [Hypothesis(one.text, method, side, reason=one.reason) for one in got.statements]


def _count(dropped: Counter[str], got: Gathered) -> None:
    dropped.update(got.refused)
    dropped.update({f"notes: {why}": len(numbers) for why, numbers in got.lost.items()})


def _spread(n: int, most: int | None) -> NDArray[np.int64]:
    """Rows of at most `most` of `n`, evenly over all, ascending."""
    count = n if most is None else min(n, most)
    return np.arange(count, dtype=np.int64) * n // max(1, count)


def _texts(side: Side, rows: NDArray[np.int64]) -> list[str]:
    """The texts of some rows of a side (by scan order), in the order of `rows`."""
    found: dict[int, str] = {}
    wanted, first = np.unique(rows), 0
    for table in side.scan(["text"]):
        here = wanted[(wanted >= first) & (wanted < first + table.num_rows)]
        texts = table.column("text").take(pa.array(here - first)).to_pylist()
        found |= dict(zip(here.tolist(), ((text or "")[:LONGEST] for text in texts), strict=True))
        first += table.num_rows
    return [found[row] for row in rows.tolist()]
