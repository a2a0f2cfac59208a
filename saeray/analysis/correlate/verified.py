"""Do two concepts travel together in the texts, and not only two latents? A judge's answers on a sample, weighed up.

Documents are drawn from four strata of known size: with both latents, with the one, with the other, with neither. Each
stratum's answers stand for all of it, so rare pairs need no thousand documents. What stands in the many documents with
neither latent decides the NPMI as much as the pair does, so half of the sample is of those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saeray.analysis.correlate.asking import Share, Verified
from saeray.analysis.correlate.pairs import Part, columns
from saeray.labels.detection import mixed
from saeray.labels.llm.detect import as_property
from saeray.llm import Client, Reply, Request
from saeray.llm.prompts import judge

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Parts of a sample: with both, the first alone, the second alone, neither.
SPLIT = (0.2, 0.15, 0.15, 0.5)
#: Draws of an interval, and the prior of each of the four cells of a stratum: at Jeffreys' 1/2 the 95% intervals of 300
#: simulated samples of 60 held the truth in 94 to 100 of 100, and a cell that was not seen is not taken for empty.
DRAWS, PRIOR = 2_000, 0.5
#: Characters of a text that a judge reads: some 3,000 tokens.
MOST_CHARACTERS = 12_000

Texts = Callable[[int, Int64], Sequence[str]]
"""Texts of documents, numbered through all parts, of side 0 (the first concept's channel) or 1."""


@dataclass(frozen=True)
class Sample:
    """Documents drawn for a pair of concepts: `strata`, ascending numbers of each; `sizes`, of how many each was drawn.
    `latents`: the first stratum is of documents with both latents."""

    first: str
    second: str
    strata: tuple[Int64, ...]
    sizes: tuple[int, ...]
    latents: bool
    reason: str = ""

    @property
    def documents(self) -> Int64:
        """All of them, stratum after stratum."""
        return np.concatenate(self.strata)


def kept_documents(parts: Sequence[Part]) -> Int64:
    """Numbers, through all parts, of the documents that are looked at."""
    return np.flatnonzero(np.concatenate([part.kept for part in parts]))


def sample_of(parts: Sequence[Part], i: int, j: int, labels: tuple[str, str], documents: int) -> Sample:
    """About `documents` documents for the pair (i, j), by hash of their number alone: pairs that share a label share
    answers."""
    held = [_held(parts, side, latent) for side, latent in enumerate((i, j))]
    every = kept_documents(parts)
    has = [np.isin(every, one) for one in held]
    strata = [every[has[0] & has[1]], every[has[0] & ~has[1]], every[~has[0] & has[1]], every[~has[0] & ~has[1]]]
    drawn = tuple(_draw(one, round(share * documents)) for one, share in zip(strata, SPLIT, strict=True))
    return Sample(*labels, drawn, tuple(len(one) for one in strata), latents=True)


def plain_sample(parts: Sequence[Part], labels: tuple[str, str], documents: int, reason: str = "") -> Sample:
    """`documents` documents for two concepts that have no latents."""
    every = kept_documents(parts)
    return Sample(*labels, (_draw(every, documents),), (len(every),), latents=False, reason=reason)


def judge_pairs(
    samples: Sequence[Sample], texts: Texts, client: Client, model: str, stage: str, thinking: int | None = 0
) -> list[Verified]:
    """Judges both concepts of each sample on all of its documents, in one round of calls."""
    asked: list[Request] = []
    for one in samples:
        for side, label in enumerate((one.first, one.second)):
            asked += [
                judge(model, as_property(label), text[:MOST_CHARACTERS], reason=False, thinking_budget=thinking)
                for text in texts(side, one.documents)
            ]
    replies = iter(client.complete_many(asked, stage))
    found = []
    for one in samples:
        answers = [np.array([_said(next(replies)) for _ in one.documents], np.int64) for _ in range(2)]
        found.append(verified(one, answers[0], answers[1]))
    return found


def verified(sample: Sample, first: Int64, second: Int64) -> Verified:
    """Estimates from answers in the order of `sample.documents`: 1 yes, 0 no, -1 missing.

    A document that lacks an answer is left out of its stratum. Intervals: 95% of DRAWS draws from the strata's
    Dirichlet posteriors at PRIOR (a Bayesian stratified bootstrap); a stratum that was judged whole has none.
    """
    stratum = np.repeat(np.arange(len(sample.strata)), [len(one) for one in sample.strata])
    known = (first >= 0) & (second >= 0)
    cells = counts(stratum[known], first[known], second[known], len(sample.strata))
    sizes = np.array(sample.sizes, np.int64)
    judged, missing = int(known.sum()), int((~known).sum())
    point = values(shares(cells, sizes))
    draws = values(_draws(cells, sizes))
    npmi, one_given, other_given, one, other, both = (
        Share(_number(value), *(_number(edge) for edge in _interval(drawn, float(value))))
        for value, drawn in zip(point, draws.T, strict=True)
    )
    worst, best = bounds(cells, np.bincount(stratum, minlength=len(sizes)), sizes)
    return Verified(
        sample.first,
        sample.second,
        npmi,
        one_given,
        other_given,
        one,
        other,
        both,
        judged,
        missing,
        worst,
        best,
        int(cells[0, 0]) if sample.latents else None,
        int(cells[0].sum()) if sample.latents else None,
        sample.reason,
    )


def counts(stratum: Int64, first: Int64, second: Int64, strata: int) -> Int64:
    """int64[strata, 4]: documents with both concepts, the first alone, the second alone, neither."""
    cell = 3 - 2 * first - second  # 0 both, 1 the first alone, 2 the second alone, 3 neither
    return np.bincount(stratum * 4 + cell, minlength=4 * strata).reshape(strata, 4).astype(np.int64)


def shares(cells: Int64, sizes: Int64) -> Float64:
    """float64[4]: shares of all documents in the four cells, each stratum standing for its size; nan when a stratum
    that has documents has no answer."""
    answered = cells.sum(axis=1)
    if ((answered == 0) & (sizes > 0)).any():
        return np.full(4, np.nan)
    weight = sizes / max(1, int(sizes.sum()))
    found: Float64 = (weight / np.maximum(answered, 1)) @ cells
    return found


def values(cells: Float64) -> Float64:
    """float64[..., 6] of shares [..., 4]: NPMI, P(1|2), P(2|1), P(1), P(2), P(both); nan where one is undefined.

    NPMI as `saeray.stats.association.npmi`: never together is -1, always together undefined. Bouma 2009.
    """
    both = cells[..., 0]
    one, other = both + cells[..., 1], both + cells[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        npmi = np.log(both / (one * other)) / -np.log(both)
        npmi = np.where((both <= 0) & (one > 0) & (other > 0), -1.0, np.where(both >= 1, np.nan, npmi))
        found: Float64 = np.stack([npmi, both / other, both / one, one, other, both], axis=-1)
    return found


def _draws(cells: Int64, sizes: Int64) -> Float64:
    """float64[DRAWS, 4]."""
    rng = np.random.default_rng(0)
    total = np.zeros((DRAWS, 4))
    for own, size in zip(cells, sizes.tolist(), strict=True):
        if own.sum() < size:
            total += size * rng.dirichlet(own + PRIOR, DRAWS)
        elif size:
            total += own
    return total / max(1, int(sizes.sum()))


def bounds(cells: Int64, asked: Int64, sizes: Int64) -> tuple[float | None, float | None]:
    """Between what the NPMI of the whole sample lies, whatever the missing answers would have been.

    `cells` int64[strata, 4] as of `counts`; `asked` int64[strata]: documents drawn. NPMI rises with the share of both
    and falls with the share of either, so its ends are at those of the three shares.
    """
    weight = sizes / max(1, int(sizes.sum()))
    known = (weight / np.maximum(asked, 1)) @ cells
    open_ = float((weight / np.maximum(asked, 1)) @ (asked - cells.sum(axis=1)))
    both, one, other = known[0], known[0] + known[1], known[0] + known[2]
    least = _npmi(both, one + open_, other + open_)
    both += open_
    return least, _npmi(both, max(one, both), max(other, both))


def _npmi(both: float, one: float, other: float) -> float | None:
    return _number(values(np.array([both, one - both, other - both, 0.0]))[0])


def _held(parts: Sequence[Part], side: int, latent: int) -> Int64:
    """Numbers of the looked-at documents in which a latent is present."""
    found, start = [np.empty(0, np.int64)], 0
    for part in parts:
        found.append(np.asarray(columns(part, side, np.array([latent])).matrix.indices, np.int64) + start)
        start += part.documents
    return np.concatenate(found)


def _draw(documents: Int64, number: int) -> Int64:
    order = np.argsort(mixed(documents.astype(np.uint64)), kind="stable")
    return np.sort(documents[order[:number]])


def _said(reply: Reply) -> int:
    return -1 if reply.missing is not None else int(reply.value["verdict"] == "yes")


def _interval(drawn: Float64, value: float) -> tuple[float, float]:
    """Its ends; the estimate itself is in it, though the prior may pull all draws to one side of it."""
    known = drawn[~np.isnan(drawn)]
    if not len(known) or value != value:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return min(float(low), value), max(float(high), value)


def _number(value: float) -> float | None:
    return round(float(value), 6) if value == value else None
