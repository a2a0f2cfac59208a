"""Promises of the statistics of verification, without a judge: bounds cover what they say, whatever is missing, however
early it stops and however many rows a key has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom
from verify_parts import APPLES, design_of, paired_of

from saeray.analysis.hypotheses.coverage import coverage_of
from saeray.analysis.hypotheses.statements import Hypothesis
from saeray.analysis.hypotheses.steps import Steps, steps_of
from saeray.analysis.hypotheses.trial import Trial
from saeray.analysis.hypotheses.weighing import estimate, fixed, shared
from saeray.stats.intervals import newcombe
from saeray.stats.paired import tango

Float64 = NDArray[np.float64]
ANSWERS = st.sampled_from([0.0, 1.0, np.nan])


def steps(sizes: Sequence[Sequence[int]], paired: bool = True, union: bool = False) -> Steps:
    """Steps with `sizes[side][step]` rows."""
    ends = tuple(np.concatenate([[0], np.cumsum(size)]).astype(np.int64) for size in sizes)
    return Steps(tuple(np.arange(end[-1]) for end in ends), ends, paired, union)


def run(trial: Trial, answer: Callable[[int, int], float], chunk: int = 20) -> Trial:
    """Asks until it is over; `answer(side, place)` is the judge."""
    while not trial.over:
        wanted = trial.wants(chunk)
        verdicts = np.array([answer(side, place) for side, place in wanted])
        trial.take(wanted, verdicts, np.ones(len(wanted), np.int64))
    return trial


def completions(answers: Sequence[Float64]) -> list[list[Float64]]:
    """Everything the missing answers could have been."""
    whole = np.concatenate(answers)
    gone = np.flatnonzero(np.isnan(whole))
    cuts = np.cumsum([side.size for side in answers])[:-1]
    found = []
    for values in product([0.0, 1.0], repeat=gone.size):
        whole[gone] = values
        found.append(np.split(whole.copy(), cuts))
    return found


@pytest.mark.parametrize(
    ("others", "paired", "missing", "runs"),
    [(1, False, 0.0, 80), (1, True, 0.0, 30), (1, True, 0.2, 20), (2, True, 0.0, 20)],
)
def test_stopping_early_errs_no_more_than_it_says(others: int, paired: bool, missing: float, runs: int) -> None:
    """With no difference, looked at after every 3 steps and stopped when settled: the interval leaves the truth out in
    at most 5% of runs, and confirms in at most 2.5%, each up to the noise of so many runs."""
    generator, n = np.random.default_rng(others), 60
    out = confirmed = 0
    for _ in range(runs):
        key = generator.random(n) < 0.5
        answers = (generator.random((others + 1, n)) < 0.5).astype(float)
        if paired:  # answers to one prompt are alike
            answers = np.where(generator.random(answers.shape) < 0.5, key, answers)
        answers[generator.random(answers.shape) < missing] = np.nan
        trial = Trial(APPLES, steps([[1] * n] * (others + 1), paired), 0.95, early=True)
        found = run(trial, lambda side, place, own=answers: own[side, place], 3).estimate()
        out += not found.lower <= 0 <= found.upper
        confirmed += found.lower > 0
    assert out <= binom.ppf(0.999, runs, 0.05)
    assert confirmed <= binom.ppf(0.999, runs, 0.025)


def test_a_fixed_interval_looked_at_often_would_err_more() -> None:
    """Why early stopping has its own bounds: Tango's interval, looked at after every 5 of 200 pairs, leaves out a
    difference of nothing far more often than in 5% of runs."""
    generator = np.random.default_rng(1)
    signs = np.cumsum(generator.choice([1, 0, -1], (400, 200), p=[0.25, 0.5, 0.25]), axis=1)[:, 4::5]
    n = np.arange(5, 201, 5)
    b, c = n // 4 + (signs + 1) // 2, n // 4 - signs // 2
    lower, upper = tango(np.maximum(b, 0), np.maximum(c, 0), np.maximum(n, b + c))
    assert ((lower > 0) | (upper < 0)).any(axis=1).mean() > 0.15


@given(st.lists(st.tuples(ANSWERS, ANSWERS), min_size=1, max_size=8), st.booleans())
@settings(max_examples=30)
def test_fixed_bounds_hold_whatever_is_missing(pairs: list[tuple[float, float]], paired: bool) -> None:
    """The interval is the hull of the intervals of every completion of the missing answers, and the bounds are the
    least and the largest difference among them."""
    answers = [np.array(side) for side in zip(*pairs, strict=True)]
    n = len(pairs)
    interval = fixed(answers, steps([[1] * n] * 2, paired), 0.95)
    lower, upper, differences = [], [], []
    for a, b in completions(answers):
        low, high = (
            tango(((a - b) == 1).sum(), ((a - b) == -1).sum(), n) if paired else newcombe(a.sum(), n, b.sum(), n)
        )
        lower.append(float(low))
        upper.append(float(high))
        differences.append(a.mean() - b.mean())
    assert interval == pytest.approx((min(lower), max(upper)))
    found = estimate(answers, steps([[1] * n] * 2, paired), n, interval)
    assert found.bounds == pytest.approx((min(differences), max(differences)))
    assert found.bounds[0] - 1e-12 <= found.difference <= found.bounds[1] + 1e-12 or any(
        np.isnan(a).all() for a in answers
    )


@given(st.data())
@settings(max_examples=30)
def test_keys_with_several_rows_count_by_their_means(data: st.DataObject) -> None:
    """Against plain Python: the difference is of means over keys of the share of yes, the bounds of all completions."""
    n, sides = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 3))
    union = data.draw(st.booleans())
    sizes = [[data.draw(st.integers(1, 2)) for _ in range(n)] for _ in range(sides)]
    answers = [np.array([data.draw(ANSWERS) for _ in range(sum(size))]) for size in sizes]
    plan = steps(sizes, union=union)

    def difference(whole: Sequence[Float64]) -> float:
        keys = [np.split(side, np.cumsum(size)[:-1]) for side, size in zip(whole, sizes, strict=True)]
        means = [[float(key.mean()) for key in side] for side in keys]
        target = sum(means[0]) / n
        if union:
            return target - sum(any(side[k].any() for side in keys[1:]) for k in range(n)) / n
        return target - max(sum(side) / n for side in means[1:])

    assume(sum(np.isnan(side).sum() for side in answers) <= 6)
    every = [difference(whole) for whole in completions(answers)]
    found = estimate(answers, plan, n, (-1.0, 1.0))
    assert found.bounds == pytest.approx((min(every), max(every)))
    if len(every) == 1:
        assert found.difference == pytest.approx(every[0])
    interval = fixed(answers, plan, 0.95)
    assert interval[0] <= found.bounds[0] + 1e-3
    assert interval[1] >= found.bounds[1] - 1e-3


def test_several_others_share_the_chance_to_err_at_the_top_only() -> None:
    """Lower: the smallest pairwise bound as it is. Upper: the smallest of bounds that share the error."""
    generator = np.random.default_rng(3)
    answers = [(generator.random(80) < p).astype(float) for p in (0.8, 0.3, 0.4, 0.2)]
    n, gaps = 80, [answers[0] - other for other in answers[1:]]
    counts = [((gap == 1).sum(), (gap == -1).sum(), n) for gap in gaps]
    lower = min(float(tango(*one)[0]) for one in counts)
    upper = min(float(tango(*one, 1 - 0.05 / 3)[1]) for one in counts)
    assert fixed(answers, steps([[1] * n] * 4), 0.95) == pytest.approx((lower, upper))
    assert shared(0.95, 3) == pytest.approx(1 - 0.05 / 3)


def test_pairs_need_fewer_calls_than_strangers() -> None:
    """Where both sides answer the same prompts and the prompt decides much, a step that holds both answers settles the
    same difference sooner."""
    generator = np.random.default_rng(7)
    calls = {True: 0, False: 0}
    for _ in range(5):
        key = generator.random(300) < 0.5
        other = key & (generator.random(300) < 0.9)
        target = key | (generator.random(300) < 0.25)
        shuffled = generator.permutation(other)
        for paired, second in ((True, other), (False, shuffled)):
            both = (target, second)
            trial = Trial(APPLES, steps([[1] * 300] * 2, paired), 0.95, early=True)
            calls[paired] += sum(run(trial, lambda side, place, both=both: float(both[side][place]), 10).asked)
    assert calls[True] < 0.75 * calls[False]


def test_steps_are_one_random_order_of_whole_keys() -> None:
    """Each key is one step with all its rows, each row is read once, no more than asked for, and another seed gives
    another order; sides of other sizes are spread evenly over the steps."""
    keys = [[0, 1, 2, 3, 0, 2], [3, 2, 1, 0], [1, 0, 2, 2, 3]]
    design = design_of(*(["x"] * len(own) for own in keys), keys=keys)
    plan = steps_of(design)
    orders = []
    for own, rows, ends in zip(keys, plan.rows, plan.ends, strict=True):
        assert sorted(rows.tolist()) == list(range(len(own)))
        in_step = [{own[row] for row in rows[a:b]} for a, b in pairwise(ends.tolist())]
        assert all(len(one) == 1 for one in in_step)
        orders.append([one.pop() for one in in_step])
    assert orders[0] == orders[1] == orders[2]
    assert not plan.binary
    assert steps_of(design, documents=4).documents <= (4, 4, 4)
    assert steps_of(design, documents=1).n == 1
    assert len({tuple(steps_of(design, seed=seed).rows[1].tolist()) for seed in range(6)}) > 1
    uneven = steps_of(design_of(["x"] * 10, ["x"] * 4))
    assert uneven.n == 4
    assert np.diff(uneven.ends[0]).tolist() == [2, 3, 2, 3]
    assert steps_of(design_of(["x"] * 10, ["x"] * 4), documents=3).documents == (3, 3)
    assert paired_of(["x"] * 3, ["x"] * 3).n_keys == 3


def test_a_part_of_the_documents_is_the_same_part_when_others_come() -> None:
    """The order hangs on ids: of the documents that were there, those that are read first stay first."""
    few, many = (steps_of(design_of(["x"] * n, ["x"] * n)) for n in (20, 40))
    assert [row for row in many.rows[0].tolist() if row < 20] == few.rows[0].tolist()


@given(st.data())
@settings(max_examples=30)
def test_coverage_is_that_of_a_count_by_hand(data: st.DataObject) -> None:
    """Keys, or documents of the target, judged by every hypothesis and with every answer there; the others' statements
    cover nothing."""
    paired, n = data.draw(st.booleans()), 5
    plan = steps([[1] * n, [2] * n], paired)
    trials = []
    for side in data.draw(st.lists(st.integers(0, 1), min_size=0, max_size=3)):
        trial = Trial(Hypothesis("The text is", "latents", side=side), plan, 0.95, early=True)
        for answers in trial.answers:
            answers[:] = [data.draw(ANSWERS) for _ in answers]
        trial.at = data.draw(st.integers(1, n))
        trials.append(trial)
    own = [trial for trial in trials if trial.hypothesis.side == 0]
    covered = []
    for k in range(min((trial.at for trial in own), default=0)):
        told = [(one.answers[0][k], *(one.answers[1][2 * k : 2 * k + 2] if paired else [])) for one in own]
        if not np.isnan([value for one in told for value in one]).any():
            covered.append(any(one[0] == 1 and not any(one[1:]) for one in told))
    expected = (0.0, 0) if not own else (sum(covered) / len(covered), len(covered)) if covered else (None, 0)
    assert coverage_of(trials) == pytest.approx(expected)


def test_a_side_that_is_none_is_refused() -> None:
    """A hypothesis is of the target or of the others."""
    with pytest.raises(ValueError, match="side 2"):
        Trial(Hypothesis("The text is", "latents", side=2), steps([[1], [1]]), 0.95, early=True)
