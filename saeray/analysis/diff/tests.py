"""p-values from the documents that propose, limits from those that verify, for each design of a diff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ndtr
from scipy.stats import t as student

from saeray.analysis.diff.confounders import mantel, mantel_by_key, skewness, tail
from saeray.analysis.diff.counts import Counts, Halves, by_given, by_length
from saeray.analysis.diff.design import Design
from saeray.analysis.diff.presence import Rows
from saeray.stats.intervals import newcombe
from saeray.stats.paired import LATTICE, Alternative, discordant, key_differences, mcnemar, per_key, sign_flip, tango
from saeray.stats.significance import fisher_midp, intersection_union

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

#: z and its law's skewness, within classes of length, and of the other channel where one is given.
Within = list[tuple[Float64, Float64 | float]]


@dataclass(frozen=True)
class Tested:
    """float64[m] each. `p`: two-sided against one other, else the largest one-sided one. `lower`, `upper`: of the
    difference in the verifying half; `upper` is NaN against several. `p_level`, `p_given`: one-sided, of the proposed
    difference from all others together within classes of length and of the other channel, in the proposing half;
    `fresh_level`, `fresh_given`: the same in the verifying one, None where there are no halves. `union` int64[halves,
    2, m]: keys with the latent, in the target and in any other, where that is what counts.
    """

    p: Float64
    lower: Float64
    upper: Float64
    p_level: Float64
    p_given: Float64 | None = None
    fresh_level: Float64 | None = None
    fresh_given: Float64 | None = None
    union: Int64 | None = None

    @staticmethod
    def joined(parts: Sequence[Tested]) -> Tested:
        """The latents of several pieces as one."""
        columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Tested)}
        found: dict[str, Any] = {
            name: None if one[0] is None else np.concatenate(one, axis=-1) for name, one in columns.items()
        }
        return Tested(**found)


def unpaired(halves: Halves, tested: Int64) -> Tested:
    """Fisher's mid-p and Newcombe's limits: documents are independent."""
    propose, verify = halves
    sign = _sign([c.total.frequency[tested] for c in propose])
    n, counts = _totals(propose, tested)
    others = range(1, len(propose))
    one = len(propose) == 2
    p = [fisher_midp(counts[0], n[0], counts[i], n[i], "two-sided" if one else "greater") for i in others]
    m, seen = _totals(verify, tested)
    within = [_within(half, tested) for half in ((propose,) if verify[0] is propose[0] else (propose, verify))]
    return _against(p, [newcombe(seen[0], m[0], seen[i], m[i]) for i in others], within, sign)


def paired(design: Design, rows: Sequence[Rows], n_classes: int) -> Tested:
    """McNemar's exact test and Tango's limits; with several documents a key, sign flips of keys and `key_limits`."""
    masks = design.proposing
    propose, verify = design.proposers(), design.verifiers()
    own = rows if masks is None else [one.where(mask) for one, mask in zip(rows, masks, strict=True)]
    held = rows if masks is None else [one.where(~mask) for one, mask in zip(rows, masks, strict=True)]
    several = any(side.n_documents > design.n_keys for side in design.sides)
    union = None
    if design.against == "union":
        halves = [_union(one, side) for one, side in ((own, propose), (held, verify))]
        union = np.stack([np.stack([_sums(one) for one in half]) for half in halves])
        alternative: Alternative = "two-sided" if len(rows) == 2 else "greater"
        p = [mcnemar(*discordant(*halves[0]), alternative)]
        limits = [tango(*discordant(*halves[1]), verify.n_keys)]
    else:
        p = [_p(own, propose, i, several) for i in range(1, len(rows))]
        limits = [_limits(held, verify, i, several) for i in range(1, len(rows))]
    sign = _sign([_sums(one.here) / max(one.here.shape[0], 1) for one in own])
    halved = [(own, propose)] if masks is None else [(own, propose), (held, verify)]
    within = [_within_keys(one, half, n_classes) for one, half in halved]
    return replace(_against(p, limits, within, sign, several=len(rows) > 2), union=union)


def key_limits(
    target: csr_array, n_target: Int64, other: csr_array, n_other: Int64, confidence: float = 0.95
) -> tuple[Float64, Float64]:
    """Limits (lower, upper) of the difference of two document frequencies whose documents share keys, several each.

    `target`, `other` sparse int64[keys, m] and the sizes are those of `paired.per_key`. Tango's score limits on as many
    pairs as would have the variance that is seen between keys (Rao & Scott 1992, Biometrics 48:577, divide clustered
    counts by their design effect), with Student's quantile for the number of keys. With one document a key it is Tango
    1998 but for that quantile. Where no key differs the number of keys stands for that of pairs. Memory: 8 bytes a key
    and latent.
    """
    n_keys, m = target.shape
    here, there = (np.asarray(one.toarray(), np.float64) for one in (target, other))
    size, size_other = (np.asarray(n, np.float64)[:, None] for n in (n_target, n_other))
    p, p_other = here.sum(axis=0) / size.sum(), there.sum(axis=0) / size_other.sum()
    weight = (size / size.sum() + size_other / size_other.sum()) / 2
    both = (weight * (here / size) * (there / size_other)).sum(axis=0)
    both = np.clip(both, np.maximum(0.0, p + p_other - 1), np.minimum(p, p_other))
    apart = (here - size * p) / size.sum() - (there - size_other * p_other) / size_other.sum()
    seen = (apart**2).sum(axis=0) * n_keys / max(n_keys - 1, 1)
    one_pair = np.maximum(p + p_other - 2 * both - (p - p_other) ** 2, 0.0)
    pairs = np.full(m, float(n_keys))
    np.divide(one_pair, seen, out=pairs, where=(seen > 1e-15) & (one_pair > 1e-15))
    pairs = np.clip(pairs, 1.0, min(size.sum(), size_other.sum()))
    quantile = student.ppf(0.5 + confidence / 2, max(n_keys - 1, 1))
    # Of two keys the quantile is 12.7, which as a level of the normal law would round to 1.
    level = min(float(2 * ndtr(quantile) - 1), 1 - 1e-12)
    return tango((p - both) * pairs, (p_other - both) * pairs, pairs, level)


def _against(
    p: Sequence[Float64],
    limits: Sequence[tuple[Float64, Float64]],
    within: Sequence[Within],
    sign: Float64,
    several: bool | None = None,
) -> Tested:
    """Of the figures against each other side those against all of them. `within`: of each half z within classes of
    length, and of the other channel where one is given."""
    several = len(p) > 1 if several is None else several
    lower, upper = limits[0]
    if several:
        # Against several the claim is one-sided, so there is a lower bound and no upper one (spec section 6).
        lower, upper = np.min([low for low, _ in limits], axis=0), np.full(lower.size, np.nan)
        sign = np.ones_like(sign)

    p_within = [[tail(sign * z, sign * skewed) for z, skewed in half] for half in within]
    names = ("p_level", "p_given"), ("fresh_level", "fresh_given")
    named: dict[str, Any] = {
        name: p for half, own in zip(names, p_within, strict=False) for name, p in zip(half, own, strict=False)
    }
    return Tested(p=intersection_union(p), lower=lower, upper=upper, **named)


def _within(sides: Sequence[Counts], tested: Int64) -> Within:
    # Against all others as one: within a class of length each of them alone may have hardly a document.
    two = sides[0], reduce(add, sides[1:])
    found = (by_length(two, tested), by_given(two, tested))
    return [(mantel(*one, (1, 0)), skewness(*one, (1, 0))) for one in found if one is not None]


def _within_keys(rows: Sequence[Rows], design: Design, n_classes: int) -> Within:
    """The variance between keys is that seen, which leaves no skewness to allow for."""
    two, keys = Rows.pooled(rows[1:]), design.keys or ()
    here, key = (rows[0].here, two.here), (keys[0], np.concatenate(keys[1:]))
    found = [mantel_by_key(here, (rows[0].length, two.length), key, design.n_keys, n_classes)]
    if rows[0].given is not None and two.given is not None:
        given = [np.asarray(one.toarray(), np.int64) for one in (rows[0].given, two.given)]
        found.append(mantel_by_key(here, given, key, design.n_keys, 2))
    return [(z, 0.0) for z in found]


def _p(rows: Sequence[Rows], design: Design, i: int, several: bool) -> Float64:
    alternative: Alternative = "two-sided" if len(rows) == 2 else "greater"
    keys = design.keys or ()
    if not several:
        ordered = [rows[s].here[np.argsort(keys[s], kind="stable")] for s in (0, i)]
        return mcnemar(*discordant(*ordered), alternative)
    (x, t), (y, u) = (per_key(rows[s].here, keys[s], design.n_keys) for s in (0, i))
    differences = key_differences(x, t, y, u)
    p = flipped(differences, alternative)
    if alternative == "two-sided":
        # Keys of unequal sizes can lean one way where the documents as a whole lean the other: no evidence for either.
        leaning = np.sign(_sums(x) / t.sum() - _sums(y) / u.sum()).astype(np.int64)
        p = np.where(np.sign(_sums(differences)) == leaning, p, 1.0)
    return p


def flipped(differences: csr_array, alternative: Alternative) -> Float64:
    """Sign flips of whole keys: exact where their lattice is small, beyond it the normal law, whose variance is exact
    and which 32,768 units make as good."""
    sums, reach = _sums(differences), _sums(abs(differences))
    unit = int(np.gcd.reduce(differences.data)) if differences.nnz else 1
    wide = reach > LATTICE * max(unit, 1)
    p = np.ones(sums.size)
    if (~wide).any():
        p[~wide] = sign_flip(differences[:, np.flatnonzero(~wide)], alternative)[0]
    if wide.any():
        z = sums[wide] / np.sqrt(_sums(differences.power(2))[wide])
        p[wide] = ndtr(-z) if alternative == "greater" else 2 * ndtr(-np.abs(z))
    return p


def _limits(rows: Sequence[Rows], design: Design, i: int, several: bool) -> tuple[Float64, Float64]:
    keys = design.keys or ()
    if not several:
        ordered = [rows[s].here[np.argsort(keys[s], kind="stable")] for s in (0, i)]
        return tango(*discordant(*ordered), design.n_keys)
    (x, t), (y, u) = (per_key(rows[s].here, keys[s], design.n_keys) for s in (0, i))
    return key_limits(x, t, y, u)


def _union(rows: Sequence[Rows], design: Design) -> tuple[csr_array, csr_array]:
    """Keys with the latent in the target, and in any other side."""
    per = [per_key(one.here, key, design.n_keys)[0] for one, key in zip(rows, design.keys or (), strict=True)]
    every = per[1]
    for one in per[2:]:
        every = every + one
    return csr_array(per[0] != 0).astype(np.int64), csr_array(every != 0).astype(np.int64)


def _sign(rates: Sequence[Float64]) -> Float64:
    """+1 where the target has it more often than the highest other, else -1."""
    return np.where(rates[0] >= np.max(rates[1:], axis=0), 1.0, -1.0)


def _totals(sides: Sequence[Counts], tested: Int64) -> tuple[list[int], list[Int64]]:
    return [c.total.n_documents for c in sides], [c.total.documents[tested] for c in sides]


def _sums(rows: csr_array) -> Int64:
    return np.asarray(rows.sum(axis=0), np.int64).ravel()
