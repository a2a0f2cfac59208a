"""Documents of latents as dense matrices, and counts of their pairs the slow way: references for correlations."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from saeray.analysis.correlate.labels import ReadLabels
from saeray.analysis.correlate.options import CorrelateConfig
from saeray.labels.meanings import Meanings
from saeray.stats.association import npmi


@dataclass
class Postings:
    offsets: np.ndarray
    documents: np.ndarray
    max: np.ndarray
    peak: np.ndarray


class Grid:
    """A part from bool[documents, latents] a side; `peaks` int of the same shape, 10 x the latent unless given."""

    def __init__(self, *sides, peaks=None, lengths=None, kept=None):
        self.sides = [np.asarray(side, bool) for side in sides]
        self.documents = len(self.sides[0])
        self.peaks = peaks or [np.tile(10 * np.arange(side.shape[1]), (self.documents, 1)) for side in self.sides]
        self.lengths = np.full(self.documents, 100) if lengths is None else np.asarray(lengths)
        self.kept = np.ones(self.documents, bool) if kept is None else np.asarray(kept)

    def held(self, side, latents):
        side = min(side, len(self.sides) - 1)  # of one channel both sides are the same
        there = self.sides[side][:, latents]
        documents = [np.flatnonzero(column) for column in there.T]
        offsets = np.concatenate([[0], np.cumsum([len(d) for d in documents])]).astype(np.int64)
        at = np.concatenate([*documents, []]).astype(np.int64)
        latent = np.repeat(latents, np.diff(offsets))
        return Postings(offsets, at, np.ones(len(at)), self.peaks[side][at, latent])


class Dense:
    """Counts of all pairs with the support and the floor of `options`, from dense products."""

    def __init__(self, parts, options):
        rows = [np.concatenate([part.sides[s][part.kept] for part in parts]).astype(np.int64) for s in (0, -1)]
        self.within = len(parts[0].sides) == 1
        self.channels = ("text",) if self.within else ("user", "assistant")
        self.documents = len(rows[0])
        self.frequencies = tuple(side.sum(axis=0) for side in rows)
        low, high = (edge * self.documents for edge in options.band)
        self.bands = tuple(np.flatnonzero((f >= max(low, options.min_support)) & (f <= high)) for f in self.frequencies)
        together = rows[0].T @ rows[1]
        i, j = (grid.ravel() for grid in np.meshgrid(*self.bands, indexing="ij"))
        if self.within:
            i, j = i[i < j], j[i < j]
        n_i, n_j, count = self.frequencies[0][i], self.frequencies[1][j], together[i, j]
        value = npmi(count, n_i, n_j, self.documents)
        kept = np.flatnonzero((count >= options.min_support) & (value >= options.floor))
        kept = kept[np.lexsort((j[kept], i[kept], -value[kept]))]
        columns = {
            "i": i,
            "j": j,
            "count": count,
            "npmi": value,
            "p_i_given_j": count / n_j,
            "p_j_given_i": count / n_i,
        }
        self.found = pa.table({name: column[kept] for name, column in columns.items()})

    def pairs(self):
        m, n = (len(band) for band in self.bands)
        return m * (m - 1) // 2 if self.within else m * n

    def edges(self):
        return self.found


class Axes:
    """An embedder by which labels are alike when they begin with the same letter."""

    name, digest, dimension = "axes", "axes", 26

    def embed(self, texts):
        rows = np.zeros((len(texts), 26), np.float32)
        for row, text in enumerate(texts):
            rows[row, (ord(text[0]) - ord("a")) % 26 if text else 0] = 1
        return rows


def options(**changes):
    return CorrelateConfig(selection="d", store="s", **{"band": (0.0, 0.9), "floor": 0.2, "alike": 1.0} | changes)


def labels(texts=None, d_sae=8, embedder=None, quantile=0.25):
    return ReadLabels(Meanings(texts or {}, 0.9 if embedder else None, None, embedder), d_sae, quantile)
