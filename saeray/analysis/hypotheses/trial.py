"""One hypothesis on trial: the answers so far, and whether enough has been asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saeray.analysis.hypotheses.statements import Hypothesis
from saeray.analysis.hypotheses.steps import Steps
from saeray.analysis.hypotheses.weighing import Estimate, Watch, estimate, fixed

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class Trial:
    """`answers`: of each side float64, 1 yes, 0 no, NaN missing or not asked, in the order of `steps.rows`. `at`: the
    steps that were asked. With `early` it may be over after any step, else it takes them all."""

    def __init__(self, hypothesis: Hypothesis, steps: Steps, confidence: float, early: bool) -> None:
        if hypothesis.side not in (0, 1):
            raise ValueError(f"a hypothesis is of the target, 0, or of the others, 1, not of side {hypothesis.side}")
        self.hypothesis, self.steps = hypothesis, steps
        self.answers = tuple(np.full(n, np.nan) for n in steps.documents)
        self.at = self.tokens = 0
        self._confidence = confidence
        self._watch = Watch(steps, confidence) if early else None

    @property
    def asked(self) -> tuple[int, ...]:
        """Documents of each side that were judged, missing answers among them."""
        return tuple(int(ends[self.at]) for ends in self.steps.ends)

    @property
    def open_calls(self) -> int:
        """Calls that it would take to the end."""
        return sum(self.steps.documents) - sum(self.asked)

    @property
    def over(self) -> bool:
        """Whether it need not be asked any more."""
        return not self.open_calls or (self._watch is not None and self.settled is not None)

    @property
    def settled(self) -> str | None:
        """ "above" where the interval lies above 0, "not above" where none of it does."""
        if not self.at:
            return None
        found = self.estimate()
        if found.lower > 0:
            return "above"
        return "not above" if found.upper <= 0 else None

    def wants(self, steps: int) -> list[tuple[int, int]]:
        """(side, place in the side's order) of each document of the next `steps` steps."""
        until = min(self.at + steps, self.steps.n)
        cuts = [(int(ends[self.at]), int(ends[until])) for ends in self.steps.ends]
        return [(side, place) for side, (first, last) in enumerate(cuts) for place in range(first, last)]

    def take(self, wanted: Sequence[tuple[int, int]], verdicts: Float64, tokens: Int64) -> None:
        """Takes the answers to what was wanted."""
        for (side, place), verdict in zip(wanted, verdicts.tolist(), strict=True):
            self.answers[side][place] = verdict
        self.tokens += int(tokens.sum())
        last = max(place for side, place in wanted if side == 0)
        self.at = int(np.searchsorted(self.steps.ends[0], last + 1))
        if self._watch is not None:
            self._watch.look(self.answers, self.at)

    def estimate(self) -> Estimate:
        """What the answers so far say: positive supports the statement."""
        interval = fixed(self.answers, self.steps, self._confidence) if self._watch is None else self._watch.bounds
        found = estimate(self.answers, self.steps, self.at, interval)
        return found.mirrored() if self.hypothesis.side else found

    def saved(self) -> tuple[int, int]:
        """Calls that stopping early spared, and their tokens at the mean of the calls that were made."""
        calls, made = self.open_calls, sum(self.asked)
        return calls, round(calls * self.tokens / made) if made else 0
