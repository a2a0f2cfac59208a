"""Batch jobs of Gemini: the same answers at half the price, and nothing is paid for twice, whatever breaks off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from llm_clients import MODEL, client_of
from stand_in import GeminiStandIn, at_rate

from saeray.llm import Cap, CapReached, Client, Progress, Request, Stop
from saeray.llm import batch as batches
from saeray.llm.batch import BatchClient
from saeray.llm.prompts import judge

#: Picodollars are exact: input and output of MODEL in a batch, dollars a token.
IN, OUT = 0.15e-6, 1.25e-6


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small jobs that are looked at often."""
    monkeypatch.setattr(batches, "LEAST", 5)
    monkeypatch.setattr(batches, "POLL_SECONDS", 0.01)


def questions(n: int) -> list[Request]:
    """n documents of which each third mentions apples."""
    return [judge(MODEL, "It mentions apples.", f"Text {i}: {'apples' if i % 3 == 0 else 'pears'}") for i in range(n)]


def truth(n: int) -> list[str]:
    """The verdicts on them."""
    return ["yes" if i % 3 == 0 else "no" for i in range(n)]


def batched(server: GeminiStandIn, store: Path | None = None, **options: Any) -> Client:
    """A client that asks in batch jobs."""
    return client_of(server, store, kind=BatchClient, **options)


def verdicts(client: Client, requests: list[Request], **options: Any) -> list[str | None]:
    """Verdicts, or why there is none."""
    return [one.missing or one.value["verdict"] for one in client.complete_many(requests, "verify", **options)]


def interrupt(progress: Progress) -> None:
    """A user who stops it."""
    raise KeyboardInterrupt


def submitted(server: GeminiStandIn) -> int:
    return sum(len(job["requests"]) for job in server.batches.values())


def test_a_job_gives_the_same_replies_at_half_the_price(server: GeminiStandIn, tmp_path: Path) -> None:
    """Batches are the cheap way to the same answers, and what they gave is in the cache like any other."""
    asked = questions(12)
    with client_of(server) as client:
        whole = client.complete_many(asked, "verify")
        price = client.ledger.summary()["dollars"]
    server.calls.clear()
    server.tokens.clear()
    with batched(server, tmp_path) as client:
        replies = client.complete_many(asked, "verify")
        paid = client.ledger.summary()
    assert [one.value for one in replies] == [one.value for one in whole]
    assert all(one.batch and not one.cached for one in replies)
    assert server.calls["generateContent"] == 0
    assert paid["dollars"] == pytest.approx(server.tokens["in"] * IN + server.tokens["out"] * OUT, rel=1e-12)
    assert paid["dollars"] == pytest.approx(price / 2, rel=1e-12)
    assert (paid["calls"], paid["batched"], paid["cached"]) == (12, 12, 0)
    calls = server.calls.copy()
    for again in (client_of(server, tmp_path), batched(server, tmp_path)):
        with again:
            assert verdicts(again, asked) == truth(12)
            assert again.ledger.summary()["saved_dollars"] == paid["dollars"]
            assert (again.ledger.summary()["calls"], again.ledger.summary()["cached"]) == (0, 12)
    assert server.calls == calls


def test_a_few_requests_are_asked_at_once(server: GeminiStandIn) -> None:
    """Nobody waits a day for two cents."""
    with batched(server) as client:
        assert verdicts(client, questions(4)) == truth(4)
        assert client.ledger.summary()["batched"] == 0
    assert not server.batches


def test_equal_requests_are_in_a_job_once(server: GeminiStandIn) -> None:
    """As of any client: the second has the answer of the first for nothing."""
    with batched(server) as client:
        assert verdicts(client, questions(6) + questions(3)) == truth(6) + truth(3)
        found = client.ledger.summary()
    assert (found["calls"], found["cached"], submitted(server)) == (6, 3, 6)


def test_a_killed_run_finds_its_job_again(server: GeminiStandIn, tmp_path: Path) -> None:
    """A job that was submitted is never submitted, and paid for, a second time."""
    server.batch_polls = 1_000_000
    with pytest.raises(KeyboardInterrupt), batched(server, tmp_path) as client:
        client.complete_many(
            questions(6), "verify", lambda progress: interrupt(progress) if server.calls["batches.get"] else None
        )
    server.batch_polls = 1
    with batched(server, tmp_path) as client:
        assert verdicts(client, questions(6)) == truth(6)
        assert client.ledger.totals().total == server.total
    assert (server.calls["batchGenerateContent"], server.calls["generateContent"]) == (1, 0)


def test_a_run_killed_between_two_jobs_cuts_them_alike(
    server: GeminiStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One job is in the cache but for a request that it could not answer: the other is still the same job."""
    monkeypatch.setattr(batches, "MOST_REQUESTS", 6)
    server.trouble = lambda number, attempt, prompt: "cut" if attempt == 0 and "Text 2" in prompt else None
    server.pending = {"batches/job1"}
    with pytest.raises(KeyboardInterrupt), batched(server, tmp_path) as client:
        client.complete_many(questions(12), "verify", lambda progress: interrupt(progress) if progress.done else None)
    first = client.ledger.totals().total
    assert submitted(server) == 12
    server.pending.clear()
    with batched(server, tmp_path) as client:
        assert verdicts(client, questions(12)) == truth(12)
        assert first + client.ledger.totals().total == server.total
        assert sum(client.ledger.summary()["retries"].values()) <= 1
    assert submitted(server) == 12
    assert server.calls["generateContent"] == 1


def test_what_a_job_could_not_answer_is_asked_one_by_one(server: GeminiStandIn) -> None:
    """Errors inside a job cost a call each, and every token of both ways is on the ledger."""
    server.trouble = lambda number, attempt, prompt: (
        {"1": "500", "2": "cut"}.get(prompt.split("Text ")[1][0]) if attempt == 0 else None
    )
    with batched(server) as client:
        assert verdicts(client, questions(5)) == truth(5)
        assert client.ledger.totals().total == server.total
        assert client.ledger.summary()["retries"] == {"batch": 1, "cut": 1}
    assert server.calls["generateContent"] == 2


def test_errors_in_a_job_are_missing_after_all(server: GeminiStandIn) -> None:
    """A document that no way answers stays missing."""
    server.trouble = at_rate(1.0, ["500"], only=lambda prompt: "Text 4" in prompt)
    with batched(server, attempts=2) as client:
        assert verdicts(client, questions(5)) == [*truth(4), "server"]


def test_a_job_keeps_the_cap(server: GeminiStandIn) -> None:
    """A whole job is set aside before it is handed over; the service's count is asked when the bytes do not fit."""
    asked = questions(10)
    tight = sum((len(one.system + one.prompt) + 200) // 4 + 128 + 300 for one in asked) + 600
    with batched(server, cap=Cap(tokens=tight)) as client:
        assert sum(one.worst_input() + 300 for one in asked) > tight
        assert None not in verdicts(client, asked)
    assert server.calls["countTokens"] == 10
    with pytest.raises(CapReached), batched(server, cap=Cap(tokens=1000)) as client:
        verdicts(client, questions(9))
    assert server.calls["batchGenerateContent"] == 1


def test_a_job_that_the_cap_has_no_room_for_waits_for_the_one_before(
    server: GeminiStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs cost far less than their worst case, so the second fits once the first has given the rest back."""
    monkeypatch.setattr(batches, "MOST_REQUESTS", 5)
    asked = questions(10)
    worst = sum(one.worst_input() + one.output_limit for one in asked[:5])
    with batched(server, cap=Cap(tokens=worst + worst // 2)) as client:
        assert verdicts(client, asked) == truth(10)
    assert (server.calls["batchGenerateContent"], server.calls["countTokens"]) == (2, 0)


def test_an_outage_costs_no_job_and_submits_none_twice(server: GeminiStandIn) -> None:
    """A submission whose answer was lost has arrived; a service that is away for a while is waited for."""
    server.batch_troubles = ["503", "drop", "503", "503"]
    with batched(server) as client:
        assert verdicts(client, questions(6)) == truth(6)
    assert len(server.batches) == 1
    assert not server.batch_troubles
    server.batch_troubles = ["503"] * 1000
    with pytest.raises(Stop, match="does not answer about a batch job"), batched(server, patience=0.2) as client:
        verdicts(client, questions(7))


def test_a_job_that_failed_is_one_line_and_is_submitted_anew(server: GeminiStandIn) -> None:
    """A dead job has answered nothing; the next run does not wait for it."""
    server.failed = {"batches/job0"}
    with pytest.raises(Stop, match="batch job batches/job0 failed"), batched(server) as client:
        verdicts(client, questions(6))
    with batched(server) as client:
        assert verdicts(client, questions(6)) == truth(6)
    assert len(server.batches) == 2


def test_a_job_that_is_not_waited_for_is_on_the_ledger_at_its_worst(server: GeminiStandIn, tmp_path: Path) -> None:
    """It is worked on and charged for, so a stop is no run of 0 dollars; the rerun that takes it books it once."""
    server.batch_polls = 1_000_000
    asked = questions(6)
    with pytest.raises(KeyboardInterrupt), batched(server, tmp_path) as client:
        client.complete_many(
            asked, "verify", lambda progress: interrupt(progress) if server.calls["batches.get"] else None
        )
    left = client.ledger.summary()
    read, written = sum(one.worst_input() for one in asked), sum(one.output_limit for one in asked)
    assert (left["calls"], left["uncertain_calls"], left["uncertain_tokens"]) == (0, 6, read + written)
    assert left["uncertain_dollars"] == pytest.approx(read * IN + written * OUT, rel=1e-12)
    assert client.sender.budget._spent == (read + written, round(left["uncertain_dollars"] * 1e12))
    server.batch_polls = 1
    with batched(server, tmp_path) as client:
        assert verdicts(client, asked) == truth(6)
        found = client.ledger.summary()
    assert (found["calls"], found["uncertain_calls"], len(server.batches)) == (6, 0, 1)


def test_a_job_that_was_never_handed_over_costs_nothing(server: GeminiStandIn) -> None:
    """A service that is away has no job; one that dropped the line may have it."""
    for troubles, calls in ((["503"] * 1000, 0), (["503", "drop"], 6)):
        server.batch_troubles, server.pending = list(troubles), {"batches/job0"}
        with pytest.raises(Stop), batched(server, patience=0.2) as client:
            client.complete_many(questions(6), "verify", lambda _, one=client: stop_when_there(server, one))
        assert client.ledger.summary()["uncertain_calls"] == calls


@pytest.mark.parametrize("empty", [1, 2])
def test_a_rerun_goes_on_after_jobs_that_are_done_and_empty(server: GeminiStandIn, tmp_path: Path, empty: int) -> None:
    """Each is one line, and nobody pays twice the price without being told; the next run sends a job of its own, though
    the service still lists the empty ones as done, and a run after that finds the answers.
    """
    server.hollow = {f"batches/job{i}" for i in range(empty)}
    asked = questions(6)
    for i in range(empty):
        line = f"the batch job batches/job{i} failed .it is done and holds no answers.: run the same again for a new"
        with pytest.raises(Stop, match=line), batched(server, tmp_path) as client:
            verdicts(client, asked)
        left = client.ledger.summary()
        assert (left["calls"], left["uncertain_calls"]) == (0, 6)
    with batched(server, tmp_path) as client:
        assert verdicts(client, asked) == truth(6)
        found = client.ledger.summary()
    assert (found["calls"], found["batched"], found["uncertain_calls"]) == (6, 6, 0)
    assert found["dollars"] == pytest.approx(server.tokens["in"] * IN + server.tokens["out"] * OUT, rel=1e-12)
    assert len({job["name"] for job in server.batches.values()}) == len(server.batches) == empty + 1
    with batched(server, tmp_path) as client:
        assert verdicts(client, asked) == truth(6)
        assert (client.ledger.summary()["calls"], client.ledger.summary()["cached"]) == (0, 6)
    assert (len(server.batches), server.calls["generateContent"]) == (empty + 1, 0)


def test_the_job_after_an_empty_one_is_found_again(server: GeminiStandIn, tmp_path: Path) -> None:
    """Its name, too, follows from the requests and the store: a run that is killed while it is worked on pays once."""
    server.hollow = {"batches/job0"}
    with pytest.raises(Stop, match="no answers"), batched(server, tmp_path) as client:
        verdicts(client, questions(6))
    server.pending = {"batches/job1"}
    seen = server.calls["batches.get"]
    with pytest.raises(KeyboardInterrupt), batched(server, tmp_path) as client:
        client.complete_many(
            questions(6), "verify", lambda one: interrupt(one) if server.calls["batches.get"] > seen else None
        )
    server.pending.clear()
    with batched(server, tmp_path) as client:
        assert verdicts(client, questions(6)) == truth(6)
        assert client.ledger.totals().total == server.total
    assert (len(server.batches), server.calls["generateContent"]) == (2, 0)


def stop_when_there(server: GeminiStandIn, client: Client) -> None:
    """A user who stops it once the service has the job."""
    if server.batches:
        client.sender.end(Stop("stopped"))
