"""A model that Ray actors hold, asked like any other: the same answers as in one process, through the death of an actor
too, and a line where it cannot be had. Tiny and random; one Ray for all of it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from clusters import quiet_ray
from tiny import make_reader_dir

from saeray.errors import SaerayError, UsageError
from saeray.llm import Client, LLMConfig, Progress, Request, Stop, connect
from saeray.llm.local import Local
from saeray.llm.prompts import judge
from saeray.pipeline import llm_actors
from saeray.pipeline.llm_actors import Actors


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole tiny Llama."""
    return make_reader_dir(tmp_path_factory.mktemp("model") / "tiny", layers=2)


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    """One Ray for all tests; the actors find it there and leave it."""
    with quiet_ray():
        ray.init(address="local", num_cpus=6, include_dashboard=False, log_to_driver=False, logging_level="error")
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def pool(model: Path, _ray: None) -> Iterator[tuple[Client, str]]:
    """A client of two actors, as a command connects to it."""
    client, name = connect(LLMConfig(model=f"cluster:{model}", workers=2), None)
    with client:
        yield client, name
    _, alive = psutil.wait_procs(holders(), timeout=20)
    assert not alive, "an actor outlived its client"


def holders(doing: str = "") -> list[psutil.Process]:
    """Processes of the actors, those of them that are at a method if one is named."""
    found = []
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, IndexError):  # it ended while it was looked at
            if f"Holder.{doing}" in f"{one.cmdline()[0]}.":
                found.append(one)
    return found


def questions(name: str, n: int) -> list[Request]:
    return [judge(name, "It is short.", f"Text {i}", reason=False) for i in range(n)]


def test_verdicts_are_those_of_the_model_in_one_process(pool: tuple[Client, str], model: Path) -> None:
    """What a user's cluster says is what the model says, and either finds what the other has in the cache."""
    client, name = pool
    asked = questions(name, 12)
    here = Local(str(model))
    replies = client.complete_many(asked, "verify")
    for request, reply in zip(asked, replies, strict=True):
        alone = here.complete(request)
        assert reply.text == alone.text
        assert reply.probabilities == pytest.approx(dict(alone.probabilities or {}), abs=1e-6)
        assert reply.usage == alone.usage
    assert client.backend.name == here.name
    assert client.backend.count_tokens(asked[0]) == here.count_tokens(asked[0])
    assert (client.ledger.summary()["calls"], client.ledger.summary()["dollars"]) == (12, 0)


def test_what_one_request_may_not_do_is_missing_and_the_rest_is_answered(pool: tuple[Client, str]) -> None:
    """A refusal inside an actor comes back as what it is, not as a trace."""
    client, name = pool
    long, short = client.complete_many([Request(name, "word " * 3000), *questions(name, 1)], "verify")
    assert long.missing == "refused"
    assert "do not fit into 2048" in long.detail
    assert short.missing is None
    with pytest.raises(UsageError, match="no embeddings"):
        client.backend.embed(name, ["x"])


def test_an_actor_that_is_killed_costs_no_answer(pool: tuple[Client, str], model: Path) -> None:
    """Its request is asked again, and it comes back with its copy while the other goes on."""
    client, name = pool
    asked = [Request(name, f"Text {i}", max_output_tokens=40) for i in range(30)]
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        busy = holders("complete")
        if busy and progress.done and not killed:
            busy[0].send_signal(signal.SIGKILL)
            killed.append(busy[0].pid)

    replies = client.complete_many(asked, "verify", kill)
    here = Local(str(model))
    assert [reply.text for reply in replies] == [here.complete(request).text for request in asked]
    assert killed
    assert client.ledger.summary()["retries"] == {"server": 1}
    backend = client.backend
    assert isinstance(backend, Actors)
    end = time.monotonic() + 60
    while backend._idle.qsize() < 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert backend._idle.qsize() == 2
    assert len({one.pid for one in holders()} - set(killed)) == 2


def test_when_no_actor_comes_back_it_ends(pool: tuple[Client, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster whose nodes are gone is a line after a while, and at once when every copy is lost."""
    client, name = pool
    backend = client.backend
    assert isinstance(backend, Actors)
    idle = [backend._idle.get(timeout=10) for _ in range(2)]
    monkeypatch.setattr(llm_actors, "AWAY_SECONDS", 0.2)
    with pytest.raises(Stop, match=r"no actor of .* came back"):
        backend.complete(questions(name, 1)[0])
    monkeypatch.setattr(backend, "_failed", [SaerayError("too large")] * 2)
    with pytest.raises(Stop, match=r"no actor of .* is left: too large"):
        backend.complete(questions(name, 1)[0])
    for holder in idle:
        backend._idle.put(holder)


def test_what_is_not_a_model_is_one_line(tmp_path: Path) -> None:
    """No Ray trace, whether the actors or the driver sees it; nothing stays behind."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(SaerayError, match=f"no model at {tmp_path}/none: the directory is not there"):
        connect(LLMConfig(model=f"cluster:{tmp_path}/none"), None)
    with pytest.raises(SaerayError, match="cannot load the model") as raised:
        connect(LLMConfig(model=f"cluster:{tmp_path}/empty"), None)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"workers": 9}, "no room for a pool of 9 x 1 CPU beside the one for other work: this machine has 0 GPUs"),
        ({"workers": 2, "num_gpus": 2}, "no room for a pool of 2 x 2 GPU: this machine has 0 GPUs"),
        ({"num_gpus": 1.5}, "1.5 GPUs a copy: give a whole number, or a part of one"),
        ({"dtype": "int99"}, "no dtype 'int99'"),
        ({"batch_jobs": True}, "takes no batch jobs"),
    ],
)
def test_a_pool_that_cannot_be_had_is_refused(model: Path, asked: dict[str, Any], line: str) -> None:
    """One line at once: a Ray of one's own cannot grow, so nobody waits for it."""
    with pytest.raises(SaerayError, match=line):
        connect(LLMConfig(model=f"cluster:{model}", **asked), None)


def test_on_a_cluster_that_may_grow_it_waits_and_then_says_so(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line with the numbers instead of a command that hangs."""
    monkeypatch.setenv("RAY_ADDRESS", "named")
    monkeypatch.setattr(llm_actors, "PLACE_SECONDS", 0.5)
    with pytest.raises(SaerayError, match=r"1 of 1 actors found no place in 0 s: this machine has 0 GPUs"):
        connect(LLMConfig(model=f"cluster:{model}", num_gpus=1), None)


def test_an_actor_that_dies_of_loading_is_one_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that takes its process down each time would be loaded for ever."""
    deadly = tmp_path / "deadly"
    deadly.mkdir()

    class Deadly(llm_actors.Holder):
        def load(self) -> None:
            with (Path(self._model).parent / "deaths").open("a") as deaths:
                deaths.write("x")
            os._exit(1)

    monkeypatch.setattr(llm_actors, "Holder", Deadly)
    monkeypatch.setattr(llm_actors, "MOST_DEATHS", 2)  # a process takes seconds to start
    with pytest.raises(SaerayError, match="an actor died 2 times while it loaded") as raised:
        connect(LLMConfig(model=f"cluster:{deadly}"), None)
    assert "\n" not in str(raised.value)
    assert len((tmp_path / "deaths").read_text()) == 2
