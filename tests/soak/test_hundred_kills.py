"""Guards the first promise at length: a hundred deaths of encoders, drivers, nodes and the S3 server at random moments,
at least three shard times apart, and after every round the store of an undisturbed run.

Each test prints what the kills cost; the figures are in docs/benchmarks.md.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from clusters import cluster_of, raylet_of
from ray.cluster_utils import Cluster
from runs import SOAK_SHARD_TOKENS, Driver, assert_whole, committed, contents, dataset_of, encoders_below, ticks
from s3_server import S3Server

pytestmark = pytest.mark.soak
APART = 3.0  # shard times between two kills


@dataclass
class Toll:
    """What was killed, and what it cost. `begun` counts shards that an encoder began, `shards` those there were."""

    encoders: int = 0
    drivers: int = 0
    servers: int = 0
    nodes: int = 0
    rounds: int = 0
    begun: int = 0
    shards: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)

    @property
    def kills(self) -> int:
        return self.drivers + self.servers + self.nodes + self.by_kind.get("encoder", 0)

    def check(self, name: str) -> None:
        """At most one shard of work lost for each worker that was killed: encoders, and what a dead driver or node had
        encoded and not yet written (two writers)."""
        lost = self.begun - self.shards
        print(json.dumps({"soak": name, "lost_shards": lost, **self.__dict__}))
        assert lost <= self.encoders + 2 * (self.drivers + self.nodes)


def shard_seconds(store: Path | str) -> float:
    """The mean time of a shard, from its commits."""
    times = [commit.seconds for commit in dataset_of(store).commits() if commit.seconds]
    return sum(times) / max(1, len(times))


def pause(driver: Driver, chance: random.Random) -> bool:
    """Waits until the next kill may come; False when the driver has ended meanwhile."""
    apart = APART * shard_seconds(driver.store)
    wanted = committed(driver.store) + chance.randint(3, 6)
    begin = time.monotonic()
    for _ in ticks():
        if not driver.is_running():
            return False
        if committed(driver.store) >= wanted and time.monotonic() - begin >= apart:
            time.sleep(chance.random() * shard_seconds(driver.store))
            return driver.is_running()
    raise AssertionError("no progress")


def rounds(
    toll: Toll,
    kills: int,
    stores: Callable[[int], Path | str],
    start: Callable[[Path | str, Path], Driver],
    strike: Callable[[Driver], None],
    undisturbed: dict[str, Any],
    notes: Path,
) -> None:
    """Encodes into fresh stores, striking on the way, until there have been `kills` kills."""
    chance = random.Random(11)
    while toll.kills < kills:
        store = stores(toll.rounds)
        driver = start(store, notes)
        while True:
            if not pause(driver, chance):
                assert driver.wait() == 0, driver.stderr
                break
            strike(driver)
            if not driver.is_running():
                driver = start(store, notes)
        assert contents(store) == undisturbed
        assert_whole(store)
        toll.rounds += 1
        toll.shards += len(dataset_of(store).shards())
        toll.begun = len(notes.read_text().splitlines())


def kill_encoder(driver: Driver, toll: Toll, chance: random.Random) -> None:
    there = driver.encoders()
    if there:
        chance.choice(there).kill()
        toll.encoders += 1
        toll.by_kind["encoder"] = toll.by_kind.get("encoder", 0) + 1


def kill_driver(driver: Driver, toll: Toll) -> None:
    below = psutil.Process(driver.pid).children(recursive=True)
    toll.encoders += len(driver.encoders())
    toll.drivers += 1
    driver.kill()
    assert psutil.wait_procs(below, timeout=120)[1] == []


def test_encoders_and_drivers(corpus: Path, encoder: Path, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """A hundred kills on local disk, one in six of them of the driver with its whole Ray."""
    toll, chance = Toll(), random.Random(1)

    def strike(driver: Driver) -> None:
        if chance.random() < 1 / 6:
            kill_driver(driver, toll)
        else:
            kill_encoder(driver, toll, chance)

    rounds(
        toll,
        100,
        lambda number: tmp_path / f"store-{number}",
        lambda store, notes: Driver(corpus, store, encoder, begun=notes, shard_tokens=SOAK_SHARD_TOKENS),
        strike,
        undisturbed,
        tmp_path / "begun",
    )
    toll.check("encoders and drivers")


def test_the_s3_server(
    corpus: Path, encoder: Path, undisturbed: dict[str, Any], tmp_path: Path, s3_server: S3Server, s3_uri: str
) -> None:
    """Thirty kills, half of them of the server, which is started again at once."""
    toll, chance = Toll(), random.Random(2)

    def strike(driver: Driver) -> None:
        kind = chance.random()
        if kind < 0.5:
            s3_server.restart()
            toll.servers += 1
        elif kind < 0.6:
            kill_driver(driver, toll)
        else:
            kill_encoder(driver, toll, chance)

    rounds(
        toll,
        30,
        lambda number: f"{s3_uri}-{number}",
        lambda store, notes: Driver(corpus, store, encoder, begun=notes, shard_tokens=SOAK_SHARD_TOKENS),
        strike,
        undisturbed,
        tmp_path / "begun",
    )
    toll.check("S3 server")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with cluster_of(3, cpus=2, quick=True) as made:
        yield made


def test_nodes(corpus: Path, encoder: Path, undisturbed: dict[str, Any], tmp_path: Path, cluster: Cluster) -> None:
    """Twenty raylets die, each replaced by a new node; every other one was frozen before, and is killed when awake."""
    toll, chance = Toll(), random.Random(3)

    def strike(driver: Driver) -> None:
        node = chance.choice(list(cluster.worker_nodes))
        raylet = raylet_of(node)
        toll.encoders += len(encoders_below(raylet.pid))
        toll.nodes += 1
        cluster.add_node(num_cpus=2)
        processes = [raylet, *raylet.children(recursive=True)]
        if chance.random() < 0.5:
            for process in processes:
                process.suspend()
            time.sleep(15 + 6 * shard_seconds(driver.store))  # past the replacement's commits
            for process in processes:
                process.resume()
        else:
            raylet.kill()
        assert psutil.wait_procs(processes, timeout=120)[1] == []
        cluster.remove_node(node, allow_graceful=False)

    rounds(
        toll,
        20,
        lambda number: tmp_path / f"store-{number}",
        lambda store, notes: Driver(
            corpus, store, encoder, ray_address=cluster.address, begun=notes, shard_tokens=SOAK_SHARD_TOKENS
        ),
        strike,
        undisturbed,
        tmp_path / "begun",
    )
    toll.check("nodes")
