"""All that `saeray stats` counts of some rows, in a form that adds up exactly: integers, maxima and a sketch.

Shards can be counted anywhere and added in any order, and the same bits come out. Floating-point sums would not do: of
10^9 documents they depend on the order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.errors import SaerayError
from saeray.stats.frequency import Float64, Frequencies, Int64, flat, lengths, pieces, values
from saeray.stats.quantiles import Sketch, codes, value_of

#: Inner edges of the length strata: ceil(2**(s/2)) tokens. Lengths in a stratum differ by 41% at most, and the strata
#: are the same for all data, so that they add.
EDGES: Int64 = np.unique(np.ceil(2 ** (np.arange(2, 63) / 2) - 1e-9).astype(np.int64))

#: Sums are kept in two integers, of 1/16 and of 2**-24 (the unit of halves): one of 64 bits would run over at 8 million
#: documents of the largest half.
_LOW_BITS = 20
_LOW = (1 << _LOW_BITS) - 1


@dataclass(frozen=True)
class Exact:
    """Sums as integers: `high` / 16 + `low` / 2**24, both int64[d_sae], `low` in 0..2**20-1."""

    high: Int64
    low: Int64

    @classmethod
    def carried(cls, high: Int64, low: Int64) -> Exact:
        """From a `low` that may be larger."""
        return cls(high + (low >> _LOW_BITS), low & _LOW)

    def __add__(self, other: Exact) -> Exact:
        return Exact.carried(self.high + other.high, self.low + other.low)

    def to_float(self) -> Float64:
        """The nearest float64, whatever was added in whatever order; exact below 2**29."""
        return self.high / 16 + self.low / 2.0**24


@dataclass(frozen=True)
class Tally:
    """Counts over some documents; latent i is element i of each array of length d_sae.

    `n_tokens` int64, ascending: the lengths there are, and `n_documents` int64: how many documents have each.
    `strata`: stratum -> int64[d_sae], documents of that length in which the latent is present (strata without documents
    left out). `tokens` int64: tokens on which it is active. `maximum` float32, 0 where it never is. `max_sum`: sum
    over documents of its maximum. `sum`: of its sum over tokens, where that is stored; a document's is counted to
    2**-25. `sketch`: of its maxima where it is present.
    """

    n_tokens: Int64
    n_documents: Int64
    strata: Mapping[int, Int64]
    tokens: Int64
    maximum: NDArray[np.float32]
    max_sum: Exact
    sum: Exact | None
    sketch: Sketch

    @property
    def d_sae(self) -> int:
        return len(self.tokens)

    @cached_property
    def documents(self) -> Int64:
        """Documents in which the latent is present, int64[d_sae]."""
        found = np.zeros(self.d_sae, np.int64)
        for stratum in self.strata.values():
            found += stratum
        return found

    def frequencies(self) -> Frequencies:
        """The same counts as what the analyses take."""
        return Frequencies(
            int(self.n_documents.sum()),
            int((self.n_tokens * self.n_documents).sum()),
            self.documents,
            self.tokens,
            self.maximum,
            self.max_sum.to_float(),
        )

    def median_tokens(self) -> float:
        """Median length of the documents; NaN when there are none."""
        total = int(self.n_documents.sum())
        if not total:
            return float("nan")
        middle = np.searchsorted(np.cumsum(self.n_documents), [(total - 1) // 2, total // 2], side="right")
        return float(self.n_tokens[middle].mean())

    def percentiles(self, wanted: Sequence[float]) -> Float64:
        """float64[len(wanted), d_sae]: percentiles of non-zero maxima; see `Sketch.percentiles`."""
        return np.minimum(self.sketch.percentiles(wanted), self.maximum)

    def __add__(self, other: Tally) -> Tally:
        if self.d_sae != other.d_sae or (self.sum is None) != (other.sum is None):
            raise ValueError("counts of different encoders or columns cannot be added")
        n_tokens, place = np.unique(np.concatenate([self.n_tokens, other.n_tokens]), return_inverse=True)
        n_documents = np.zeros(len(n_tokens), np.int64)
        np.add.at(n_documents, place, np.concatenate([self.n_documents, other.n_documents]))
        strata = dict(self.strata)
        for stratum, found in other.strata.items():
            strata[stratum] = strata[stratum] + found if stratum in strata else found
        return Tally(
            n_tokens,
            n_documents,
            dict(sorted(strata.items())),
            self.tokens + other.tokens,
            np.maximum(self.maximum, other.maximum),
            self.max_sum + other.max_sum,
            None if self.sum is None or other.sum is None else self.sum + other.sum,
            self.sketch + other.sketch,
        )


def stratum_of(n_tokens: Int64) -> Int64:
    """The length stratum, 0 to len(EDGES), of documents of so many tokens; 0 is of 0 and 1 token."""
    return np.searchsorted(EDGES, n_tokens, side="right")


def empty(d_sae: int, with_sum: bool) -> Tally:
    """The tally of no rows."""
    none, zeros = np.zeros(0, np.int64), np.zeros(d_sae, np.int64)
    exact = Exact(zeros, zeros)
    maximum = np.zeros(d_sae, np.float32)
    return Tally(none, none, {}, zeros, maximum, exact, exact if with_sum else None, Sketch.empty(d_sae))


def tally(batch: pa.RecordBatch, d_sae: int) -> Tally:
    """Counts of the rows of `batch`, which has `frequency.COLUMNS` and perhaps `sum`; every row is one document.

    Raises SaerayError when a row holds a latent that the encoder does not have, or a maximum that is no half.
    """
    size = np.asarray(values(batch, "n_tokens"), np.int64)
    n_tokens, n_documents = np.unique(size, return_counts=True)
    strata, stratum = np.unique(stratum_of(size), return_inverse=True)
    sizes = lengths(batch, "latents")
    sums = _Sums(d_sae, len(strata), "sum" in batch.schema.names, int(sizes.sum()))
    for start, stop in pieces(sizes):
        sums.add(batch.slice(start, stop - start), np.repeat(stratum[start:stop], sizes[start:stop]))
    # One sort (6 ns a value where NumPy has AVX-512) gives the sketch, and the maximum besides.
    keys = sums.keys
    keys.sort()
    firsts: NDArray[np.unsignedinteger] = np.arange(d_sae, dtype=np.uint64) << np.uint64(16)
    bounds = np.append(np.searchsorted(keys, firsts.astype(keys.dtype)), keys.size)
    there = np.flatnonzero(np.diff(bounds))
    maximum = np.zeros(d_sae, np.float32)
    maximum[there] = value_of(keys[bounds[there + 1] - 1].astype(np.uint32) & np.uint32(0xFFFF))
    return Tally(
        n_tokens,
        n_documents,
        dict(zip(strata.tolist(), sums.documents.reshape(-1, d_sae), strict=True)),
        sums.tokens,
        maximum,
        Exact.carried(np.zeros(d_sae, np.int64), sums.units),
        None if sums.sum is None else Exact.carried(sums.sum.high, sums.sum.low),
        Sketch.from_sorted(keys, bounds),
    )


class _Sums:
    """Scattered sums of a batch, piece by piece; `keys`: `latent << 16 | code` of every value, in row order."""

    def __init__(self, d_sae: int, strata: int, with_sum: bool, values: int) -> None:
        self.documents = np.zeros(strata * d_sae, np.int64)
        self.tokens, self.units = np.zeros(d_sae, np.int64), np.zeros(d_sae, np.int64)
        self.keys: NDArray[np.unsignedinteger] = np.empty(values, np.uint32 if d_sae <= 1 << 16 else np.uint64)
        self.sum = Exact(np.zeros(d_sae, np.int64), np.zeros(d_sae, np.int64)) if with_sum else None
        self._d_sae, self._done = d_sae, 0

    def add(self, piece: pa.RecordBatch, stratum: Int64) -> None:
        """`stratum` int64: that of each latent's row, counted from 0."""
        latents = flat(piece, "latents").astype(np.int64)
        if latents.size and not 0 <= latents.min() <= latents.max() < self._d_sae:
            raise SaerayError(f"a row holds latent {latents.max()}, the encoder has {self._d_sae}; run `saeray verify`")
        value = np.asarray(flat(piece, "max"), np.float32)
        own = self.keys[self._done : self._done + latents.size]
        np.left_shift(latents.astype(own.dtype), own.dtype.type(16), out=own)
        np.bitwise_or(own, codes(value), out=own)
        self._done += latents.size
        np.add.at(self.tokens, latents, flat(piece, "count").astype(np.int64))
        # A batch would need 2**23 rows of the largest half for this to run over 64 bits.
        np.add.at(self.units, latents, (value * np.float32(2**24)).astype(np.int64))
        if self.sum is not None:
            wide = flat(piece, "sum").astype(np.float64) * 16
            whole = np.floor(wide)
            np.add.at(self.sum.high, latents, whole.astype(np.int64))
            np.add.at(self.sum.low, latents, np.rint((wide - whole) * (1 << _LOW_BITS)).astype(np.int64))
        np.add.at(self.documents, stratum * self._d_sae + latents, 1)
