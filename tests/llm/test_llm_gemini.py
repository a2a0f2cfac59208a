"""What goes over the wire to Gemini and what is made of what comes back, through Google's own client."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from llm_clients import MODEL, client_of
from stand_in import GeminiStandIn, tokens, vector

from saeray.llm import Request
from saeray.llm.base import Transient
from saeray.llm.gemini import Gemini
from saeray.llm.prompts import JUDGE_SCHEMA, judge


def questions(n: int) -> list[Request]:
    """n documents of which each third mentions apples."""
    return [judge(MODEL, "It mentions apples.", f"Text {i}: {'apples' if i % 3 == 0 else 'pears'}") for i in range(n)]


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


def test_an_answer_that_cannot_be_unpacked_is_asked_again(server: GeminiStandIn) -> None:
    """A proxy's broken gzip is no trace but a call that may have been charged for."""
    server.trouble = lambda number, attempt, prompt: "garbled" if attempt == 0 else None
    with client_of(server) as client:
        assert client.complete(questions(1)[0], "x").value["verdict"] == "yes"
        found = client.ledger.summary()
    assert (found["calls"], found["uncertain_calls"], found["retries"]) == (1, 1, {"server": 1})
