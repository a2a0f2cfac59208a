"""Is a difference more than chance when both sides answered the same prompts? Tests and intervals for pairs.

Two answers to one prompt are alike, so what tells the sides apart are the discordant pairs: b where only the target has
the latent, c where only the other has it. Where a key has several rows of a side, the rows of one key are no
independent witnesses; the sign-flip test swaps whole keys. All functions take every latent at once.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csc_array, csr_array
from scipy.special import ndtri
from scipy.stats import binom

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Alternative = Literal["two-sided", "greater"]

#: Halvings of [-1, 1]: its width, 2, goes below 1e-16.
HALVINGS = 54
#: Sums of up to this size in whole units get an exact p-value; at 65,536 latents it is at worst a minute.
LATTICE = 1 << 15
#: Up to this many clusters all sign patterns are taken: 2^12 = 4,096.
FEW = 12
#: Numbers of an array made at a time: 2^22 complex numbers are 64 MB.
PIECE = 1 << 22


def discordant(target: csr_array, other: csr_array) -> tuple[Int64, Int64]:
    """Counts (b, c) of pairs with the latent on one side only, int64[d_sae] each.

    `target`, `other`: sparse [keys, d_sae], row k of both belonging to key k, one document a key; anything but 0 means
    present. b: in the target's document and not in the other's; c: the reverse. Raises ValueError when shapes differ.
    """
    if target.shape != other.shape:
        raise ValueError(f"pairs need one row a key on both sides, not {target.shape} and {other.shape}")
    first, second = _presence(target), _presence(other)
    both = _column_sums(first.multiply(second))
    return _column_sums(first) - both, _column_sums(second) - both


def mcnemar(b: ArrayLike, c: ArrayLike, alternative: Alternative = "two-sided", midp: bool = False) -> Float64:
    """Exact p-value of McNemar's test from the discordant counts, float64 of their broadcast shape.

    Of the b + c discordant pairs each is as likely of either kind: b is binomial(b + c, 1/2). `greater`: at least b of
    them; `two-sided`: twice the smaller tail, at most 1. `midp`: the observed count has half weight, which holds close
    to the nominal level where the exact test is too cautious. No discordant pair: 1, or 0.5 one-sided with mid-p.
    McNemar 1947, Psychometrika 12:153; Fagerland, Lydersen & Laake 2013, BMC Med. Res. Methodol. 13:91.
    """
    first, second = np.broadcast_arrays(np.asarray(b, np.int64), np.asarray(c, np.int64))
    if first.size and min(first.min(), second.min()) < 0:
        raise ValueError("discordant counts cannot be negative")
    pairs = first + second
    seen = first if alternative == "greater" else np.maximum(first, second)
    # P(X >= seen) is P(X <= pairs - seen): the symmetry keeps the digits of a small tail.
    tail = binom.cdf(pairs - seen, pairs, 0.5)
    if midp:
        tail = tail - binom.pmf(seen, pairs, 0.5) / 2
    p: Float64 = np.asarray(np.minimum(tail if alternative == "greater" else 2 * tail, 1.0), np.float64)
    return p


def tango(b: ArrayLike, c: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> tuple[Float64, Float64]:
    """Score interval (lower, upper) of the difference (b - c) / n of two paired proportions, element-wise.

    The differences d that the score test keeps: |b - c - n d| <= z sqrt(n (2 q + d (1 - d))), with q the likeliest
    share of pairs of the second kind when the difference is d. It stays within [-1, 1] and holds for b = c = 0, where
    it is +- z^2 / (n + z^2). Tango 1998, Statistics in Medicine 17:891. n > 0 pairs, discordant or not. Raises
    ValueError when b + c > n.
    """
    first, second, size = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (b, c, n)))
    if first.size and (min(first.min(), second.min()) < 0 or (first + second > size).any() or size.min() <= 0):
        raise ValueError("discordant counts must lie between 0 and the number of pairs, which is at least 1")
    z = float(ndtri(0.5 + confidence / 2))
    return -_tango_upper(second, first, size, z), _tango_upper(first, second, size, z)


def per_key(rows: csr_array, key: ArrayLike, keys: int) -> tuple[csr_array, Int64]:
    """Rows of one side gathered by key: how many rows of each key have each latent, sparse int64[keys, d_sae], and how
    many rows each key has, int64[keys]. `rows` sparse [rows, d_sae], `key` int64[rows] in 0..keys-1."""
    of = np.asarray(key, np.int64)
    gather = csr_array((np.ones(of.size, np.int64), (of, np.arange(of.size))), shape=(keys, of.size))
    return csr_array(gather @ _presence(rows)), np.bincount(of, minlength=keys)


def key_differences(target: csr_array, n_target: ArrayLike, other: csr_array, n_other: ArrayLike) -> csr_array:
    """What `sign_flip` sums, in whole numbers: for key k and latent i, x u - y t = t u (x / t - y / u), for x of the
    target's t rows and y of the other's u. Sparse int64[keys, d_sae].

    `target`, `other` and the sizes are those of `per_key`. A key weighs as many pairs of rows as it has; one without
    rows on a side counts 0.
    """
    here, there = (np.asarray(n, np.int64)[:, None] for n in (n_target, n_other))
    return csr_array(csr_array(target).multiply(there) - csr_array(other).multiply(here))


def sign_flip(
    differences: Any, alternative: Alternative = "two-sided", flips: int = 9_999, seed: int = 0
) -> tuple[Float64, NDArray[np.bool_]]:
    """p-value that the differences of clusters sum to so much, were the sides of each cluster swapped at random.

    `differences` [clusters, m], dense or sparse; a swap turns the sign of a cluster's row. Returns float64[m] and
    whether each is exact, bool[m]. Exact over all 2^clusters patterns, to some 1e-14, where the differences are whole
    numbers whose sizes sum to at most `LATTICE` (in units of their common divisor), and with at most `FEW` clusters;
    otherwise (1 + patterns as extreme) / (1 + `flips`), from `flips` seeded patterns. Such a p-value is never below
    1 / (1 + flips), which Benjamini-Hochberg over a dictionary cannot use: give `key_differences`, whose p is exact.

    Fisher 1935, The Design of Experiments, 21; the +1: Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39. With
    differences of -1, 0 and 1 it is McNemar's exact test.
    """
    by_latent = csc_array(differences)
    by_latent.eliminate_zeros()
    whole = np.rint(by_latent.data).astype(np.int64)
    units = whole // max(int(np.gcd.reduce(whole)), 1) if (whole == by_latent.data).all() else None
    exact = np.zeros(by_latent.shape[1], np.bool_)
    p = np.empty(by_latent.shape[1])
    if units is not None:
        in_units = csc_array((units, by_latent.indices, by_latent.indptr), shape=by_latent.shape)
        exact = _column_sums(abs(in_units)) <= LATTICE
        p[exact] = _exact_flips(in_units[:, np.flatnonzero(exact)], alternative)
    rest = np.flatnonzero(~exact)
    if rest.size:
        p[rest] = _counted_flips(by_latent[:, rest], alternative, flips, seed)
    return p, exact | (by_latent.shape[0] <= FEW)


def _presence(rows: csr_array) -> csr_array:
    found = csr_array(rows)
    found.sum_duplicates()
    return csr_array((found != 0).astype(np.int64))


def _column_sums(rows: Any) -> Int64:
    return np.asarray(rows.sum(axis=0), np.int64).ravel()


def _tango_upper(b: Float64, c: Float64, n: Float64, z: float) -> Float64:
    """The upper limit, by bisection: from the observed difference up to 1 the score statistic only falls."""
    low, high = (b - c) / n, np.ones(b.shape)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        kept = n * middle - (b - c) <= z * np.sqrt(n * _score_variance(b, c, n, middle))
        low, high = np.where(kept, middle, low), np.where(kept, high, middle)
    return high


def _score_variance(b: Float64, c: Float64, n: Float64, d: Float64) -> Float64:
    """2 q + d (1 - d). For d < 0 the kinds change places, so that q is the positive root of 2 n q^2 + s q - t."""
    size = np.abs(d)
    smaller, larger = np.where(d < 0, b, c), np.where(d < 0, c, b)
    s = (2 * n - larger + smaller) * size - larger - smaller
    t = smaller * size * (1 - size)
    root = np.sqrt(s * s + 8 * n * t)
    # Of the two forms of the root the one that adds and does not cancel; both are 0 when s and t are.
    q = np.where(s > 0, 2 * t / np.maximum(s + root, 1e-300), (root - s) / (4 * n))
    variance: Float64 = 2 * q + size * (1 - size)
    return variance


def _exact_flips(differences: csc_array, alternative: str) -> Float64:
    """Exact tails of the sum over all sign patterns, from its characteristic function (a product of cosines)."""
    total = _column_sums(differences)
    sizes, code = np.unique(np.abs(differences.data), return_inverse=True)
    columns = np.repeat(np.arange(total.size), np.diff(differences.indptr))
    clusters = np.bincount(columns * sizes.size + code, minlength=total.size * sizes.size)
    clusters = clusters.reshape(total.size, sizes.size).astype(np.float64)
    reach = (clusters @ sizes).astype(np.int64)
    # With every cluster that is turned up counted by its size, the sum is 2 y - reach for a y in 0..reach.
    y = ((total if alternative == "greater" else np.abs(total)) + reach) // 2
    tail = np.empty(total.size)
    points = 2 ** np.ceil(np.log2(reach + 2)).astype(np.int64)
    for size in np.unique(points):
        cosine = np.cos(np.pi / size * np.outer(sizes, np.arange(size // 2 + 1)))
        # A cosine of 0 ends the product: exp(-800) is 0, and 0 clusters times -800 still is 0.
        logs = np.log(np.maximum(np.abs(cosine), np.exp(-700.0)))
        negative = (cosine < 0).astype(np.float64)
        rows = np.flatnonzero(points == size)
        for some in np.array_split(rows, -(-rows.size * int(size) // PIECE)):
            turned = (clusters[some] @ negative) % 2
            phase = np.pi / size * (np.outer(reach[some], np.arange(size // 2 + 1)) % (2 * size))
            spectrum = np.exp(clusters[some] @ logs) * (1 - 2 * turned) * np.exp(-1j * phase)
            chance = np.fft.irfft(spectrum, int(size), axis=1)
            tail[some] = np.where(np.arange(size) >= y[some, None], chance, 0.0).sum(axis=1)
    # Rounding can take a tail below its least value, the chance of the observed pattern itself.
    tail = np.maximum(tail, 0.5 ** clusters.sum(axis=1))
    p: Float64 = np.minimum(tail if alternative == "greater" else 2 * tail, 1.0)
    return p


def _counted_flips(differences: csc_array, alternative: str, flips: int, seed: int) -> Float64:
    """Share of sign patterns at least as extreme: all of them for few clusters, else seeded ones with the +1."""
    clusters, m = differences.shape
    every = clusters <= FEW
    patterns = 2**clusters if every else flips
    generator = np.random.default_rng(seed)
    by_latent = csr_array(differences.T).astype(np.float64)
    # Sums that are equal but for the order of their terms are as extreme as each other.
    slack = 1e-12 * np.asarray(abs(by_latent).sum(axis=1)).ravel()
    total = np.asarray(by_latent.sum(axis=1)).ravel()
    bar = (total if alternative == "greater" else np.abs(total)) - slack
    extreme = np.zeros(m, np.int64)
    step = max(1, min(patterns, PIECE // max(m, clusters, 1)))
    for start in range(0, patterns, step):
        numbers = np.arange(start, min(start + step, patterns))
        if every:
            up = numbers[None, :] >> np.arange(clusters)[:, None] & 1
        else:
            up = generator.integers(0, 2, (numbers.size, clusters)).T
        sums = by_latent @ (2.0 * up - 1.0)
        extreme += ((sums if alternative == "greater" else np.abs(sums)) >= bar[:, None]).sum(axis=1)
    share: Float64 = extreme / patterns if every else (extreme + 1) / (patterns + 1)
    return share
