"""Does a latent come or go over an ordered series of versions? A trend test, and how far a rising series is chance.

With tens of thousands of latents and five versions, hundreds rise at every step by chance alone. So a series is
tested; that it is monotone is said beside the test, never instead of it.
"""

from __future__ import annotations

from math import factorial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr
from scipy.stats import binom

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

#: Latents present in (or absent from) at most this many documents are tested exactly. Beyond it the normal p-value is
#: within 3% of the exact one at 5e-4 and 15% at 5e-7, also for versions of 100 to 1,000 documents; where one version
#: has 40 times the documents of another it can be ten times off at 1e-6.
SMALL = 200
#: The widest scores, in units of their smallest step: the exact test's table has SMALL^2 x this many entries.
SPAN = 64


def cochran_armitage(
    counts: ArrayLike,
    n: ArrayLike,
    scores: ArrayLike | None = None,
    alternative: Literal["two-sided", "greater"] = "two-sided",
) -> Float64:
    """Mid-p value of a trend in k proportions, float64[m], ready for Benjamini-Hochberg.

    `counts` int64[k, m]: documents with the latent in each version, in order; `n` int64[k]: documents of each version;
    `scores` int64[k]: where each stands, 0..k-1 by default. The statistic is the sum of scores over the documents that
    have the latent. Given how many have it in all, any documents are as likely to be these: exact (multivariate
    hypergeometric) up to `SMALL` of them, or `SMALL` without, normal beyond. `two-sided`: sums further from their mean,
    and half of those as far; `greater`: a rise. A latent in no document or in all gets 0.5.

    Cochran 1954, Biometrics 10:417; Armitage 1955, Biometrics 11:375; exact: Mehta, Patel & Senchaudhuri 1998, JASA
    93:1461. It takes documents as independent. Where versions answer the same prompts, `paired.sign_flip` of each
    prompt's sum of (2 score - first - last) x present, for evenly spaced scores, is the exact paired form.
    """
    x, size, score = _checked(counts, n, scores)
    documents, weighted = int(size.sum()), int(size @ score)
    present = x.sum(axis=0)
    # Whole numbers of 1/documents, so that equal distances from the mean are equal.
    beyond = documents * (score @ x) - weighted * present
    rarer = np.minimum(present, documents - present)
    small = min(SMALL, documents // 2)
    exact = rarer <= small
    p = _normal(beyond, present, size, score, alternative)
    if exact.any():
        chance = _null(size, score, min(small, int(rarer[exact].max())))
        for many in np.unique(rarer[exact]):
            at = np.flatnonzero(exact & (rarer == many))
            distance = documents * np.arange(chance.shape[1]) - weighted * many
            # Where most documents have the latent the exact law is that of those without, whose sum mirrors.
            seen = np.where(present[at] == many, beyond[at], -beyond[at])
            p[at] = _tails(chance[many], distance, seen, present[at] == many, alternative)
    return np.minimum(p, 1.0)


def slope(counts: ArrayLike, n: ArrayLike, scores: ArrayLike | None = None) -> Float64:
    """Rise of the document frequency for one step of the scores, float64[m]: least squares over all documents."""
    x, size, score = _checked(counts, n, scores)
    centred = score - size @ score / size.sum()
    rise: Float64 = centred @ x / (size @ centred**2)
    return rise


def monotone(counts: ArrayLike, n: ArrayLike) -> NDArray[np.int8]:
    """1 where the frequency rises at every step of the series, -1 where it falls at every step, else 0; int8[m]."""
    x, size, _ = _checked(counts, n, None)
    # In whole numbers: x1 / n1 < x2 / n2 is x1 n2 < x2 n1.
    step = np.sign(x[1:] * size[:-1, None] - x[:-1] * size[1:, None])
    return np.where((step > 0).all(axis=0), 1, np.where((step < 0).all(axis=0), -1, 0)).astype(np.int8)


def monotone_by_chance(versions: int, hypotheses: int = 1) -> float:
    """Latents of `hypotheses` that would rise at every step were there no trend: hypotheses / versions!; as many fall.

    One order of versions! equally likely ones, which they are when versions have as many documents each. Equal
    frequencies of two versions make it rarer, so it is an upper bound there. With 5 versions and 32,768 latents: 273.
    """
    return hypotheses / factorial(versions)


def _checked(counts: ArrayLike, n: ArrayLike, scores: ArrayLike | None) -> tuple[Int64, Int64, Int64]:
    x, size = np.asarray(counts, np.int64), np.asarray(n, np.int64)
    if x.ndim != 2 or x.shape[0] != size.size or size.size < 2:
        raise ValueError("a trend needs counts [versions, latents] of two versions or more, and the size of each")
    if size.min() < 1 or (x < 0).any() or (x > size[:, None]).any():
        raise ValueError("counts must lie between 0 and the number of documents of their version, at least 1")
    given = np.arange(size.size) if scores is None else np.asarray(scores)
    score = given.astype(np.int64)
    if score.shape != size.shape or (score != given).any() or score.min() == score.max():
        raise ValueError("scores are whole numbers, one a version, not all the same")
    score = score - score.min()
    score = score // np.gcd.reduce(score)
    if score.max() > SPAN:
        raise ValueError(f"scores span {score.max()} steps, more than {SPAN}; give ranks or coarser units")
    return x, size, score


def _normal(beyond: Int64, present: Int64, n: Int64, scores: Int64, alternative: str) -> Float64:
    """Normal tails of the sum of scores drawn without replacement, its skewness allowed for (unequal versions have
    some). `beyond`: how far above its mean, in units of 1 / documents. Cornish & Fisher 1938, Rev. Inst. Int. Stat.
    5:307, to the order of the squared skewness."""
    documents, m = float(n.sum()), present.astype(np.float64)
    centred = scores - n @ scores / documents
    drawn = m * (documents - m) * documents / max(documents - 1, 1)
    deviation = np.sqrt(np.maximum(drawn * (n @ centred**2), 1.0))
    third = drawn * (documents - 2 * m) * documents / max(documents - 2, 1) * (n @ centred**3)

    def tail(z: Float64, skewness: Float64) -> Float64:
        straight = z - skewness / 6 * (z**2 - 1) + skewness**2 / 36 * (4 * z**3 - 7 * z)
        return np.asarray(ndtr(-straight), np.float64)

    z, skewness = beyond / deviation, third / deviation**3
    return tail(z, skewness) if alternative == "greater" else tail(np.abs(z), skewness) + tail(np.abs(z), -skewness)


def _null(n: Int64, scores: Int64, most: int) -> Float64:
    """Chance of each sum of scores (column) given how many documents have the latent (row), float64[most + 1, sums].

    Each version's count is taken as binomial with one common rate: given the total the rate cancels, and one near the
    totals wanted keeps the numbers in range.
    """
    law = np.zeros((most + 1, most * int(scores.max()) + 1))
    law[0, 0] = 1.0
    rate = max(most, 1) / (2 * int(n.sum()))
    for size, score in zip(n.tolist(), scores.tolist(), strict=True):
        weights = binom.pmf(np.arange(min(size, most) + 1), size, rate)
        longer = np.zeros_like(law)
        for j, weight in enumerate(weights):
            longer[j:, score * j :] += weight * law[: most + 1 - j, : law.shape[1] - score * j]
        law = longer
    return np.asarray(law / law.sum(axis=1, keepdims=True), np.float64)


def _tails(chance: Float64, distance: Int64, seen: Int64, rising: NDArray[np.bool_], alternative: str) -> Float64:
    """Mid-p of each `seen`: more extreme, and half as extreme. `rising`: a rise is a larger sum, else a smaller one."""

    def beyond(values: Int64, bars: Int64) -> Float64:
        order = np.argsort(values)
        above = np.append(np.cumsum(chance[order][::-1])[::-1], 0.0)
        first, past = (np.searchsorted(values[order], bars, side) for side in ("left", "right"))
        mid: Float64 = (above[first] + above[past]) / 2
        return mid

    if alternative == "greater":
        return np.where(rising, beyond(distance, seen), beyond(-distance, -seen))
    return beyond(np.abs(distance), np.abs(seen))
