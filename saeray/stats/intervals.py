"""Confidence intervals for proportions: an effect is never shown without one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

Float64 = NDArray[np.float64]


def wilson(count: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> tuple[Float64, Float64]:
    """Wilson's score interval (lower, upper) of count/n, element-wise. Wilson 1927, JASA 22:209; n > 0."""
    count, n = np.asarray(count, np.float64), np.asarray(n, np.float64)
    z = float(ndtri(0.5 + confidence / 2))
    p = count / n
    centre = p + z * z / (2 * n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # The exact bounds at the ends are 0 and 1; rounding would leave them a few 1e-17 off.
    lower = np.where(count == 0, 0.0, (centre - half) / scale)
    upper = np.where(count == n, 1.0, (centre + half) / scale)
    return lower, upper


def newcombe(
    count1: ArrayLike, n1: ArrayLike, count2: ArrayLike, n2: ArrayLike, confidence: float = 0.95
) -> tuple[Float64, Float64]:
    """Interval (lower, upper) of count1/n1 - count2/n2 for two independent samples, element-wise.

    The hybrid score interval, method 10 of Newcombe 1998, Statistics in Medicine 17:873-890: Wilson's limits of the
    two proportions, combined by the root of the sum of squares.
    """
    p1 = np.asarray(count1, np.float64) / np.asarray(n1)
    p2 = np.asarray(count2, np.float64) / np.asarray(n2)
    lower1, upper1 = wilson(count1, n1, confidence)
    lower2, upper2 = wilson(count2, n2, confidence)
    difference = p1 - p2
    return difference - np.hypot(p1 - lower1, upper2 - p2), difference + np.hypot(upper1 - p1, p2 - lower2)
