"""Do the statements hold? A judge reads documents that did not propose them, until it has read enough.

    verification = verify(hypotheses, design.verifiers(), client, model)

Each document is judged alone and blind to its side. With `early` a hypothesis is asked in chunks and left alone once a
confidence sequence, which may be looked at as often as one likes, has its verdict. A client that asks in batch jobs is
asked everything at once: a look between two of them would be a day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np

from saeray.analysis.diff.design import Design
from saeray.analysis.hypotheses.coverage import coverage_of
from saeray.analysis.hypotheses.judging import Judge, OnProgress
from saeray.analysis.hypotheses.noise import noise_of, within_noise
from saeray.analysis.hypotheses.statements import Hypothesis
from saeray.analysis.hypotheses.steps import steps_of, texts_of
from saeray.analysis.hypotheses.trial import Trial
from saeray.errors import UsageError
from saeray.llm import Client

STAGE = "verify"
#: A verified difference above this is `valid`: the method's own bar of one point.
VALID = 0.01


@dataclass(frozen=True)
class VerifyOptions:
    """documents: most a side, None all. early: stop asking for a hypothesis once its verdict is in. chunk: steps (keys,
    or documents of the smallest side) between two looks. confidence: of the intervals. repeats: verdicts that are asked
    for again, and again in swapped order. reason: the judge gives a reason first. seed: of the order of the documents.
    thinking: tokens the judge may think before it answers, 0 none, None as the service does.
    """

    documents: int | None = None
    early: bool = True
    chunk: int = 20
    confidence: float = 0.95
    repeats: int = 40
    reason: bool = True
    seed: int = 0
    thinking: int | None = 0

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.repeats < 0 or (self.documents is not None and self.documents < 1):
            raise UsageError("a verification takes one document and one step a chunk at least, and no negative repeats")
        if not 0 < self.confidence < 1:
            raise UsageError(f"the confidence lies between 0 and 1, not {self.confidence}")


@dataclass(frozen=True)
class Verified:
    """One hypothesis and how it fared. judged: documents asked about, a side each; of these `yes`, and `missing`, which
    gave no answer.

    difference: share of yes among the answered, of the hypothesis's side less the highest other (of the highest other
    less the target when its side is 1); where keys have several rows, of the keys' means; 0.0 where a side has no
    answer at all. lower, upper: its interval with missing answers at their worst; a confidence sequence's when early.
    bounds: of the missing answers alone. settled: where the interval lies, None while 0 is inside. saved_calls,
    saved_tokens: what stopping early spared, tokens at the mean of the calls made.
    """

    hypothesis: Hypothesis
    judged: tuple[int, ...]
    yes: tuple[int, ...]
    missing: tuple[int, ...]
    difference: float
    lower: float
    upper: float
    bounds: tuple[float, float]
    valid: bool
    confirmed: bool
    settled: Literal["above", "not above"] | None
    saved_calls: int
    saved_tokens: int
    within_noise: bool = False


@dataclass(frozen=True)
class Verification:
    """All hypotheses, in their order. rate, confirmed_rate: of the proposed ones the shares that are valid and
    confirmed, 0.0 of none. coverage: `coverage.coverage_of` of the valid ones, counted on `covered_of` keys or target
    documents. noise: `noise.noise_of`. calls: questions asked, those for the noise and those answered from the cache
    included. documents: of each side those that could be judged; `cut` of them were longer than the judge is shown.
    """

    verified: tuple[Verified, ...]
    rate: float
    confirmed_rate: float
    coverage: float | None
    noise: Mapping[str, Any] = field(default_factory=dict)
    calls: int = 0
    documents: tuple[int, ...] = ()
    covered_of: int = 0
    cut: tuple[int, ...] = ()


def verify(
    hypotheses: Sequence[Hypothesis],
    design: Design,
    client: Client,
    model: str,
    options: VerifyOptions = VerifyOptions(),
    on_progress: OnProgress | None = None,
) -> Verification:
    """Judges every hypothesis on the documents of `design`, the verifying half (`Design.verifiers()`).

    on_progress: called with the client's `Progress` over all calls; its total shrinks as hypotheses are settled. The
    stages of the ledger are "verify" and "verify noise". Raises UsageError for sides without texts or documents, and
    Stop when the run cannot go on (the cap, a dead key): what was paid for is kept, and the same call goes on from it.
    """
    steps = steps_of(design, options.documents, options.seed)
    if client.batches:
        options = replace(options, early=False, chunk=steps.n)
    read = [texts_of(side, rows) for side, rows in zip(design.sides, steps.rows, strict=True)]
    texts = [found for found, _ in read]
    judge = Judge(client, model, options.reason, options.thinking, on_progress)
    trials = [Trial(one, steps, options.confidence, options.early) for one in hypotheses]
    while live := [trial for trial in trials if not trial.over]:
        _ask_chunk(live, texts, judge, options)
    noise = noise_of(judge, trials, texts, options.repeats, options.seed)
    verified = tuple(_verified(trial, noise) for trial in trials)
    covered, covered_of = coverage_of([trial for trial, one in zip(trials, verified, strict=True) if one.valid])
    return Verification(
        verified,
        _share([one.valid for one in verified]),
        _share([one.confirmed for one in verified]),
        covered,
        noise,
        judge.calls,
        steps.documents,
        covered_of,
        tuple(cut for _, cut in read),
    )


def _ask_chunk(live: Sequence[Trial], texts: Sequence[Sequence[str]], judge: Judge, options: VerifyOptions) -> None:
    """Asks the next steps of all hypotheses that are open, in one go: a service answers many at once."""
    wanted = [trial.wants(options.chunk) for trial in live]
    questions = [
        (trial.hypothesis.statement, texts[side][place])
        for trial, places in zip(live, wanted, strict=True)
        for side, place in places
    ]
    later = sum(trial.open_calls for trial in live) - len(questions) + 2 * options.repeats
    verdicts, tokens = judge.ask(questions, STAGE, later=later)
    cuts = np.cumsum([len(places) for places in wanted])[:-1]
    for trial, places, own, spent in zip(live, wanted, np.split(verdicts, cuts), np.split(tokens, cuts), strict=True):
        trial.take(places, own, spent)


def _verified(trial: Trial, noise: Mapping[str, Any]) -> Verified:
    found, calls = trial.estimate(), trial.saved()
    answers = [side[:n] for side, n in zip(trial.answers, trial.asked, strict=True)]
    return Verified(
        trial.hypothesis,
        trial.asked,
        tuple(int((side == 1).sum()) for side in answers),
        tuple(int(np.isnan(side).sum()) for side in answers),
        found.difference,
        found.lower,
        found.upper,
        found.bounds,
        valid=found.difference > VALID,
        confirmed=found.lower > 0,
        settled=cast('Literal["above", "not above"] | None', trial.settled),
        saved_calls=calls[0],
        saved_tokens=calls[1],
        within_noise=within_noise(noise, found.difference),
    )


def _share(which: Sequence[bool]) -> float:
    return sum(which) / len(which) if which else 0.0
