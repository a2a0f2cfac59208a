"""Is a difference more than a difference of length, or of prompts? The same comparison within classes of documents.

A standardised difference alone does not answer it: half of a thousand latents that follow length show some difference
at equal length by chance. So it is tested too, within classes of length or of what the prompt has, and on documents
that did not choose the latent: those that it was chosen on lean its way within classes too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.special import gammainc, gammaincc, ndtr, ndtri

from saeray.stats.significance import benjamini_hochberg

Bool = NDArray[np.bool_]
Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

#: Classes of length: at least these and at most those, one for each 6 documents of the smallest side. Of corpora of one
#: source in which the target is shorter than seven times as many others, 100 against 700 documents a half, 4 of 40
#: report a latent; with one class for each 12 it is 18 of 30, as lengths then still differ within the outer classes. It
#: costs power: 78% for 81% of differences of 25 points, with 100 a side and half and lengths twice as long.
FEWEST, MOST, EACH = 5, 20, 6
#: What a standard deviation within classes in the proposing half is worth as a weight, in logarithms, and how many of
#: them count. Of slopes 1 to 3 and caps 2.5 to 4 this is within two points of what keeps most, with 20 to 2,000
#: true differences among 3,000 to 5,000; a plain screen at p 0.01 keeps 1 to 5 points fewer.
SLOPE, CAP = 2.0, 3.0


def classes(smallest: int) -> int:
    """How many classes of length there are when the smallest side has `smallest` documents."""
    return int(np.clip(smallest // EACH, FEWEST, MOST))


def separable(p: Float64, fresh: Float64 | None, chosen: Bool, borne_out: Bool, q: float) -> Bool:
    """Which of the latents `chosen` differ within classes too, at a false-discovery rate of `q`; bool[m].

    `p` float64[m]: one-sided, of the direction proposed, from the documents that chose; `fresh`: the same from others.
    Benjamini-Hochberg over the fresh p-values of those chosen, each divided by a weight of mean 1 that rests on `p`
    alone and so on nothing fresh: Genovese, Roeder & Wasserman 2006, Biometrika 93:509. Of what the fresh documents do
    not bear out at all (`borne_out` bool[m]), and where there are none, `p` says it, over all m that were tested: of
    those chosen alone, which lean the way that they were chosen for, a third of corpora that differ in nothing but
    length would report some.
    """
    alone = chosen & (benjamini_hochberg(p) <= q)
    if fresh is None or not chosen.any():
        return alone
    weight = np.exp(SLOPE * np.clip(-ndtri(p[chosen]), -CAP, CAP))
    found = np.zeros(chosen.size, np.bool_)
    found[chosen] = benjamini_hochberg(np.minimum(fresh[chosen] * weight.mean() / weight, 1.0)) <= q
    return found | (alone & ~borne_out)


def mantel(counts: ArrayLike, n: ArrayLike, scores: ArrayLike) -> Float64:
    """z of a trend over groups within strata, float64[m]; for two groups of scores 1 and 0 it is Mantel and Haenszel's.

    `counts` int64[groups, strata, m]: documents with the latent; `n` int64[groups, strata, m or 1]: documents;
    `scores` [groups]. Positive: latents come with higher scores. 0 where nothing can vary. The sum over strata of the
    scores of documents with the latent less its expectation, over the root of its hypergeometric variance. Mantel &
    Haenszel 1959, JNCI 22:719; Mantel 1963, JASA 58:690. Documents count as independent.
    """
    x, size = np.asarray(counts, np.float64), np.asarray(n, np.float64)
    score = np.asarray(scores, np.float64)[:, None, None]
    every, having = size.sum(axis=0), x.sum(axis=0)
    mean = (score * size).sum(axis=0) / np.maximum(every, 1)
    beyond = ((score - mean) * x).sum(axis=(0, 1))
    spread = (((score - mean) ** 2) * size).sum(axis=0)
    variance = (having * (every - having) / np.maximum(every * (every - 1), 1) * spread).sum(axis=0)
    z: Float64 = np.divide(beyond, np.sqrt(variance), out=np.zeros_like(beyond), where=variance > 1e-12)
    return z


def skewness(counts: ArrayLike, n: ArrayLike, scores: ArrayLike) -> Float64:
    """Skewness of the sum that `mantel` takes, float64[m]: a rare latent has some where a side has few of the
    documents. 0 where nothing can vary. From the third central moment of a sum of scores drawn without replacement."""
    x, size = np.asarray(counts, np.float64), np.asarray(n, np.float64)
    score = np.asarray(scores, np.float64)[:, None, None]
    every, having = size.sum(axis=0), x.sum(axis=0)
    centred = score - (score * size).sum(axis=0) / np.maximum(every, 1)
    pairs = having * (every - having) / np.maximum(every * (every - 1), 1)
    variance = (pairs * (centred**2 * size).sum(axis=0)).sum(axis=0)
    threes = pairs * (every - 2 * having) / np.maximum(every - 2, 1)
    third = (threes * (centred**3 * size).sum(axis=0)).sum(axis=0)
    found: Float64 = np.divide(third, variance**1.5, out=np.zeros_like(third), where=variance > 1e-12)
    return found


def tail(z: Float64, skewed: Float64 | float = 0.0) -> Float64:
    """Chance of more than `z` standard deviations, of the gamma law with that skewness (Pearson's type III), of the
    normal one where it has none. A latent in five documents, all on a side with an eighth of 800: their chance is 3e-5,
    the normal law says 2e-9 and this 1e-4. With the normal law 5 of 30 corpora of one source,
    the one side an eighth and longer, report some; with this 0 of 40."""
    z, skewed = np.broadcast_arrays(z, skewed)
    # Below it the two differ by 1% at 4 deviations, and the shape 4 / skewness^2 grows without bound.
    some = np.abs(skewed) > 1e-3
    shape = 4 / np.where(some, skewed, 1.0) ** 2
    beyond = np.sign(skewed) * z * np.sqrt(shape) + shape
    law = np.where(skewed > 0, gammaincc(shape, np.maximum(beyond, 0)), gammainc(shape, np.maximum(beyond, 0)))
    return np.asarray(np.where(some, law, ndtr(-z)), np.float64)


def mantel_by_key(
    rows: Sequence[csr_array], strata: Sequence[Int64], keys: Sequence[Int64], n_keys: int, n_strata: int
) -> Float64:
    """`mantel` for two sides whose documents share keys, float64[m]: the same sum, its variance taken between keys.

    Of each side (target first) `rows` sparse [documents, m], `strata` int64[documents, 1 or m], `keys`
    int64[documents]. Each document's share of the sum, less what its stratum expects, is added up by key; the variance
    is the sum of squares of these. Liang & Zeger 1986, Biometrika 73:13. Memory: 24 bytes a document and latent.
    """
    here = [np.asarray(csr_array(one).astype(bool).toarray(), np.float64) for one in rows]
    n = np.stack([[(one == j).sum(axis=0) for j in range(n_strata)] for one in strata]).astype(np.float64)
    x = np.stack([_by_stratum(one, stratum, n_strata) for one, stratum in zip(here, strata, strict=True)])
    every = np.maximum(n.sum(axis=0), 1)
    share = x.sum(axis=0) / every
    total = np.zeros((n_keys, here[0].shape[1]))
    column = np.arange(total.shape[1])[None, :]
    for s, sign in ((0, 1.0), (1, -1.0)):
        weight = np.broadcast_to(sign * n[1 - s] / every, share.shape)
        gather = csr_array((np.ones(keys[s].size), (keys[s], np.arange(keys[s].size))), shape=(n_keys, keys[s].size))
        total += gather @ (weight[strata[s], column] * (here[s] - share[strata[s], column]))
    variance = (total**2).sum(axis=0) * n_keys / max(n_keys - 1, 1)
    z: Float64 = np.divide(total.sum(axis=0), np.sqrt(variance), out=np.zeros_like(variance), where=variance > 1e-12)
    return z


def _by_stratum(rows: Float64, stratum: Int64, n_strata: int) -> Float64:
    """Documents with each latent in each stratum, float64[strata, m]."""
    found = np.zeros((n_strata, rows.shape[1]))
    np.add.at(found, (stratum, np.arange(rows.shape[1])[None, :]), rows)
    return found
