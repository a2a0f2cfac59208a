"""Which documents have some latents, as sparse rows: what tests of pairs need beyond counts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from saeray.analysis.diff.given import Partner
from saeray.analysis.sides import Side
from saeray.stats.frequency import flat, lengths

Int64 = NDArray[np.int64]

#: Documents x latents of all sides taken at a time: the tests of pairs make a handful of dense arrays of this many
#: doubles (32 MB each).
CELLS = 1 << 22


def pieces(latents: Int64, documents: int) -> Iterator[slice]:
    """Runs of `latents` whose presence in that many documents is at most `CELLS`; each takes a pass over the rows."""
    step = max(1, CELLS // max(documents, 1))
    return (slice(at, min(at + step, latents.size)) for at in range(0, latents.size, step))


#: Postings held at a time: 13 bytes each while they are sorted.
POSTINGS = 1 << 26


def wide(postings: Int64) -> Iterator[slice]:
    """Runs of latents with some `POSTINGS` postings each: one pass over the rows serves many `pieces`."""
    runs = np.cumsum(postings) // POSTINGS
    ends = [0, *(np.flatnonzero(np.diff(runs)) + 1).tolist(), postings.size]
    return (slice(a, b) for a, b in pairwise(ends))


def presence(side: Side, latents: Int64, partner: Partner | None = None) -> csr_array:
    """Sparse int8[documents, len(latents)] in scan order, 1 where present; with a `partner`, present in the other
    channel. `latents` ascending. One pass; memory is 5 bytes a posting."""
    rows: list[Int64] = []
    columns: list[Int64] = []
    first = 0
    batches: Iterator[tuple[pa.RecordBatch, Int64, Int64]]
    if partner is None:
        batches = ((batch, *_own(batch)) for table in side.scan(["latents"]) for batch in table.to_batches())
    else:
        batches = partner.beside(side, ["n_tokens"])
    for batch, row, latent in batches:
        place = np.minimum(np.searchsorted(latents, latent), max(latents.size - 1, 0))
        wanted = latents[place] == latent if latents.size else np.zeros(latent.size, np.bool_)
        rows.append((row[wanted] + first).astype(np.int32))
        columns.append(place[wanted].astype(np.int32))
        first += batch.num_rows
    at = (np.concatenate([*rows, np.zeros(0, np.int32)]), np.concatenate([*columns, np.zeros(0, np.int32)]))
    return csr_array((np.ones(at[0].size, np.int8), at), shape=(side.n_documents, latents.size))


def _own(batch: pa.RecordBatch) -> tuple[Int64, Int64]:
    return (
        np.repeat(np.arange(batch.num_rows), lengths(batch, "latents")),
        flat(batch, "latents").astype(np.int64),
    )
