"""Do two latents stand in the same documents more often than chance? Measures and a test, for many pairs at once.

Everything starts from exact integer counts of documents: together, of each, of all. A pair of latents is one of half a
billion at 32,768 latents, so the test stays in logarithms, where a p-value of 1e-2000 is as good as any, and is
corrected over all pairs that could have been found, not only over those that were looked at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

#: Terms of a tail summed at a time; 64 x 100,000 pairs x 8 bytes is 51 MB.
BLOCK = 64


def npmi(count: ArrayLike, n_i: ArrayLike, n_j: ArrayLike, n: ArrayLike) -> Float64:
    """Normalised pointwise mutual information, log(p_ij / (p_i p_j)) / -log p_ij, natural log, float64 in -1..1.

    Integers that broadcast: documents with both, with each, and all. Never together is -1; together in every document
    is nan (undefined, to be left out). Bouma 2009, GSCL: 31-40.
    """
    together, first, second, every = np.broadcast_arrays(*(np.asarray(a, np.int64) for a in (count, n_i, n_j, n)))
    return _normalised(together, first.astype(np.float64) * second / np.maximum(every, 1), every)


def npmi_within(count: ArrayLike, n_i: ArrayLike, n_j: ArrayLike, n: ArrayLike) -> Float64:
    """NPMI against the count expected within strata: log(count / expected) / -log(count / documents), in -1..1.

    `count` [...] over all strata; `n_i`, `n_j` [..., strata], `n` [strata]. It equals `npmi` when there is one stratum,
    and is 0 for two latents that are independent within each, however often the strata bring them together.
    """
    together = np.asarray(count, np.int64)
    return _normalised(together, expected_within(n_i, n_j, n), np.asarray(np.sum(n), np.int64))


def expected_within(n_i: ArrayLike, n_j: ArrayLike, n: ArrayLike) -> Float64:
    """Documents that would have both were the two independent within each stratum: the sum over strata of
    n_i n_j / n. `n_i`, `n_j` int64 [..., strata], `n` int64 [strata]; an empty stratum adds nothing. float64 [...].
    """
    size = np.maximum(np.asarray(n, np.float64), 1.0)
    expected: Float64 = (np.asarray(n_i, np.float64) * np.asarray(n_j, np.float64) / size).sum(axis=-1)
    return expected


def conditional(count: ArrayLike, n_given: ArrayLike) -> Float64:
    """P(other | given): the share of the documents with the given latent that have both; nan where there is none."""
    both, given = np.asarray(count, np.float64), np.asarray(n_given, np.float64)
    found: Float64 = np.full(np.broadcast_shapes(both.shape, given.shape), np.nan)
    np.divide(both, given, out=found, where=given > 0)
    return found


def log_p_together(count: ArrayLike, n_i: ArrayLike, n_j: ArrayLike, n: int) -> Float64:
    """Natural log of the one-sided Fisher p-value: at least `count` documents with both, both margins fixed.

    float64 of the counts' broadcast shape, never above 0. The tail is summed in the ratio of neighbouring terms from
    the observed count on, so it holds where p itself is far below the smallest double. For n up to 1e9 the error of a
    log is below 1e-4. Raises ValueError for counts that no table has.
    """
    k, a, b = np.broadcast_arrays(*(np.asarray(x, np.int64) for x in (count, n_i, n_j)))
    least = np.maximum(0, a + b - n)
    if k.size and ((k < least) | (k > np.minimum(a, b)) | (np.maximum(a, b) > n)).any():
        raise ValueError("counts of documents together must fit the counts of each and of all")
    found: Float64 = np.zeros(k.shape)
    # At the least count that any table has p is 1.
    open_ = k > least
    found[open_] = _log_tail(k[open_], a[open_], b[open_], n)
    return found


def bonferroni(log_p: ArrayLike, tests: int) -> Float64:
    """Natural log of p-values corrected for `tests` tests: log p + log tests, at most 0.

    It holds however the tests hang together, and however those that are shown were chosen among the `tests`: the
    chance that any null pair of them all comes out at or below a is at most a.
    """
    corrected: Float64 = np.minimum(np.asarray(log_p, np.float64) + np.log(max(tests, 1)), 0.0)
    return corrected


def benjamini_yekutieli(log_p: ArrayLike, tests: int) -> Float64:
    """Natural log of q-values among `tests` tests of which only those of 1-d `log_p` are at hand; the others count as
    p = 1, so q is never too small by what was not looked at.

    q_(i) = min over j >= i of p_(j) m c(m) / j, at most 1, with c(m) = 1 + 1/2 + ... + 1/m: the false-discovery rate
    holds however the tests hang together, which pairs that share a latent do. Benjamini & Yekutieli 2001, Ann. Stat.
    29:1165. Raises ValueError when there are more p-values than tests.
    """
    p = np.asarray(log_p, np.float64)
    if p.size > tests:
        raise ValueError(f"{p.size} p-values of {tests} tests")
    order = np.argsort(-p, kind="stable")
    harmonic = np.log(tests) + np.euler_gamma + 0.5 / tests if tests > 1000 else (1 / np.arange(1, tests + 1)).sum()
    scaled = p[order] + np.log(max(tests, 1)) + np.log(max(harmonic, 1.0)) - np.log(np.arange(p.size, 0, -1))
    q = np.empty_like(p)
    q[order] = np.minimum(np.minimum.accumulate(scaled), 0.0)
    return q


def pairs(latents: int, others: int | None = None) -> int:
    """How many pairs there are within `latents` of one channel, or between them and `others` of another."""
    return latents * (latents - 1) // 2 if others is None else latents * others


def _normalised(count: Int64, expected: Float64, n: Int64) -> Float64:
    shape = np.broadcast_shapes(count.shape, expected.shape, n.shape)
    found = np.full(shape, -1.0)
    some = np.broadcast_to((count > 0) & (count < n), shape)
    together, chance, every = (np.broadcast_to(x, shape)[some] for x in (count, expected, n))
    found[some] = np.log(together / chance) / np.log(every / together)
    found[np.broadcast_to((count > 0) & (count >= n), shape)] = np.nan
    clipped: Float64 = np.clip(found, -1.0, 1.0)
    return clipped


def _log_tail(k: Int64, a: Int64, b: Int64, n: int) -> Float64:
    """log P(X >= k), X hypergeometric, for k above the least value of X."""
    # Summed from k on the terms grow until the mode; from k - 1 downwards they shrink below it.
    below = k <= (a + 1) * (b + 1) // (n + 2)
    start = np.where(below, k - 1, k)
    log_sum = _log_pmf(start, a, b, n) + np.log(_ratio_sum(start, a, b, n, below))
    # A lower tail of all but 1 rounds to 1; p is then no less than the term at k.
    rest = np.log(-np.expm1(np.minimum(log_sum, -1e-16)))
    log_p: Float64 = np.minimum(np.where(below, rest, log_sum), 0.0)
    return log_p


def _log_pmf(k: Int64, a: Int64, b: Int64, n: int) -> Float64:
    def log_choose(top: ArrayLike, bottom: ArrayLike) -> Float64:
        upper, lower = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
        found: Float64 = gammaln(upper + 1) - gammaln(lower + 1) - gammaln(upper - lower + 1)
        return found

    return log_choose(a, k) + log_choose(n - a, b - k) - log_choose(n, b)


def _ratio_sum(start: Int64, a: Int64, b: Int64, n: int, down: NDArray[np.bool_]) -> Float64:
    """Sum of pmf(k) / pmf(start) over k >= start (k <= start where `down`), until a term is below 1e-17 of it."""
    total, term, at = np.ones(start.shape), np.ones(start.shape), start.astype(np.float64)
    live = np.arange(start.size)
    while live.size:
        steps = np.arange(BLOCK, dtype=np.float64)[None, :]
        first, second = (x[live, None].astype(np.float64) for x in (a, b))
        lower = down[live, None]
        k = at[live, None] + np.where(lower, -steps, steps)
        with np.errstate(divide="ignore", invalid="ignore"):
            rise = (first - k) * (second - k) / ((k + 1) * (n - first - second + k + 1))
            fall = k * (n - first - second + k) / ((first - k + 1) * (second - k + 1))
        # Past the end of the support a factor has been 0 once, and every later product stays 0.
        terms = term[live, None] * np.cumprod(np.where(lower, np.maximum(fall, 0.0), np.maximum(rise, 0.0)), axis=1)
        total[live] += terms.sum(axis=1)
        term[live] = terms[:, -1]
        at[live] += np.where(down[live], -BLOCK, BLOCK)
        live = live[term[live] > 1e-17 * total[live]]
    return total
