"""Ray for tests: the environment of a Ray that shares two cores with its tests, and clusters whose nodes can be killed.

with quiet_ray(cache), cluster_of(3, cpus=2, quick=True) as cluster:
    raylet_of(busy_node(list(cluster.worker_nodes))).kill()
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster
from runs import encoders_below, ticks

# A node's death is noticed in ten seconds.
QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2000,  # a busy machine's live nodes have taken more than one second
    "health_check_failure_threshold": 4,
    # What was sent to a node that froze is given up after this long; five minutes by default.
    "grpc_client_keepalive_time_ms": 5000,
    "grpc_client_keepalive_timeout_ms": 5000,
}


@contextmanager
def quiet_ray(cache: Path | None = None) -> Iterator[None]:
    """Workers that are not pushed aside by whatever else the machine does, and a cache of the tests' own if given."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_prestart_worker_first_driver", "0")  # an idle worker costs a second of a core; most stay idle
        if cache is not None:
            patch.setenv("SAERAY_CACHE", str(cache))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")  # else an actor of its own a Ray
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        patch.delenv("RAY_ADDRESS", raising=False)
        yield


@contextmanager
def cluster_of(nodes: int, *, cpus: int, quick: bool = False) -> Iterator[Cluster]:
    """A head without CPUs, and `nodes` nodes of `cpus` each. quick: a node that froze is given up in ten seconds."""
    head: dict[str, Any] = {"num_cpus": 0, "include_dashboard": False}
    made = Cluster(True, head_node_args=head | ({"_system_config": QUICK} if quick else {}))
    try:
        for _ in range(nodes):
            made.add_node(num_cpus=cpus)
        yield made
    finally:
        made.shutdown()


def raylet_of(node: Any) -> psutil.Process:
    """The process that runs a node; its workers are its children."""
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def busy_node(nodes: Sequence[Any]) -> Any:
    """A node of these on which an encoder runs."""
    for _ in ticks():
        for node in nodes:
            if encoders_below(raylet_of(node).pid):
                return node
    raise AssertionError("no node has an encoder")
