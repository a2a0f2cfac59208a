"""What verdicts say of a difference: the estimate, its interval, and whether enough has been asked.

Arrays in, numbers out: nothing here knows who judged. Answers are float64, 1 yes, 0 no, NaN missing; a missing answer
is never a no, and every bound holds whatever it would have been. All of it is the target's share less the highest other
side's; a statement that the others have more of is the mirror image.

Against several others the lower bound is the smallest of the pairwise ones (intersection-union: the target exceeds the
highest when it exceeds each). The upper bound is the smallest too, but there any of them may err, so each of m has
1/m of the chance to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from saeray.analysis.hypotheses.steps import Steps
from saeray.stats.paired import tango
from saeray.stats.sequence import ConfidenceSequence, missing_bounds, missing_interval

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """`difference`: of the shares among the answered, 0.0 where a side has no answer at all (the bounds say so).
    `lower`, `upper`: its interval. `bounds`: the least and the largest difference that the missing answers allow.
    """

    difference: float
    lower: float
    upper: float
    bounds: tuple[float, float]

    def mirrored(self) -> Estimate:
        """Of the highest other side's share less the target's."""
        least, most = self.bounds
        return Estimate(0.0 - self.difference, 0.0 - self.upper, 0.0 - self.lower, (0.0 - most, 0.0 - least))


class Watch:
    """A confidence sequence a pair of sides: bounds that hold after every step at once, as `Estimate` has them."""

    def __init__(self, steps: Steps, confidence: float) -> None:
        self._steps, self._at = steps, 0
        shape = (steps.contrasts,)
        self._lower = ConfidenceSequence(confidence, steps.n, shape)
        self._upper = self._lower
        if steps.contrasts > 1:
            self._upper = ConfidenceSequence(shared(confidence, steps.contrasts), steps.n, shape)

    def look(self, answers: Sequence[Float64], until: int) -> Self:
        """Takes in the answers of all steps before `until` that it has not seen."""
        least, most = outcomes(answers, self._steps, self._at, until)
        for low, high in zip((least[0] - most[1:]).T, (most[0] - least[1:]).T, strict=True):
            self._lower.update(low, high)
            if self._upper is not self._lower:
                self._upper.update(low, high)
        self._at = until
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        return float(self._lower.lower.min()), float(self._upper.upper.min())


def shared(confidence: float, among: int) -> float:
    """The confidence of each of several bounds, for all of them to hold together with `confidence` (Bonferroni)."""
    return 1 - (1 - confidence) / among


def outcomes(answers: Sequence[Float64], steps: Steps, first: int, until: int) -> tuple[Float64, Float64]:
    """Share of yes in each step of first..until-1, float64[1 + contrasts, steps]: with every missing answer a no, and
    with every one a yes. `answers`: of each side, in the order of `steps.rows`."""
    least: list[Float64] = []
    most: list[Float64] = []
    for side, ends in zip(answers, steps.ends, strict=True):
        own, cuts = side[ends[first] : ends[until]], ends[first:until] - ends[first]
        size = np.diff(ends[first : until + 1])
        least.append(np.asarray(np.add.reduceat(np.nan_to_num(own, nan=0.0), cuts) / size))
        most.append(np.asarray(np.add.reduceat(np.nan_to_num(own, nan=1.0), cuts) / size))
    if steps.union:
        for shares in (least, most):
            shares[1:] = [np.asarray((np.stack(shares[1:]) > 0).any(axis=0), np.float64)]
    return np.stack(least), np.stack(most)


def fixed(answers: Sequence[Float64], steps: Steps, confidence: float) -> tuple[float, float]:
    """Bounds for a number of documents fixed beforehand, at which one looks once.

    Unpaired: Newcombe's; one row a key: Tango's with the discordant counts of the worst case; several rows a key: their
    means are neither 0 nor 1, and the betting interval holds for whatever they are.
    """
    if not steps.paired:
        lower, _ = _newcombe(answers, confidence)
        _, upper = _newcombe(answers, shared(confidence, steps.contrasts))
        return float(lower.min()), float(upper.min())
    if not steps.binary:
        return Watch(steps, confidence).look(answers, steps.n).bounds
    least, most = outcomes(answers, steps, 0, steps.n)
    low, high = least[0] - most[1:], most[0] - least[1:]
    lower, _ = tango((low == 1).sum(axis=1), (low == -1).sum(axis=1), steps.n, confidence)
    rest = shared(confidence, steps.contrasts)
    _, upper = tango((high == 1).sum(axis=1), (high == -1).sum(axis=1), steps.n, rest)
    return float(lower.min()), float(upper.min())


def estimate(answers: Sequence[Float64], steps: Steps, until: int, interval: tuple[float, float]) -> Estimate:
    """The estimate after the steps before `until`, with the interval that goes with how it was stopped.

    Documents count alike where nothing is paired, keys where something is.
    """
    own = [side[: ends[until]] for side, ends in zip(answers, steps.ends, strict=True)]
    if steps.paired:
        least, most = outcomes(answers, steps, 0, until)
        bounds = (least[0] - most[1:]).mean(axis=1).min(), (most[0] - least[1:]).mean(axis=1).min()
        shares = _key_shares(own, steps, until)
    else:
        yes, missing, n = _counts(own)
        pairs = missing_bounds(yes[0], missing[0], n[0], yes[1:], missing[1:], n[1:])
        bounds = pairs[0].min(), pairs[1].min()
        shares = [_mean(side) for side in own]
    difference = 0.0 if any(share is None for share in shares) else _less_highest([s for s in shares if s is not None])
    return Estimate(difference, *interval, (float(bounds[0]), float(bounds[1])))


def _key_shares(own: Sequence[Float64], steps: Steps, until: int) -> list[float | None]:
    """Mean over keys of the share of yes among a key's answers; keys without one are left out."""
    if steps.union:
        least, most = outcomes(own, steps, 0, until)
        known = np.where(least == most, least, np.nan)
        return [_mean(_key_means(own[0], steps.ends[0][: until + 1])), _mean(known[1])]
    return [_mean(_key_means(side, ends[: until + 1])) for side, ends in zip(own, steps.ends, strict=True)]


def _key_means(side: Float64, ends: NDArray[np.int64]) -> Float64:
    yes = np.add.reduceat(np.nan_to_num(side, nan=0.0), ends[:-1])
    answered = np.add.reduceat((~np.isnan(side)).astype(np.float64), ends[:-1])
    means = np.full(yes.shape, np.nan)
    np.divide(yes, answered, out=means, where=answered > 0)
    return means


def _mean(values: Float64) -> float | None:
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else None


def _less_highest(shares: list[float]) -> float:
    return shares[0] - max(shares[1:])


def _counts(own: Sequence[Float64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    yes = np.array([int((side == 1).sum()) for side in own])
    missing = np.array([int(np.isnan(side).sum()) for side in own])
    return yes, missing, np.array([side.size for side in own])


def _newcombe(answers: Sequence[Float64], confidence: float) -> tuple[Float64, Float64]:
    yes, missing, n = _counts(answers)
    return missing_interval(yes[0], missing[0], n[0], yes[1:], missing[1:], n[1:], confidence)
