"""The same promises for servers with /v1/chat/completions."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_in import OpenAIStandIn, at_rate, vector

from saeray.errors import UsageError
from saeray.llm import Cache, Cap, CapReached, Client, DeadKey, Limits, Request
from saeray.llm.openai_compatible import OpenAICompatible
from saeray.llm.prompts import JUDGE_SCHEMA, judge
from saeray.store import location


@pytest.fixture
def server() -> Iterator[OpenAIStandIn]:
    """A server that judges by keyword and thinks seven tokens a reply."""
    with OpenAIStandIn() as running:
        yield running


def client_of(server: OpenAIStandIn, store: Path | None = None, key: str | None = None, **options: Any) -> Client:
    """A client of the server."""
    named = {name: options.pop(name) for name in tuple(options) if name in Limits.__dataclass_fields__}
    limits = Limits(**{"concurrency": 8, "backoff": 0.01, "backoff_most": 0.05, **named})
    cache = Cache(None if store is None else location(str(store)) / "llm" / "cache")
    backend = OpenAICompatible(f"{server.url}/v1", key=key or server.key, timeout=2.0)
    return Client(backend, cache=cache, limits=limits, **options)


def questions(n: int, **options: Any) -> list[Request]:
    """n documents of which each third mentions apples."""
    return [
        judge("m", "It mentions apples.", f"Text {i}: {'apples' if i % 3 == 0 else 'pears'}", **options)
        for i in range(n)
    ]


def test_ledger_rerun_and_wire(server: OpenAIStandIn, tmp_path: Path) -> None:
    """Replies, tokens, a free rerun, and the request as these servers want it."""
    with client_of(server, tmp_path, cap=Cap(tokens=10**6)) as client:
        replies = client.complete_many(questions(9, thinking_budget=20), "verify")
        summary = client.ledger.summary()
    assert [reply.value["verdict"] for reply in replies] == ["yes", "no", "no"] * 3
    assert (summary["tokens_in"], summary["tokens_out"]) == (server.tokens["in"], server.tokens["out"])
    assert summary["tokens_thinking"] == server.tokens["thinking"] == 63
    assert summary["dollars"] is None
    body = server.bodies[0]
    assert body["max_tokens"] == 320
    assert body["response_format"]["json_schema"] == {"name": "reply", "schema": JUDGE_SCHEMA, "strict": True}
    assert [one["role"] for one in body["messages"]] == ["system", "user"]
    with client_of(server, tmp_path) as client:
        assert [reply.value for reply in client.complete_many(questions(9, thinking_budget=20), "verify")] == [
            reply.value for reply in replies
        ]
    assert server.calls["chat"] == 9


def test_the_cap_holds_where_tokens_cannot_be_counted() -> None:
    """Without a way to count, the bytes of the prompt stay the bound, and it holds."""
    with OpenAIStandIn(seconds=0.02) as server:
        with pytest.raises(CapReached), client_of(server, cap=Cap(tokens=20_000), concurrency=64) as client:
            client.complete_many(questions(200), "verify")
        assert 20_000 - questions(1)[0].worst_input() - 310 < server.total <= 20_000


def test_errors_are_missing_or_mended(server: OpenAIStandIn) -> None:
    """A fifth of the calls goes wrong in every way; no verdict is wrong and Retry-After is honoured."""
    server.trouble = at_rate(0.2, ["500", "drop", "cut", "wrong", "empty"])
    with client_of(server, attempts=3) as client:
        replies = client.complete_many(questions(90), "verify")
        assert sum(client.ledger.summary()["missing"].values()) == sum(reply.missing is not None for reply in replies)
    assert server.troubles.total() > 10
    assert all(r.value is None or r.value["verdict"] == ("yes" if i % 3 == 0 else "no") for i, r in enumerate(replies))
    server.arrivals.clear()
    server.trouble = lambda number, attempt, prompt: "429" if attempt == 0 else None
    with client_of(server, concurrency=1) as client:
        assert client.complete(judge("m", "It mentions apples.", "a new text"), "x").value["verdict"] == "no"
    times = [at for at, _ in server.arrivals]
    assert times[-1] - times[-2] >= 1.0


def test_a_dead_key_is_not_shown_even_when_the_server_shows_it(
    server: OpenAIStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """Servers like to quote the key they refuse."""
    caplog.set_level(logging.DEBUG)
    dead = "my-dead-key-0123456789"
    with pytest.raises(DeadKey, match="Incorrect API key provided") as raised, client_of(server, key=dead) as client:
        client.complete_many(questions(3), "verify")
    assert dead not in str(raised.value) + caplog.text
    assert "[key]" in str(raised.value)


def test_embeddings_come_in_order(server: OpenAIStandIn) -> None:
    """Rows are put in the order of the texts by their index."""
    with client_of(server) as client:
        found = client.embed("e", ["one", "two"], "embed")
        assert client.ledger.totals().total == server.total
    np.testing.assert_allclose(found, [vector("one"), vector("two")], rtol=1e-6)


def test_an_answer_that_cannot_be_unpacked_is_asked_again(server: OpenAIStandIn) -> None:
    """A proxy's broken gzip is no trace but a call that may have been charged for."""
    server.trouble = lambda number, attempt, prompt: "garbled" if attempt == 0 else None
    with client_of(server) as client:
        assert client.complete(questions(1)[0], "x").value["verdict"] == "yes"
        found = client.ledger.summary()
    assert (found["calls"], found["uncertain_calls"], found["retries"]) == (1, 1, {"server": 1})


def test_bad_addresses() -> None:
    """Bad input: addresses that are none, and one that holds a password."""
    for address in ("localhost:8000", "http://[::1/v1", "http://host:port/v1", "http:///v1"):
        with pytest.raises(UsageError, match="http://HOST:PORT/v1"):
            OpenAICompatible(address)
    assert "secret" not in OpenAICompatible("http://me:secret@127.0.0.1:9/v1").name
