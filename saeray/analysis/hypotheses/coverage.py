"""How much of the target the hypotheses explain: the share of its answers that at least one of them tells apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saeray.analysis.hypotheses.trial import Trial


def coverage_of(trials: Sequence[Trial]) -> tuple[float | None, int]:
    """The share, and how many keys or documents it was counted on; None when there are none to count on.

    `trials`: of the valid hypotheses. Those of the target count: a key is covered when one holds for its target and for
    no other side, an unpaired document of the target when one holds for it. Only what was judged for all of them is
    counted, with every answer there: early stopping leaves the later documents of a settled hypothesis unjudged, and
    what is missing is not known to be a no. Without a hypothesis of the target nothing is covered.
    """
    own = [trial for trial in trials if trial.hypothesis.side == 0]
    if not own:
        return 0.0, 0
    steps, until = own[0].steps, min(trial.at for trial in own)
    ends = steps.ends if steps.paired else steps.ends[:1]
    alone, known = zip(*(_told(trial, ends, until, steps.paired) for trial in own), strict=True)
    whole = np.logical_and.reduce(known)
    if not whole.any():
        return None, 0
    return float(np.logical_or.reduce(alone)[whole].mean()), int(whole.sum())


def _told(
    trial: Trial, ends: Sequence[NDArray[np.int64]], until: int, paired: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each key (or document): whether the statement holds for the target alone, and whether all answers are in."""
    if not paired:
        answers = trial.answers[0][: ends[0][until]]
        return answers == 1, ~np.isnan(answers)
    found, gone = [], []
    for answers, end in zip(trial.answers, ends, strict=True):
        own, cuts = answers[: end[until]], end[:until]
        found.append(np.logical_or.reduceat(own == 1, cuts))
        gone.append(np.logical_or.reduceat(np.isnan(own), cuts))
    alone = found[0] & ~np.logical_or.reduce(found[1:])
    return alone, ~np.logical_or.reduce(gone)
