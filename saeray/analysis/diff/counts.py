"""How many documents of each side, half and length have each latent, from one pass over the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.analysis.diff.design import Design
from saeray.analysis.diff.given import Partner
from saeray.analysis.sides import Side
from saeray.stats.frequency import COLUMNS, Frequencies, flat, grouped, lengths

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Given:
    """`present` int64[d_sae]: documents whose other channel has the latent; `both`: those that have it here too."""

    present: Int64
    both: Int64

    def __add__(self, other: Given) -> Given:
        return Given(self.present + other.present, self.both + other.both)


@dataclass(frozen=True)
class Counts:
    """Of some documents of one side: by class of length, and by the other channel when one is given."""

    strata: tuple[Frequencies, ...]
    given: Given | None = None

    @cached_property
    def total(self) -> Frequencies:
        """All classes of length together."""
        return reduce(add, self.strata)

    def __add__(self, other: Counts) -> Counts:
        given = None if self.given is None or other.given is None else self.given + other.given
        return Counts(tuple(a + b for a, b in zip(self.strata, other.strata, strict=True)), given)


#: Of each half (who proposes, who verifies) the counts of each side; twice the same where there are no halves.
Halves = tuple[tuple[Counts, ...], tuple[Counts, ...]]


def count(
    side: Side, group: Int64, n_groups: int, inner: Int64, d_sae: int, partner: Partner | None = None
) -> list[Counts]:
    """Counts of each group of documents, in one pass; `group` int64[documents], 0..n_groups-1, in scan order.

    Memory is n_groups x classes of length x d_sae x 28 bytes, and 16 more for each group when a `partner` is given,
    whatever the number of documents.
    """
    classes = len(inner) + 1
    cell = group * classes + np.searchsorted(inner, side.lengths, side="right")
    found = grouped(side.scan(COLUMNS), d_sae, n_groups * classes, _in_turn(cell))
    given: Sequence[Given | None] = [None] * n_groups
    if partner is not None:
        given = _given(side, group, n_groups, d_sae, partner)
    return [Counts(tuple(found[g * classes : (g + 1) * classes]), given[g]) for g in range(n_groups)]


def count_design(design: Design, inner: Int64, d_sae: int, partners: Sequence[Partner] | None = None) -> Halves:
    """Counts of each half of a design, one pass a side."""
    halves: tuple[list[Counts], list[Counts]] = ([], [])
    for s, side in enumerate(design.sides):
        partner = None if partners is None else partners[s]
        if design.proposing is None:
            (all_,) = count(side, np.zeros(side.n_documents, np.int64), 1, inner, d_sae, partner)
            propose = verify = all_
        else:
            propose, verify = count(side, (~design.proposing[s]).astype(np.int64), 2, inner, d_sae, partner)
        halves[0].append(propose)
        halves[1].append(verify)
    return tuple(halves[0]), tuple(halves[1])


def postings(halves: Halves, tested: Int64) -> Int64:
    """In how many documents of both halves, of all sides and channels, each latent of `tested` is; int64[m]."""
    distinct = halves if halves[0][0] is not halves[1][0] else halves[:1]
    found = np.zeros(tested.size, np.int64)
    for side in (side for half in distinct for side in half):
        found += side.total.documents[tested]
        if side.given is not None:
            found += side.given.present[tested]
    return found


def _in_turn(group: Int64) -> Callable[[pa.RecordBatch], Int64]:
    """The groups of each batch, batches taken in scan order."""
    first = 0

    def of(batch: pa.RecordBatch) -> Int64:
        nonlocal first
        own = group[first : first + batch.num_rows]
        first += batch.num_rows
        return own

    return of


def _given(side: Side, group: Int64, n_groups: int, d_sae: int, partner: Partner) -> list[Given]:
    present, both = (np.zeros(n_groups * d_sae, np.int64) for _ in range(2))
    of = _in_turn(group)
    for batch, row, latent in partner.beside(side, ["latents"]):
        own = of(batch)
        np.add.at(present, own[row] * d_sae + latent, 1)
        here = np.repeat(np.arange(batch.num_rows), lengths(batch, "latents")) * d_sae
        here = here + flat(batch, "latents").astype(np.int64)
        shared = np.intersect1d(here, row * d_sae + latent, assume_unique=True)
        np.add.at(both, own[shared // d_sae] * d_sae + shared % d_sae, 1)
    tables = zip(present.reshape(n_groups, d_sae), both.reshape(n_groups, d_sae), strict=True)
    return [Given(*one) for one in tables]


def by_length(sides: Sequence[Counts], tested: Int64) -> tuple[Int64, Int64]:
    """Documents with each latent of `tested` in each class of length, int64[sides, strata, m], and of how many,
    [sides, strata, 1]."""
    x = np.array([[stratum.documents[tested] for stratum in one.strata] for one in sides])
    n = np.array([[stratum.n_documents for stratum in one.strata] for one in sides])
    return x, n[:, :, None]


def by_given(sides: Sequence[Counts], tested: Int64) -> tuple[Int64, Int64] | None:
    """The same among documents with the latent in the other channel and among those without it, both
    int64[sides, 2, m]; None where no channel is given."""
    x, n = [], []
    for one in sides:
        if one.given is None:
            return None
        there, both = one.given.present[tested], one.given.both[tested]
        x.append([both, one.total.documents[tested] - both])
        n.append([there, one.total.n_documents - there])
    return np.array(x), np.array(n)
