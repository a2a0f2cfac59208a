"""Percentiles of stored values that can be added up: how many values of each latent fall into each of fixed buckets.

Stored maxima are halves, so a value is one of 40,960 codes (its exponent and ten bits behind the point). A bucket is 16
neighbouring codes: 64 a factor of two, whose middle is within 1/128 of every value in it. The buckets are the same for
all data, so the counts of shards add to those of the whole exactly, in any order; a t-digest or a KLL sketch would
depend on the order. HdrHistogram and DDSketch (Masson et al., VLDB 2019) are the same idea.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from saeray.errors import SaerayError

Int64 = NDArray[np.int64]

#: Largest relative error of a percentile: a bucket is 1/64 of its lower end wide at most, and its middle is given.
ERROR = 1 / 128
#: float32 has 23 bits behind the point, a half 10.
_SPARE_BITS = 13
#: The code of 2**-24, the smallest half; that of 65,504, the largest, is 40,959.
_LEAST = np.uint32(103 << 10)
CODES = 40 << 10
#: A bucket is 2**4 codes.
_BUCKET_BITS = 4
BUCKETS = CODES >> _BUCKET_BITS


def codes(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """The code, below `CODES`, of each half above 0 held in a float32; greater values have greater codes.

    Raises SaerayError for any other value, which no encoder stores.
    """
    bits = values.view(np.uint32)
    code = bits >> np.uint32(_SPARE_BITS)
    code -= _LEAST  # wraps to something large for what is too small
    spare = int(np.bitwise_or.reduce(bits, initial=0)) & ((1 << _SPARE_BITS) - 1)
    if spare or code.max(initial=0) >= CODES:
        raise SaerayError("a row holds a maximum that is not a half above 0; run `saeray verify`")
    return code


def value_of(code: NDArray[np.uint32]) -> NDArray[np.float32]:
    """The inverse of `codes`, float32."""
    return ((code.astype(np.uint32) + _LEAST) << np.uint32(_SPARE_BITS)).view(np.float32)


@dataclass(frozen=True)
class Sketch:
    """`counts` int64[d_sae, BUCKETS], sparse: how many values of each latent lie in each bucket."""

    counts: csr_array

    @classmethod
    def empty(cls, d_sae: int) -> Sketch:
        """Of no values."""
        return cls(csr_array((d_sae, BUCKETS), dtype=np.int64))

    @classmethod
    def from_sorted(cls, keys: NDArray[np.unsignedinteger], bounds: Int64) -> Sketch:
        """From `latent << 16 | code` of every value, ascending; latent i has keys[bounds[i]:bounds[i + 1]]."""
        cell = keys >> keys.dtype.type(_BUCKET_BITS)
        first = np.flatnonzero(np.concatenate([np.ones(min(1, cell.size), np.bool_), cell[1:] != cell[:-1]]))
        counts = np.diff(first, append=cell.size)
        bucket = (cell[first] & cell.dtype.type((1 << 16 - _BUCKET_BITS) - 1)).astype(np.int32)
        return cls._of(counts, bucket, np.searchsorted(first, bounds))

    @classmethod
    def from_buckets(cls, sizes: Int64, bucket: NDArray[np.int32], counts: Int64) -> Sketch:
        """From how many buckets each latent has values in (`sizes`, int64[d_sae]), which these are, latent by latent
        and ascending, and how many values lie in each; the inverse of `buckets`."""
        return cls._of(counts, bucket, np.concatenate([[0], np.cumsum(sizes)]))

    @classmethod
    def _of(cls, counts: Int64, bucket: NDArray[np.int32], starts: Int64) -> Sketch:
        # Indices of 32 bits where they do: SciPy would make all 64 to fit the starts, and add at half the speed.
        starts = starts.astype(np.int32) if counts.size < 2**31 else starts
        made = csr_array((counts.astype(np.int64), bucket, starts), shape=(len(starts) - 1, BUCKETS))
        made.has_canonical_format = True
        return cls(made)

    def buckets(self) -> tuple[Int64, NDArray[np.int32], Int64]:
        """What `from_buckets` takes."""
        sizes = np.diff(self.counts.indptr).astype(np.int64)
        return sizes, self.counts.indices.astype(np.int32, copy=False), self.counts.data

    def __add__(self, other: Sketch) -> Sketch:
        return Sketch(self.counts + other.counts)

    def percentiles(self, wanted: Sequence[float]) -> NDArray[np.float64]:
        """float64[len(wanted), d_sae]: for each p, the smallest value that at least p% of a latent's values do not pass
        (NumPy's `inverted_cdf`), within `ERROR` of it; 0 for a latent without values."""
        upto = np.concatenate([[0], np.cumsum(self.counts.data)])
        before = upto[self.counts.indptr[:-1]]
        n = upto[self.counts.indptr[1:]] - before
        lower = value_of(np.arange(BUCKETS, dtype=np.uint32) << np.uint32(_BUCKET_BITS)).astype(np.float64)
        upper = value_of(np.arange(1, BUCKETS + 1, dtype=np.uint32) * np.uint32(1 << _BUCKET_BITS) - np.uint32(1))
        middle = (lower + upper) / 2
        found = np.zeros((len(wanted), len(n)))
        for row, percent in zip(found, wanted, strict=True):
            thousandths = round(percent * 1000)
            rank = np.maximum((n * thousandths + 99_999) // 100_000, 1)
            at = np.searchsorted(upto, before + rank, side="left") - 1
            row[n > 0] = middle[self.counts.indices[at[n > 0]]]
        return found
