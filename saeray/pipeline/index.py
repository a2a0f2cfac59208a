"""`saeray index` on Ray: one task a block, each safe to repeat. What is small is made in this process.

The driver plans from the commits, the workers read the parts and write the blocks, and the driver replaces the manifest
when all are there. A run that was killed leaves whole blocks, which the next one finds; nothing is read twice for them.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import ray

from saeray.pipeline.cluster import connected, memory_of_a_node, result_of
from saeray.store import Store
from saeray.store.block import BlockFacts, Span
from saeray.store.index import IndexPlan, make_planned, plan_index, publish

log = logging.getLogger(__name__)

# A worker may die of anything but its task: a block that kills five is a fault of its own.
MAX_RETRIES = 5
# Five seconds of a core, which a Ray of one's own takes to start.
SMALL_POSTINGS = 40_000_000
# Making a block: what a worker holds beside the postings (Python, Arrow, a row group), and for each posting (measured).
BASE_BYTES, POSTING_BYTES = 1 << 30, 17


@dataclass(frozen=True)
class IndexProgress:
    """Where a run stands: blocks of this run, documents and postings of those done, seconds since its start."""

    done: int
    total: int
    documents: int
    postings: int
    seconds: float


@dataclass(frozen=True)
class IndexResult:
    """What a run did. `documents`, `postings` and `bytes` are the whole index's, `built` and `postings_built` this
    run's; `missing`: shards committed since it was planned; `notes`: why blocks were made again."""

    dataset: str
    store: str
    blocks: int
    built: int
    documents: int
    postings: int
    postings_built: int
    bytes: int
    seconds: float
    missing: int
    channels: tuple[str, ...]
    notes: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """JSON-ready figures."""
        return asdict(self) | {"seconds": round(self.seconds, 3)}


def index(
    store: Store,
    name: str,
    on_progress: Callable[[IndexProgress], None] | None = None,
    check: bool = False,
) -> IndexResult:
    """Makes what the index of dataset `name` lacks. With `check` every block file is first read and compared with its
    digest, and made again where it differs.

    Raises SaerayError when nothing is committed, and for rows that are not what their commits say.
    """
    begin = time.monotonic()
    plan = plan_index(store, name, check)
    for note in plan.notes:
        log.warning("%s: made again", note)
    made: list[BlockFacts] = []
    if _is_small(plan):
        for spans in plan.todo:
            made.append(make_planned(store, name, spans))
            _tell(on_progress, made, len(plan.todo), begin)
    else:
        with connected():
            made = _make(store, name, plan, begin, on_progress)
    built = publish(store, name, plan, made)
    facts = [block.facts for block in built.blocks]
    return IndexResult(
        dataset=name,
        store=store.uri,
        blocks=len(facts),
        built=len(made),
        documents=built.documents(),
        postings=sum(map(_postings, facts)),
        postings_built=sum(map(_postings, made)),
        bytes=sum(size for one in facts for size, _ in one.files().values()),
        seconds=time.monotonic() - begin,
        missing=built.missing,
        channels=built.channels,
        notes=plan.notes,
    )


def _is_small(plan: IndexPlan) -> bool:
    """Whether this process is done sooner than a Ray of its own would start."""
    if ray.is_initialized() or os.environ.get("RAY_ADDRESS"):
        return not plan.todo
    return sum(span.postings for spans in plan.todo for span in spans) <= SMALL_POSTINGS


def _tell(
    on_progress: Callable[[IndexProgress], None] | None, made: Sequence[BlockFacts], total: int, begin: float
) -> None:
    if on_progress:
        documents, postings = sum(one.documents for one in made), sum(map(_postings, made))
        on_progress(IndexProgress(len(made), total, documents, postings, time.monotonic() - begin))


def _make(
    store: Store,
    name: str,
    plan: IndexPlan,
    begin: float,
    on_progress: Callable[[IndexProgress], None] | None,
) -> list[BlockFacts]:
    """The blocks of the plan, made by tasks."""
    task = ray.remote(max_retries=MAX_RETRIES)(_make_one)
    most = memory_of_a_node()
    pending = [
        task.options(num_cpus=1, memory=min(most, _memory(spans))).remote(store.uri, name, spans) for spans in plan.todo
    ]
    died = (
        f"workers died making a block of {name}, {MAX_RETRIES} times: see that a node has "
        f"{(BASE_BYTES + POSTING_BYTES * (1 << 27)) / 1e9:.0f} GB free, then run `saeray index {name}`"
    )
    made: list[BlockFacts] = []
    while pending:
        ready, pending = ray.wait(pending, num_returns=1)
        made.append(result_of(ready[0], died))
        _tell(on_progress, made, len(plan.todo), begin)
    return made


def _make_one(uri: str, name: str, spans: Sequence[Span]) -> BlockFacts:
    return make_planned(Store.open(uri), name, spans)


def _memory(spans: Sequence[Span]) -> int:
    """Bytes that making the block takes, so that Ray does not start more at once than a node holds."""
    return BASE_BYTES + POSTING_BYTES * sum(span.postings for span in spans)


def _postings(facts: BlockFacts) -> int:
    return sum(one.postings for one in facts.channels.values())
