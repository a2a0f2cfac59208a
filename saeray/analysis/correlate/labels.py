"""What labels say of pairs: which latents can be read, which are syntax, and which labels are far apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saeray.analysis.correlate.syntactic import syntactic
from saeray.labels.meanings import Meanings

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

#: Pairs of labels drawn to learn how alike random labels are: the quantile 0.25 is then known to within 0.001.
DRAWN = 200_000
#: Pairs whose labels are compared at a time: 400 MB of vectors.
STEP = 1 << 17


class ReadLabels:
    """The labels of `d_sae` latents, read once.

    `texts`: latent -> label; `any`: whether there are labels at all; `named`, `syntactic`: bool[d_sae]; `level`: the
    cosine that the share `quantile` of random pairs of different labels is below, None without an embedder; `near`:
    that at which two labels mean the same.
    """

    def __init__(self, meanings: Meanings, d_sae: int, quantile: float) -> None:
        self.texts, self.near = meanings.labels, meanings.near
        latents = sorted(meanings.labels)
        self.any = bool(latents)
        self.named, self.syntactic = np.zeros(d_sae, bool), np.zeros(d_sae, bool)
        self.named[latents] = True
        self.syntactic[sorted(syntactic(meanings, latents))] = True
        self.level: float | None = None
        distinct = sorted(set(meanings.labels.values()))
        vectors = meanings.embed(distinct) if len(distinct) > 1 else None
        if vectors is None:
            return
        number = {text: row for row, text in enumerate(distinct)}
        self._vectors = vectors
        self._row = np.full(d_sae, -1, np.int64)
        self._row[latents] = [number[meanings.labels[latent]] for latent in latents]
        one, other = np.random.default_rng(0).integers(len(distinct), size=(2, DRAWN))
        self.level = float(np.quantile(self._cosine(one[one != other], other[one != other]), quantile))

    def similarity(self, i: Int64, j: Int64) -> Float64:
        """Cosines, float64; NaN where a latent has no label. Needs a `level`."""
        a, b = self._row[i], self._row[j]
        return np.where((a >= 0) & (b >= 0), self._cosine(a, b), np.nan)

    def vectors(self, latents: Int64) -> NDArray[np.float32] | None:
        """Unit rows of the labels, float32 [latents, n], 0 without one; None without an embedder."""
        if self.level is None:
            return None
        row = self._row[latents]
        return np.where(row[:, None] >= 0, self._vectors[row], np.float32(0))

    def _cosine(self, a: Int64, b: Int64) -> Float64:
        found = np.empty(len(a))
        for at in range(0, len(a), STEP):
            own = slice(at, at + STEP)
            found[own] = np.einsum("pd,pd->p", self._vectors[a[own]], self._vectors[b[own]])
        return found
