"""What goes over the wire to Gemini and what is made of what comes back, through Google's own client."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from llm_clients import MODEL, client_of
from stand_in import GeminiStandIn, at_rate, tokens, vector

from saeray.llm import Cap, CapReached, Client, Request
from saeray.llm.base import Transient
from saeray.llm.batch import complete_batch
from saeray.llm.gemini import Gemini
from saeray.llm.prompts import JUDGE_SCHEMA, judge


def questions(n: int) -> list[Request]:
    """n documents of which each third mentions apples."""
    return [judge(MODEL, "It mentions apples.", f"Text {i}: {'apples' if i % 3 == 0 else 'pears'}") for i in range(n)]


def batched(server: GeminiStandIn, client: Client, requests: list[Request], **options: object) -> list[str | None]:
    """Verdicts, or why there is none, of a batch job that is looked at often."""
    assert isinstance(client.backend, Gemini)
    replies = complete_batch(client, client.backend, requests, "batch", poll_seconds=0.01, **options)
    return [reply.missing or reply.value["verdict"] for reply in replies]


def test_a_request_as_the_api_has_it(server: GeminiStandIn) -> None:
    """The schema goes as JSON schema, thinking is switched off or bounded, and the limit sent bounds both."""
    with client_of(server) as client:
        client.complete(judge(MODEL, "p", "text", thinking_budget=0), "x")
        client.complete(judge(MODEL, "p", "text", thinking_budget=50), "x")
        client.complete(judge(MODEL, "p", "text"), "x")
    none, some, free = (body["generationConfig"] for body in server.bodies)
    assert none["responseJsonSchema"] == JUDGE_SCHEMA
    assert none["responseMimeType"] == "application/json"
    assert none["temperature"] == 0
    assert none["thinkingConfig"] == {"thinking_budget": 0}
    assert (none["maxOutputTokens"], some["maxOutputTokens"], free["maxOutputTokens"]) == (300, 350, 300)
    assert "thinkingConfig" not in free
    assert "data, never instructions" in server.bodies[0]["systemInstruction"]["parts"][0]["text"]


def test_thoughts_count_and_do_not_show(server: GeminiStandIn) -> None:
    """What a model thinks is paid for and is not part of its answer; a limit it thinks away leaves the reply cut."""
    server.thinks = 40
    with client_of(server) as client:
        reply = client.complete(judge(MODEL, "It mentions apples.", "apples", thinking_budget=64), "x")
        assert reply.value["verdict"] == "yes"
        assert reply.usage.tokens_thinking == 40
        starved = client.complete(judge(MODEL, "It mentions apples.", "apples", max_output_tokens=40), "x")
    assert (starved.missing, starved.usage.tokens_out) == ("cut", 0)


def test_the_count_is_no_less_than_what_is_charged(server: GeminiStandIn) -> None:
    """The cap rests on it: system text and schema are charged for, and the API counts contents alone."""
    request = questions(1)[0]
    with client_of(server) as client:
        counted = client.backend.count_tokens(request)
        charged = client.complete(request, "x").usage.tokens_in
    assert counted is not None
    assert charged <= counted <= charged + 140
    assert charged <= request.worst_input()


@pytest.mark.parametrize("model", ["gemini-embedding-001", "gemini-embedding-2"])
def test_one_vector_a_text(server: GeminiStandIn, tmp_path: Path, model: str) -> None:
    """Newer embedding models merge a list of strings into one vector unless they are sent as contents."""
    texts = ["one", "two", "three", "two"]
    with client_of(server, tmp_path) as client:
        found = client.embed(model, texts, "embed")
        assert client.ledger.totals().total == server.tokens["in"] == sum(map(tokens, texts[:3]))
    np.testing.assert_allclose(found, [vector(text) for text in texts], rtol=1e-6)
    with client_of(server, tmp_path) as client:
        again = client.embed(model, texts, "embed")
        assert client.ledger.summary()["calls"] == 0
    np.testing.assert_array_equal(found, again)
    assert server.calls["batchEmbedContents"] == 1


def test_embeddings_are_tried_again(server: GeminiStandIn) -> None:
    """An error of the service is not an error of the run."""
    server.trouble = lambda number, attempt, prompt: "500" if attempt == 0 else None
    with client_of(server) as client:
        assert client.embed("gemini-embedding-001", ["one"], "embed").shape == (1, 4)


def test_a_batch_job_gives_the_same_replies_at_half_the_price(server: GeminiStandIn, tmp_path: Path) -> None:
    """Batches are the cheap way to the same answers, and what they gave is in the cache like any other."""
    asked = questions(12)
    with client_of(server, tmp_path) as client:
        seen: list[str] = []
        verdicts = batched(server, client, asked, on_state=lambda job, state: seen.append(state))
        paid = client.ledger.summary()
    assert verdicts == ["yes" if i % 3 == 0 else "no" for i in range(12)]
    assert seen == ["JOB_STATE_PENDING", "JOB_STATE_SUCCEEDED"]
    assert server.calls["generateContent"] == 0
    tariff = server.tokens["in"] * 0.15e-6 + server.tokens["out"] * 1.25e-6
    assert paid["dollars"] == pytest.approx(tariff, rel=1e-12)
    assert paid["calls"] == 12
    calls = server.calls.copy()
    with client_of(server, tmp_path) as client:
        client.complete_many(asked, "again")
        assert batched(server, client, asked) == verdicts
        assert client.ledger.summary()["saved_dollars"] == paid["dollars"]
    assert server.calls == calls


def test_a_killed_run_finds_its_batch_job_again(server: GeminiStandIn, tmp_path: Path) -> None:
    """A job that was submitted is never submitted, and paid for, a second time."""
    server.batch_polls = 3

    def interrupt(job: str, state: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), client_of(server, tmp_path) as client:
        batched(server, client, questions(6), on_state=interrupt)
    with client_of(server, tmp_path) as client:
        assert batched(server, client, questions(6)) == ["yes", "no", "no", "yes", "no", "no"]
    assert server.calls["batchGenerateContent"] == 1


def test_what_a_batch_could_not_answer_is_asked_one_by_one(server: GeminiStandIn) -> None:
    """Errors inside a job cost a call each, and every token of both ways is on the ledger."""
    server.trouble = lambda number, attempt, prompt: (
        {"1": "500", "2": "cut"}.get(prompt.split("Text ")[1][0]) if attempt == 0 else None
    )
    with client_of(server) as client:
        assert batched(server, client, questions(5)) == ["yes", "no", "no", "yes", "no"]
        assert client.ledger.totals().total == server.total
        assert client.ledger.summary()["retries"] == {"batch": 1, "cut": 1}
    assert server.calls["generateContent"] == 2


def test_a_batch_keeps_the_cap(server: GeminiStandIn) -> None:
    """A whole job is set aside before it is handed over; the service's count is asked when the bytes do not fit."""
    asked = questions(10)
    tight = sum((len(one.system + one.prompt) + 200) // 4 + 128 + 300 for one in asked) + 600
    with client_of(server, cap=Cap(tokens=tight)) as client:
        assert sum(one.worst_input() + 300 for one in asked) > tight
        assert None not in batched(server, client, asked)
    assert server.calls["countTokens"] == 10
    with pytest.raises(CapReached), client_of(server, cap=Cap(tokens=1000)) as client:
        batched(server, client, questions(9))
    assert server.calls["batchGenerateContent"] == 1


def test_errors_in_a_batch_are_missing_after_all(server: GeminiStandIn) -> None:
    """A document that no way answers stays missing."""
    server.trouble = at_rate(1.0, ["500"], only=lambda prompt: "Text 4" in prompt)
    with client_of(server, attempts=2) as client:
        assert batched(server, client, questions(5)) == ["yes", "no", "no", "yes", "server"]


def test_a_server_that_is_not_there(server: GeminiStandIn) -> None:
    """Nothing was sent, so nothing is booked: not even as uncertain."""
    backend = Gemini(key="k", base_url="http://127.0.0.1:9", timeout=1.0)
    with pytest.raises(Transient, match="cannot be reached") as raised:
        backend.complete(Request(MODEL, "hello"))
    assert not raised.value.billed


def test_a_request_that_the_service_refuses_is_missing(server: GeminiStandIn) -> None:
    """One request that is too long, say, is one missing reply."""
    server.trouble = lambda number, attempt, prompt: "400" if "Text 1" in prompt else None
    with client_of(server) as client:
        replies = client.complete_many(questions(3), "x")
    assert [reply.missing for reply in replies] == [None, "refused", None]
    assert replies[1].detail == "400 The input token count exceeds the maximum number of tokens allowed"
    assert server.calls["generateContent"] == 3
