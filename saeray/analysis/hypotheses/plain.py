"""Hypotheses without an LLM: findings whose name holds become statements, and the name's own test is the judge.

A label such as "bulleted lists" comes with a test that a program can run on a text. Run on every document of the
verifying half it is a judge that costs nothing, never wavers and is right about what it tests, which is narrower than
what an LLM could say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saeray.analysis.diff.claims import claimed
from saeray.analysis.diff.design import Design
from saeray.analysis.diff.names import Name, Test
from saeray.analysis.hypotheses.coverage import coverage_of
from saeray.analysis.hypotheses.propose import Proposal, divided
from saeray.analysis.hypotheses.statements import LATENTS, PLAIN, Hypothesis
from saeray.analysis.hypotheses.steps import steps_of
from saeray.analysis.hypotheses.trial import Trial
from saeray.analysis.hypotheses.verify import VALID, Verification, Verified
from saeray.analysis.sides import Side
from saeray.labels.predict import predict_units
from saeray.labels.units import units

if TYPE_CHECKING:
    from saeray.analysis.diff.result import DiffResult

JUDGE = PLAIN
#: What the summary and the page say where no LLM took part.
NOTE = (
    "No LLM took part: a statement is the name of a finding, and its judge is the plain test behind the name, which "
    "costs nothing and sees nothing else. With a key (--llm gemini:MODEL), a server (--llm openai:MODEL@URL) or a "
    "model on this machine (--llm local:MODEL) the latents are labelled anew on these documents, findings without a "
    "name take part too, several that are one thing become one statement, --question directs them, and a judge reads "
    "each text for what is meant."
)
UNNAMED, SAME, BEYOND = (
    "no name of theirs that a plain test can check holds in these documents",
    "said by another statement",
    "beyond the number of statements asked for",
)
#: Names that are said of a text as they stand ("refuses or says it is unable to do the task").
_VERBS = frozenset(["refuses", "says", "opens", "closes", "ends"])

Bool = NDArray[np.bool_]


def statement_of(name: str, test: Test) -> str:
    """A finding's name as a statement on one text: of what its test asks, no more."""
    name, _ = claimed(name, test)
    if name.split(" ", 1)[0] in _VERBS:
        return f"The text {name}."
    return f"The text has {name.removeprefix('texts with ')}."


def propose_plain(result: DiffResult, most: int) -> tuple[Proposal, tuple[Test, ...]]:
    """At most `most` statements from the findings with a name that holds, in their order, half of them a direction
    where both have findings; and the test of each."""
    named = {side: _named(result, side) for side in (0, 1)}
    left_out: dict[str, list[int]] = {}
    hypotheses: list[Hypothesis] = []
    tests: list[Test] = []
    for side, share in divided(most, {side for side, found in named.items() if found}).items():
        said: set[str] = set()
        for latent, name, test in named[side]:
            statement = statement_of(name.text, test)
            if statement in said or len(said) == share:
                left_out.setdefault(SAME if statement in said else BEYOND, []).append(latent)
                continue
            said.add(statement)
            difference = float(result.row(latent)["difference"])
            hypotheses.append(Hypothesis(statement, LATENTS, side, (latent,), difference))
            tests.append(test)
    used = {latent for found in named.values() for latent, *_ in found}
    leaders = [group.latents[0] for group in (*result.more, *result.less)]
    if unnamed := [latent for latent in leaders if latent not in used]:
        left_out[UNNAMED] = unnamed
    return Proposal(tuple(hypotheses), {}, {why: tuple(found) for why, found in left_out.items()}), tuple(tests)


def verify_plain(
    hypotheses: Sequence[Hypothesis], tests: Sequence[Test], design: Design, seed: int = 0, confidence: float = 0.95
) -> Verification:
    """Runs the test of each statement on every document of `design`, the verifying half. Raises UsageError for sides
    without texts or documents."""
    steps = steps_of(design, None, seed)
    passes = [_passes(side, tests) for side in design.sides]
    trials = []
    for number, hypothesis in enumerate(hypotheses):
        trial = Trial(hypothesis, steps, confidence, early=False)
        places = trial.wants(steps.n)
        verdicts = [passes[side][number, steps.rows[side][place]] for side, place in places]
        trial.take(places, np.array(verdicts, np.float64), np.zeros(len(places), np.int64))
        trials.append(trial)
    verified = tuple(_verified(trial) for trial in trials)
    covered, covered_of = coverage_of([trial for trial, one in zip(trials, verified, strict=True) if one.valid])
    shares = Counter(kind for one in verified for kind in ("valid", "confirmed") if getattr(one, kind))
    n = max(1, len(verified))
    return Verification(
        verified,
        shares["valid"] / n,
        shares["confirmed"] / n,
        covered,
        documents=steps.documents,
        covered_of=covered_of,
        cut=(0,) * len(design.sides),
    )


def _named(result: DiffResult, side: int) -> list[tuple[int, Name, Test]]:
    """Leading latents of a direction whose name holds and has a test, strongest first, with name and test."""
    leaders = [group.latents[0] for group in (result.less if side else result.more) if result.named(group)]
    named = [(latent, result.names.of[latent]) for latent in leaders]
    return [(latent, name, name.test) for latent, name in named if name.test]


def _passes(side: Side, tests: Sequence[Test]) -> Bool:
    """bool [tests, documents], in scan order."""
    found: list[Bool] = [np.zeros((len(tests), 0), bool)]
    for table in side.scan(["text"]):
        texts = [units(text or "") for text in table.column("text").to_pylist()]
        found.append(
            np.array([predict_units(test, texts) >= 0.5 for test in tests], bool).reshape(len(tests), len(texts))
        )
    return np.concatenate(found, axis=1)


def _verified(trial: Trial) -> Verified:
    found = trial.estimate()
    return Verified(
        trial.hypothesis,
        trial.asked,
        tuple(int(side.sum()) for side in trial.answers),
        (0,) * len(trial.answers),
        found.difference,
        found.lower,
        found.upper,
        found.bounds,
        valid=found.difference > VALID,
        confirmed=found.lower > 0,
        settled="above" if found.lower > 0 else "not above" if found.upper <= 0 else None,
        saved_calls=0,
        saved_tokens=0,
    )
