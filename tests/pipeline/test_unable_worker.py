"""Promise: a worker that cannot load its encoder ends a run in which none can, and costs little one in which others do.

Ray is stood in for: its calls return what the real Attempts does.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from saeray.errors import ChangedFiles, DeviceLost, SaerayError
from saeray.pipeline import stages
from saeray.pipeline.attempts import MOST_ATTEMPTS, Attempts


class Left(BaseException):
    """The process has ended."""


def worker(monkeypatch: pytest.MonkeyPatch, error: Exception, attempts: Attempts, slept: list[float]) -> Any:
    """An actor whose encoder failed to load with `error`."""

    def fail(*_: Any, **__: Any) -> None:
        raise error

    def leave(_: int) -> None:
        raise Left

    monkeypatch.setattr("saeray.description.claimed_encoder", fail)
    monkeypatch.setattr(stages, "_claimed", lambda *_: {})
    monkeypatch.setattr(stages, "_dataset", lambda *_: (None, {}))
    monkeypatch.setattr(stages.EncoderConfig, "model_validate_json", lambda text: None)
    monkeypatch.setattr(stages.time, "sleep", slept.append)
    monkeypatch.setattr(stages.os, "_exit", leave)
    monkeypatch.setattr(stages.ray, "get", lambda value: value)
    monkeypatch.setattr(stages.ray, "get_gpu_ids", lambda: [3])
    monkeypatch.setattr(stages.ray.util, "get_node_ip_address", lambda: "10.0.0.1")
    names = ("begin", "leave", "finish", "any_finished")
    remote = SimpleNamespace(**{name: SimpleNamespace(remote=getattr(attempts, name)) for name in names})
    return stages.Encode("store", "dataset", "run", "encoder", "cuda", None, remote)


def test_a_refusal_ends_a_run_in_which_nothing_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once and in its own words: no worker would get further."""
    slept: list[float] = []
    one = worker(monkeypatch, SaerayError("no such GPU"), Attempts(), slept)
    assert one._encode({"shard": 7}) == {"shard": 7, "error": "no such GPU", "fatal": True}
    assert slept == []


def test_changed_files_end_a_run_whatever_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once and with the node's address: a new worker there would find the same files, shard after shard."""
    attempts, slept = Attempts(), list[float]()
    attempts.begin(1)
    attempts.finish(1)
    one = worker(monkeypatch, ChangedFiles("config.json is not what it was"), attempts, slept)
    for _ in range(2):
        [row] = one(pa.table({"shard": [7]})).to_pylist()
        assert row["error"] == "config.json is not what it was (node 10.0.0.1, GPU 3)"
        assert row["fatal"]
    assert slept == []


@pytest.mark.parametrize(
    ("error", "done"), [(SaerayError("x"), True), (DeviceLost("x"), True), (DeviceLost("x"), False)]
)
def test_a_worker_that_cannot_leaves_its_shard_to_others(
    monkeypatch: pytest.MonkeyPatch, error: Exception, done: bool
) -> None:
    """It waits, or it would use up every shard's attempts while the others encode; what it said goes with the shard,
    which is given up in the end.
    """
    attempts, slept = Attempts(), list[float]()
    if done:
        attempts.begin(1)
        attempts.finish(1)
    one = worker(monkeypatch, error, attempts, slept)
    for _ in range(MOST_ATTEMPTS):
        with pytest.raises(Left):
            one._encode({"shard": 7})
    assert slept == [stages.WAIT_SECONDS] * MOST_ATTEMPTS
    with pytest.raises(SaerayError, match=r"because x \(node 10\.0\.0\.1, GPU 3\)"):
        one._encode({"shard": 7})
