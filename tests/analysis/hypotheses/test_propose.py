"""Promises of proposing: every latent is in a statement or counted with why, names are refused, batches are merged."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from clerk import clerk, stated
from llm_clients import MODEL, client_of
from stand_in import GeminiStandIn
from verify_parts import InProcess

from saeray.analysis.hypotheses.merge import (
    BATCH,
    NO_NUMBER,
    NOT_TAKEN,
    NUMBERS,
    REFUSED,
    TWICE,
    UNMERGED,
    Asking,
    gather,
)
from saeray.analysis.hypotheses.propose import Found, Proposal, divided, found_in, propose
from saeray.analysis.hypotheses.refusals import COMPARES, EMPTY, NAMES, refuser
from saeray.llm import Client
from saeray.llm.prompts import Difference

NAMED = refuser(["d:model=gpt4_1106,language=French", "the rest of d"])


def latents(n: int, words: int = 8, side: int = 0) -> list[Found]:
    """`n` latents that differ, each labelled with one of some words, the first ones most."""
    sign = -1 if side else 1
    return [
        Found(100 + i, side, f"label {i} of w{i % words}", sign * (n - i) / (2 * n), (0.5 + (n - i) / (2 * n), 0.5))
        for i in range(n)
    ]


def asked(rule: Callable[[str, str, Any], Any], found: list[Found], most: int) -> tuple[Proposal, InProcess]:
    """What is proposed by a rule, and the backend that was asked."""
    backend = InProcess(rule)
    with Client(backend) as client:
        return propose(found, most, Asking(client, "rule", NAMED)), backend


def whole(got: Proposal, found: list[Found]) -> None:
    """Every latent is in a statement, or left out for one reason."""
    used = [latent for one in got.hypotheses for latent in one.latents]
    lost = [latent for why in got.left_out.values() for latent in why]
    assert sorted({*used, *lost}) == sorted(one.latent for one in found)
    assert len(set(used)) + len(lost) == len(found)


def replies(*statements: tuple[str, list[int]]) -> Callable[[str, str, Any], Any]:
    """A rule that always states the same."""
    made = [{"statement": text, "numbers": numbers, "reason": "so"} for text, numbers in statements]
    return lambda system, prompt, schema: {"hypotheses": made}


def test_a_hundred_and_twenty_latents_go_in_batches_and_all_are_accounted_for() -> None:
    """Batches fit a prompt, their statements are merged in one last call, and each rests on all of its latents."""
    found = latents(120)

    def rule(system: str, prompt: str, schema: Any) -> Any:
        made = stated(prompt)
        if "Merge those" not in system:
            made = [one | {"statement": f"The text, {one['numbers'][0]}, {one['statement']}"} for one in made]
        return {"hypotheses": made}

    got, backend = asked(rule, found, 10)
    sizes = [len(re.findall(r"^Difference", request.prompt, re.MULTILINE)) for request in backend.asked]
    assert sorted(sizes) == [24, 40, 40, 40], "three batches of 40, and a merge of 3 x 8 statements"
    assert max(sizes) <= BATCH
    whole(got, found)
    assert not got.left_out
    assert len(got.hypotheses) == 8
    for one in got.hypotheses:
        word = int(one.statement.split("w")[-1])
        assert set(one.latents) == {100 + i for i in range(120) if i % 8 == word}
        assert one.expected == max(found[latent - 100].expected for latent in one.latents)


def test_the_ledger_of_batches_is_the_stand_ins_own_count() -> None:
    """Batches and the merge are counted to the token, in the stage that asked."""
    with GeminiStandIn(clerk) as server, client_of(server) as client:
        propose(latents(120), 5, Asking(client, MODEL, NAMED))
        assert client.ledger.totals().total == server.total
        assert [(row["stage"], row["calls"]) for row in client.ledger.rows()] == [("propose", 4)]


def test_a_batch_whose_call_fails_is_reported_with_its_latents() -> None:
    """A server that is full must not make a diff look poor in findings."""
    found = latents(120)
    with GeminiStandIn(clerk, lambda number, attempt, prompt: "cut" if "label 2 of" in prompt else None) as server:
        with client_of(server) as client:
            got = propose(found, 5, Asking(client, MODEL, NAMED))
        assert server.troubles["cut"] == 2, "the client asks once more"
    whole(got, found)
    [(why, lost)] = [one for one in got.left_out.items() if "batch" in one[0]]
    assert "cut" in why
    assert lost == tuple(range(102, 220, 3))


def test_statements_stay_when_their_merging_fails() -> None:
    """They are paid for: the strongest are kept, and it is said that nobody merged them."""
    found = latents(120)

    def mute(system: str, prompt: str, schema: Any) -> Any:
        return None if "Merge those" in system else {"hypotheses": stated(prompt)[:5]}

    got, _ = asked(mute, found, 5)
    whole(got, found)
    assert [one.statement.split()[-1] for one in got.hypotheses] == ["w0", "w1", "w2", "w3", "w4"]
    assert got.dropped["not merged, the call came to nothing (refused)"] == 8


def test_numbers_that_do_not_exist_are_lost_and_statements_on_nothing_dropped() -> None:
    """A model may not rest a statement on what it was not shown."""
    rule = replies(("The text has tables.", [1, 2, 99, 2]), ("The text rhymes.", [77]), ("The text has tables", [3]))
    got, _ = asked(rule, found := latents(4), 5)
    whole(got, found)
    [one] = got.hypotheses
    assert one.latents == (100, 101, 102)
    assert got.dropped == {NUMBERS: 2, NO_NUMBER: 1, TWICE: 1}
    assert got.left_out == {NOT_TAKEN: (103,)}


def test_statements_that_name_a_side_are_refused_and_counted() -> None:
    """Who reads 'written by GPT-4' beside a text can only guess."""
    rule = replies(("The text was written by GPT4-1106.", [1]), ("The text has more lists than the others.", [2]))
    got, _ = asked(rule, found := latents(3), 5)
    whole(got, found)
    assert not got.hypotheses
    assert got.dropped == {NAMES: 1, COMPARES: 1}
    assert got.left_out == {REFUSED: (100, 101), NOT_TAKEN: (102,)}


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("The text is written in French.", None),
        ("The text speaks to a target audience.", None),
        ("The text sets one side of a triangle against the other.", None),
        ("The text gives more than one answer.", None),
        ("The text names a target group and a second set of rules.", None),
        ("The text gives more weight to safety than other concerns, and to some rules more than others.", None),
        ("The text is from the French set.", NAMES),
        ("The text is a gpt4-1106 answer.", NAMES),
        ("The text belongs to d:model=gpt4_1106,language=French", NAMES),
        ("The text is in the target set.", NAMES),
        ("The text belongs to group B.", NAMES),
        ("The text, unlike the others, has lists.", NAMES),
        ("The text is longer than other texts.", COMPARES),
        ("The text has more lists than the others.", COMPARES),
        (" ... ", EMPTY),
    ],
)
def test_a_word_of_the_language_is_a_name_only_of_a_source(statement: str, why: str | None) -> None:
    """A diff of French and English texts has to be able to say that a text is French."""
    assert NAMED(statement) == why


def test_both_directions_are_asked_for_half_each() -> None:
    """Each statement names the side it is said of; the model sees that side as the target."""
    found = latents(6, words=6)
    found += [replace(one, latent=one.latent + 100) for one in latents(4, words=4, side=1)]
    got, backend = asked(clerk, found, 5)
    assert [one.side for one in got.hypotheses] == [0, 0, 0, 1, 1]
    assert [one.expected > 0 for one in got.hypotheses] == [True] * 3 + [False] * 2
    assert len(backend.asked) == 2
    whole(got, found)
    assert divided(1, {0, 1}) == {0: 1, 1: 1}
    assert divided(7, {1}) == {1: 7}


def test_merged_statements_that_are_not_taken_up_leave_their_latents_with_why() -> None:
    """Of forty merged into five the other latents are named."""
    found = latents(100, words=40)
    got, _ = asked(clerk, found, 5)
    whole(got, found)
    assert set(got.left_out) <= {NOT_TAKEN, UNMERGED}
    assert sum(map(len, got.left_out.values())) > 50


def test_thoughts_are_not_bought_unless_asked_for() -> None:
    """A thinking model would use up the room of its answer."""
    with GeminiStandIn(clerk) as server, client_of(server) as client:
        gather([Difference(1, "w1", 0.5, 0.1)], 3, Asking(client, MODEL, NAMED))
        assert server.bodies[0]["generationConfig"]["thinkingConfig"] == {"thinking_budget": 0}


def test_shares_and_passages_are_those_of_the_documents_given(side_of: Callable[..., Any]) -> None:
    """The proposer sees the proposing half alone, counted plainly; a passage is from the side where the latent is."""
    texts = {"a": ["the table", "a table on", "sorry"], "b": ["sorry now", "the river", "sorry all", "table"]}
    sides = [side_of([{"doc_id": f"{n}{i}", "text": t} for i, t in enumerate(own)], n) for n, own in texts.items()]
    table, sorry = 0, 1
    [more] = found_in(sides, 0, {table: "tables"}, {table: 0.4})
    [less] = found_in(sides, 1, {sorry: "sorrow"}, {sorry: -0.2})
    assert more.shares == (2 / 3, 1 / 4)
    assert less.shares == (2 / 4, 1 / 3)
    assert "table" in more.passage
    assert less.passage in texts["b"]
    assert found_in(sides, 0, {}, {}) == []
