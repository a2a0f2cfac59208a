"""Guards `saeray labels llm --llm-batch`: the labels of single calls at half their price, in three jobs however many
latents there are, and nothing paid for twice by a run that is killed and run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from stand_in import GeminiStandIn, keyword_judge
from test_labels_llm_cli import FEW, invoke, made, store, told
from typer.testing import Result

from saeray.labels import LabelStore
from saeray.llm import batch as batches
from saeray.store import Store

__all__ = ["invoke", "made", "store"]
TEN = "0,1,2,3,4,5,6,7,8,9"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(batches, "LEAST", 10)


def rule(system: str, prompt: str, schema: Any) -> Any:
    """Labels by the length of the prompt and judges by the last word: the same in whatever order it is asked."""
    if "label" not in schema["properties"]:
        return keyword_judge(system, prompt, schema)
    return {"reason": "so it seems", "label": ("the word river", "the word table")[len(prompt) % 2], "clear": True}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[GeminiStandIn]:
    """A stand-in of that rule, named by the environment."""
    with GeminiStandIn(rule) as running:
        monkeypatch.setenv("GEMINI_API_KEY", running.key)
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", running.url)
        yield running


def found_of(result: dict[str, Any]) -> list[Any]:
    return [{name: one[name] for name in ("latent", "label", "score", "before", "kept")} for one in result["results"]]


def forget(store: Store, *more: str) -> None:
    """Takes the cache and the labels of earlier runs away."""
    for name in (store.root / "llm" / "cache").names():
        (store.root / "llm" / "cache" / name).delete()
    (store.root / "labels" / "llm.parquet").delete()


def test_the_same_labels_at_half_the_price(store: Store, server: GeminiStandIn, invoke: Callable[..., Result]) -> None:
    """All latents in one job a round, the ledger is the service's count, and what it costs is said first."""
    single = told(invoke("--latents", TEN))
    labels = LabelStore.of(store).table("llm").to_pylist()
    assert server.calls["generateContent"] == single["cost"]["calls"]
    forget(store)
    server.calls.clear()
    server.tokens.clear()
    result = invoke("--latents", TEN, "--llm-batch")
    found = told(result)
    assert "in three rounds of batch jobs at 0.5 of the price, each of up to a day" in result.stderr
    assert found_of(found) == found_of(single)
    assert LabelStore.of(store).table("llm").to_pylist() == labels
    cost = found["cost"]
    assert server.calls["batchGenerateContent"] == 2, "no two candidates to choose from: labels, then their scores"
    assert server.calls["generateContent"] == 0
    assert cost["calls"] == cost["batched"] == single["cost"]["calls"]
    assert cost["tokens_in"] + cost["tokens_out"] + cost["tokens_thinking"] == server.total
    assert cost["dollars"] == pytest.approx(single["cost"]["dollars"] / 2, rel=1e-12)


def test_killed_and_run_again_it_finds_its_job(
    store: Store, server: GeminiStandIn, invoke: Callable[..., Result]
) -> None:
    """A real process, killed while its job is worked on; the second run pays for nothing that the first has handed
    over, and the service has worked once on each request."""
    server.batch_polls = 1_000_000
    named = ["labels", "llm", "toy", "--store", store.uri, "--llm", "gemini:gemini-2.5-flash", *FEW]
    code = (
        "import sys; from saeray.llm import batch; from saeray.labels.cli import labels_app\n"
        "batch.LEAST, batch.POLL_SECONDS = 10, 0.01; labels_app(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *named[1:], "--latents", TEN, "--llm-batch"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not server.calls["batches.get"] and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    _, said = process.communicate()
    assert "the batch job batches/job0 of 16 calls is handed over; stop at will" in said
    server.batch_polls = 1
    result = invoke("--latents", TEN, "--llm-batch")
    found = told(result)
    asked = [one["metadata"]["key"] for job in server.batches.values() for one in job["requests"]]
    assert len(asked) == len(set(asked)) == found["cost"]["calls"]
    cost = found["cost"]
    assert cost["tokens_in"] + cost["tokens_out"] + cost["tokens_thinking"] == server.total
    assert server.calls["generateContent"] == 0


def test_who_takes_no_batches_says_so(store: Store, server: GeminiStandIn, invoke: Callable[..., Result]) -> None:
    """One line, and nothing is loaded or sent."""
    result = invoke("--latents", "0", "--llm", "local:smollm2-135m", "--llm-batch")
    assert result.exit_code == 2
    assert "local: takes no batch jobs" in result.stdout
    assert not server.calls
