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
from clusters import busy_node, cluster_of, raylet_of
from ray.cluster_utils import Cluster
from ray.util import placement_group, remove_placement_group
from runs import (
    LONG_SHARD_TOKENS,
    Driver,
    assert_whole,
    committed,
    contents,
    encode_config,
    encoders_below,
    shards_in,
)

from saeray.pipeline.encode import Progress, encode


def begun(path: Path) -> Counter[int]:
    """How often an encoder began each shard."""
    return Counter(int(line.split()[0]) for line in path.read_text().splitlines())


def test_killed_encoders_and_a_killed_driver_cost_the_shards_in_work(
    long_texts: Path, encoder: Path, long_undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Two encoders die, one of them while it is loading its model, then the driver and with it its whole Ray."""
    chance = random.Random(7)
    store, notes = tmp_path / "store", tmp_path / "begun"
    with Driver(long_texts, store, encoder, begun=notes) as driver:
        driver.wait_until(lambda: bool(driver.encoders()), "encoder")
        driver.encoders()[0].kill()
        driver.wait_for_commits(3)
        driver.wait_until(lambda: bool(driver.encoders()), "encoder")
        chance.choice(driver.encoders()).kill()
        driver.wait_for_commits(committed(driver.store) + 2)
        encoders = driver.encoders()
        driver.kill()
        killed = 2 + len(encoders)
        assert psutil.wait_procs(encoders, timeout=60)[1] == []

    done = {path: path.stat().st_mtime_ns for path in store.glob("datasets/*/commits/*.json")}
    assert 5 <= len(done) < shards_in(long_undisturbed)
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
    with cluster_of(3, cpus=2, quick=True) as made:
        yield made


def test_a_killed_raylet_costs_the_shards_in_work(
    long_texts: Path, encoder: Path, long_undisturbed: dict[str, Any], tmp_path: Path, ray_cluster: Cluster
) -> None:
    """A node dies under the encoder; another has room for one only then, and the files are those of an undisturbed
    run."""
    held = placement_group([{"CPU": 5.25, "node:__internal_head__": 0.001}])  # readers and writers still fit beside it
    assert held.wait(60)
    node = ray_cluster.add_node(num_cpus=1)
    at_death: list[int] = []

    def strike(progress: Progress) -> None:
        if progress.done == 2:
            at_death.append(len(encoders_below(raylet_of(node).pid)))
            raylet_of(node).kill()
            remove_placement_group(held)

    try:
        config = encode_config(long_texts, tmp_path, encoder, shard_tokens=LONG_SHARD_TOKENS)
        result = encode(config, strike)
    finally:
        remove_placement_group(held)
        ray_cluster.remove_node(node, allow_graceful=False)
    assert at_death == [1]
    assert not result.failed
    assert contents(tmp_path) == long_undisturbed
    assert_whole(tmp_path)


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

        frozen = busy_node(nodes)
        raylet = raylet_of(frozen)
        stopped = [raylet, *raylet.children(recursive=True)]
        for process in stopped:
            process.suspend()
        at_freeze = committed(driver.store)
        driver.wait_for_commits(at_freeze + 6)
        before_waking = {path: path.read_bytes() for path in store.glob("datasets/*/*/*")}
        for process in stopped:
            process.resume()

        dying = busy_node([node for node in nodes if node is not frozen])
        os.kill(raylet_of(dying).pid, signal.SIGKILL)
        assert driver.wait() == 0, driver.stderr
        assert psutil.wait_procs(stopped, timeout=60)[1] == []
    lasting = {path: data for path, data in before_waking.items() if not path.name.startswith(".tmp-")}
    assert len(lasting) >= 2 * (at_freeze + 6)
    assert {path: path.read_bytes() for path in lasting} == lasting
    assert contents(store) == long_undisturbed
    assert_whole(store)
