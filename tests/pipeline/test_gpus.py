"""Promise: a replica's GPUs are asked for so that Ray can place them, and a wish that cannot come true is one line.

Ray's answers are stood in for: no cluster of these tests has two GPUs on a node.
"""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from saeray.config import EncodeConfig, encoder_config
from saeray.errors import SaerayError, UsageError
from saeray.pipeline import encode, replicas
from saeray.pipeline.replicas import check_gpus, reading_of, replicas_of_gpus
from saeray.pipeline.selfcheck import check_encoder


def have(monkeypatch: pytest.MonkeyPatch, *gpus: float) -> None:
    """A cluster whose nodes have so many GPUs, and a dead node that had eight."""
    nodes = [{"Alive": True, "Resources": {"CPU": 8.0} | ({"GPU": count} if count else {})} for count in gpus]
    nodes.append({"Alive": False, "Resources": {"GPU": 8.0}})
    monkeypatch.setattr(replicas.ray, "nodes", lambda: nodes)


def test_a_replica_lies_on_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes of three GPUs hold one replica of two each, and GPUs of two nodes never make one."""
    have(monkeypatch, 3, 3, 0)
    assert [replicas_of_gpus(n) for n in (0.5, 1, 2, 3, 4)] == [12, 6, 2, 2, 0]


def test_a_wish_that_cannot_come_true_is_one_line(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """On a machine of one's own an error that says what there is; a cluster may grow, so it is waited for."""
    have(monkeypatch, 1)
    for fits in (0, 0.25, 1):
        check_gpus(fits, True)
    with pytest.raises(
        SaerayError, match=r"^2 GPUs a replica were asked for and this machine has 1; give --num-gpus 1$"
    ):
        check_gpus(2, True)
    for own in (True, False):
        with pytest.raises(UsageError, match=r"^1\.5 GPUs a replica: give a whole number, or a part of one$"):
            check_gpus(1.5, own)
    have(monkeypatch, 0)
    with pytest.raises(SaerayError, match="a GPU was asked for and this machine has none; leave out --num-gpus"):
        check_gpus(1, True)
    have(monkeypatch, 1, 1)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        check_gpus(2, False)  # two GPUs, but not on one node
    assert [record.message for record in caplog.records] == [
        "no node of the cluster has 2 GPU(s) yet; waiting for one to join"
    ]


@pytest.mark.parametrize(
    ("packing", "asked", "expected"),
    [
        ("auto", {}, (False, 1)), ("auto", {"num_gpus": 1}, (True, 1)), ("auto", {"device": "cuda:1"}, (True, 1)),
        ("off", {"num_gpus": 0.5}, (False, 1)), ("on", {}, (True, 1)), ("auto", {"num_gpus": 2}, (True, 2)),
    ],
)  # fmt: skip
def test_packs_are_for_gpus_and_stages_for_several(packing: Any, asked: Any, expected: Any) -> None:
    """A GPU or a part of one is one device; packs are read on GPUs unless a run says otherwise."""
    config = EncodeConfig(inputs=["a"], dataset="d", store="s", packing=packing, **asked)
    assert tuple(reading_of(config).values()) == expected


def test_several_gpus_read_packs_alone() -> None:
    """Rectangles are read on one device: a second would stand idle."""
    with pytest.raises(UsageError, match="2 GPUs a replica read packs alone"):
        reading_of(EncodeConfig(inputs=["a"], dataset="d", store="s", packing="off", num_gpus=2))


class Recorded:
    """A dataset of Ray Data that notes its stages and has no rows."""

    def __init__(self, calls: list[dict[str, Any]]) -> None:
        self.calls = calls

    def map_batches(self, function: Any, **options: Any) -> Recorded:
        self.calls.append({"function": function} | options)
        return self

    def iter_batches(self, **_: Any) -> list[Any]:
        return []


@pytest.mark.parametrize(("num_gpus", "reserved", "workers"), [(2, 2, 3), (0.5, 0.5, 16), (0, None, 2)])
def test_the_actor_reserves_what_its_encoder_uses(
    monkeypatch: pytest.MonkeyPatch, num_gpus: float, reserved: float | None, workers: int
) -> None:
    """Ray is asked for the replica's GPUs in one actor, as many actors as nodes hold, and the encoder is told."""
    calls: list[dict[str, Any]] = []
    have(monkeypatch, 3, 5)
    actor = SimpleNamespace(remote=lambda: "attempts")
    data = SimpleNamespace(from_arrow=lambda _: Recorded(calls))
    ray = SimpleNamespace(remote=lambda **_: lambda _: actor, data=data, nodes=replicas.ray.nodes)
    monkeypatch.setattr(encode, "ray", ray)
    monkeypatch.setattr(encode, "_configure_ray_data", lambda: None)
    config = EncodeConfig(inputs=["a"], dataset="d", store="s", num_gpus=num_gpus)
    plan = SimpleNamespace(input_of=lambda shard: SimpleNamespace(name="a"))
    dataset: Any = SimpleNamespace(store=SimpleNamespace(uri="s"), name="d", plan_of=lambda shard: plan)
    shards: Any = [SimpleNamespace(shard=i) for i in range(30)]
    result = encode.EncodeResult("d", "s")
    encode._run(config, encoder_config(config.encoder), dataset, shards, {}, False, result, None)
    (call,) = (call for call in calls if call["function"] is encode.Encode)
    assert call["num_gpus"] == reserved
    assert call["compute"].min_size == call["compute"].max_size == workers
    told = call["fn_constructor_kwargs"]
    assert {name: told[name] for name in ("packed", "gpus")} == reading_of(config)
    assert told["device"] == ("cuda" if num_gpus else "cpu")


@pytest.mark.parametrize("asks", ["describe", "check"])
def test_a_worker_that_dies_before_the_run_is_one_line(monkeypatch: pytest.MonkeyPatch, asks: str) -> None:
    """The kernel ends a process that loads more than the node has: one line that says what it was at."""

    def died(_: Any) -> None:
        raise ray.exceptions.WorkerCrashedError

    monkeypatch.setattr(ray, "remote", lambda **_: lambda function: SimpleNamespace(remote=lambda *_: None))
    monkeypatch.setattr(ray, "get", died)
    config = EncodeConfig(inputs=["x"], store="y", dataset="z", encoder="builtin")
    nothing: Any = None
    asked = {
        "describe": lambda: encode._describe(nothing),
        "check": lambda: check_encoder(config, nothing, [], nothing, "cpu"),
    }
    with pytest.raises(SaerayError, match=f"^the worker that was to {asks} the encoder died$"):
        asked[asks]()
