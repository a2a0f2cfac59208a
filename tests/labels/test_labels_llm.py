"""Guards labels from an LLM: the best candidate on texts that proposed nothing, with the score it really has."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_clients import MODEL, client_of
from stand_in import GeminiStandIn, at_rate, documents, keyword_judge
from toy_words import WORDS, row, side_of, texts_of

from saeray.analysis.sides import Side
from saeray.errors import UsageError
from saeray.labels.contexts import ACTIVE_FROM, HIGHEST
from saeray.labels.llm.detect import Detected, as_property
from saeray.labels.llm.documents import Documents
from saeray.labels.llm.relabel import Relabelled, RelabelOptions, relabel
from saeray.labels.splits import split_of
from saeray.llm import CapReached
from saeray.llm.budget import Cap

TEXTS = texts_of(600)
SIDE = side_of(TEXTS)
FEW = RelabelOptions(candidates=2, examples=4, choose=3, score=6)
FIVE = RelabelOptions(examples=5, choose=5, score=5)
EACH = {"propose": 10, "choose": 10, "score": 10}


def labeller(*labels: str) -> Callable[[str, str, Any], Any]:
    """Proposes `labels` in turn; judges by the last word of the property."""
    turn, lock = itertools.cycle(labels), threading.Lock()

    def rule(system: str, prompt: str, schema: Any) -> Any:
        if "label" not in schema["properties"]:
            return keyword_judge(system, prompt, schema)
        with lock:
            return {"reason": "so it seems", "label": next(turn), "clear": True}

    return rule


def judged(server: GeminiStandIn, label: str) -> list[str]:
    """The texts that the stand-in was shown with a label."""
    prompts = [body["contents"][0]["parts"][0]["text"] for body in server.bodies]
    pairs = [documents(prompt) for prompt in prompts if prompt.startswith("The property")]
    return [text for statement, text in pairs if statement == as_property(label)]


def proposing(server: GeminiStandIn) -> list[str]:
    """The texts of the label prompts, without their marks."""
    prompts = [body["contents"][0]["parts"][0]["text"] for body in server.bodies]
    shown = [text for prompt in prompts if prompt.startswith("Texts in which") for text in documents(prompt)]
    return [text.replace("<<", "").replace(">>", "") for text in shown]


def truth(label: str, latent: int, texts: list[str]) -> float:
    """The detection score of a label that a reader applies by its last word, counted from the texts."""
    has = {text: WORDS[latent] in text.split() for text in texts}
    said = {text: label.split()[-1] in text for text in texts}
    active, silent = ([said[t] for t in texts if has[t]], [not said[t] for t in texts if not has[t]])
    return (sum(active) / len(active) + sum(silent) / len(silent)) / 2


def test_the_best_candidate_is_chosen_and_scored_on_texts_that_neither_proposed_nor_chose() -> None:
    """Chosen by detection on the second part; scored, as the label before is, on the same texts of the third."""
    with GeminiStandIn(labeller("the word table", "the word river", "the word the")) as server:
        with client_of(server) as client:
            found = relabel([SIDE], [0], {0: "the word seven"}, client, MODEL, FIVE)[0]
        score = [text for text in judged(server, "the word river") if split_of(text) == "score"]
        assert sorted(judged(server, "the word seven")) == sorted(score)
        assert len(set(score)) == 10
        assert sum("river" in text.split() for text in score) == 5
        assert (found.label, found.score, found.kept, found.replaced) == ("the word river", 1.0, True, True)
        assert found.score_before == pytest.approx(truth("the word seven", 0, score))
        assert found.bounds == (1.0, 1.0)
        assert (found.missing, found.documents) == (0, (5, 5))
        chosen_on = {text for label in ("the word table", "the word the") for text in judged(server, label)}
        assert {split_of(text) for text in chosen_on} == {"choose"}
        assert {split_of(text) for text in proposing(server)} == {"propose"}
        asked = client.ledger.summary()["calls"]
        assert asked == 3 + 3 * 10 + 2 * 10 == FIVE.calls()


def test_the_score_is_that_of_the_rule_even_for_a_poor_label() -> None:
    """A score below 1 is counted right, and a label below the threshold is not kept."""
    with GeminiStandIn(labeller("the word the")) as server, client_of(server) as client:
        found = relabel([SIDE], [2], {}, client, MODEL)[0]
        assert found.score == pytest.approx(truth("the word the", 2, judged(server, "the word the")))
        assert found.score < 0.75
        assert not found.kept
        assert found.why == "there was no label before; below 0.75"
        assert client.ledger.summary()["calls"] == 3 + 20, "candidates that agree are not chosen among"


@pytest.mark.parametrize(("before", "stays"), [("something of a river", True), ("the word table", False)])
def test_a_label_is_replaced_only_by_a_better_one(before: str, stays: bool) -> None:
    """An equal score is not better."""
    with GeminiStandIn(labeller("the word river")) as server, client_of(server) as client:
        found = relabel([SIDE], [0], {0: before}, client, MODEL, FEW)[0]
    assert found.replaced is not stays
    assert found.label == (before if stays else "the word river")
    assert found.why.startswith("no candidate is better than" if stays else "better than the label before")
    assert found.kept


def failing(rate: float, only: Callable[[str], bool] = lambda prompt: True) -> Callable[[int, int, str], str | None]:
    """That share of the prompts is never answered, however often they are sent."""
    trouble = at_rate(rate, ["blocked", "wrong", "empty", "400"], only)
    return lambda number, attempt, prompt: trouble(number, 0, prompt)


def run(trouble: Any = None) -> list[Relabelled]:
    rule = labeller("the word river", "the word seven")
    with GeminiStandIn(rule, trouble) as server, client_of(server) as client:
        return relabel([SIDE], range(2), dict.fromkeys(range(2), "the word table"), client, MODEL, FEW)


def test_failures_leave_scores_within_their_bounds_and_drop_nothing() -> None:
    """With a fifth of all calls lost, and with half of the active texts alone, the true score lies within the bounds,
    and each latent has its answer."""
    documents_of = Documents([SIDE], range(2), {"propose": 4, "choose": 3, "score": 6}, 128)
    some_active = failing(0.5, lambda prompt: prompt.startswith("The property") and "river" in documents(prompt)[1])
    for trouble in (failing(0.2), some_active):
        found = run(trouble)
        assert [one.latent for one in found] == list(range(2))
        assert sum(one.missing for one in found) > 5
        for one in found:
            assert one.why
            assert one.score is not None
            assert one.bounds is not None
            drawn = documents_of.draw(one.latent, "score")
            known = truth(one.label, one.latent, [shown.text for shown in (*drawn.active, *drawn.silent)])
            assert one.bounds[0] <= one.score <= one.bounds[1]
            assert one.bounds[0] - 1e-9 <= known <= one.bounds[1] + 1e-9
        assert any(one.bounds[0] < one.bounds[1] for one in found if one.bounds)
    lost = run(failing(1.0, lambda prompt: prompt.startswith("Texts in which") and "apology" in prompt[:400]))
    stayed = [one for one in lost if one.why.startswith("no candidate came back")]
    assert stayed
    assert all(one.label == one.before for one in stayed)


def test_when_nothing_comes_back_nothing_is_kept_and_all_is_said() -> None:
    """A failed call is not a "no"."""
    found = run(lambda number, attempt, prompt: "blocked" if number % 50 else None)
    assert len(found) == 2
    dead = [one for one in found if one.score is None]
    assert dead
    assert not any(one.kept for one in dead)
    assert all("could be scored" in one.why for one in dead)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["yes", "no", "lost"])), min_size=2, max_size=24))
def test_bounds_hold_whatever_the_missing_answers_would_have_been(answers: list[tuple[bool, str]]) -> None:
    """The score of any completion lies within the bounds, and the ends are reached."""
    kinds = [[said for active, said in answers if active is kind] for kind in (True, False)]
    if not all(kinds):
        return

    def made(lost: bool | None) -> Detected:
        pairs = zip(kinds, ("yes", "no"), strict=True)
        counts = [sum(said == right or (said == "lost" and lost is True) for said in some) for some, right in pairs]
        known = [sum(s != "lost" or lost is not None for s in some) for some in kinds]
        return Detected((counts[0], counts[1]), (known[0], known[1]), (len(kinds[0]), len(kinds[1])))

    one = made(None)
    low, high = one.bounds
    assert low == pytest.approx(made(False).score)
    assert high == pytest.approx(made(True).score)
    if one.score is not None:
        assert low - 1e-12 <= one.score <= high + 1e-12


def test_a_label_reads_as_a_property() -> None:
    """A phrase gets a frame, a statement stays."""
    assert as_property("numbered lists").endswith(": numbered lists")
    assert as_property("The text is in French") == "The text is in French"


def context_side(n: int = 900) -> Side:
    """Latent 0 is `river` but fires only in texts that hold `table` too; the other words fire everywhere."""
    side = side_of(texts_of(n, seed=3))
    table = pa.concat_tables(side.scan(list(row("", "a"))))
    rows = table.to_pylist()
    for one in rows:
        if "table" not in one["text"].split() and 0 in one["latents"]:
            for name in ("max", "count", "peak", "latents"):
                one[name] = one[name][1:]
    made = pa.Table.from_pylist(rows, table.schema)
    return replace(side, scan=lambda columns: iter([made.select(columns)]))


def test_silent_texts_are_silent_and_half_of_them_mislead() -> None:
    """A word that stands in a silent text is the hardest negative; no text is weakly active, and none comes twice."""
    side = context_side()
    latents = {r["text"]: r["latents"] for t in side.scan(["text", "latents"]) for r in t.to_pylist()}
    every = Documents([side], [0, 1, 5], EACH, 128)
    for latent in (0, 1, 5):
        seen: list[str] = []
        for split in ("propose", "choose", "score"):
            drawn = every.draw(latent, split)
            assert (len(drawn.active), len(drawn.silent)) == (10, 10)
            assert all(latent in latents[one.text] for one in drawn.active)
            assert not any(latent in latents[one.text] for one in drawn.silent)
            assert all(one.text[slice(*one.peak)].strip() == WORDS[latent] for one in drawn.active if one.peak)
            assert all(one.peak is None for one in drawn.silent)
            assert {split_of(one.text) for one in (*drawn.active, *drawn.silent)} == {split}
            seen += [one.text for one in (*drawn.active, *drawn.silent)]
            if latent == 0:
                assert drawn.hard == 5
                assert sum("river" in one.text.split() for one in drawn.silent) >= 2
        assert len(set(seen)) == 60
    assert every.words(0) == ["river"]


def test_active_texts_are_strong_and_middling_never_weak() -> None:
    """Half are the strongest; the others come from the rest above ACTIVE_FROM, and not from its top alone."""
    side = SIDE
    every = Documents([side], [1], EACH, 128)
    value = {
        r["text"]: r["max"][r["latents"].index(1)]
        for t in side.scan(["text", "latents", "max"])
        for r in t.to_pylist()
        if 1 in r["latents"]
    }
    least = ACTIVE_FROM * np.mean(sorted(value.values())[-HIGHEST:])
    own = sorted((v for t, v in value.items() if split_of(t) == "propose" and v >= least), reverse=True)
    drawn = [float(value[one.text]) for one in every.draw(1, "propose").active]
    assert sorted(drawn[:5], reverse=True) == own[:5]
    for found, part in zip(drawn[5:], np.array_split(own[5:], 5), strict=True):
        assert part[-1] <= found <= part[0]
    assert min(drawn) < own[len(own) // 2]
    assert every.hits[1].present == len(value)


def test_active_texts_come_from_the_first_side_and_silent_ones_from_all() -> None:
    """Where two sets are compared a label is of the set where the latent differs."""
    first, second = TEXTS[:300], TEXTS[300:]
    every = Documents([side_of(first), side_of(second)], [0], EACH, 128)
    drawn = every.draw(0, "propose")
    assert all(one.text in first for one in drawn.active)
    assert {one.text in first for one in drawn.silent} == {True, False}
    few = Documents([side_of(first[:20]), side_of(second)], [0], EACH, 128).draw(0, "propose")
    here = sum("river" in text.split() and split_of(text) == "propose" for text in first[:20])
    assert len(few.active) == 10
    assert sum(one.text in first for one in few.active) == pytest.approx(here, abs=2)


def test_a_long_text_is_cut_to_a_window_with_the_peak_in_it() -> None:
    """Both kinds are cut to the same number of tokens, three quarters of them before the peak."""
    texts = [f"{' '.join(['a'] * (40 + i))} river {' '.join(['of'] * 90)} {i}" for i in range(60)]
    texts += [f"{' '.join(['one'] * (90 + i))} {i}" for i in range(60)]
    drawn = Documents([side_of(texts)], [0], EACH, 32).draw(0, "propose")
    for one in drawn.active:
        assert one.peak is not None
        assert one.text[slice(*one.peak)].strip() == "river"
        assert len(one.text.split()) == 32
        assert one.text.split().index("river") == 24
    assert all(len(one.text.split()) == 32 for one in drawn.silent)


def test_a_rerun_makes_no_call(tmp_path: Any) -> None:
    """The same question is paid for once, and has the same answer."""
    with GeminiStandIn(labeller("the word river", "the word table")) as server:
        found, spent = [], []
        for _ in range(2):
            with client_of(server, tmp_path) as client:
                found.append(relabel([SIDE], [0], {0: "seven"}, client, MODEL, FEW))
                spent.append(client.ledger.summary())
        assert found[0] == found[1]
        assert [bool(one["calls"]) for one in spent] == [True, False]
        assert server.calls["generateContent"] == spent[0]["calls"] == spent[1]["cached"]


def test_a_latent_that_cannot_be_labelled_says_why() -> None:
    """Nowhere active, or in too few texts: no call is made, and it is still in the list."""
    with GeminiStandIn(labeller("x")) as server, client_of(server) as client:
        few = [text for text in TEXTS if "river" not in text.split()] + [t for t in TEXTS if "river" in t.split()][:4]
        found = relabel([side_of(few)], [12, 0], {0: "b"}, client, MODEL)
        assert server.calls["generateContent"] == 0
    assert [one.latent for one in found] == [12, 0]
    assert found[0].why == "active in none of the documents"
    assert found[1].why.startswith("present in 4 documents, too few")
    assert (found[1].label, found[1].kept) == ("b", False)


def test_what_cannot_be_done_is_one_line() -> None:
    """No texts stored; the cap is passed before the call, not after."""
    with GeminiStandIn(labeller("x")) as server, client_of(server, cap=Cap(tokens=8_000)) as client:
        with pytest.raises(UsageError, match="without its texts"):
            relabel([side_of(TEXTS, drop=["text"])], [0], {}, client, MODEL)
        with pytest.raises(CapReached):
            relabel([SIDE], [0], {}, client, MODEL)
        assert server.total <= 8_000
