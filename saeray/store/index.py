"""The latent-major index of a dataset: which blocks there are, what is missing, and what has to be made.

    index = Index.open(store, "background")
    for block in index.blocks:
        block.postings("text", np.array([17, 4711])).documents

`STORE/index/NAME/manifest.json` names the blocks; it is replaced last, when all of them are there, and blocks that it
no longer names are deleted afterwards. What is in the index is what was committed when it was made: it says which
shards it lacks, and refuses to be read when a shard that it holds has been encoded anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from saeray.errors import SaerayError, UsageError
from saeray.store.block import Block, BlockFacts, Span, is_whole
from saeray.store.builder import blocks_of, is_half_full, make_block, spans_of
from saeray.store.commits import Commit
from saeray.store.dataset import FETCH_THREADS, Dataset
from saeray.store.files import Location
from saeray.store.postings import Int64
from saeray.store.store import Store

log = logging.getLogger(__name__)

VERSION = 1
MANIFEST = "manifest.json"
# A file that no manifest names is a killed run's, unless a run is just making it: none works a day on one block.
ABANDONED_SECONDS = 24 * 3600.0


class Index:
    """The read side. `blocks` in the order of their shards; `channels` sorted; `missing`: how many committed shards
    are not in it yet."""

    def __init__(self, dataset: Dataset, d_sae: int, facts: Sequence[BlockFacts], missing: int) -> None:
        root = index_root(dataset)
        self.dataset, self.d_sae, self.missing = dataset, d_sae, missing
        self.blocks = tuple(Block(root, number, one, d_sae, dataset.name) for number, one in enumerate(facts))
        self.channels = tuple(sorted({channel for one in facts for channel in one.channels}))

    @classmethod
    def open(cls, store: Store, name: str, check: bool = True) -> Index:
        """The index of dataset `name`. UsageError when there is none, SaerayError when it is not of what is committed
        now. With `check` false only the names of the commits are read, not each (some milliseconds a commit on object
        storage): for whoever has just made the index."""
        dataset = store.dataset(name)
        facts = read_manifest(dataset)
        if facts is None:
            raise UsageError(f"there is no index of {name}: run `saeray index {name}`")
        if check:
            commits = {commit.shard: commit for commit in dataset.commits()}
            changed = stale(facts, commits)
            missing = len(_uncovered(facts, commits.values()))
        else:
            held, committed = {span.shard for one in facts for span in one.spans}, set(dataset.committed())
            changed, missing = sorted(held - committed), len(committed - held)
        if changed:
            raise SaerayError(
                f"the index of {name} holds shard {changed[0]} as it was before it was encoded anew or deleted: "
                f"run `saeray index {name}`"
            )
        return cls(dataset, _d_sae(store), facts, missing)

    def documents(self) -> int:
        """Documents in all blocks."""
        return sum(block.documents for block in self.blocks)

    def refresh_needed(self) -> bool:
        """Whether something is committed that is not in it."""
        return self.missing > 0

    def frequency(self, channel: str) -> Int64:
        """In how many documents each latent is present, int64[d_sae]."""
        return sum((block.frequency(channel) for block in self.blocks), np.zeros(self.d_sae, np.int64))

    def channel(self, asked: str | None) -> str:
        """The channel that was asked for, or the only one. UsageError when it is not clear or not there."""
        name, there = self.dataset.name, ", ".join(self.channels)
        if asked is None and len(self.channels) > 1:
            raise UsageError(f"{name} has several channels; choose one with --channel: {there}")
        if asked is not None and asked not in self.channels:
            raise UsageError(f"{name} has no rows of channel {asked!r}; it has {there}")
        return self.channels[0] if asked is None else asked

    def verify(self) -> list[str]:
        """Reads every file; the names of those that are not what was written."""
        return [name for block in self.blocks for name in spoilt(index_root(self.dataset), block.facts)]


@dataclass(frozen=True)
class IndexPlan:
    """What a run has to do. `kept`: blocks that stay; `todo`: the spans of each to make; `before`: the manifest's
    blocks, kept or not; `notes`: why blocks are made again, a line each."""

    kept: tuple[BlockFacts, ...]
    todo: tuple[tuple[Span, ...], ...]
    before: tuple[BlockFacts, ...]
    notes: tuple[str, ...]


def index_root(dataset: Dataset) -> Location:
    """Where the index of a dataset lies."""
    return dataset.store.root / "index" / dataset.name


def read_manifest(dataset: Dataset) -> tuple[BlockFacts, ...] | None:
    """The blocks of the index, or None when it has none yet. SaerayError when the manifest cannot be read."""
    place = index_root(dataset) / MANIFEST
    data = place.read_if_there()
    if data is None:
        return None
    try:
        content = json.loads(data)
        if (content["version"], content["encoder"]) != (VERSION, dataset.store.fingerprint()):
            raise ValueError("it is of another version or encoder")
        return tuple(BlockFacts.from_dict(one) for one in content["blocks"])
    except (ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise SaerayError(
            f"{place.uri} is not the manifest of an index ({reason}): delete it and run `saeray index {dataset.name}`"
        ) from error


def plan_index(store: Store, name: str, check: bool = False) -> IndexPlan:
    """What is missing in the index of `name`. With `check` every block file is read and compared with its digest;
    else its length alone. Raises SaerayError when nothing is committed yet."""
    dataset = store.dataset(name)
    dataset.store.fingerprint()
    before = read_manifest(dataset) or ()
    commits = {commit.shard: commit for commit in dataset.commits()}
    if not commits:
        raise SaerayError(f"{name} has nothing committed yet: encode something into it")
    changed, notes = set(stale(before, commits)), []
    if changed:
        notes.append(f"{len(changed)} shards were encoded anew or deleted since {name} was indexed")
    current = [one for one in before if not changed & {span.shard for span in one.spans}]
    fresh = _uncovered(current, commits.values())
    if fresh:
        kept = [one for one in current if is_half_full(one.spans)]
        fresh = _uncovered(kept, commits.values())
        todo = list(blocks_of(sorted(_measured(dataset, commits, fresh))))
    else:
        kept, todo = current, []
    root = index_root(dataset)
    broken = [one for one in kept if not (_delete_spoilt(root, one) if check else is_whole(root, one))]
    notes += [f"{one.name} was not whole" for one in broken]
    kept = [one for one in kept if one not in broken]
    return IndexPlan(tuple(kept), (*todo, *(one.spans for one in broken)), before, tuple(notes))


def make_planned(store: Store, name: str, spans: Sequence[Span]) -> BlockFacts:
    """Makes one planned block: what a worker does."""
    dataset = store.dataset(name)
    return make_block(dataset, index_root(dataset), spans, _d_sae(store))


def publish(store: Store, name: str, plan: IndexPlan, made: Iterable[BlockFacts]) -> Index:
    """Names the kept and the made blocks in the manifest, then deletes those it named before and no longer does."""
    dataset = store.dataset(name)
    root = index_root(dataset)
    blocks = sorted([*plan.kept, *made], key=lambda one: one.spans)
    content = {"version": VERSION, "encoder": store.fingerprint(), "blocks": [one.to_dict() for one in blocks]}
    data = (json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
    if (root / MANIFEST).read_if_there() != data:
        (root / MANIFEST).replace(data)
    _clean(root, {one.name for one in plan.before}, {one.name for one in blocks})
    return Index.open(store, name)


def build_missing(store: Store, name: str, check: bool = False) -> Index:
    """Makes what is missing, block after block, in this process; `saeray.pipeline.index` does the same on Ray."""
    plan = plan_index(store, name, check)
    return publish(store, name, plan, [make_planned(store, name, spans) for spans in plan.todo])


def stale(blocks: Iterable[BlockFacts], commits: dict[int, Commit]) -> list[int]:
    """Shards that the blocks hold and that are not committed with the same digest, ascending."""
    held = {(span.shard, span.digest) for one in blocks for span in one.spans}
    return sorted({shard for shard, digest in held if shard not in commits or commits[shard].sha256[:16] != digest})


def spoilt(root: Location, facts: BlockFacts) -> list[str]:
    """Names of the block's files that do not have the digest they were written with."""
    found = {file: (root / file).read_if_there() for file in facts.files()}
    digests = {file: hashlib.sha256(data or b"").hexdigest() for file, data in found.items()}
    return [file for file, (_, digest) in facts.files().items() if digests[file] != digest]


def _delete_spoilt(root: Location, facts: BlockFacts) -> bool:
    """Deletes the spoilt files of a block, so that they can be made again. Whether the block is whole."""
    names = spoilt(root, facts)
    for name in names:
        (root / name).delete()
    return not names


def _uncovered(blocks: Iterable[BlockFacts], commits: Iterable[Commit]) -> list[tuple[int, int, int]]:
    """Row ranges of committed shards that no block holds: shard, start, stop. A shard without rows is one range."""
    held = defaultdict[int, list[Span]](list)
    for one in blocks:
        for span in one.spans:
            held[span.shard].append(span)
    ranges = []
    for commit in commits:
        at = 0
        for span in sorted(held[commit.shard]):
            if span.start > at:
                ranges.append((commit.shard, at, span.start))
            at = span.stop
        if at < commit.rows or not held[commit.shard]:
            ranges.append((commit.shard, at, commit.rows))
    return ranges


def _measured(dataset: Dataset, commits: dict[int, Commit], ranges: Sequence[tuple[int, int, int]]) -> list[Span]:
    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        found = pool.map(lambda one: spans_of(dataset, commits[one[0]], one[1], one[2]), ranges)
        return [span for spans in found for span in spans]


def _clean(root: Location, before: set[str], now: set[str]) -> None:
    """Deletes the blocks that are no longer named, and what a run that was killed long ago left."""
    root.sweep()
    for file in root.names():
        block = file.split(".")[0]
        if file == MANIFEST or block in now:
            continue
        place = root / file
        if block in before or time.time() - place.fs.modified(place.path).timestamp() > ABANDONED_SECONDS:
            place.delete()


def _d_sae(store: Store) -> int:
    return int((store.encoder() or {})["sae"]["d_sae"])
