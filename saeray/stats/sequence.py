"""When may a judge stop? A confidence sequence for a difference: an interval that holds at every moment at once.

An interval made for a fixed number of documents and looked at after each one excludes 0 sooner or later even where
there is nothing. A confidence sequence may be looked at always, and a run stopped whenever it has said enough.

It is the betting one (hedged capital) of Waudby-Smith and Ramdas 2024: of those that hold for any bounded outcomes
it is the narrowest, most of all where nearly all differences are 0; the empirical-Bernstein one is easier to write
down and wider. A step is one difference in [-1, 1]: that of the two answers to one prompt, or of one document
(or a small batch) of each side drawn at random; so paired and unaligned sides take the same path.
"""

from __future__ import annotations

from math import log
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saeray.stats.intervals import newcombe

Float64 = NDArray[np.float64]
Verdict = Literal["above", "not above"]

#: Candidate means on [0, 1]: bounds of a difference come in steps of 0.1 points, rounded outwards.
GRID = 2001
#: No bet risks more than this share of the wealth. The paper has 1/2 or 3/4; at a horizon of 500 documents 3/4 settles
#: rare differences (5% against none) after some 180, 1/2 after 200.
STAKE = 0.75


class ConfidenceSequence:
    """Bounds of a mean difference in [-1, 1], after any number of `update`s; all of them hold together with chance
    `confidence`, when each step is a fresh random draw.

    `horizon`: the steps there can be, where that is known. Half of the wealth then bets for a decision there, the other
    half for one as early as can be (30% against 20% in 500 documents a side is settled in 80% of runs instead of 42%);
    running on past it is as valid. `shape`: as many sequences side by side, one step
    of each at a time; () is one. `lower`, `upper` float64[shape]; `steps` int. The mean of the differences so far is no
    fair estimate once stopping hung on it: report the bounds.

    Waudby-Smith & Ramdas 2024, JRSS B 86:1, the hedged capital process with predictable plug-in bets.
    """

    def __init__(self, confidence: float = 0.95, horizon: int | None = None, shape: tuple[int, ...] = ()) -> None:
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
        each = (1 - confidence) / 2
        self._above, self._below = _Capital(each, horizon, shape), _Capital(each, horizon, shape)
        self.steps = 0

    def update(self, low: ArrayLike, high: ArrayLike | None = None) -> None:
        """One more difference; where outcomes are missing, the least and the largest it can be (`either_way`)."""
        least = np.asarray(low, np.float64)
        most = least if high is None else np.asarray(high, np.float64)
        if not ((least >= -1) & (least <= most) & (most <= 1)).all():
            raise ValueError("a difference lies within [-1, 1], its least value no larger than its largest")
        self._above.bet((least + 1) / 2)
        self._below.bet((1 - most) / 2)
        self.steps += 1

    @property
    def lower(self) -> Float64:
        return 2 * self._above.bound() - 1

    @property
    def upper(self) -> Float64:
        return 1 - 2 * self._below.bound()

    def verdict(self, threshold: float = 0.0) -> Verdict | None:
        """Of one sequence: "above" once the difference is larger than `threshold`, "not above" once it is at most
        that, None while it is open."""
        if self.lower > threshold:
            return "above"
        return "not above" if self.upper <= threshold else None

    def stop(self, threshold: float = 0.0, width: float | None = None) -> bool:
        """Whether one sequence has said enough: the verdict is in, or with `width` the bounds are that close."""
        close = width is not None and float(self.upper - self.lower) <= width
        return close or self.verdict(threshold) is not None


def either_way(target: ArrayLike, other: ArrayLike) -> tuple[Float64, Float64]:
    """Least and largest difference (low, high) of outcomes in [0, 1], NaN where missing, element-wise.

    Low counts a missing outcome of the target as 0 and one of the other side as 1; high the reverse. Whatever made
    calls fail, the mean lies between the means of the two. For pairs of 0 and 1, (low == 1).sum(), (low == -1).sum()
    are the discordant counts of the worst case. Manski 1989, J. Human Resources 24:343.
    """
    first, second = np.asarray(target, np.float64), np.asarray(other, np.float64)
    low = np.nan_to_num(first, nan=0.0) - np.nan_to_num(second, nan=1.0)
    high = np.nan_to_num(first, nan=1.0) - np.nan_to_num(second, nan=0.0)
    return low, high


def missing_bounds(
    yes1: ArrayLike, missing1: ArrayLike, n1: ArrayLike, yes2: ArrayLike, missing2: ArrayLike, n2: ArrayLike
) -> tuple[Float64, Float64]:
    """Least and largest difference of two shares of yes, had the missing answers been known, element-wise.

    Of n documents of a side `yes` were judged to have it and `missing` were not judged; the rest are no.
    """
    (low1, high1, size1), (low2, high2, size2) = _shares(yes1, missing1, n1), _shares(yes2, missing2, n2)
    return low1 / size1 - high2 / size2, high1 / size1 - low2 / size2


def missing_interval(
    yes1: ArrayLike,
    missing1: ArrayLike,
    n1: ArrayLike,
    yes2: ArrayLike,
    missing2: ArrayLike,
    n2: ArrayLike,
    confidence: float = 0.95,
) -> tuple[Float64, Float64]:
    """Newcombe's interval of the difference, its lower limit from the worst case and its upper from the best: it covers
    the full answer whatever decided which calls failed. For a number of documents fixed beforehand."""
    (low1, high1, size1), (low2, high2, size2) = _shares(yes1, missing1, n1), _shares(yes2, missing2, n2)
    worst, best = newcombe(low1, size1, high2, size2, confidence), newcombe(high1, size1, low2, size2, confidence)
    return worst[0], best[1]


class _Capital:
    """One gambler for each candidate mean m, betting that outcomes in [0, 1] have a larger mean.

    Were m the mean, the chance that its gambler ever holds 1 / `level` times the start is at most `level` (Ville 1939).
    Wealth falls with m, so the means that are refuted are those below one bound.
    """

    def __init__(self, level: float, horizon: int | None, shape: tuple[int, ...]) -> None:
        self.means = np.linspace(0.0, 1.0, GRID)
        self.goal = -log(level)
        self.ends = () if horizon is None else (float(horizon),)
        self.log_wealth = np.zeros((1 + len(self.ends), *shape, GRID))
        self.bets = 0
        # The paper's start: a mean of 1/2 and a variance of 1/4, worth one outcome.
        self.total, self.squares = np.full(shape, 0.5), np.full(shape, 0.25)

    def bet(self, outcome: Float64) -> None:
        """Stake on the next outcome what the outcomes before it advise, and take what it pays."""
        self.bets += 1
        variance = self.squares / self.bets
        gain = outcome[..., None] - self.means
        most = STAKE / np.maximum(self.means, 1e-12)
        waits = (self.bets * log(1 + self.bets), *self.ends)
        for wealth, wait in zip(self.log_wealth, waits, strict=True):
            stake = np.sqrt(2 * self.goal / (variance * wait))
            wealth += np.log1p(np.minimum(stake[..., None], most) * gain)
        self.total = self.total + outcome
        self.squares = self.squares + (outcome - self.total / (self.bets + 1)) ** 2

    def bound(self) -> Float64:
        """The largest refuted candidate, 0 where there is none."""
        wealth = np.logaddexp.reduce(self.log_wealth, axis=0) - log(len(self.log_wealth))
        refuted = (wealth >= self.goal).sum(axis=-1)
        return np.asarray(self.means[np.maximum(refuted - 1, 0)], np.float64)


def _shares(yes: ArrayLike, missing: ArrayLike, n: ArrayLike) -> tuple[Float64, Float64, Float64]:
    """The least and the largest count of yes, and the number of documents."""
    least, gone, size = (np.asarray(x, np.float64) for x in (yes, missing, n))
    if (least < 0).any() or (gone < 0).any() or (least + gone > size).any() or (size <= 0).any():
        raise ValueError("yes and missing answers are among the documents of their side, at least 1")
    return least, least + gone, size
