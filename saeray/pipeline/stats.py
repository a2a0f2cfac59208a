"""The counting job: partial results of shards as Ray tasks, merged as soon as a range of shards is whole.

Every partial is created only if absent and is a pure function of committed rows, so a task may be retried, a worker or
the driver killed, and the same command goes on with what is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from saeray.analysis.counting import Counting, Progress, Question, here, make, reporter
from saeray.analysis.frequencies import StatsResult
from saeray.analysis.frequencies import stats as count
from saeray.config import StatsConfig
from saeray.errors import SaerayError, first_line
from saeray.store import Dataset, Store
from saeray.store.partials import Node

log = logging.getLogger(__name__)

# Ray takes five to ten seconds to start, in which one core counts some 400 MB of shards.
FEW_SHARDS, FEW_BYTES = 8, 400_000_000
# Tasks in flight for each CPU: one that runs and one that waits, so that no worker idles between two.
AHEAD = 2
# A lost node takes a task with it, which is then made elsewhere; one that fails this often is not the nodes' fault.
MOST_RETRIES = 10


def stats(config: StatsConfig, on_progress: Callable[[Progress], None] | None = None) -> StatsResult:
    """Counts what is not counted yet, on Ray when that is much, and puts the whole together.

    Raises what `saeray.analysis.frequencies.stats` does.
    """
    return count(
        Store.open(config.store),
        config.selector,
        channel=config.channel,
        by=config.by,
        percentiles=config.percentiles,
        fill=partial(fill, workers=config.workers),
        on_progress=on_progress,
    )


def fill(
    counting: Counting,
    nodes: Sequence[Node],
    on_progress: Callable[[Progress], None] | None = None,
    workers: int | None = None,
) -> None:
    """Makes partials, in this process when they are few or small and `workers` does not ask for more than one."""
    shards = [node.start for node in nodes if not node.below]
    size = sum(counting.commits[shard].bytes for shard in shards)
    few = len(shards) < FEW_SHARDS or size < FEW_BYTES
    if workers == 1 or (workers is None and few):
        log.info("counting %d shards (%.1f MB) in this process", len(shards), size / 1e6)
        here(counting, nodes, on_progress)
    else:
        log.info("counting %d shards (%.1f MB) on Ray", len(shards), size / 1e6)
        spread(counting, nodes, on_progress, workers)


def spread(
    counting: Counting,
    nodes: Sequence[Node],
    on_progress: Callable[[Progress], None] | None = None,
    workers: int | None = None,
) -> None:
    """Makes partials as Ray tasks, a merged one once those below it are done."""
    import ray  # takes a second, which counting a few shards need not wait for

    from saeray.pipeline.cluster import connected

    report = reporter(counting, nodes, on_progress)
    wanted = {node.name for node in nodes}
    waits_for = {node: {one.name for one in node.below if one.name in wanted} for node in nodes if node.below}
    parent = {one.name: node for node in waits_for for one in node.below}
    ready = [node for node in reversed(nodes) if not waits_for.get(node)]
    running: dict[ray.ObjectRef, Node] = {}
    with connected():
        task = ray.remote(num_cpus=1, max_retries=MOST_RETRIES)(_make)
        shared = ray.put((counting.store.uri, counting.dataset.name, counting.question))
        while ready or running:
            most = workers or max(1, int(ray.cluster_resources().get("CPU", 1))) * AHEAD
            while ready and len(running) < most:
                node = ready.pop()
                running[task.remote(shared, _shallow(node))] = node
            for done in ray.wait([*running], num_returns=1)[0]:
                node = running.pop(done)
                try:
                    ray.get(done)
                except ray.exceptions.RayTaskError as error:
                    if isinstance(error.cause, SaerayError):
                        raise error.cause from None
                    raise
                except ray.exceptions.RayError as error:
                    raise SaerayError(f"shards {node.start} to {node.stop - 1}: {first_line(error)}") from error
                report(node)
                above = parent.get(node.name)
                if above is not None:
                    waits_for[above].discard(node.name)
                    if not waits_for[above]:
                        ready.append(above)


def _shallow(node: Node) -> Node:
    """Without what lies two levels below, which a task does not read."""
    return Node(node.start, node.stop, node.digest, tuple(Node(one.start, one.stop, one.digest) for one in node.below))


def _make(shared: tuple[str, str, Question], node: Node) -> None:
    uri, name, question = shared
    make(_dataset(uri, name), question, node)


@lru_cache(maxsize=1)
def _dataset(uri: str, name: str) -> Dataset:
    """Kept by a worker from task to task: the plans of a million shards are not read for each."""
    return Store.open(uri).dataset(name)
