"""How well does a score tell relevant documents from others? Of all latents at once, in the time of one sort.

A pooled document is sparse and its values are positive: every latent that is absent ties with all other absent ones
below them. So the measures of 32,768 columns need only what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import rankdata

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class _Sorted:
    """The stored values of a matrix, by column and then by ascending value. `ends` marks the last of equal ones."""

    column: NDArray[np.int64]
    relevant: Float64
    starts: NDArray[np.int64]
    ends: Bool
    n: int
    n_relevant: int

    def totals(self, weights: Float64) -> Float64:
        """Sum of `weights`, one a stored value, in each column."""
        return np.bincount(self.column, weights=weights, minlength=len(self.starts) - 1).astype(np.float64)

    @property
    def zeros(self) -> NDArray[np.int64]:
        """Documents without a stored value, a column."""
        return self.n - np.diff(self.starts)


def auroc(x: Any, relevant: Bool) -> Float64:
    """float64[d]: the chance that a relevant document has more than another, ties half, for each column of `x`.

    `x`: SciPy sparse [documents, d] without negative values. The Mann-Whitney statistic over n_relevant x n_others;
    NaN when all or none are relevant.
    """
    s = _sorted(x, relevant)
    n_others = s.n - s.n_relevant
    if not s.n_relevant or not n_others:
        return np.full(x.shape[1], np.nan)
    place = np.arange(len(s.column)) - s.starts[s.column]
    # Equal values share the mean of their places; those of absent latents are 1 to `zeros`.
    run = np.cumsum(np.concatenate([[0], s.ends[:-1]])) if len(place) else place
    mean_place = np.bincount(run, weights=place)[run] / np.bincount(run)[run] if len(place) else place
    rank = s.zeros[s.column] + mean_place + 1
    absent_relevant = s.n_relevant - s.totals(s.relevant)
    rank_sum = s.totals(rank * s.relevant) + absent_relevant * (s.zeros + 1) / 2
    return np.asarray((rank_sum - s.n_relevant * (s.n_relevant + 1) / 2) / (s.n_relevant * n_others), np.float64)


def average_precision(x: Any, relevant: Bool) -> Float64:
    """float64[d]: sum over distinct values, highest first, of (recall gained) x (precision there), for each column.

    Equal values are taken together, as scikit-learn's `average_precision_score` does. NaN when none is relevant.
    """
    s = _sorted(x, relevant)
    if not s.n_relevant:
        return np.full(x.shape[1], np.nan)
    d = x.shape[1]
    hits_in = s.totals(s.relevant)
    # Relevant ones with a value above or equal to this one, were each its own threshold; only first of equals count.
    before = np.concatenate([[0.0], np.cumsum(s.relevant)])
    hits = before[s.starts[s.column + 1]] - before[:-1]
    documents = s.starts[s.column + 1] - np.arange(len(s.column))
    first = np.concatenate([[True], s.ends[:-1]]) if len(s.column) else s.ends
    at, column = hits[first], s.column[first]
    # The next threshold above is the next first of equals in the same column; above the highest there is none.
    above = np.append(at[1:], 0.0)
    above[np.append(column[1:] != column[:-1], True)] = 0.0
    gained = (at - above) * at / documents[first]
    stored = np.bincount(column, weights=gained, minlength=d) if len(column) else np.zeros(d)
    absent = s.n_relevant - hits_in
    return np.asarray((stored + absent * s.n_relevant / s.n) / s.n_relevant, np.float64)


def balanced_accuracy(x: Any, relevant: Bool) -> Float64:
    """float64[d]: mean of the share of relevant documents where the latent is present and of others where it is not.

    NaN when all or none are relevant.
    """
    s = _sorted(x, relevant)
    n_others = s.n - s.n_relevant
    if not s.n_relevant or not n_others:
        return np.full(x.shape[1], np.nan)
    hits = s.totals(s.relevant)
    false = np.diff(s.starts) - hits
    return np.asarray((hits / s.n_relevant + 1 - false / n_others) / 2, np.float64)


def contrast(x: Any, relevant: Bool) -> Float64:
    """float64[d]: mean over relevant documents minus mean over others, in standard deviations over all of them.

    0 for a column that does not vary. It parts latents whose AUROC is equal.
    """
    means = [np.asarray(x[np.flatnonzero(side)].mean(axis=0)).ravel() for side in (relevant, ~relevant)]
    mean = np.asarray(x.mean(axis=0)).ravel()
    variance = np.asarray(x.multiply(x).mean(axis=0)).ravel() - mean**2
    # What rounding leaves of a constant column is some 1e-16 of its square.
    varies = variance > 1e-12 * np.maximum(mean**2, 1e-300)
    deviation = np.sqrt(np.where(varies, variance, 1.0))
    return np.asarray(np.where(varies, (means[0] - means[1]) / deviation, 0.0), np.float64)


def column(scores: NDArray[Any]) -> Any:
    """Any scores, float[documents] and possibly negative, as a sparse column with the same order and ties."""
    return sp.csc_array(rankdata(scores, method="dense").astype(np.float64)[:, None])


def above(scores: NDArray[Any], threshold: float) -> Any:
    """Which scores reach `threshold`, as a sparse column of ones: what `balanced_accuracy` takes for present."""
    return sp.csc_array((scores >= threshold).astype(np.float64)[:, None])


def spearman(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Rank correlation, ties at their mean rank; 0 when either does not vary."""
    ranks = np.stack([rankdata(a), rankdata(b)])
    if (np.ptp(ranks, axis=1) == 0).any():
        return 0.0
    return float(np.corrcoef(ranks)[0, 1])


def _sorted(x: Any, relevant: Bool) -> _Sorted:
    matrix = sp.csc_array(x, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if len(relevant) != matrix.shape[0]:
        raise ValueError(f"{len(relevant)} labels for {matrix.shape[0]} documents")
    if len(matrix.data) and not matrix.data.min() > 0:
        raise ValueError("pooled values are positive where they are stored")
    starts = matrix.indptr.astype(np.int64)
    owner = np.repeat(np.arange(matrix.shape[1]), np.diff(starts))
    # One sort of (column, place of the value among all values) is twice as fast as a sort by two keys.
    by_value = np.argsort(matrix.data)
    place = np.empty(len(by_value), np.int64)
    place[by_value] = np.cumsum(np.diff(matrix.data[by_value], prepend=np.nan) != 0)
    order = np.argsort(owner * (len(by_value) + 1) + place)
    value = matrix.data[order]
    ends = np.ones(len(value), np.bool_)
    ends[:-1] = (value[1:] != value[:-1]) | (owner[1:] != owner[:-1])
    return _Sorted(
        column=owner,
        relevant=relevant[matrix.indices[order]].astype(np.float64),
        starts=starts,
        ends=ends,
        n=matrix.shape[0],
        n_relevant=int(relevant.sum()),
    )
