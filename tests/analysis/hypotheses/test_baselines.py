"""Promises of the pure-LLM baselines: the same documents are read, and what is planted there is found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from clerk import clerk, rows
from llm_clients import MODEL, client_of
from numpy.typing import NDArray
from stand_in import GeminiStandIn
from verify_parts import InProcess, design_of, paired_of, side_of

from saeray.analysis.diff.design import Design
from saeray.analysis.hypotheses.baselines import (
    FEW,
    SUMMED,
    Note,
    Notes,
    cluster,
    readings,
    summarise,
    take_notes,
)
from saeray.analysis.hypotheses.merge import Asking
from saeray.analysis.hypotheses.refusals import refuser
from saeray.analysis.hypotheses.steps import LONGEST
from saeray.errors import UsageError
from saeray.llm import Client

ROWS = rows(240)
A, B = ([row["text"] for row in ROWS if row["model"] == model] for model in "AB")


def asking(client: Client, stage: str = "read") -> Asking:
    return Asking(client, MODEL, refuser(["A", "B"]), stage=stage)


def by_word(texts: Sequence[str]) -> NDArray[np.float32]:
    """A vector that hangs on a note's last word alone, and hardly on the rest."""
    return np.array([[hash_of(text.split()[-1]), len(text) / 1e4] for text in texts], np.float32)


def hash_of(word: str) -> float:
    return float(sum(map(ord, word)) % 97)


def test_paired_answers_are_read_together_and_the_planted_words_found() -> None:
    """One call a prompt; both directions; the ledger is the stand-in's own count in every stage."""
    with GeminiStandIn(clerk) as server, client_of(server) as client:
        notes = take_notes(readings(paired_of(A[:30], B[:30])), True, asking(client))
        assert (notes.readings, server.calls["generateContent"]) == (30, 30)
        found = summarise(notes, 4, asking(client, "summarise"))
        named = cluster(notes, 4, asking(client, "cluster"), by_word)
        assert client.ledger.totals().total == server.total
        calls = {row["stage"]: row["calls"] for row in client.ledger.rows()}
    assert calls["read"] == 30
    assert [one.side for one in found.hypotheses] == [0, 0, 1, 1]
    planted = {0: "The text has the word table", 1: "The text has the word sorry"}
    for side, statement in planted.items():
        assert statement in {one.statement for one in found.hypotheses if one.side == side}
        assert statement in {one.statement for one in named.hypotheses if one.side == side}
    assert {one.method for one in found.hypotheses} == {"llm-summary"}
    assert {one.method for one in named.hypotheses} == {"llm-cluster"}
    truth = Counter(
        word
        for a, b in zip(A[:30], B[:30], strict=True)
        for word in ("table", "sorry", "great", "river", "on")
        if word in a.split() and word not in b.split()
    )
    said = Counter(note.text.split()[-1] for note in notes.notes if note.side == 0)
    assert {word: said[word] for word in truth} == truth


def test_unaligned_texts_are_read_a_few_at_a_time_each_once() -> None:
    """A side with fewer documents lends some twice; no text of the target is left out or read twice."""
    read = readings(design_of(A[:23], B[:9]))
    assert len(read) == -(-23 // FEW)
    assert [text for one in read for text in one.first] == A[:23]
    assert {text for one in read for text in one.second} == set(B[:9])
    assert all(1 <= len(one.second) <= FEW for one in read)
    three = readings(design_of(A[:20], B[:20], A[20:40]))
    assert all(len(one.second) == 2 * (FEW // 2) for one in three), "as many of all others together as of the target"
    assert all(any(text in B for text in one.second) for one in three)


def test_readings_are_spread_over_all_documents_when_they_are_fewer() -> None:
    """The first thousand prompts of a file are rarely like the rest."""
    read = readings(paired_of(A[:100], B[:100]), most=10)
    assert [one.first[0] for one in read] == A[:100:10]
    assert [one.second[0] for one in read] == B[:100:10]


def test_of_several_rows_of_a_key_one_is_read() -> None:
    """A prompt answered five times is one reading, and rows need not stand in the order of their keys."""
    keys = (np.array([1, 0, 1]), np.array([0, 1, 1]))
    design = Design((side_of("A", ["a1", "a0", "again"]), side_of("B", ["b0", "b1", "more"])), "max", keys, 2)
    assert [(one.first, one.second) for one in readings(design)] == [(("a0",), ("b0",)), (("a1",), ("b1",))]


def test_a_reading_that_comes_to_nothing_is_counted() -> None:
    """It is missing, not a reading without differences."""

    def rule(system: str, prompt: str, schema: Any) -> Any:
        return None if "ax7 " in f"{prompt} " or "ax7\n" in prompt else clerk(system, prompt, schema)

    with Client(InProcess(rule)) as client:
        notes = take_notes(readings(paired_of(A[:20], B[:20])), False, asking(client))
        found = summarise(notes, 3, asking(client))
    assert notes.missing == {"notes: a reading came to nothing (refused)": 1}
    assert found.dropped["notes: a reading came to nothing (refused)"] == 1
    assert {note.side for note in notes.notes} == {0}, "where the other side is not asked for"
    assert {note.reading for note in notes.notes} <= set(range(20)) - {7}


def test_notes_are_summed_up_by_the_hundred_readings() -> None:
    """As the authors do; what comes of the batches is merged in a last call."""
    notes = Notes(tuple(Note(f"The text has w{i % 3}", 0, i) for i in range(250)), 250, {})
    backend = InProcess(clerk)
    with Client(backend) as client:
        found = summarise(notes, 5, asking(client))
    assert [request.prompt.count("Difference ") for request in backend.asked] == [SUMMED, SUMMED, 50, 3]
    assert [one.statement for one in found.hypotheses] == [f"The text has the word w{i}" for i in (0, 1, 2)]
    assert "target" not in backend.asked[0].prompt.split("The question")[0], "nobody counted shares"


def test_clusters_are_named_from_the_notes_nearest_to_their_centre() -> None:
    """k is the number of statements; five notes name each, the largest cluster first."""
    notes = Notes(tuple(Note(f"The text has {'aa' if i % 3 else 'zz'}", 0, i) for i in range(30)), 30, {})
    backend = InProcess(clerk)
    with Client(backend) as client:
        found = cluster(notes, 2, asking(client), by_word)
        assert len(cluster(notes, 10, asking(client), by_word).hypotheses) == 2, "no more clusters than notes differ"
    assert [one.statement.split()[-1] for one in found.hypotheses] == ["aa", "zz"]
    assert [request.prompt.count("Difference ") for request in backend.asked[:2]] == [5, 5]


def test_without_notes_there_are_no_statements() -> None:
    """Two sides that do not differ are asked about no further."""
    with Client(InProcess(lambda *_: {"properties": []})) as client:
        notes = take_notes(readings(paired_of(A[:3], A[3:6])), True, asking(client))
        assert summarise(notes, 3, asking(client)).hypotheses == ()
        assert cluster(notes, 3, asking(client), by_word).hypotheses == ()
        assert client.ledger.totals().total > 0


def test_texts_that_are_not_stored_or_too_long_are_told_of_and_cut() -> None:
    """One line before anything is paid for; a book does not fill the prompt."""
    with pytest.raises(UsageError, match="without its texts"):
        readings(Design((side_of("A", ["a"], stored=False), side_of("B", ["b"]))))
    [one] = readings(design_of(["a" * 50_000], ["b"]))
    assert len(one.first[0]) == LONGEST
