"""Promise: a judge may look after every document and stop when it likes; the bounds hold all the same."""

import numpy as np
import pytest

from saeray.stats import sequence
from saeray.stats.intervals import newcombe
from saeray.stats.paired import tango
from saeray.stats.sequence import ConfidenceSequence, either_way, missing_bounds, missing_interval


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    """Bounds in steps of a point: the promise is the same and a simulation ten times as quick."""
    monkeypatch.setattr(sequence, "GRID", 201)


def draws(rng, a: float, b: float, shape: tuple[int, ...]) -> np.ndarray:
    return (rng.random(shape) < a).astype(float) - (rng.random(shape) < b)


def ever_wrong(differences: np.ndarray, truth: float, horizon: int | None, confidence: float = 0.9) -> np.ndarray:
    """Which of the streams [steps, streams] ever have bounds without the truth."""
    bounds = ConfidenceSequence(confidence, horizon, differences.shape[1:])
    wrong = np.zeros(differences.shape[1], bool)
    for step in differences:
        bounds.update(step)
        wrong |= (bounds.lower > truth) | (bounds.upper < truth)
    return wrong


@pytest.mark.parametrize(("a", "b"), [(0.3, 0.3), (0.25, 0.1), (0.02, 0.0), (0.98, 0.9)])
@pytest.mark.parametrize("horizon", [None, 250])
def test_bounds_hold_at_every_moment_at_once(a, b, horizon):
    """Of 200 runs of 250 documents at 90% no more than 10% may ever be wrong; 34 would happen once in 1,000."""
    rng = np.random.default_rng(int(1000 * a))
    assert ever_wrong(draws(rng, a, b, (250, 200)), a - b, horizon).sum() < 34


def test_a_fixed_interval_looked_at_again_and_again_fails():
    """Why this file is there: Tango's 90% interval, looked at after each pair, excludes 0 in most null runs."""
    d = draws(np.random.default_rng(0), 0.3, 0.3, (250, 80))
    b, c = np.cumsum(d == 1, axis=0)[9:], np.cumsum(d == -1, axis=0)[9:]
    low, high = tango(b, c, np.arange(10, 251)[:, None], 0.9)
    assert ((low > 0) | (high < 0)).any(axis=0).mean() > 0.35


def by_hand(differences: list[float], confidence: float) -> float:
    """The lower bound from the paper's formulas alone: for each candidate its gambler, from the start, no horizon."""
    alpha, bound = 1 - confidence, 0.0
    x = [(d + 1) / 2 for d in differences]
    for m in np.linspace(0, 1, 201):
        capital, variance = 1.0, 0.25
        for t, outcome in enumerate(x, 1):
            bet = np.sqrt(2 * np.log(2 / alpha) / (variance * t * np.log(t + 1)))
            capital *= 1 + min(bet, 0.75 / m if m else np.inf) * (outcome - m)
            means = [(0.5 + sum(x[:i])) / (i + 1) for i in range(1, t + 1)]
            variance = (0.25 + sum((v - w) ** 2 for v, w in zip(x[:t], means, strict=True))) / (t + 1)
        if capital >= 2 / alpha:
            bound = m
    return 2 * bound - 1


def test_bounds_are_those_of_the_papers_formulas():
    d = draws(np.random.default_rng(1), 0.7, 0.2, (30,)).tolist()
    bounds = ConfidenceSequence(0.95)
    for step in d:
        bounds.update(step)
    assert bounds.lower == pytest.approx(by_hand(d, 0.95))
    assert bounds.upper == pytest.approx(-by_hand([-x for x in d], 0.95))
    assert bounds.lower > -1, "30 documents at 70% against 20% say something"
    assert bounds.steps == 30


def test_sides_swapped_negate_the_bounds():
    d = draws(np.random.default_rng(2), 0.6, 0.3, (60, 5))
    one, other = ConfidenceSequence(0.95, 60, (5,)), ConfidenceSequence(0.95, 60, (5,))
    for step in d:
        one.update(step)
        other.update(-step)
    np.testing.assert_allclose(one.lower, -other.upper)
    np.testing.assert_allclose(one.upper, -other.lower)


def test_a_large_difference_stops_early_and_none_hardly_ever():
    """50% against 20% in 500 documents is settled within 120; no difference is called one in at most 5% of runs."""
    rng = np.random.default_rng(3)
    bounds = ConfidenceSequence(0.95, 500)
    for step in draws(rng, 0.5, 0.2, (120,)):
        bounds.update(step)
        if bounds.stop():
            break
    assert bounds.verdict() == "above"
    assert bounds.steps < 120
    nothing = ConfidenceSequence(0.95, 300, (100,))
    called = np.zeros(100, bool)
    for step in draws(rng, 0.3, 0.3, (300, 100)):
        nothing.update(step)
        called |= nothing.lower > 0
    assert called.sum() <= 7


def test_stop_says_not_above_and_close_enough():
    bounds = ConfidenceSequence(0.95, 200)
    assert bounds.verdict() is None
    assert not bounds.stop(width=0.5)
    for _ in range(200):
        bounds.update(0.0)
    assert bounds.verdict(0.2) == "not above"
    assert bounds.stop(0.2)
    assert bounds.verdict(0.0) is None
    assert bounds.stop(0.0, width=0.2)
    assert not bounds.stop(0.0, width=0.001)


def test_failures_in_one_arm_move_no_bound_past_the_truth():
    """20% of the target's calls fail, and only where the answer would have been yes: the truth stays inside, where
    counting a failure as no puts it outside."""
    rng = np.random.default_rng(4)
    yes, other = (rng.random((2, 300, 60)) < [[[0.6]], [[0.5]]]).astype(float)
    judged = np.where((yes == 1) & (rng.random(yes.shape) < 1 / 3), np.nan, yes)
    low, high = either_way(judged, other)
    bounds = ConfidenceSequence(0.95, 300, (60,))
    wrong = np.zeros(60, bool)
    for step in zip(low, high, strict=True):
        bounds.update(*step)
        wrong |= (bounds.lower > 0.1) | (bounds.upper < 0.1)
    assert wrong.sum() <= 7
    assert ever_wrong(np.nan_to_num(judged) - other, 0.1, 300, 0.95).mean() > 0.3


def test_each_missing_outcome_counts_either_way():
    nan = np.nan
    low, high = either_way([1, 1, nan, nan, 0], [0, nan, 1, nan, 0])
    np.testing.assert_array_equal(low, [1, 0, -1, -1, 0])
    np.testing.assert_array_equal(high, [1, 1, 0, 1, 0])


def test_missing_bounds_are_the_extremes_of_every_completion():
    """All ways to fill in 2 and 3 missing answers of 10 and 12."""
    every = [(4 + i) / 10 - (5 + j) / 12 for i in range(3) for j in range(4)]
    np.testing.assert_allclose(missing_bounds(4, 2, 10, 5, 3, 12), (min(every), max(every)))
    limits = [newcombe(4 + i, 10, 5 + j, 12) for i in range(3) for j in range(4)]
    low, high = missing_interval(4, 2, 10, 5, 3, 12)
    assert low == pytest.approx(min(float(x) for x, _ in limits))
    assert high == pytest.approx(max(float(x) for _, x in limits))
    np.testing.assert_allclose(missing_interval(4, 0, 10, 5, 0, 12), newcombe(4, 10, 5, 12))
    with pytest.raises(ValueError, match="among the documents"):
        missing_bounds(9, 2, 10, 0, 0, 5)


def test_what_is_no_difference_is_refused():
    for low, high in ((1.5, None), (0.5, 0.2), (float("nan"), None)):
        with pytest.raises(ValueError, match="difference"):
            ConfidenceSequence().update(low, high)
    with pytest.raises(ValueError, match="confidence"):
        ConfidenceSequence(95)
