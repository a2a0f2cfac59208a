"""The figures of an ordered series: how far each latent rises or falls, whether by chance, and at equal length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import t as student

from saeray.analysis.diff.confounders import mantel, separable, skewness, tail
from saeray.analysis.diff.counts import Counts, Halves, by_length, postings
from saeray.analysis.diff.design import Design
from saeray.analysis.diff.options import Options
from saeray.analysis.diff.presence import Runs, runs
from saeray.analysis.diff.tests import flipped
from saeray.analysis.diff.values import Corpus
from saeray.stats.intervals import wilson
from saeray.stats.length import standardise
from saeray.stats.paired import per_key
from saeray.stats.significance import benjamini_hochberg
from saeray.stats.trend import cochran_armitage, monotone, slope

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


def slope_limits(counts: Int64, n: Int64, confidence: float = 0.95) -> tuple[Float64, Float64]:
    """Limits (lower, upper) of the fitted change from the first version to the last, float64[m], documents being
    independent: Wilson's limits of each version's frequency, combined by the root of the sum of squares (Zou, Huang &
    Zhang 2009, Comp. Stat. Data Anal. 53:1080), which for two versions is Newcombe's. `counts` int64[versions, m]."""
    size = np.asarray(n, np.float64)[:, None]
    weight = _weights(size)
    share = counts / size
    low, high = wilson(counts, size, confidence)
    change = (weight * share).sum(axis=0)
    up = np.where(weight > 0, weight * (high - share), -weight * (share - low))
    down = np.where(weight > 0, weight * (share - low), -weight * (high - share))
    return change - np.sqrt((down**2).sum(axis=0)), change + np.sqrt((up**2).sum(axis=0))


def _weights(size: Float64) -> Float64:
    """What each version's frequency adds to the fitted change, float64[versions, 1]."""
    versions = np.arange(len(size), dtype=np.float64)[:, None]
    centred = versions - (size * versions).sum() / size.sum()
    return np.asarray((len(size) - 1) * size * centred / (size * centred**2).sum())


def trends(
    corpus: Corpus,
    design: Design,
    halves: Halves,
    tested: Int64,
    inner: Int64,
    options: Options,
) -> dict[str, Any]:
    """The columns of a series' rows that need no names, in the order of `tested`; see `SeriesResult`."""
    propose, verify = halves
    versions = len(design.sides)
    counts, seen = (np.array([c.total.documents[tested] for c in half]) for half in (propose, verify))
    n, m = (np.array([c.total.n_documents for c in half]) for half in (propose, verify))
    steps = versions - 1
    proposed = np.round(steps * slope(counts, n), 12)
    if corpus.keys is None:
        p = cochran_armitage(counts, n)
        lower, upper = slope_limits(seen, m)
    else:
        p, lower, upper = _paired(corpus, design, tested, runs(postings(halves, tested), corpus.code.size), inner)
    sign = np.sign(proposed)
    p_level = [_within(half, tested, sign) for half in (propose, verify)]
    level = [_level(half, tested) for half in (propose, verify)]
    q = benjamini_hochberg(p)
    passes = (q <= options.q) & (np.abs(proposed) > options.keep)
    apart = sign * np.nan_to_num(level[0]) > options.keep
    fresh = None if design.proposing is None else p_level[1]
    confirmed = np.where(proposed > 0, lower > 0, (proposed < 0) & (upper < 0))
    apart = np.where(passes, separable(p_level[0], fresh, passes & apart, confirmed, options.q), apart)
    return {
        "latent": tested.astype(np.uint32),
        "change": steps * slope(seen, m),
        "lower": lower,
        "upper": upper,
        "p": p,
        "q": q,
        "proposed_change": proposed,
        "confirmed": confirmed,
        "change_at_equal_length": pa.array(level[1], from_pandas=True),
        "separable_from_length": apart,
        "monotone": monotone(seen, m),
        "monotone_proposed": monotone(counts, n),
        "frequencies": pa.array((seen / m[:, None]).T.tolist(), pa.list_(pa.float64())),
        "documents": pa.array(seen.T.tolist(), pa.list_(pa.int64())),
    }


def _within(half: Sequence[Counts], tested: Int64, sign: Float64) -> Float64:
    """One-sided p-values of the trend within classes of length."""
    found = *by_length(half, tested), np.arange(len(half))
    return tail(sign * mantel(*found), sign * skewness(*found))


def _level(half: Sequence[Counts], tested: Int64) -> Float64:
    """The change of frequencies standardised by length, versions weighing alike."""
    rates = standardise(*by_length(half, tested))
    return np.asarray((_weights(np.ones((len(half), 1))) * rates).sum(axis=0))


def _paired(
    corpus: Corpus, design: Design, tested: Int64, taken: Runs, inner: Int64
) -> tuple[Float64, Float64, Float64]:
    """p by sign flips of each key's trend, from the proposing keys; limits of the change from the verifying ones.

    Limits: Student's, of the keys' own changes, whose mean the change is, and never narrower than 3 in the number of
    keys: what is in so small a share of them is missed by all with a chance of 5% (Hanley & Lippman-Hand 1983, JAMA
    249:1743).
    """
    versions = len(design.sides)
    contrast = 2 * np.arange(versions) - (versions - 1)
    # The fitted change of one key from its sum of contrasts.
    scale = 2 * (versions - 1) / float((contrast**2).sum())
    every = np.ones(corpus.code.size, np.bool_)
    both = (every, every) if corpus.proposing is None else (corpus.proposing, ~corpus.proposing)
    parts: list[tuple[Float64, Float64, Float64]] = []
    for rows in corpus.rows(tested, taken, inner):
        propose, verify = (
            _contrasts(rows.here, corpus.code, own, half, contrast)
            for own, half in zip(both, (design.proposers(), design.verifiers()), strict=True)
        )
        each = verify.toarray() * scale
        keys = each.shape[0]
        spread = student.ppf(0.975, max(keys - 1, 1)) * each.std(axis=0, ddof=1) / np.sqrt(keys)
        spread, change = np.maximum(spread, 3 / keys), each.mean(axis=0)
        parts.append((flipped(propose, "two-sided"), change - spread, change + spread))
    joined = [np.concatenate(one) for one in zip(*parts, strict=True)] if parts else [np.zeros(0)] * 3
    return joined[0], joined[1], joined[2]


def _contrasts(rows: csr_array, code: Int64, own: NDArray[np.bool_], half: Design, contrast: Int64) -> csr_array:
    """The sum of contrasts of each key of one half, sparse int64[keys, m]."""
    keyed = [per_key(rows[own & (code == i)], key, half.n_keys)[0] for i, key in enumerate(half.keys or ())]
    total = keyed[0] * int(contrast[0])
    for step, one in zip(contrast[1:].tolist(), keyed[1:], strict=True):
        total = total + one * step
    return csr_array(total)
