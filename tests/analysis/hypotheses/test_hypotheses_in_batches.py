"""Promises of hypotheses in batch jobs: a job a round, everything read at once, half the price, said beforehand."""

from __future__ import annotations

import pytest
from clerk import clerk
from llm_clients import client_of
from stand_in import GeminiStandIn
from test_run_hypotheses import ASKED, result, worked

from saeray.analysis.diff.result import DiffResult
from saeray.analysis.hypotheses.cost import told
from saeray.llm import Client
from saeray.llm import batch as batches
from saeray.llm.batch import BatchClient

__all__ = ["result"]
#: Documents enough for a job, and of a judge that may stop early.
MANY = ASKED.model_copy(update={"early": True})


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(batches, "LEAST", 6)


def test_a_run_in_batches_is_the_run_that_reads_everything(result: DiffResult) -> None:
    """The statements and verdicts of single calls without early stopping; each round is one job, half the price, and
    every token is the service's."""
    lines: list[str] = []
    with GeminiStandIn(clerk) as server, client_of(server) as client:
        single = worked(result, client, ASKED, told=lines.append)
    with GeminiStandIn(clerk) as server, client_of(server, kind=BatchClient) as client:
        found = worked(result, client, MANY, told=lines.append)
        assert client.ledger.totals().total == server.total == found.cost["tokens"]
        calls = {row["stage"]: (row["calls"], row["batched"]) for row in found.cost["stages"]}
    assert found.methods[0].hypotheses == single.methods[0].hypotheses
    assert found.methods[0].verification == single.methods[0].verification
    assert all(one.saved_calls == 0 for one in found.methods[0].verification.verified)
    assert all(batched in (0, calls) for calls, batched in calls.values())
    assert calls["verify"][1] == calls["verify"][0]
    assert calls["propose"][1] == 0, "two requests are not waited for"
    whole = {row["stage"]: row["dollars"] for row in single.cost["stages"]}
    for row in found.cost["stages"]:
        share = 0.5 if row["batched"] else 1.0
        assert row["dollars"] == pytest.approx(share * whole[row["stage"]], rel=1e-12)
    assert found.methods[0].cost["all_dollars"] == pytest.approx(found.cost["dollars"], rel=1e-12)
    assert f"{found.cost['batched']} of the calls in batch jobs" in told(found.cost)
    assert len(server.batches) == 3, "labels are scored a direction at a time, all statements are verified in one"


def test_the_estimate_is_at_the_price_of_batches_and_says_what_they_mean(result: DiffResult) -> None:
    """A user decides by it."""
    lines: list[str] = []
    config = MANY.model_copy(update={"documents": None})
    with GeminiStandIn(clerk) as server:
        for kind in (Client, BatchClient):
            with client_of(server, kind=kind) as client:
                worked(result, client, config, told=lines.append)
    single, batched = (float(line.split("some ")[1].split(" dollars")[0]) for line in lines)
    assert single / 2 <= batched < single
    assert "6 calls or more at once go as batch jobs" in lines[1]
    assert "nothing is stopped early" in lines[1]
    assert "batch" not in lines[0]
