"""The figures of every tested latent: frequencies, differences, p-values and limits, each from its own half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.analysis.diff.counts import Counts, Halves, by_given, by_length, postings
from saeray.analysis.diff.design import Design
from saeray.analysis.diff.given import Partner
from saeray.analysis.diff.presence import rows_of, runs
from saeray.analysis.diff.tests import Tested, paired, unpaired
from saeray.stats.length import standardise
from saeray.stats.significance import supported

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """Of each latent of `tested` (ascending), before any correction. `proposed`: the difference in the proposing half,
    `level` and `given` the same within classes of length and of the other channel (NaN where none is common). `columns`
    are those of the result that rest on no correction.
    """

    tested: Int64
    proposed: Float64
    level: Float64
    given: Float64
    figures: Tested
    columns: dict[str, Any]

    def strength(self) -> Float64:
        """The smaller of the proposed difference and that at equal length, where there is one, with the sign of the
        former; 0 when they disagree: what length explains is no strong finding."""
        sign = np.sign(self.proposed)
        at_level = np.where(np.isnan(self.level), np.inf, np.maximum(sign * self.level, 0))
        return np.asarray(sign * np.minimum(np.abs(self.proposed), at_level), np.float64)


def supported_latents(halves: Halves, support: int) -> Int64:
    """The latents to test, ascending: present in `support` of the proposing documents and absent from as many."""
    total = reduce(add, (side.total for side in halves[0]))
    return np.flatnonzero(supported(total.documents, total.n_documents, support))


def figures(
    design: Design, halves: Halves, tested: Int64, inner: Int64, partners: Sequence[Partner] | None = None
) -> Tested:
    """p-values and limits of the latents of `tested`; when paired, in one pass over the rows of each side."""
    if design.keys is None or not tested.size:
        return unpaired(halves, tested)
    taken = runs(postings(halves, tested), sum(side.n_documents for side in design.sides))
    pieces = (
        rows_of(side, tested, taken, inner, None if partners is None else partners[s])
        for s, side in enumerate(design.sides)
    )
    return Tested.joined([paired(design, rows, len(inner) + 1) for rows in zip(*pieces, strict=True)])


def measure(design: Design, halves: Halves, tested: Int64, found: Tested) -> Measured:
    """All figures of `tested`, from counts and from what `figures` found."""
    propose, verify = (_Half(half, tested) for half in halves)
    if found.union is not None:
        propose, verify = (
            half.as_keys(one, keys.n_keys)
            for half, one, keys in zip(
                (propose, verify), found.union, (design.proposers(), design.verifiers()), strict=True
            )
        )
    # 0.33 - 0.30 is 0.030000000000000027 in double precision, which is not more than 0.03 and no stronger than 0.13 -
    # 0.10.
    proposed = np.round(propose.difference(), 12)
    difference = verify.difference()
    others = [side.name for side in design.sides[1:]]
    named = [" or ".join(others)] if found.union is not None else others
    each = np.arange(tested.size)
    upward, downward = found.lower > 0, np.nan_to_num(found.upper) < 0
    columns = {
        "latent": tested.astype(np.uint32),
        "difference": difference,
        "lower": found.lower,
        "upper": pa.array(found.upper, from_pandas=True),
        "p": found.p,
        "proposed_difference": proposed,
        "confirmed": np.where(proposed > 0, upward, (proposed < 0) & downward),
        "frequency_target": verify.rates[0],
        "frequency_other": np.array(verify.rates[1:])[verify.highest, each],
        "other": pa.array([named[i] for i in verify.highest], pa.string()),
        "documents": pa.array(np.array(verify.counts).T.tolist(), pa.list_(pa.int64())),
        "difference_at_equal_length": pa.array(verify.level(), from_pandas=True),
        "difference_given": pa.array(verify.given(), from_pandas=True),
        "mean_max_target": verify.mean_max[0],
        "mean_max_other": np.array(verify.mean_max[1:])[verify.loudest, each],
    }
    return Measured(tested, proposed, propose.level(), propose.given(), found, columns)


class _Half:
    """The counts of one half at the tested latents."""

    def __init__(self, sides: Sequence[Counts], tested: Int64) -> None:
        self._sides, self._tested, self._union = sides, tested, False
        self.counts = [side.total.documents[tested] for side in sides]
        self.rates = [side.total.frequency[tested] for side in sides]
        self.mean_max = [side.total.mean_max[tested] for side in sides]
        self.loudest = np.argmax(self.rates[1:], axis=0)

    def as_keys(self, counts: Int64, n_keys: int) -> _Half:
        """The half with the counts of keys, int64[2, m], in the place of documents."""
        self.counts, self._union = list(counts), True
        self.rates = [one / max(n_keys, 1) for one in counts]
        return self

    @property
    def highest(self) -> Int64:
        """The other side with the highest frequency."""
        return np.asarray(np.argmax(self.rates[1:], axis=0), np.int64)

    def difference(self) -> Float64:
        """Target less the highest other."""
        return np.asarray(self.rates[0] - np.max(self.rates[1:], axis=0))

    def level(self) -> Float64:
        """The difference at equal length, NaN where no class of length is common."""
        rates = standardise(*by_length(self._sides, self._tested))
        return np.asarray(rates[0] - self._others(rates[1:]))

    def given(self) -> Float64:
        """The difference among documents whose other channel is alike; NaN where no channel is given."""
        found = by_given(self._sides, self._tested)
        if found is None:
            return np.full(self._tested.size, np.nan)
        rates = standardise(*found)
        return np.asarray(rates[0] - self._others(rates[1:]))

    def _others(self, rates: Float64) -> Float64:
        """The highest of the others; against a union any of them, taken as independent: answers to one key are alike,
        so it is less, and the difference no smaller."""
        return np.asarray(1 - np.prod(1 - rates, axis=0) if self._union else rates.max(axis=0))
