"""Exact counts of all pairs in memory, and what they become when a few documents are added.

A background is counted once (32,768 latents in 9,472 documents: half a minute on one core). For each injection only the
latents that its documents hold are counted again; every other pair has the same documents together as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.analysis.cooccurrence import in_band, least_counts
from saeray.analysis.correlate.options import CorrelateConfig
from saeray.analysis.correlate.pairs import Part, columns
from saeray.stats.association import conditional, npmi, pairs
from saeray.stats.cooccurrence import Columns, Costs, Tile

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

#: Latents along a tile: 2,048 x 2,048 counts and both sides of 9,472 documents take 80 MB.
WIDTH = 2048
#: What NPMI can gain by documents that have neither latent: log(1 + 0.011) / log(1 / 0.001) at 100 added to 9,472, and
#: at most this while a pair is in fewer than half of them.
SLACK = 0.02
#: Frequencies that a latent may have before, to be in the band after.
MARGIN = 1.1


@dataclass(frozen=True)
class Counted:
    """What `saeray.analysis.correlate` asks of counts, of one channel and all in memory."""

    documents: int
    channels: tuple[str, ...]
    bands: tuple[Int64, Int64]
    frequencies: tuple[Int64, Int64]
    found: pa.Table

    @property
    def within(self) -> bool:
        return True

    def pairs(self) -> int:
        return pairs(len(self.bands[0]))

    def edges(self) -> pa.Table:
        return self.found


class Background:
    """The documents of `parts` counted, so that others can be added to them."""

    def __init__(self, parts: Sequence[Part], d_sae: int, options: CorrelateConfig, costs: Costs) -> None:
        self.parts, self.d_sae, self.options, self.costs = tuple(parts), d_sae, options, costs
        self.documents = sum(int(part.kept.sum()) for part in parts)
        self.frequency = frequency(parts, d_sae)
        lower, upper = options.band[0] * self.documents / MARGIN, options.band[1] * self.documents * MARGIN
        # What the added documents lift over the lower edge of the band is counted with them.
        self.latents = np.flatnonzero((self.frequency >= min(options.min_support, lower)) & (self.frequency <= upper))
        floor = options.floor - SLACK
        self.i, self.j, self.count = self._above(self.parts, self.latents, self.frequency, self.documents, floor)

    def with_added(self, added: Part) -> Counted:
        """Counts of the background and the kept documents of `added` together: exact for every pair in the band."""
        parts = (*self.parts, added)
        documents = self.documents + int(added.kept.sum())
        own = frequency([added], self.d_sae)
        total = self.frequency + own
        band = in_band(total, documents, self.options.band, self.options.min_support)
        touched = np.intersect1d(np.flatnonzero(own), band)
        anew = self._above(parts, touched, total, documents, self.options.floor)
        is_touched, is_in = np.zeros(self.d_sae, bool), np.zeros(self.d_sae, bool)
        is_touched[touched], is_in[band] = True, True
        old = ~(is_touched[self.i] & is_touched[self.j]) & is_in[self.i] & is_in[self.j]
        i, j, count = (np.concatenate([a[old], b]) for a, b in zip((self.i, self.j, self.count), anew, strict=True))
        return Counted(documents, ("text",), (band, band), (total, total), self._edges(i, j, count, total, documents))

    def alone(self) -> Counted:
        """Counts of the background."""
        band = in_band(self.frequency, self.documents, self.options.band, self.options.min_support)
        use = np.isin(self.i, band) & np.isin(self.j, band)
        found = self._edges(self.i[use], self.j[use], self.count[use], self.frequency, self.documents)
        return Counted(self.documents, ("text",), (band, band), (self.frequency, self.frequency), found)

    def _above(
        self, parts: Sequence[Part], latents: Int64, n: Int64, documents: int, floor: float
    ) -> tuple[Int64, Int64, Int64]:
        """Pairs i < j of `latents` with the support and an NPMI of about `floor` or more."""
        found = [
            (latents[rows][a], latents[cols][b], counts[a, b])
            for rows, cols, counts in _tiles(parts, latents, self.costs)
            for a, b in [
                _passing(counts, n[latents[rows]], n[latents[cols]], documents, floor, self.options, rows == cols)
            ]
        ]
        i, j, count = (np.concatenate([one[k] for one in found]) if found else np.zeros(0, np.int64) for k in range(3))
        return i, j, count

    def _edges(self, i: Int64, j: Int64, count: Int64, n: Int64, documents: int) -> pa.Table:
        value = npmi(count, n[i], n[j], documents)
        keep = np.flatnonzero(value >= self.options.floor)
        keep = keep[np.lexsort((j[keep], i[keep], -value[keep]))]
        i, j, count = i[keep], j[keep], count[keep]
        return pa.table(
            {
                "i": i.astype(np.int32),
                "j": j.astype(np.int32),
                "count": count,
                "npmi": value[keep],
                "p_i_given_j": conditional(count, n[j]),
                "p_j_given_i": conditional(count, n[i]),
            }
        )


def frequency(parts: Sequence[Part], d_sae: int) -> Int64:
    """In how many kept documents each latent is present, int64[d_sae]."""
    total = np.zeros(d_sae, np.int64)
    for part in parts:
        total += np.diff(columns(part, 0, np.arange(d_sae)).matrix.indptr)
    return total


def _tiles(parts: Sequence[Part], latents: Int64, costs: Costs) -> Iterator[tuple[slice, slice, Int64]]:
    """(rows, columns, counts int64) of the upper tiles of `latents` with themselves."""
    ranges = [slice(at, at + WIDTH) for at in range(0, len(latents), WIDTH)]
    held = [[_columns(part, latents[one]) for part in parts] for one in ranges]
    for y, rows in enumerate(ranges):
        for x in range(y, len(ranges)):
            same = x == y
            tile = Tile(len(latents[rows]), None if same else len(latents[ranges[x]]))
            for left, right in zip(held[y], held[x], strict=True):
                other = None if same else right
                tile.add(left, other, costs.choose(left, other))
            yield rows, ranges[x], tile.counts()


def _columns(part: Part, latents: Int64) -> Columns:
    matrix = columns(part, 0, latents).matrix
    return Columns(matrix.indptr.astype(np.int64), matrix.indices.astype(np.uint16), part.documents)


def _passing(
    counts: Int64, n_i: Int64, n_j: Int64, documents: int, floor: float, options: CorrelateConfig, same: bool
) -> tuple[Int64, Int64]:
    enough: Bool = counts >= np.maximum(least_counts(n_i, n_j, documents, floor), options.min_support)
    a, b = np.nonzero(np.triu(enough, 1) if same else enough)
    return a, b
