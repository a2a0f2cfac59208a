"""Is a difference in document frequency more than chance? Exact tests, quickly, for every latent at once.

A diff asks the question d_sae times, so the tests are vectorised over latents and their p-values go together through
Benjamini-Hochberg. Fisher's exact test is conservative on counts as small as ours; its mid-p form (half the weight of
the observed table) holds close to its nominal level.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

#: Two tables whose probabilities differ by less than this share are equally likely (R's fisher.test uses 1e-7 too).
TIE = 1e-7
#: Terms of a tail summed at a time: 64 x 65,536 latents x 8 bytes is 34 MB.
BLOCK = 64


def fisher_midp(
    count1: ArrayLike,
    n1: int,
    count2: ArrayLike,
    n2: int,
    alternative: Literal["two-sided", "greater"] = "two-sided",
) -> Float64:
    """Fisher's mid-p value of each 2x2 table [count1, n1 - count1; count2, n2 - count2], float64 of the counts' shape.

    With both margins fixed count1 is hypergeometric. `two-sided`: the probability of the tables less likely than the
    observed one plus half that of the tables as likely as it (within `TIE`), the observed one among them. `greater`:
    the probability of a larger count1 plus half that of the observed one. Lancaster 1961, JASA 56:223; Agresti 2013,
    Categorical Data Analysis, 3.5. A latent present in no document or in all has one possible table: its mid-p is 0.5.
    """
    a, b = np.broadcast_arrays(np.asarray(count1, np.int64), np.asarray(count2, np.int64))
    if a.size and (a.min() < 0 or b.min() < 0 or a.max() > n1 or b.max() > n2):
        raise ValueError("counts must lie between 0 and the number of documents of their side")
    # Rare latents share tables: at d_sae 65,536 and 1,000 documents a side most tables occur many times.
    tables, inverse = np.unique(a.ravel() * (n2 + 1) + b.ravel(), return_inverse=True)
    p = _midp(tables // (n2 + 1), n1, tables % (n2 + 1), n2, alternative)
    return p[inverse].reshape(a.shape)


def intersection_union(p_values: ArrayLike) -> Float64:
    """p-value that one target exceeds every other, from the one-sided pairwise ones: their largest, over axis 0.

    Rejecting a union of nulls at level alpha needs each rejected at alpha, with no correction. Berger 1982,
    Technometrics 24:295.
    """
    largest: Float64 = np.asarray(p_values, np.float64).max(axis=0)
    return largest


def benjamini_hochberg(p: ArrayLike) -> Float64:
    """q-values: the smallest false-discovery rate at which each test is rejected. float64, same shape as 1-d `p`.

    q_(i) = min over j >= i of p_(j) m / j, at most 1. Benjamini & Hochberg 1995, JRSS B 57:289. Give it the p-values
    of all tests that were made, before any cut by effect size.
    """
    p = np.asarray(p, np.float64)
    if np.isnan(p).any():
        raise ValueError("a p-value is NaN; leave untested latents out before correcting")
    order = np.argsort(-p, kind="stable")
    ranks = np.arange(p.size, 0, -1)
    q = np.empty_like(p)
    q[order] = np.minimum(np.minimum.accumulate(p[order] * p.size / ranks), 1.0)
    return q


def supported(pooled: ArrayLike, n: int, minimum: int) -> NDArray[np.bool_]:
    """Latents that are present in at least `minimum` of all n documents and absent from at least `minimum`.

    It looks at the sides pooled, never at the difference, so it may come before the correction without spoiling it
    (Bourgon, Gentleman & Huber 2010, PNAS 107:9546).
    """
    pooled = np.asarray(pooled, np.int64)
    return (pooled >= minimum) & (pooled <= n - minimum)


def _midp(a: Int64, n1: int, b: Int64, n2: int, alternative: str) -> Float64:
    """Mid-p of distinct tables. A tail is summed outwards from the observed table, where its terms only shrink."""
    log_factorial = gammaln(np.arange(n1 + n2 + 1) + 1.0)
    m = a + b
    # The most likely count1; where two are, the larger. Below it the table is read from the other side.
    mode = (m + 1) * (n1 + 1) // (n1 + n2 + 2)
    below = a < mode
    x = np.where(below, b, a)
    nx, ny = np.where(below, n2, n1), np.where(below, n1, n2)
    mode = (m + 1) * (nx + 1) // (n1 + n2 + 2)

    def log_pmf(k: Int64) -> Float64:
        choose = log_factorial[nx] - log_factorial[k] - log_factorial[nx - k]
        rest = log_factorial[ny] - log_factorial[m - k] - log_factorial[ny - m + k]
        logs: Float64 = choose + rest - (log_factorial[-1] - log_factorial[m] - log_factorial[n1 + n2 - m])
        return logs

    observed = log_pmf(x)
    near = np.exp(observed) * (0.5 + _tail(x, m, nx, ny))
    if alternative == "greater":
        return np.where(below, 1.0 - near, near)
    # On the far side the probabilities rise up to the mode: bisect for the last count no likelier than the observed
    # one.
    first = np.maximum(0, m - ny)
    low, high = first - 1, np.minimum(mode, x - 1)
    while (open_ := low < high).any():
        middle = (low + high + 1) // 2
        fits = log_pmf(np.maximum(middle, first)) <= observed + TIE
        low = np.where(open_ & fits, middle, low)
        high = np.where(open_ & ~fits, middle - 1, high)
    k = np.maximum(low, first)
    reached = log_pmf(k)
    weight = np.where(np.abs(reached - observed) <= TIE, 0.5, 1.0)
    far = np.where(low >= first, np.exp(reached) * (weight + _tail(m - k, m, ny, nx)), 0.0)
    return np.minimum(near + far, 1.0)


def _tail(x: Int64, m: Int64, nx: Int64, ny: Int64) -> Float64:
    """Sum over k > x of pmf(k) / pmf(x), for x at or beyond the mode, by the ratio of neighbouring terms.

    Stops when a term falls below 1e-18 of the sum: some nine standard deviations out, at most 250 counts each at a
    million documents.
    """
    total, term, at = np.zeros(x.shape), np.ones(x.shape), x.copy()
    live = np.arange(x.size)
    while live.size:
        k = at[live, None] + np.arange(BLOCK)
        margin, size, other = m[live, None], nx[live, None], ny[live, None]
        # Past the end of the support the numerator has been 0 once and every later product stays 0.
        ratios = (size - k) * (margin - k) / ((k + 1) * (other - margin + k + 1))
        terms = term[live, None] * np.cumprod(ratios, axis=1)
        total[live] += terms.sum(axis=1)
        term[live] = terms[:, -1]
        at[live] += BLOCK
        live = live[term[live] > 1e-18 * (1.0 + total[live])]
    return total
