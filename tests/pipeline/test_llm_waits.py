"""No wait for a cluster's actors is without end: stand-ins for the actors, no Ray."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import ExitStack

import pytest

from saeray.errors import SaerayError
from saeray.llm import Client, Progress, Request, Stop
from saeray.pipeline import llm_actors
from saeray.pipeline.llm_actors import Actors


@pytest.fixture
def away() -> Actors:
    """Two actors that hold no copy: none is idle, none has failed."""
    found = Actors.__new__(Actors)
    found.name, found.concurrency = "m", 2
    found._model, found._holders, found._failed = "m", [object(), object()], []
    found._idle, found._stopped, found._stack = queue.Queue(), threading.Event(), ExitStack()
    return found


def test_copies_that_are_not_loaded_in_time_are_one_line(away: Actors, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that is gone for good would be waited for without end: the first load has an end, and a line."""
    released = threading.Event()
    monkeypatch.setattr(away, "_load", lambda holder: released.wait(10))
    monkeypatch.setattr(llm_actors, "LOAD_SECONDS", 0.2)
    monkeypatch.setattr(llm_actors, "_resources", lambda: "the cluster of 2 nodes has 1 GPUs (0 free)")
    with pytest.raises(SaerayError, match=r"m was not loaded by all 2 actors in 0 minutes: the cluster of 2 nodes"):
        away._load_all()
    released.set()


def test_copies_that_are_loaded_in_time_are_waited_for(away: Actors, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow is not late: the end is only there for what never comes."""
    monkeypatch.setattr(away, "_load", lambda holder: (time.sleep(0.3), away._idle.put(holder)))
    away._load_all()
    assert away._idle.qsize() == 2


def test_a_stop_while_all_actors_are_away_ends_at_once(away: Actors, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C waits for calls in flight; a call that has no actor yet is none of them."""
    monkeypatch.setattr(llm_actors, "AWAY_SECONDS", 20.0)

    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Client(away) as client:
        client.complete_many([Request("m", f"Text {i}") for i in range(5)], "verify", interrupt)
    assert time.monotonic() - began < 10
    assert client.ledger.summary()["uncertain_calls"] == 0


def test_what_waits_when_the_pool_is_closed_is_told(away: Actors, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for actors that were ended."""
    monkeypatch.setattr(llm_actors, "AWAY_SECONDS", 2.0)
    away.close()
    with pytest.raises(Stop, match="stopped"):
        away.complete(Request("m", "Text"))
