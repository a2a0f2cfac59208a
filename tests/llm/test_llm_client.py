"""The whole path, from requests to replies, against a server that speaks the real Gemini API."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest
from llm_clients import MODEL, client_of
from stand_in import GeminiStandIn, at_rate, keyword_judge

from saeray.errors import SaerayError, UsageError
from saeray.llm import Cap, CapReached, DeadKey, Request, Stop
from saeray.llm.base import Usage
from saeray.llm.prices import PICO, prices
from saeray.llm.prompts import judge


def questions(n: int, every: int = 3, **options: object) -> list[Request]:
    """n documents of which each `every`th mentions apples."""
    texts = [f"Document {i} is about {'apples' if i % every == 0 else 'pears'}." for i in range(n)]
    return [judge(MODEL, "The text mentions apples.", text, **options) for text in texts]


def money(server: GeminiStandIn) -> float:
    """What the stand-in's own count of tokens costs, by the published prices written out here."""
    counts = server.tokens
    return counts["in"] * 0.30e-6 + (counts["out"] + counts["thinking"]) * 2.50e-6


def test_ledger_equals_the_servers_own_count(server: GeminiStandIn) -> None:
    """Known cost: every token and every dollar that the service counts is on the ledger, by stage."""
    server.thinks = 9
    with client_of(server) as client:
        replies = client.complete_many(questions(30, thinking_budget=100), "verify")
        client.complete_many(questions(5, every=1), "repeat")
        summary = client.ledger.summary()
    assert [reply.value["verdict"] for reply in replies] == ["yes" if i % 3 == 0 else "no" for i in range(30)]
    assert summary["calls"] == server.calls["generateContent"] == 35
    assert summary["tokens_in"] == server.tokens["in"]
    assert summary["tokens_out"] == server.tokens["out"]
    assert summary["tokens_thinking"] == server.tokens["thinking"] > 0
    assert summary["dollars"] == pytest.approx(money(server), rel=1e-12)
    assert [(row["stage"], row["calls"]) for row in summary["stages"]] == [("repeat", 5), ("verify", 30)]


def test_the_cap_holds_with_64_requests_in_flight() -> None:
    """Known cost: what is in flight can never add up to more than the cap, and what was paid for is kept."""
    limit = 120_000
    with GeminiStandIn(seconds=0.15) as server:
        server.thinks, server.gather = 60, 56
        client = client_of(server, concurrency=64, cap=Cap(tokens=limit))
        with pytest.raises(CapReached, match="cap of") as raised, client:
            client.complete_many(questions(450, thinking_budget=60), "verify")
        worst = 850  # of one call, by the service's own count of its input
        assert limit - worst < server.total <= limit, "it stops before the call that would pass it, not long before"
        assert 56 <= server.most_in_flight <= 64
        assert "\n" not in str(raised.value)
        assert client.ledger.totals().total == server.total
        assert len(client.cache) == client.ledger.summary()["calls"]


@pytest.mark.parametrize("kind", ["tokens", "money"])
def test_the_cap_holds_when_every_reply_costs_all_it_may(kind: str) -> None:
    """Thoughts and answers at their limits: a worst case that left any of them out would pass the cap."""
    asked = [Request(MODEL, f"Tell story {i}.", max_output_tokens=2000, thinking_budget=1000) for i in range(100)]
    cap = Cap(tokens=40_000) if kind == "tokens" else Cap(money=0.1)
    with GeminiStandIn(lambda system, prompt, schema: "x" * 100_000, seconds=0.05) as server:
        server.thinks = 1000
        with pytest.raises(CapReached), client_of(server, concurrency=64, cap=cap) as client:
            client.complete_many(asked, "stories")
        assert server.total / server.calls["generateContent"] > 3000
        spent, limit = (server.total, 40_000) if kind == "tokens" else (money(server), 0.1)
        assert 0.9 * limit < spent <= limit
        assert server.most_in_flight > 5


def test_nothing_is_sent_when_the_first_call_could_pass_the_cap(server: GeminiStandIn) -> None:
    """A cap of nothing spends nothing."""
    with pytest.raises(CapReached), client_of(server, cap=Cap(money=0.0)) as client:
        client.complete_many(questions(3), "verify")
    assert server.calls["generateContent"] == 0


def test_a_cap_in_dollars_needs_a_price(server: GeminiStandIn) -> None:
    """An unknown price is said, never guessed."""
    request = Request("unpriced", "hello")
    with pytest.raises(UsageError, match="unknown"), client_of(server, cap=Cap(money=1.0)) as client:
        client.complete(request, "x")
    assert server.calls["generateContent"] == 0
    server.rule = lambda system, prompt, schema: "hello"
    with client_of(server, cap=Cap(tokens=10_000)) as client:
        client.complete(request, "x")
        summary = client.ledger.summary()
    assert summary["dollars"] is None
    assert summary["price_unknown"] == ["unpriced"]


def test_a_rerun_is_free(server: GeminiStandIn, tmp_path: Path) -> None:
    """The same run again makes no call, gives the same replies, and says what they once cost."""
    server.trouble = at_rate(0.3, ["cut", "wrong"])
    asked = questions(40)
    with client_of(server, tmp_path) as client:
        first = client.complete_many(asked, "verify")
        paid = client.ledger.summary()
    calls = sum(server.calls.values())
    with client_of(server, tmp_path) as client:
        again = client.complete_many(asked, "verify")
        summary = client.ledger.summary()
    assert sum(server.calls.values()) == calls
    assert [(a.value, a.missing, a.detail, a.usage) for a in again] == [
        (f.value, f.missing, f.detail, f.usage) for f in first
    ]
    assert all(reply.cached for reply in again)
    assert (summary["calls"], summary["dollars"], summary["cached"]) == (0, 0, 40)
    assert summary["saved_tokens"] == server.total
    assert summary["saved_dollars"] == paid["dollars"]
    assert summary["missing"] == paid["missing"] != {}


def test_missing_replies_are_asked_again_when_told_to(server: GeminiStandIn, tmp_path: Path) -> None:
    """A rerun may try the unusable replies once more, and only those."""
    server.trouble = lambda number, attempt, prompt: "wrong" if "Document 3 " in prompt and attempt < 2 else None
    with client_of(server, tmp_path) as client:
        assert client.complete_many(questions(5), "verify")[3].missing == "wrong schema"
    calls = server.calls["generateContent"]
    with client_of(server, tmp_path, ask_again=True) as client:
        assert client.complete_many(questions(5), "verify")[3].value["verdict"] == "yes"
    assert server.calls["generateContent"] == calls + 1


def test_equal_requests_are_asked_once(server: GeminiStandIn) -> None:
    """The same question twice, at once or one after the other, is paid for once; another sample of it is not it."""
    with GeminiStandIn(seconds=0.05) as server, client_of(server) as client:
        one = questions(1)[0]
        replies = client.complete_many([one] * 20, "verify")
        client.complete(one, "verify")
        assert server.calls["generateContent"] == 1
        assert sum(not reply.cached for reply in replies) == 1
        assert client.ledger.summary()["cached"] == 20
        assert client.ledger.summary()["saved_tokens"] == 0
        client.complete(questions(1, sample=1)[0], "verify")
        assert server.calls["generateContent"] == 2


def test_429_waits_as_long_as_the_server_says(server: GeminiStandIn) -> None:
    """A server's delay is honoured by all requests, not only by the one that was refused."""
    server.trouble = lambda number, attempt, prompt: "429" if number == 0 else None
    server.retry_delay = "0.5s"
    with client_of(server, concurrency=1) as client:
        replies = client.complete_many(questions(3), "verify")
        summary = client.ledger.summary()
    times = [at for at, _ in server.arrivals]
    assert times[1] - times[0] >= 0.5
    assert len(times) == 4
    assert all(reply.value for reply in replies)
    assert summary["retries"] == {"rate limit": 1}
    assert summary["calls"] == 3


def test_a_pause_holds_every_thread(server: GeminiStandIn) -> None:
    """While the server wants quiet, requests that were not refused wait too."""
    first = threading.Event()

    def trouble(number: int, attempt: int, prompt: str) -> str | None:
        return None if first.is_set() else first.set() or "429"

    server.trouble, server.retry_delay = trouble, "1.2s"
    with client_of(server, concurrency=2) as client:
        client.complete_many(questions(12), "verify")
    refused = server.arrivals[0][0]
    within = [
        at for at, _ in server.arrivals if refused + 0.7 < at < refused + 1.2
    ]  # those sent before arrive until then
    assert within == []


def test_a_quota_for_the_day_stops_the_run(server: GeminiStandIn) -> None:
    """A wait of hours is not waited."""
    server.trouble = lambda number, attempt, prompt: "429"
    server.retry_delay = "20000s"
    with pytest.raises(Stop, match="quota is used up"), client_of(server) as client:
        client.complete_many(questions(4), "verify")


def test_a_dead_key_stops_with_one_line_that_does_not_hold_it(
    server: GeminiStandIn, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A key never appears: not in the message, the chain of exceptions, logs at any level, output or the store."""
    server.key = "AIzaTheGoodKey"
    dead = "AIzaSyDeadDeadDeadDeadDeadDeadDeadDead12"
    caplog.set_level(logging.DEBUG)
    client = client_of(server, tmp_path)
    client.complete_many(questions(2), "verify")
    client.close()
    server.key = dead
    client = client_of(server, tmp_path)
    server.key = "AIzaTheGoodKey"
    with pytest.raises(DeadKey) as raised, client:
        client.complete_many(questions(50), "verify")
    said = str(raised.value)
    assert "refuses the key" in said
    assert "\n" not in said
    assert len(said) < 250
    error: BaseException | None = raised.value
    while error is not None:
        assert dead not in repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert dead not in caplog.text + "".join(capfd.readouterr()) + repr(client.__dict__) + repr(client.backend)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(dead.encode() in path.read_bytes() or b"AIza" in path.read_bytes() for path in files)
    assert len(client.cache) == 2, "what was paid for is kept"


def test_no_key_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, server: GeminiStandIn) -> None:
    """Bad input: no credentials."""
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    server.key = ""
    with pytest.raises(SaerayError, match="set GEMINI_API_KEY"):
        client_of(server)


@pytest.mark.parametrize(
    ("trouble", "missing"), [("cut", "cut"), ("wrong", "wrong schema"), ("empty", "empty"), ("blocked", "blocked")]
)
def test_an_unusable_reply_is_missing_with_its_reason(server: GeminiStandIn, trouble: str, missing: str) -> None:
    """A reply that does not parse is never taken for a no: one more try, then missing, and both tries are paid for."""
    server.trouble = lambda number, attempt, prompt: trouble if "Document 1 " in prompt else None
    with client_of(server) as client:
        replies = client.complete_many(questions(4), "verify")
        summary = client.ledger.summary()
    assert [reply.missing for reply in replies] == [None, missing, None, None]
    assert replies[1].value is None
    assert summary["missing"] == {missing: 1}
    assert server.troubles[trouble] == (1 if trouble == "blocked" else 2)
    assert client.ledger.totals().total == server.total
    if trouble != "blocked":
        assert replies[1].usage.tokens_in == 2 * replies[2].usage.tokens_in, "a reply knows what all its tries cost"


def test_one_bad_reply_is_mended_by_the_second_try(server: GeminiStandIn) -> None:
    """A slip of the service costs a call, not a document."""
    server.trouble = lambda number, attempt, prompt: "cut" if attempt == 0 else None
    with client_of(server) as client:
        assert all(reply.value for reply in client.complete_many(questions(6), "verify"))
        assert client.ledger.summary()["retries"] == {"cut": 6}
        assert client.ledger.totals().total == server.total


def test_errors_at_20_percent_change_no_verdict(server: GeminiStandIn) -> None:
    """With errors of every kind on a fifth of the calls each document has the true verdict or none."""
    server.trouble = at_rate(0.2, ["429", "500", "drop", "cut", "wrong"])
    server.retry_delay = "0.01s"
    with client_of(server, attempts=3, patience=5.0) as client:
        replies = client.complete_many(questions(120), "verify")
        summary = client.ledger.summary()
    for i, reply in enumerate(replies):
        assert (reply.value is None) == (reply.missing is not None)
        assert reply.value is None or reply.value["verdict"] == ("yes" if i % 3 == 0 else "no")
    assert sum(server.troubles.values()) > 10
    assert sum(summary["missing"].values()) == sum(reply.missing is not None for reply in replies)
    answered = server.calls["generateContent"] - sum(server.troubles[kind] for kind in ("429", "500", "drop"))
    assert summary["calls"] == answered
    assert summary["uncertain_calls"] == server.troubles["drop"]


def test_a_timeout_is_booked_at_its_worst(server: GeminiStandIn) -> None:
    """A call that broke off may have been charged for: the cap counts it, and the ledger says that it is not known."""
    server.trouble = lambda number, attempt, prompt: "timeout" if attempt == 0 and "Document 0 " in prompt else None
    with client_of(server, timeout=1.5) as client:
        replies = client.complete_many(questions(3), "verify")
        summary = client.ledger.summary()
    assert replies[0].value == {"reason": "the word is there", "verdict": "yes"}
    assert summary["uncertain_calls"] == 1
    known = client.ledger.totals().total
    assert known < server.total <= known + summary["uncertain_tokens"]


def test_one_request_that_fails_is_missing_and_a_service_that_is_away_stops(server: GeminiStandIn) -> None:
    """A document is not worth a run; a service that answers nothing is not asked ten thousand times."""
    server.trouble = lambda number, attempt, prompt: "500" if "Document 1 " in prompt else None
    with client_of(server, attempts=2) as client:
        replies = client.complete_many(questions(3), "verify")
    assert [reply.missing for reply in replies] == [None, "server", None]
    assert "500" in replies[1].detail
    server.trouble = lambda number, attempt, prompt: "500"
    with pytest.raises(Stop, match="one after another"), client_of(server, attempts=1) as client:
        client.complete_many(questions(500), "verify")
    assert server.calls["generateContent"] < 4 + 80


def test_an_unknown_model_is_named(server: GeminiStandIn) -> None:
    """Bad input: a model that is not there stops at once."""
    with pytest.raises(Stop, match="no model gemini-9"), client_of(server) as client:
        client.complete(Request("gemini-9", "hello"), "x")


def test_an_interrupted_run_keeps_what_was_paid_for(server: GeminiStandIn, tmp_path: Path) -> None:
    """Control-C costs nothing that was paid for: the next run asks only what is left."""

    def interrupt(progress: object) -> None:
        if server.calls["generateContent"] >= 10:
            raise KeyboardInterrupt

    server.seconds = 0.03
    with pytest.raises(KeyboardInterrupt), client_of(server, tmp_path, concurrency=4) as client:
        client.complete_many(questions(60), "verify", on_progress=interrupt)
    done = server.calls["generateContent"]
    assert done < 60
    with client_of(server, tmp_path) as client:
        client.complete_many(questions(60), "verify")
        assert client.ledger.summary()["cached"] == done
    assert server.calls["generateContent"] == 60


def test_requests_a_minute(server: GeminiStandIn) -> None:
    """A rate limit is kept from the first request on, without bursts."""
    began = time.monotonic()
    with client_of(server, requests_per_minute=1200) as client:
        client.complete_many(questions(9), "verify")
    assert max(at for at, _ in server.arrivals) - began >= 8 * 60 / 1200 - 0.01


def test_the_ledgers_money_is_exact() -> None:
    """Sums of money are whole picodollars: the same in any order of threads."""
    price = prices().of(MODEL)
    assert price is not None
    assert price.cost(Usage(1_000_000, 400_000, 600_000)) == round(2.80 * PICO)
    long = prices().of("gemini-2.5-pro")
    assert long is not None
    assert long.cost(Usage(200_001, 10)) == 200_001 * 2_500_000 + 10 * 15_000_000
    assert long.worst(Usage(200_001, 10)) == long.cost(Usage(200_001, 10)) > long.cost(Usage(200_000, 10))


def test_the_stand_in_knows_the_truth() -> None:
    """The rule that other tests take for the truth is what it says."""
    assert keyword_judge(
        "", judge(MODEL, "Mentions apples.", "Apples fall").prompt, {"properties": {"verdict": {}}}
    ) == {"verdict": "yes"}
