"""The pairs of latents that stand in the same documents more than chance would have it, from tiles of exact counts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.errors import SaerayError
from saeray.report.cooccur import page as cooccur_page
from saeray.stats.association import conditional, npmi
from saeray.store.files import Location
from saeray.store.tiles import Manifest, TileFacts, Tiles, encode_tile

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

#: To sort and write 50 million pairs takes 8 GB; nobody reads them, and a floor a little higher leaves few.
MOST_EDGES = 50_000_000
EDGES = pa.schema(
    [
        ("i", pa.int32()),
        ("j", pa.int32()),
        ("count", pa.int64()),
        ("npmi", pa.float64()),
        ("p_i_given_j", pa.float64()),
        ("p_j_given_i", pa.float64()),
    ]
)


@dataclass(frozen=True)
class CooccurResult:
    """Counts of pairs within one channel, or between two of the same documents.

    `documents`: how many. `bands`: of each side the latents in the band, int64 ascending; `frequencies`: of each side
    in how many documents each latent is present, int64[d_sae]. `needed`: the tiles that hold pairs of the bands.
    `work`: what this run did (tiles made, seconds).
    """

    manifest: Manifest
    tiles: Tiles
    documents: int
    bands: tuple[Int64, Int64]
    frequencies: tuple[Int64, Int64]
    needed: Mapping[tuple[int, int], TileFacts]
    band: tuple[float, float]
    min_support: int
    floor: float
    selection: Mapping[str, Any]
    made_with: Mapping[str, Any]
    work: Mapping[str, Any]

    @property
    def channels(self) -> tuple[str, ...]:
        """One channel, or the two of rows and columns."""
        return self.manifest.channels

    @property
    def within(self) -> bool:
        """Whether the pairs are of one channel: (i, j) and (j, i) are one then."""
        return len(self.channels) == 1

    def latents(self, channel: str) -> Int64:
        """The latents in the band, int64 ascending."""
        return self.bands[self.channels.index(channel)]

    def frequency(self, channel: str) -> Int64:
        """In how many of the documents each of `latents(channel)` is present, int64."""
        side = self.channels.index(channel)
        return self.frequencies[side][self.bands[side]]

    def ranges(self, side: int) -> list[Int64]:
        """The latents of each tile along side 0 (rows) or 1 (columns), in the tiles' order, those out of the band
        among them."""
        order = np.array(self.manifest.latents[side], np.int64)
        return [order[start : start + self.manifest.width] for start in range(0, len(order), self.manifest.width)]

    def tile(self, row: int, column: int) -> Int64:
        """int64[ranges(0)[row], ranges(1)[column]]: documents that have both. Within a channel row <= column. KeyError
        when no pair of the tile is in the band."""
        return self.tiles.counts(self.needed[row, column])

    def edges(self) -> pa.Table:
        """The pairs in the band with at least `min_support` documents and an NPMI of at least `floor`, by falling NPMI.

        Columns of `EDGES`: latents i (rows) and j (columns; i < j within one channel), documents with both, NPMI, and
        the shares of j's documents that have i and of i's that have j. Pairs in every document have no NPMI and are
        left out. Raises SaerayError when there are more than MOST_EDGES.
        """
        return self._found

    @cached_property
    def _found(self) -> pa.Table:
        parts, total = [], 0
        for found in self._edges():
            total += len(found[0])
            if total > MOST_EDGES:
                raise SaerayError(f"more than {MOST_EDGES:,} pairs pass a floor of {self.floor}: raise --floor")
            parts.append(found)
        columns = [np.concatenate(one) for one in zip(*parts, strict=True)] if parts else [np.empty(0)] * 4
        i, j, count, value = columns
        order = np.lexsort((j, i, -value))
        i, j, count, value = (one[order] for one in (i.astype(np.int64), j.astype(np.int64), count, value))
        given_j, given_i = conditional(count, self.frequencies[1][j]), conditional(count, self.frequencies[0][i])
        return pa.table(dict(zip(EDGES.names, (i, j, count, value, given_j, given_i), strict=True))).cast(EDGES)

    def _edges(self) -> Iterator[tuple[Int64, Int64, Int64, Float64]]:
        rows, columns = self.ranges(0), self.ranges(1)
        in_band = [np.isin(np.arange(len(n)), band) for n, band in zip(self.frequencies, self.bands, strict=True)]
        for (row, column), facts in self.needed.items():
            r, c = rows[row], columns[column]
            kept_r, kept_c = np.flatnonzero(in_band[0][r]), np.flatnonzero(in_band[1][c])
            counts = self.tiles.counts(facts)[np.ix_(kept_r, kept_c)]
            i, j = r[kept_r], c[kept_c]
            n_i, n_j = self.frequencies[0][i], self.frequencies[1][j]
            maybe = counts >= np.maximum(least_counts(n_i, n_j, self.documents, self.floor), self.min_support)
            if self.within and row == column:
                maybe = np.triu(maybe, 1)
            at_r, at_c = np.nonzero(maybe)
            count = counts[at_r, at_c]
            value = npmi(count, n_i[at_r], n_j[at_c], self.documents)
            passes = value >= self.floor  # false where it is nan
            a, b = i[at_r[passes]], j[at_c[passes]]
            if self.within:
                a, b = np.minimum(a, b), np.maximum(a, b)
            yield a, b, count[passes], value[passes]

    def write_tiles(self, place: Location) -> None:
        """Writes every needed tile, whole, below `place`: ROW-COLUMN.arrow, with both sides' latents as metadata."""
        rows, columns = self.ranges(0), self.ranges(1)
        for row, column in self.needed:
            sides = {"row_latents": rows[row], "column_latents": columns[column]}
            about = {name: json.dumps(latents.tolist()) for name, latents in sides.items()}
            (place / f"{row:04d}-{column:04d}.arrow").replace(encode_tile(self.tile(row, column), about))

    @property
    def rows(self) -> pa.Table:
        """The edges, for `result.parquet`."""
        return self.edges()

    def summary(self) -> dict[str, Any]:
        """JSON-ready; the same for the same documents and options, whatever a run had to do."""
        edges = self.edges()
        return {
            "analysis": "cooccur",
            "selection": dict(self.selection),
            "documents": self.documents,
            "channels": list(self.channels),
            "band": list(self.band),
            "min_support": self.min_support,
            "floor": self.floor,
            "latents": [len(band) for band in self.bands],
            "pairs": self.pairs(),
            "edges": edges.num_rows,
            "tiles": self.tiles.place.uri,
            "width": self.manifest.width,
            "made_with": dict(self.made_with),
        }

    def pairs(self) -> int:
        """How many pairs there are in the band."""
        m, n = (len(band) for band in self.bands)
        return m * (m - 1) // 2 if self.within else m * n

    def table(self, limit: int = 10) -> list[dict[str, Any]]:
        """The strongest pairs, for a terminal."""
        return list(self.edges().slice(0, limit).to_pylist())

    def page(self) -> str:
        """The report, one HTML page."""
        return cooccur_page(self.summary(), self.table(100))


def least_counts(n_i: Int64, n_j: Int64, n: int, floor: float) -> Float64:
    """Documents that two latents must share to reach an NPMI of `floor`, float64[len(n_i), len(n_j)], a hair too few.

    log(c n / (n_i n_j)) >= floor log(n / c), solved for c. What passes is looked at exactly, the rest not at all.
    """
    if floor <= -1:
        return np.zeros((len(n_i), len(n_j)))
    power = 1 / (1 + floor)
    left = np.power(n_i.astype(np.float64), power) * n ** ((floor - 1) * power) * (1 - 1e-9)
    least: Float64 = np.outer(left, np.power(n_j.astype(np.float64), power))
    return least


def in_band(frequency: Int64, documents: int, band: Sequence[float], min_support: int) -> Int64:
    """Latents that are present in at least `min_support` of the documents and in a share within `band`, ascending."""
    share = frequency / documents
    return np.flatnonzero((share >= band[0]) & (share <= band[1]) & (frequency >= max(min_support, 1)))
