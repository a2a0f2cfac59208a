"""Length, the first confounder: the longer a document, the more latents are present in it.

A diff between terse and wordy answers lights up thousands of latents. These functions say how far lengths differ and
what the frequencies would be had every side the same mix of lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from saeray.stats.frequency import Frequencies

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

#: Fewer documents than this in a stratum of one side say too little about a frequency there; the stratum is left out.
SMALLEST = 5


@dataclass(frozen=True)
class Standardised:
    """`rates` float64[sides, d_sae]; NaN throughout when no stratum is common to all sides.

    `overlap`: share of all documents that lie in the strata common to all sides, which are the ones compared.
    """

    rates: Float64
    overlap: float


def edges(n_tokens: Int64, strata: int = 5) -> Int64:
    """Inner edges of `strata` equal-count classes of document length; fewer where many lengths tie.

    A document of n tokens is in stratum `np.searchsorted(edges, n, side="right")`.
    """
    inner = np.quantile(n_tokens, np.arange(1, strata) / strata, method="inverted_cdf")
    return np.unique(inner.astype(np.int64))


def standardise(sides: Sequence[Sequence[Frequencies]], smallest: int = SMALLEST) -> Standardised:
    """Direct standardisation: each side's frequency in each stratum, weighted by the stratum's share of all documents.

    `sides[s][j]` are the counts of side s in stratum j. Strata where some side has fewer than `smallest` documents are
    left out and the weights of the others scaled to 1. Rothman, Greenland & Lash, Modern Epidemiology, 3rd ed., ch. 4.
    """
    n = np.array([[stratum.n_documents for stratum in side] for side in sides], np.int64)
    common = (n >= smallest).all(axis=0)
    rates = np.zeros((len(sides), sides[0][0].d_sae))
    if not common.any():
        return Standardised(np.full_like(rates, np.nan), 0.0)
    pooled = np.where(common, n.sum(axis=0), 0)
    weights = pooled / pooled.sum()
    for rate, side in zip(rates, sides, strict=True):
        for weight, stratum in zip(weights, side, strict=True):
            rate += weight * stratum.frequency
    return Standardised(rates, float(pooled.sum() / n.sum()))


def probability_longer(a: Int64, b: Int64) -> float:
    """Chance that a random document of `a` is longer than one of `b`, ties half: Mann-Whitney U / (n_a n_b)."""
    ranks = rankdata(np.concatenate([a, b]))
    u = ranks[: len(a)].sum() - len(a) * (len(a) + 1) / 2
    return float(u / (len(a) * len(b)))
