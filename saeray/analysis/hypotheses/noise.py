"""How far a judge can be trusted: the same question again, and with document and property in the other order.

A judge that changes its mind is noise; one whose verdict hangs on the order of its prompt is worse. What a difference
rests on should be larger than that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saeray.analysis.hypotheses.judging import Judge
from saeray.analysis.hypotheses.steps import draws
from saeray.analysis.hypotheses.trial import Trial
from saeray.stats.intervals import wilson

STAGE = "verify noise"


def noise_of(
    judge: Judge, trials: Sequence[Trial], texts: Sequence[Sequence[str]], repeats: int, seed: int
) -> dict[str, Any]:
    """Asks `repeats` answered questions again, and swapped. `texts`: of each side, in the order of its answers. The
    questions are drawn at random among all that were answered, so their rates are those of the verification.

    {} when there is nothing to ask; else JSON-ready. `repeats`, `swapped`: of the questions `asked` again how many were
    `answered` and how many verdicts `differed`, the `rate` with Wilson's interval `lower`, `upper` (None when nothing
    was answered), and the shares of yes the first time and this time, each with its interval. `bound`: the larger rate.
    """
    drawn = _draw(trials, repeats, seed)
    if not drawn:
        return {}
    first = np.array([trials[trial].answers[side][place] for trial, side, place in drawn])
    questions = [(trials[trial].hypothesis.statement, texts[side][place]) for trial, side, place in drawn]
    again, _ = judge.ask(questions, STAGE, later=len(drawn), sample=1)
    swapped, _ = judge.ask(questions, STAGE, document_first=True)
    found = {"repeats": _compared(first, again), "swapped": _compared(first, swapped)}
    rates = [one["rate"] for one in found.values() if one["rate"] is not None]
    return {**found, "bound": max(rates, default=None)}


def within_noise(noise: Mapping[str, Any], difference: float) -> bool:
    """Whether a difference is no larger than the share of verdicts that changed when asked again. A judge that wavers
    alike on both sides only dilutes a difference; one that wavers more on one side could make it."""
    bound = noise.get("bound")
    return bound is not None and abs(difference) < bound


def _draw(trials: Sequence[Trial], repeats: int, seed: int) -> list[tuple[int, int, int]]:
    """(trial, side, place) of answered questions, at random and always the same: a place hangs on a document's id."""
    every = [
        (number, side, int(place))
        for number, trial in enumerate(trials)
        for side, answers in enumerate(trial.answers)
        for place in np.flatnonzero(~np.isnan(answers))
    ]
    names = [f"{trials[n].hypothesis.statement}\n{side}\n{place}" for n, side, place in every]
    return [every[i] for i in np.argsort(draws(names, seed), kind="stable")[:repeats]]


def _compared(first: NDArray[np.float64], second: NDArray[np.float64]) -> dict[str, Any]:
    there = ~np.isnan(second)
    before, after = first[there], second[there]
    answered, differed = int(there.sum()), int((before != after).sum())
    shares = {"yes_first": _share(int(before.sum()), answered), "yes_again": _share(int(after.sum()), answered)}
    counts = {"asked": int(first.size), "answered": answered, "differed": differed}
    rate = _share(differed, answered)
    if rate is None:
        return {**counts, "rate": None, "lower": None, "upper": None, **shares}
    return {**counts, "rate": rate[0], "lower": rate[1], "upper": rate[2], **shares}


def _share(count: int, n: int) -> list[float] | None:
    """[share, lower, upper] with Wilson's interval; None of nothing."""
    if not n:
        return None
    lower, upper = wilson(count, n)
    return [count / n, float(lower), float(upper)]
