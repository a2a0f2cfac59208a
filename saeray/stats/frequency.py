"""How often each latent is present: exact integer counts from one pass over sparse rows.

Every analysis starts from these counts. They are sums and maxima, so shards can be counted anywhere, in any order,
and added; the integers come out the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from saeray.errors import SaerayError

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

#: The columns of `documents` that counting reads.
COLUMNS = ("n_tokens", "latents", "max", "count")
#: Latents counted at once: four arrays of 2 MB fit a core's cache, and are not fetched anew from the system.
PIECE = 1 << 18


@dataclass(frozen=True)
class Frequencies:
    """Counts over some documents; latent i is element i of each array, all of length d_sae.

    `documents` int64: documents in which the latent is present. `tokens` int64: tokens on which it is active.
    `maximum` float32: its largest value, 0 where it never is. `max_sum` float64: sum over documents of its
    per-document maximum (exact while the maxima are stored as halves and the sum stays below 2^29).
    """

    n_documents: int
    n_tokens: int
    documents: Int64
    tokens: Int64
    maximum: NDArray[np.float32]
    max_sum: Float64

    @property
    def d_sae(self) -> int:
        return len(self.documents)

    @property
    def frequency(self) -> Float64:
        """Document frequency, float64[d_sae]: the share of documents in which the latent is present."""
        return self.documents / max(self.n_documents, 1)

    @property
    def token_frequency(self) -> Float64:
        """Share of pooled tokens on which the latent is active, float64[d_sae]."""
        return self.tokens / max(self.n_tokens, 1)

    @property
    def mean_max(self) -> Float64:
        """Mean over the documents where the latent is present of its maximum there; 0 where it never is."""
        return self.max_sum / np.maximum(self.documents, 1)

    def __add__(self, other: Frequencies) -> Frequencies:
        if self.d_sae != other.d_sae:
            raise ValueError(f"counts of d_sae {self.d_sae} and {other.d_sae} cannot be added")
        return Frequencies(
            self.n_documents + other.n_documents,
            self.n_tokens + other.n_tokens,
            self.documents + other.documents,
            self.tokens + other.tokens,
            np.maximum(self.maximum, other.maximum),
            self.max_sum + other.max_sum,
        )


def frequencies(tables: Iterable[pa.Table], d_sae: int) -> Frequencies:
    """Counts over all rows of `tables`, which have at least `COLUMNS`; every row is one document."""
    return grouped(tables, d_sae, 1, lambda batch: np.zeros(batch.num_rows, np.int64))[0]


def grouped(
    tables: Iterable[pa.Table], d_sae: int, n_groups: int, group_of: Callable[[pa.RecordBatch], Int64]
) -> list[Frequencies]:
    """Counts of each of `n_groups` groups of rows, in one pass.

    `group_of` maps a batch of rows to int64[rows] in 0..n_groups-1. Memory is n_groups x d_sae x 28 bytes, whatever
    the number of documents. Raises SaerayError when a row holds a latent that the encoder does not have.
    """
    size = n_groups * d_sae
    n_documents, n_tokens = np.zeros(n_groups, np.int64), np.zeros(n_groups, np.int64)
    documents, tokens = np.zeros(size, np.int64), np.zeros(size, np.int64)
    maximum, max_sum = np.zeros(size, np.float32), np.zeros(size)
    for table in tables:
        for batch in table.to_batches():
            group = group_of(batch)
            n_documents += np.bincount(group, minlength=n_groups)
            np.add.at(n_tokens, group, values(batch, "n_tokens").astype(np.int64))
            for start, stop in pieces(lengths(batch, "latents")):
                piece = batch.slice(start, stop - start)
                slot = flat(piece, "latents").astype(np.int64)
                if slot.size and slot.max() >= d_sae:
                    raise SaerayError(f"a row holds latent {slot.max()}, the encoder has {d_sae}; run `saeray verify`")
                if n_groups > 1:
                    slot += np.repeat(group[start:stop] * d_sae, lengths(piece, "latents"))
                value = flat(piece, "max").astype(np.float32)
                np.add.at(documents, slot, 1)
                np.add.at(tokens, slot, flat(piece, "count").astype(np.int64))
                np.add.at(max_sum, slot, value.astype(np.float64))
                np.maximum.at(maximum, slot, value)
    columns = (a.reshape(n_groups, d_sae) for a in (documents, tokens, maximum, max_sum))
    return [Frequencies(int(n), int(t), *row) for n, t, *row in zip(n_documents, n_tokens, *columns, strict=True)]


def values(batch: pa.RecordBatch, column: str) -> NDArray[np.generic]:
    """A flat column as NumPy."""
    array: NDArray[np.generic] = batch.column(column).to_numpy(zero_copy_only=False)
    return array


def flat(batch: pa.RecordBatch, column: str) -> NDArray[np.generic]:
    """All elements of a list column, in row order; honours the batch's slice."""
    array: NDArray[np.generic] = batch.column(column).flatten().to_numpy(zero_copy_only=False)
    return array


def lengths(batch: pa.RecordBatch, column: str) -> Int64:
    """Length of each row's list, int64[rows]; a null list counts as empty."""
    found = pc.fill_null(pc.list_value_length(batch.column(column)), 0)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.int64)


def pieces(sizes: Int64) -> Iterator[tuple[int, int]]:
    """Runs of rows with some `PIECE` latents each, whose arrays stay in a core's cache."""
    cuts = np.searchsorted(np.cumsum(sizes), np.arange(PIECE, sizes.sum(), PIECE))
    return pairwise(dict.fromkeys([0, *cuts.tolist(), len(sizes)]))
