"""What `stats` counts of a selection, shard by shard, kept so that no commit is read twice.

The partial results lie under STORE/stats/NAME/KEY/, where KEY is the digest of the question: selector, channel, column
and format. They are a pure function of the committed rows, so any number of runs may make them, be killed, and go on.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from saeray.errors import SaerayError, UsageError
from saeray.stats.frequency import COLUMNS
from saeray.stats.tally import Tally, tally
from saeray.stats.tally_rows import from_table, to_table
from saeray.store import Dataset, Location, Store, canonical_json, parse
from saeray.store.partials import FAN, Node, Partials

#: Of what the partials hold; another version has another key, so old ones are left alone and counted anew.
VERSION = 1
#: Groups of `by`: a page of more is read by nobody, and 50 groups of 65,536 latents take some 400 MB to count.
MOST_GROUPS = 50
#: The only group when there is no `by`.
ALL = ""
ABOUT = b"saeray.partial"
#: Arrow and NumPy let go of the interpreter where they work. Two are enough to read while counting, and each takes the
#: memory of a row group (some 500 MB at most).
THREADS = 2


@dataclass(frozen=True)
class Question:
    """What is counted: the rows of `selector` (text, with its dataset) and `channel`, for each value of `by`."""

    selector: str
    channel: str
    by: str | None

    def key(self) -> str:
        """The directory of its partials."""
        return hashlib.sha256(canonical_json({"version": VERSION, **asdict(self)}).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Counted:
    """`groups`: value of `by` -> counts. `channels`: how many selected rows there are of each channel, ours or not."""

    groups: Mapping[str, Tally]
    channels: Mapping[str, int]

    def __add__(self, other: Counted) -> Counted:
        groups = dict(self.groups)
        for name, found in other.groups.items():
            groups[name] = groups[name] + found if name in groups else found
        return Counted(groups, Counter(self.channels) + Counter(other.channels))


@dataclass(frozen=True)
class Progress:
    """Where a run stands: shards counted of those to count, documents and tokens in them, seconds since its start."""

    done: int
    total: int
    documents: int
    tokens: int
    seconds: float


class Counting:
    """The counting of one question over the shards committed now."""

    def __init__(self, store: Store, question: Question, dataset: Dataset, fan: int = FAN) -> None:
        self.store, self.question, self.dataset = store, question, dataset
        self.commits = {commit.shard: commit for commit in dataset.commits()}
        digests = {shard: commit.sha256 for shard, commit in self.commits.items()}
        self.partials = Partials(place_of(store, question), digests, fan)

    def total(self) -> Counted | None:
        """All partials together; None when another run has just merged one of them away."""
        found = added(read(self.partials, self.partials.roots, d_sae_of(self.store)))
        if found is None:
            return None
        if len(found.groups) > MOST_GROUPS:
            raise _too_many(self.question)
        return found


Fill = Callable[[Counting, Sequence[Node], Callable[[Progress], None] | None], None]


def ask(store: Store, text: str, channel: str | None, by: str | None, fan: int = FAN) -> Counting:
    """The counting that selector `text` asks for; nothing is written yet.

    Raises UsageError for an empty selection, for several channels among its first rows when none is chosen (those that
    come later are found when all is counted), and for a column that is not there or cannot group.
    """
    dataset, selector = store.select(text)
    if by is not None:
        schema = dataset.schema()
        if by not in schema.names:
            raise UsageError(f"{dataset.name} has no column {by!r}; it has {', '.join(sorted(schema.names))}")
        if pa.types.is_nested(schema.field(by).type):
            raise UsageError(f"column {by!r} holds lists or structures and cannot group; choose one of plain values")
    seen: set[str] = set()
    for table in dataset.scan(selector, ["channel", *([by] if by else [])]):
        here = table.column("channel").unique().to_pylist()
        seen |= set(here)
        if here and (channel is None or channel in seen):
            if channel is None and len(seen) > 1:
                raise several(text, seen)
            if by and len(table.column(by).unique()) > MOST_GROUPS:
                raise _too_many(Question(text, "", by))
            return Counting(store, Question(str(selector), channel or here[0], by), dataset, fan)
    dataset.require(selector)
    raise UsageError(f"{text} has no rows of channel {channel!r}; it has {', '.join(sorted(seen))}")


def several(text: str, channels: set[str]) -> UsageError:
    """The error when a selection has rows of several channels and none was chosen."""
    return UsageError(f"{text} has several channels; choose one with --channel: {', '.join(sorted(channels))}")


def here(counting: Counting, nodes: Sequence[Node], on_progress: Callable[[Progress], None] | None = None) -> None:
    """Makes partials in this process; one shard is read while another is counted."""
    report = reporter(counting, nodes, on_progress)
    with ThreadPoolExecutor(THREADS) as pool:
        counts = {
            node: pool.submit(make, counting.dataset, counting.question, node) for node in nodes if not node.below
        }
        try:
            for node in nodes:
                if node.below:
                    make(counting.dataset, counting.question, node)
                else:
                    counts[node].result()
                report(node)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def reporter(
    counting: Counting, nodes: Sequence[Node], on_progress: Callable[[Progress], None] | None
) -> Callable[[Node], None]:
    """A function that is told of each partial made, and tells `on_progress` of the shards among them."""
    begin, total = time.monotonic(), sum(not node.below for node in nodes)
    done = documents = tokens = 0

    def report(node: Node) -> None:
        nonlocal done, documents, tokens
        if on_progress is None or node.below:
            return
        commit = counting.commits[node.start]
        done, documents, tokens = done + 1, documents + commit.documents, tokens + commit.tokens
        on_progress(Progress(done, total, documents, tokens, time.monotonic() - begin))

    return report


def make(dataset: Dataset, question: Question, node: Node) -> None:
    """Makes one partial: counts a shard, or adds those that a merged one is made of."""
    d_sae = d_sae_of(dataset.store)
    partials = Partials(place_of(dataset.store, question), {})
    if not node.below:
        commit = dataset.commit(node.start)
        if commit is None or commit.sha256 != node.digest:
            raise SaerayError(f"shard {node.start} of {dataset.name} was committed anew: run the same command again")
        partials.keep(node, as_bytes(count_shard(dataset, question, node.start, d_sae), question, node))
        return
    found = added(read(partials, node.below, d_sae))
    if found is not None:
        partials.keep(node, as_bytes(found, question, node))
    elif partials.read(node) is None:  # else another run has merged them
        raise SaerayError(f"partial results went away from {partials.place.uri}: run the same command again")


def read(partials: Partials, nodes: Sequence[Node], d_sae: int) -> Iterator[Counted | None]:
    """The partials of `nodes`; None for one that is not there."""
    for node in nodes:
        data = partials.read(node)
        yield None if data is None else parsed(data, node, d_sae, partials.place.uri)


def added(parts: Iterable[Counted | None]) -> Counted | None:
    """The sum, or None when a part is None. Like is added to like (1+1, 2+2, 4+4): one long sum would go through what
    has been added so far again for each part, which took four times as long for 51 shards."""
    stack: list[tuple[int, Counted]] = []
    for part in parts:
        if part is None:
            return None
        rank = 0
        while stack and stack[-1][0] == rank:
            part, rank = stack.pop()[1] + part, rank + 1
        stack.append((rank, part))
    found = Counted({}, {})
    for _, part in reversed(stack):
        found = part + found
    return found


def count_shard(dataset: Dataset, question: Question, shard: int, d_sae: int) -> Counted:
    """The counts of one committed shard, from one pass over it."""
    optional = ["sum"] if "sum" in dataset.schema().names else []
    columns = list(dict.fromkeys([*COLUMNS, *optional, "channel", *([question.by] if question.by else [])]))
    groups: dict[str, Tally] = {}
    channels: Counter[str] = Counter()
    for table in dataset.scan_shard(shard, parse(question.selector), columns):
        here = {one["values"]: one["counts"] for one in pc.value_counts(table.column("channel")).to_pylist()}
        channels.update(here)
        own = table if set(here) == {question.channel} else table.filter(pc.field("channel") == question.channel)
        for batch in own.to_batches():
            for name, rows in _split(batch, question):
                found = tally(rows, d_sae)
                groups[name] = groups[name] + found if name in groups else found
        if len(groups) > MOST_GROUPS:
            raise _too_many(question)
    return Counted(groups, channels)


def as_bytes(counted: Counted, question: Question, node: Node) -> bytes:
    """A partial's file: Parquet, whose footer says what it is of."""
    about = {
        "version": VERSION,
        **asdict(question),
        "shards": [node.start, node.stop],
        "commits": node.digest,
        "channels": dict(sorted(counted.channels.items())),
    }
    table = to_table(counted.groups).replace_schema_metadata({ABOUT: canonical_json(about)})
    paths = [f"{field.name}.list.element" for field in table.schema if pa.types.is_list(field.type)]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
        column_encoding={p: "BYTE_STREAM_SPLIT" if p.startswith("max.") else "DELTA_BINARY_PACKED" for p in paths},
    )
    return bytes(sink.getvalue())


def parsed(data: bytes, node: Node, d_sae: int, uri: str) -> Counted:
    """The inverse of `as_bytes`. Raises SaerayError naming the file when it is not the partial of `node`."""
    try:
        table = pq.read_table(pa.BufferReader(data))
        about = json.loads((table.schema.metadata or {})[ABOUT])
        if about["commits"] != node.digest:
            raise ValueError("it is of other commits")
        return Counted(from_table(table, d_sae), {str(k): int(n) for k, n in about["channels"].items()})
    except (OSError, pa.ArrowException, KeyError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())[:120]
        raise SaerayError(f"{uri}/{node.name} cannot be read ({reason}): delete it and run again") from error


def place_of(store: Store, question: Question) -> Location:
    """Where the partials of a question lie."""
    return store.root / "stats" / parse(question.selector).dataset / question.key()


def d_sae_of(store: Store) -> int:
    """How many latents the store's encoder has."""
    encoder = store.encoder()
    if encoder is None:
        raise SaerayError(f"{store.uri} has no encoder yet; encode something into it first")
    return int(encoder["sae"]["d_sae"])


def _split(batch: pa.RecordBatch, question: Question) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of each value of the column; a null is the group "(none)"."""
    if question.by is None:
        yield ALL, batch
        return
    column = pc.dictionary_encode(batch.column(question.by), null_encoding="encode")
    names = np.array(["(none)" if one is None else str(one) for one in column.dictionary.to_pylist()])
    code = column.indices.to_numpy()
    for name in np.unique(names):
        rows = np.flatnonzero(names[code] == name) if names.size else code
        yield str(name), batch if len(rows) == batch.num_rows else batch.take(pa.array(rows))


def _too_many(question: Question) -> UsageError:
    return UsageError(f"column {question.by!r} has more than {MOST_GROUPS} values; choose another column")
