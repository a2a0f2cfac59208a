"""The other channel of the same documents: does a prompt have the latent that its response has?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from saeray.analysis.sides import Side
from saeray.stats.frequency import flat, lengths

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Partner:
    """`side`: the documents in the other channel; `row` int64[documents]: of each document compared its row there, in
    scan order, -1 where it has none, which counts as having no latents."""

    side: Side
    row: Int64

    @classmethod
    def of(cls, side: Side, other: Side) -> Partner:
        """The rows of `other` with the ids of `side`."""
        row = pc.fill_null(pc.index_in(side.doc_ids, value_set=other.doc_ids.combine_chunks()), -1)
        return cls(other, row.to_numpy().astype(np.int64))

    def where(self, keep: NDArray[np.bool_]) -> Partner:
        """Those of a mask of the documents."""
        return Partner(self.side, self.row[keep])

    def beside(self, side: Side, columns: Sequence[str]) -> Iterator[tuple[pa.RecordBatch, Int64, Int64]]:
        """Each batch of `side` with the latents of its documents in the other channel: (batch, row in it, latent).

        A part holds a document's channels next to each other, so both are read once, side by side.
        """
        window = _Window(self.side)
        first = 0
        for table in side.scan(columns):
            for batch in table.to_batches():
                rows = self.row[first : first + batch.num_rows]
                first += batch.num_rows
                yield batch, *window.latents(rows)


class _Window:
    """The rows of a side that are at hand; it moves forward, and begins anew when an earlier row is wanted."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._restart()

    def latents(self, rows: Int64) -> tuple[Int64, Int64]:
        """(place in `rows`, latent) of every latent of the rows, -1 having none."""
        places = np.flatnonzero(rows >= 0)
        if not places.size:
            return places, places
        low, high = int(rows[places].min()), int(rows[places].max())
        if low < self._first:
            self._restart()
        while self._end <= high:
            table = next(self._tables)
            self._held.append(table)
            self._end += table.num_rows
        while self._first + self._held[0].num_rows <= low:
            self._first += self._held.pop(0).num_rows
        held = pa.concat_tables(self._held).take(pa.array(rows[places] - self._first))
        batch = held.combine_chunks().to_batches()[0]
        return np.repeat(places, lengths(batch, "latents")), flat(batch, "latents").astype(np.int64)

    def _restart(self) -> None:
        self._tables = iter(self._side.scan(["latents"]))
        self._held: list[pa.Table] = []
        self._first = self._end = 0
