"""Guards the first promise against deaths of real processes: whatever is killed or frozen and whenever, the same
command leaves the files of an undisturbed run, and a kill costs the shards in work, not those that are done.

The short forms; `tests/soak` does the same a hundred times over.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster
from runs import (
    LONG_SHARD_TOKENS,
    Driver,
    assert_whole,
    committed,
    contents,
    encode_config,
    encoders_below,
    shards_in,
    ticks,
)

from saeray.pipeline.encode import encode


def begun(path: Path) -> Counter[int]:
    """How often an encoder began each shard."""
    return Counter(int(line.split()[0]) for line in path.read_text().splitlines())


def test_killed_encoders_and_a_killed_driver_cost_the_shards_in_work(
    long_texts: Path, encoder: Path, long_undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Three encoders die, one of them while it is loading its model, then the driver and with it its whole Ray."""
    chance = random.Random(7)
    store, notes = tmp_path / "store", tmp_path / "begun"
    with Driver(long_texts, store, encoder, begun=notes) as driver:
        driver.wait_until(lambda: bool(driver.encoders()), "encoder")
        driver.encoders()[0].kill()
        killed = 1
        while killed < 3:
            driver.wait_for_commits(committed(driver.store) + 3)
            driver.wait_until(lambda: bool(driver.encoders()), "encoder")
            chance.choice(driver.encoders()).kill()
            killed += 1
        driver.wait_for_commits(committed(driver.store) + 2)
        encoders = driver.encoders()
        driver.kill()
        killed += len(encoders)
        assert psutil.wait_procs(encoders, timeout=60)[1] == []

    done = {path: path.stat().st_mtime_ns for path in store.glob("datasets/*/commits/*.json")}
    assert 6 <= len(done) < shards_in(long_undisturbed)
    result = encode(encode_config(long_texts, store, encoder, shard_tokens=LONG_SHARD_TOKENS))
    assert not result.failed
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert contents(store) == long_undisturbed
    assert_whole(store)
    counts = begun(notes)
    # Of the run that was killed: what was begun again, and what was begun and never committed. The two are those that
    # had been encoded and were not yet written when the driver died.
    lost = sum(counts.values()) - (result.shards - result.encoded)
    assert 1 <= lost <= killed + 2, counts


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without CPUs and three nodes with room for an encoder each, whose deaths are noticed in ten seconds."""
    quick = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 500,
        "health_check_timeout_ms": 2000,  # a busy machine's live nodes have taken more than one second
        "health_check_failure_threshold": 4,
        # What was sent to a node that froze is given up after this long; five minutes by default.
        "grpc_client_keepalive_time_ms": 5000,
        "grpc_client_keepalive_timeout_ms": 5000,
    }
    made = Cluster(True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": quick})
    for _ in range(3):
        made.add_node(num_cpus=2)
    yield made
    made.shutdown()


@pytest.fixture
def pair() -> Iterator[Cluster]:
    """A head without CPUs and two nodes, each with room for the whole run."""
    made = Cluster(True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        made.add_node(num_cpus=4)
    yield made
    made.shutdown()


def raylet_of(node: Any) -> psutil.Process:
    """The process that runs a node; its workers are its children."""
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def busy_node(cluster: Cluster, nodes: list[Any]) -> Any:
    """A node of these on which an encoder runs."""
    for _ in ticks():
        for node in nodes:
            if encoders_below(raylet_of(node).pid):
                return node
    raise AssertionError("no node has an encoder")


def test_a_killed_raylet_costs_the_shards_in_work(
    long_texts: Path, encoder: Path, long_undisturbed: dict[str, Any], tmp_path: Path, pair: Cluster
) -> None:
    """A node dies under an encoder; the other finishes the run, and the files are those of an undisturbed one."""
    store = tmp_path / "store"
    with Driver(long_texts, store, encoder, ray_address=pair.address) as driver:
        driver.wait_for_commits(2)
        os.kill(raylet_of(busy_node(pair, list(pair.worker_nodes))).pid, signal.SIGKILL)
        at_death = committed(driver.store)
        assert at_death < shards_in(long_undisturbed)
        assert driver.wait() == 0, driver.stderr
    assert contents(store) == long_undisturbed
    assert_whole(store)


@pytest.mark.soak  # a frozen node's work is given up after half a minute, three nodes on two cores take minutes
def test_a_frozen_node_that_wakes_late_and_a_killed_raylet_spoil_nothing(
    long_texts: Path, encoder: Path, long_undisturbed: dict[str, Any], tmp_path: Path, cluster: Cluster
) -> None:
    """A node stops (SIGSTOP) in the middle of its shards, others commit them in its place, and then it goes on. Another
    dies (SIGKILL of its raylet)."""
    store = tmp_path / "store"
    with Driver(long_texts, store, encoder, ray_address=cluster.address) as driver:
        nodes = list(cluster.worker_nodes)
        driver.wait_for_commits(2)

        frozen = busy_node(cluster, nodes)
        raylet = raylet_of(frozen)
        stopped = [raylet, *raylet.children(recursive=True)]
        for process in stopped:
            process.suspend()
        at_freeze = committed(driver.store)
        driver.wait_for_commits(at_freeze + 6)
        before_waking = {path: path.read_bytes() for path in store.glob("datasets/*/*/*")}
        for process in stopped:
            process.resume()

        dying = busy_node(cluster, [node for node in nodes if node is not frozen])
        os.kill(raylet_of(dying).pid, signal.SIGKILL)
        assert driver.wait() == 0, driver.stderr
        assert psutil.wait_procs(stopped, timeout=60)[1] == []
    lasting = {path: data for path, data in before_waking.items() if not path.name.startswith(".tmp-")}
    assert len(lasting) >= 2 * (at_freeze + 6)
    assert {path: path.read_bytes() for path in lasting} == lasting
    assert contents(store) == long_undisturbed
    assert_whole(store)
