"""Promises of verification against the real Gemini API's shape, by judges whose truth is known: frequencies are the
truth's, what fails is missing and never a no, nothing is paid twice."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from llm_clients import MODEL, client_of
from stand_in import GeminiStandIn, at_rate
from verify_parts import (
    APPLES,
    PEARS,
    InProcess,
    always,
    design_of,
    paired_of,
    side_of,
    word_judge,
    worded,
)

from saeray.analysis.diff.design import Design
from saeray.analysis.hypotheses.statements import Hypothesis
from saeray.analysis.hypotheses.steps import LONGEST
from saeray.analysis.hypotheses.verify import Verification, VerifyOptions, verify
from saeray.errors import UsageError
from saeray.llm import Cap, CapReached, Client, DeadKey, Progress

FIXED = VerifyOptions(early=False, repeats=0)
N = 40
RNG = np.random.default_rng(5)
APPLES_A, APPLES_B = RNG.random(N) < 0.7, RNG.random(N) < 0.3
PEARS_A, PEARS_B = RNG.random(N) < 0.3, RNG.random(N) < 0.3
TRUTH = float(APPLES_A.mean() - APPLES_B.mean())
A, B = worded("alpha", APPLES_A, PEARS_A), worded("beta", APPLES_B, PEARS_B)


def judged(*hypotheses: Hypothesis, design: Design, options: VerifyOptions = FIXED, **kinds: object) -> Verification:
    """By the in-process judge."""
    with Client(InProcess(**kinds)) as client:  # type: ignore[arg-type]
        return verify(hypotheses, design, client, "rule", options)


def test_verified_frequencies_are_the_truth() -> None:
    """Every answered document counts as what it is; calls, stages and coverage are those of a count by hand."""
    with GeminiStandIn(word_judge) as server, client_of(server) as client:
        unpaired = verify([APPLES, PEARS], design_of(A, B), client, MODEL, replace(FIXED, repeats=5))
        assert server.calls["generateContent"] == unpaired.calls == 4 * N + 10
        assert {row["stage"]: row["calls"] for row in client.ledger.rows()} == {"verify": 4 * N, "verify noise": 10}
        assert client.ledger.totals().total == server.total
        assert server.bodies[0]["generationConfig"]["thinkingConfig"] == {"thinking_budget": 0}
        paired = verify([APPLES, PEARS], paired_of(A, B), client, MODEL, FIXED)
        assert server.calls["generateContent"] == 4 * N + 10
    for found in (unpaired, paired):
        apples, pears = found.verified
        assert apples.yes == (APPLES_A.sum(), APPLES_B.sum())
        assert pears.yes == (PEARS_A.sum(), PEARS_B.sum())
        assert apples.judged == pears.judged == found.documents == (N, N)
        assert apples.missing == pears.missing == (0, 0)
        assert apples.difference == pytest.approx(TRUTH)
        assert apples.bounds == pytest.approx((TRUTH, TRUTH))
        assert apples.lower < TRUTH < apples.upper
        assert (apples.valid, apples.confirmed, apples.settled) == (True, True, "above")
        assert (found.rate, found.confirmed_rate) == ((1 + pears.valid) / 2, 0.5)
        valid = [(APPLES_A, APPLES_B)] + [(PEARS_A, PEARS_B)] * pears.valid
        holds = [a & ~b if found is paired else a for a, b in valid]
        assert found.coverage == pytest.approx(np.logical_or.reduce(holds).mean())
        assert found.covered_of == N


@pytest.mark.parametrize("only", ["", "alpha", "beta"])
def test_a_fifth_of_the_calls_lost_moves_nothing_beyond_its_bounds(only: str) -> None:
    """Replies that are cut for good, on both sides or on one alone, are missing: the truth stays within the bounds that
    they allow and within the interval, and the bounds are those of a count by hand."""
    early = VerifyOptions(chunk=10, repeats=0)
    with GeminiStandIn(word_judge, always(0.2, "cut", only)) as server, client_of(server) as client:
        runs = [
            verify([APPLES], design, client, MODEL, options).verified[0]
            for design in (design_of(A, B), paired_of(A, B))
            for options in (FIXED, early)
        ]
    for one in runs:
        (yes_a, yes_b), (gone_a, gone_b), (n_a, n_b) = one.yes, one.missing, one.judged
        assert (gone_a > 0, gone_b > 0) == (only != "beta", only != "alpha")
        assert one.bounds == pytest.approx(((yes_a - yes_b - gone_b) / n_a, (yes_a + gone_a - yes_b) / n_a))
        assert one.difference == pytest.approx(yes_a / (n_a - gone_a) - yes_b / (n_b - gone_b))
        assert one.lower < one.bounds[0] <= one.difference <= one.bounds[1] < one.upper
        assert one.lower <= TRUTH <= one.upper
        if n_a == N:
            assert 0.1 < (gone_a + gone_b) / (N if only else 2 * N) < 0.3
            assert one.bounds[0] <= TRUTH <= one.bounds[1]


def test_what_fails_once_is_asked_again_and_what_fails_always_is_missing() -> None:
    """Trouble that passes leaves no trace in the numbers; trouble that stays, or a refusal, is missing on its side and
    never a no."""
    kinds = dict(enumerate(["cut", "wrong", "429", "500", "timeout", "drop", "empty", "blocked", "400"]))
    a, b = worded("alpha", np.ones(12, bool)), worded("beta", np.ones(12, bool))

    def lasting(number: int, attempt: int, prompt: str) -> str | None:
        return next((kind for i, kind in kinds.items() if f"alpha number {i} " in prompt), None)

    def passing(number: int, attempt: int, prompt: str) -> str | None:
        return None if attempt else lasting(number, attempt, prompt)

    for trouble, gone in ((passing, 2), (lasting, 9)):
        with GeminiStandIn(word_judge, trouble) as server:
            server.hang, server.retry_delay = 1.5, "0.05s"
            with client_of(server, timeout=0.9, attempts=2, patience=1.0) as client:
                (one,) = verify([APPLES], paired_of(a, b), client, MODEL, FIXED).verified
            assert set(server.troubles) == set(kinds.values())
        assert one.missing == (gone, 0)
        assert one.yes == (12 - gone, 12)


def test_early_stopping_and_all_documents_agree() -> None:
    """A large difference is settled early with the verdict that all documents give, either way; an absent one is asked
    to the end; what is said to be saved is what the other run cost more."""
    here, there = np.arange(120) % 10 < 8, np.arange(120) % 10 < 2
    none = np.arange(120) % 10 == 5
    design = paired_of(worded("alpha", here, none), worded("beta", there, none))
    statements = [APPLES, replace(APPLES, side=1), PEARS]
    backends = InProcess(), InProcess()
    with Client(backends[0]) as client:
        every = verify(statements, design, client, "rule", FIXED)
    with Client(backends[1]) as client:
        early = verify(statements, design, client, "rule", VerifyOptions(chunk=10, repeats=0))
        tokens = sum(len(one.prompt) + 10 for one in backends[1].asked)
    assert [one.settled for one in every.verified] == [one.settled for one in early.verified]
    assert [one.settled for one in early.verified] == ["above", "not above", None]
    assert [one.saved_calls > 0 for one in early.verified] == [True, True, False]
    assert early.verified[0].saved_calls + sum(early.verified[0].judged) == 240
    assert early.verified[0].judged[0] % 10 == 0
    made = sum(sum(one.judged) for one in (early.verified[0], early.verified[2]))  # 0 and 1 ask the same
    assert len(backends[1].asked) == made
    spent = sum(len(one.prompt) + 10 for one in backends[0].asked)
    assert early.verified[0].saved_tokens == pytest.approx(spent - tokens, rel=0.02)
    assert all(one.saved_calls == one.saved_tokens == 0 for one in every.verified)


def test_a_rerun_is_free_and_the_same(tmp_path: Path) -> None:
    """The order of the questions hangs on ids and seed alone, so the cache has every answer, whatever order the
    documents are stored in."""
    options, a, b = VerifyOptions(chunk=10, repeats=4), A[:30], B[:30]
    straight = Design(tuple(side_of(name, t, [f"{i}" for i in range(30)]) for name, t in (("A", a), ("B", b))))
    with GeminiStandIn(word_judge, at_rate(0.2, ["cut", "500"])) as server:
        with client_of(server, tmp_path) as client:
            first = verify([APPLES, PEARS], straight, client, MODEL, options)
        calls = server.calls.total()
        backwards = [f"{i}" for i in reversed(range(30))]
        turned = Design(tuple(side_of(s.name, t[::-1], backwards) for s, t in zip(straight.sides, (a, b), strict=True)))
        for design in (straight, turned):
            with client_of(server, tmp_path) as client:
                again = verify([APPLES, PEARS], design, client, MODEL, options)
                assert client.ledger.totals().total == 0
            assert again.verified == first.verified
        assert server.calls.total() == calls
    assert json.loads(json.dumps(asdict(first)))["verified"][0]["hypothesis"]["statement"] == APPLES.statement


def test_a_dead_key_ends_it_in_one_line(tmp_path: Path) -> None:
    """No verdict is made up for a key that is not accepted."""
    with GeminiStandIn(word_judge) as server, client_of(server, tmp_path) as client:
        server.key = "another"
        with pytest.raises(DeadKey) as raised:
            verify([APPLES], design_of(A, B), client, MODEL, FIXED)
    assert "\n" not in str(raised.value)


def test_the_cap_ends_it_and_what_was_paid_for_is_kept(tmp_path: Path) -> None:
    """A later run with a higher cap asks only what is left, and both together what one would have."""
    design = design_of(A[:20], B[:20])
    with GeminiStandIn(word_judge) as server:
        with client_of(server, tmp_path, cap=Cap(tokens=10_000)) as client, pytest.raises(CapReached) as raised:
            verify([APPLES], design, client, MODEL, FIXED)
        assert "\n" not in str(raised.value)
        assert server.total <= 10_000
        assert 0 < server.calls["generateContent"] < 40
        with client_of(server, tmp_path) as client:
            verify([APPLES], design, client, MODEL, FIXED)
        assert server.calls["generateContent"] == 40


def test_a_judge_that_wavers_is_found_out() -> None:
    """Verdicts that change when asked again, or when the text comes first, are counted apart; a difference no larger
    than that is marked."""

    def by_order(system: str, prompt: str, schema: object) -> dict[str, str]:
        return {"reason": "", "verdict": "yes"} if prompt.startswith("The text") else word_judge(system, prompt, schema)

    small = design_of(worded("alpha", np.arange(50) < 12), worded("beta", np.arange(50) < 10))
    found = judged(APPLES, design=small, options=replace(FIXED, repeats=30), rule=by_order)
    assert (found.noise["repeats"]["answered"], found.noise["repeats"]["differed"]) == (30, 0)
    swapped = found.noise["swapped"]
    assert swapped["differed"] == swapped["answered"] - round(30 * swapped["yes_first"][0])
    assert swapped["yes_again"][0] == 1.0
    assert swapped["lower"] < swapped["rate"] < swapped["upper"]
    assert found.noise["bound"] == swapped["rate"] > 0.04
    assert found.verified[0].within_noise
    steady = judged(APPLES, design=small, options=replace(FIXED, repeats=30))
    assert steady.noise["bound"] == 0.0
    assert not steady.verified[0].within_noise
    assert found.calls == 160

    seen: set[str] = set()

    def by_turn(system: str, prompt: str, schema: object) -> dict[str, str]:
        before, _ = prompt in seen, seen.add(prompt)
        return {"reason": "", "verdict": "yes"} if before else word_judge(system, prompt, schema)

    again = judged(APPLES, design=small, options=replace(FIXED, repeats=30), rule=by_turn).noise
    assert again["repeats"]["yes_again"][0] == 1.0
    assert again["repeats"]["differed"] > 10
    assert again["swapped"]["differed"] == 0


def test_a_statement_of_the_others_is_the_mirror_image() -> None:
    """A difference above 0 always supports the statement; two sides in the other order give the same numbers."""
    for options in (FIXED, VerifyOptions(repeats=0)):
        here = judged(replace(APPLES, side=1), design=paired_of(B, A), options=options).verified[0]
        there = judged(APPLES, design=paired_of(A, B), options=options).verified[0]
        assert here.confirmed
        assert here.judged == there.judged
        assert here.difference == pytest.approx(there.difference)
        assert (here.lower, here.upper) == pytest.approx((there.lower, there.upper), abs=0.11)


def test_against_several_the_highest_counts() -> None:
    """The target must exceed each; a side with more takes the verdict back, and more of the others' is said of the
    highest of them."""
    c = worded("gamma", np.arange(N) < N - 1)
    two, three = (
        judged(APPLES, design=design_of(A, B)).verified[0],
        judged(APPLES, design=design_of(A, B, B)).verified[0],
    )
    assert three.difference == two.difference
    assert three.lower == two.lower
    assert three.upper >= two.upper  # either of two bounds may err
    worse = judged(APPLES, replace(APPLES, side=1), design=design_of(A, B, c))
    assert worse.verified[0].difference == pytest.approx(APPLES_A.mean() - (N - 1) / N)
    assert worse.verified[0].settled == "not above"
    assert worse.verified[1].difference == pytest.approx((N - 1) / N - APPLES_A.mean())
    assert worse.verified[1].confirmed
    assert worse.verified[0].judged == (N, N, N)


def test_a_union_has_what_any_of_its_answers_has() -> None:
    """Per key, over the other sides; a key where none has it and one is missing is unknown, not a no."""
    a, b, c = np.arange(60) < 50, np.arange(60) % 4 == 0, np.arange(60) % 4 == 1
    texts = worded("alpha", a), worded("beta", b), worded("gamma", c)
    found = judged(APPLES, design=paired_of(*texts, against="union")).verified[0]
    assert found.difference == pytest.approx(a.mean() - (b | c).mean())
    assert found.lower < found.difference < found.upper
    assert judged(APPLES, design=paired_of(*texts)).verified[0].difference == pytest.approx(a.mean() - 0.25)

    def lost(system: str, prompt: str, schema: object) -> dict[str, str] | None:
        return None if "beta number 1 " in prompt or "beta number 2 " in prompt else word_judge(system, prompt, schema)

    some = judged(APPLES, design=paired_of(*texts, against="union"), rule=lost).verified[0]
    # Key 1 has it by gamma whatever beta says; key 2 is open.
    assert some.bounds == pytest.approx((a.mean() - 31 / 60, a.mean() - 30 / 60))
    assert some.difference == pytest.approx(a.mean() - 30 / 59)


def test_only_the_verifying_half_is_read() -> None:
    """Documents that proposed are not asked about: the counts are those of the other half alone."""
    half = np.arange(N) % 3 == 0
    whole = replace(paired_of(A, B), proposing=(half, half))
    backend = InProcess()
    with Client(backend) as client:
        (one,) = verify([APPLES], whole.verifiers(), client, "rule", FIXED).verified
    assert one.judged == ((~half).sum(),) * 2
    assert one.yes == (APPLES_A[~half].sum(), APPLES_B[~half].sum())
    assert not any(f"number {i} " in asked.prompt for asked in backend.asked for i in np.flatnonzero(half))


def test_long_documents_are_cut_and_counted() -> None:
    """The judge sees the beginning, up to a stated length, and the result says how many it did not see whole."""
    texts = ["apples " * 10 + f"{i}" for i in range(6)]
    texts[2] = "x" * LONGEST + " apples"
    found = judged(APPLES, design=design_of(texts, texts[:2]))
    assert found.cut == (1, 0)
    assert found.verified[0].yes == (5, 2)


def test_nothing_proposed_and_nothing_answered() -> None:
    """No hypothesis asks nothing; a judge that never answers says nothing, and its bounds say that."""
    empty = judged(design=design_of(A, B), options=VerifyOptions())
    assert (empty.calls, empty.rate, empty.confirmed_rate, empty.noise) == (0, 0.0, 0.0, {})
    silent = judged(APPLES, design=design_of(A[:9], B[:9]), options=VerifyOptions(), rule=lambda *_: None)
    (one,) = silent.verified
    assert one.missing == (9, 9)
    assert one.bounds == (-1.0, 1.0)
    assert (one.difference, one.valid, one.confirmed, one.settled) == (0.0, False, False, None)
    assert silent.noise == {}


def test_sides_that_cannot_be_judged_are_refused() -> None:
    """Before the first call, in one line that says how to mend it."""
    without = Design((side_of("A", A), side_of("B", B, stored=False)))
    with pytest.raises(UsageError, match="B was encoded without its texts"):
        judged(APPLES, design=without)
    with pytest.raises(UsageError, match="B has no document left"):
        judged(APPLES, design=design_of(A, []))
    with pytest.raises(UsageError, match="--pair-on"):
        judged(APPLES, design=design_of(A, B, against="union"))
    for options in ({"chunk": 0}, {"repeats": -1}, {"documents": 0}, {"confidence": 1.0}):
        with pytest.raises(UsageError):
            VerifyOptions(**options)  # type: ignore[arg-type]


def test_progress_only_grows_and_ends_at_its_total() -> None:
    """The total shrinks as hypotheses are settled, and is never passed."""
    shown: list[Progress] = []
    with Client(InProcess()) as client:
        found = verify(
            [APPLES, PEARS], design_of(A, B), client, "rule", VerifyOptions(chunk=10, repeats=7), shown.append
        )
    done, total = [one.done for one in shown], [one.total for one in shown]
    assert done == sorted(done)
    assert total == sorted(total, reverse=True)
    assert done[-1] == total[-1] == found.calls
