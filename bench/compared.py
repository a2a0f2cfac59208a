"""The numbers of the fidelity report: two encoders' readings of the same documents, side by side.

Everything is on the host, dense where it is a token's vector and sparse where it is latents. `one` is the reference
throughout and `other` what is held against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.stats import spearmanr

from saeray.stats.significance import benjamini_hochberg, fisher_midp, supported

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Figures = dict[str, float]
# Edges of the document frequencies that overlaps are stated by, each up to and with its upper end.
BANDS = (0.0, 0.01, 0.05, 0.2, 0.5, 1.0)
TOP = 20
SUPPORT = 5
Z = 1.959964


@dataclass(frozen=True)
class Reading:
    """What one encoder made of the documents.

    vectors: float32 [tokens, d_in], pooled tokens in the documents' order. sinks: float32 [sequences, d_in], their
    positions 0. tokens: [tokens, d_sae], values of the latents active on a token. documents: [documents, d_sae], their
    maxima.
    """

    vectors: Float32
    sinks: Float32
    tokens: csr_array
    documents: csr_array


def compare(one: Reading, other: Reading, target: Bool) -> dict[str, Figures]:
    """Every number of the report; `target` tells which documents are the first side of the diff."""
    return {
        "residual": vectors(one.vectors, other.vectors),
        "sink": vectors(one.sinks, other.sinks),
        "tokens": {
            "overlap": overlap(one.tokens, other.tokens),
            "active": one.tokens.nnz / one.tokens.shape[0],
            "active_other": other.tokens.nnz / other.tokens.shape[0],
        },
        "documents": by_band(one.documents, other.documents),
        "frequency": frequencies(one.documents, other.documents),
        "maxima": maxima(one.documents, other.documents),
        "diff": diff(one.documents, other.documents, target),
    }


def vectors(x: Float32, y: Float32) -> Figures:
    """Cosine and relative error |y - x| / |x| of the rows of y [n, d_in] against those of x."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    size = np.linalg.norm(x, axis=1)
    cosine = (x * y).sum(axis=1) / (size * np.linalg.norm(y, axis=1))
    error = np.linalg.norm(y - x, axis=1) / size
    return {
        "cosine_median": float(np.median(cosine)),
        "cosine_p1": float(np.percentile(cosine, 1)),
        "cosine_min": float(cosine.min()),
        "error_median": float(np.median(error)),
        "error_p99": float(np.percentile(error, 99)),
    }


def overlap(one: csr_array, other: csr_array, columns: Bool | None = None) -> float:
    """Mean over rows of the Jaccard index of what is present, in the chosen columns; rows without any are left out."""
    a, b = _present(one), _present(other)
    if columns is not None:
        a, b = a[:, columns], b[:, columns]
    both = (a * b).sum(axis=1)
    either = a.sum(axis=1) + b.sum(axis=1) - both
    return float(np.mean(both[either > 0] / either[either > 0])) if either.any() else float("nan")


def by_band(one: csr_array, other: csr_array) -> Figures:
    """`overlap` by document frequency under `one`; a latent that only `other` has is in the lowest band."""
    frequency = _counts(one) / one.shape[0]
    found = {"all": overlap(one, other)}
    for low, high in pairwise(BANDS):
        inside = ((frequency > low) | (low == 0)) & (frequency <= high)
        found[f"{low * 100:g}-{high * 100:g}%"] = overlap(one, other, inside)
    return found


def frequencies(one: csr_array, other: csr_array) -> Figures:
    """Change in the document frequencies of latents that either has, in points (hundredths of the documents)."""
    n = one.shape[0]
    before, after = _counts(one), _counts(other)
    either = before + after > 0
    before, after = before[either], after[either]
    change, middle = np.abs(after - before), (before + after) / 2
    return {
        "latents": int(either.sum()),
        "mean_points": float(100 * change.mean() / n),
        "bias_points": float(100 * (after - before).mean() / n),
        "max_points": float(100 * change.max() / n),
        "beyond_1_point": int((100 * change > n).sum()),
        "beyond_noise": int((change > Z * np.sqrt(middle * (n - middle) / n)).sum()),
    }


def maxima(one: csr_array, other: csr_array) -> Figures:
    """Relative error of the maxima that both have."""
    both = _present(one) * _present(other)
    x, y = ((both * each).tocsr().sorted_indices().data.astype(np.float64) for each in (one, other))
    error = np.abs(y - x) / x
    return {name: float(np.percentile(error, q)) for name, q in (("median", 50), ("p90", 90), ("p99", 99))}


@dataclass(frozen=True)
class Sides:
    """Documents a latent of two sides, documents of each, the difference of the shares, and what has support."""

    counts: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    sizes: tuple[int, int]
    difference: npt.NDArray[np.float64]
    tested: Bool

    @classmethod
    def of(cls, documents: csr_array, target: Bool) -> Sides:
        sizes = int(target.sum()), int((~target).sum())
        counts = _counts(documents[target]), _counts(documents[~target])
        difference = counts[0] / sizes[0] - counts[1] / sizes[1]
        return cls(counts, sizes, difference, supported(counts[0] + counts[1], sum(sizes), SUPPORT))

    def top(self) -> set[int]:
        """The TOP tested latents with the largest differences; of equal ones those with the smaller number."""
        size = np.where(self.tested, np.abs(self.difference), -1)
        return set(np.argsort(-size, kind="stable")[: min(TOP, int(self.tested.sum()))].tolist())

    def significant(self) -> set[int]:
        """Latents whose sides differ by more than chance."""
        at = np.flatnonzero(self.tested)
        p = fisher_midp(self.counts[0][at], self.sizes[0], self.counts[1][at], self.sizes[1])
        return set(at[benjamini_hochberg(p) <= 0.05].tolist())


def diff(one: csr_array, other: csr_array, target: Bool) -> Figures:
    """What becomes of the differences in document frequency between the target's documents and the rest."""
    again = np.random.default_rng(0).integers(0, len(target), len(target))
    a, b, redrawn = Sides.of(one, target), Sides.of(other, target), Sides.of(one[again], target[again])
    tested, top = a.tested | b.tested, a.top()
    change = 100 * np.abs(b.difference - a.difference)[sorted(top)]
    found, found_other = a.significant(), b.significant()
    return {
        "top_kept": _share(top & b.top(), top),
        "top_kept_redrawn": _share(top & redrawn.top(), top),
        "top_change_mean_points": float(change.mean()) if top else float("nan"),
        "top_change_max_points": float(change.max()) if top else float("nan"),
        "rank_correlation": float(spearmanr(a.difference[tested], b.difference[tested]).statistic),
        "significant": len(found),
        "significant_other": len(found_other),
        "significant_kept": _share(found & found_other, found),
    }


def _share(part: set[int], whole: set[int]) -> float:
    return len(part) / len(whole) if whole else float("nan")


def _present(x: csr_array) -> csr_array:
    return csr_array((np.ones(x.nnz, np.int64), x.indices, x.indptr), shape=x.shape)


def _counts(x: csr_array) -> Any:
    """Rows in which each column is present, int64 [columns]."""
    return _present(x).sum(axis=0)
