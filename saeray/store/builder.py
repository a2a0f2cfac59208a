"""Making the blocks of the index: which rows go into which block, and the rows of one turned latent-major."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saeray.errors import SaerayError
from saeray.store.block import BlockFacts, Span, block_name, is_whole, read_facts
from saeray.store.commits import Commit, part_name
from saeray.store.dataset import Dataset
from saeray.store.files import Location
from saeray.store.postings import MAX_DOCUMENTS, MAX_POSTINGS, Int64, build_block, facts_of, pack

COLUMNS = ("doc_id", "channel", "n_tokens", "latents", "max", "peak")
FOOTER_BYTES = 64 << 10


def spans_of(dataset: Dataset, commit: Commit, start: int, stop: int) -> list[Span]:
    """Rows [start, stop) of a committed shard as spans that each fit a block; the bounds are documents' bounds.

    A whole shard costs a look at its part's footer. One that is too large for a block has its ids and latents read.
    """
    digest = commit.sha256[:16]
    if start == 0 and stop == commit.rows and commit.documents <= MAX_DOCUMENTS:
        postings = _latents_of(dataset, commit.shard)
        if postings <= MAX_POSTINGS:
            return [Span(commit.shard, start, stop, commit.documents, postings, digest)]
    first, postings_before = _documents_of(dataset, commit.shard, start, stop)
    spans, at = [], 0
    while at < len(first) - 1:
        fits = int(np.searchsorted(postings_before, postings_before[at] + MAX_POSTINGS, "right")) - 1
        end = max(at + 1, min(at + MAX_DOCUMENTS, fits))
        postings = int(postings_before[end] - postings_before[at])
        spans.append(Span(commit.shard, int(first[at]), int(first[end]), end - at, postings, digest))
        at = end
    return spans


def blocks_of(spans: Iterable[Span]) -> Iterator[tuple[Span, ...]]:
    """Spans, in order, as blocks: each takes what still fits."""
    block: list[Span] = []
    for span in spans:
        documents = span.documents + sum(one.documents for one in block)
        postings = span.postings + sum(one.postings for one in block)
        if block and (documents > MAX_DOCUMENTS or postings > MAX_POSTINGS):
            yield tuple(block)
            block = []
        block.append(span)
    if block:
        yield tuple(block)


def is_half_full(spans: Sequence[Span]) -> bool:
    """Whether a block of these spans is left alone when more comes."""
    documents, postings = sum(span.documents for span in spans), sum(span.postings for span in spans)
    return 2 * documents >= MAX_DOCUMENTS or 2 * postings >= MAX_POSTINGS


def make_block(dataset: Dataset, root: Location, spans: Sequence[Span], d_sae: int) -> BlockFacts:
    """Writes the block of `spans` below `root`, or finds it whole. Safe to do twice, at once, and to be killed in.

    Memory: 17 bytes a posting, and one row group of the documents (half a gigabyte at most). Raises SaerayError when
    the rows are not what their commits say.
    """
    name = block_name(spans, d_sae)
    done = read_facts(root, name)
    if done is not None and is_whole(root, done):
        return done
    documents, channels = _gather(dataset, spans, d_sae)
    data = _documents_file(documents, channels)
    file = f"{name}.documents.parquet"
    documents_file = (file, len(data), hashlib.sha256(data).hexdigest())
    _put(root / file, data)
    count = len(documents.doc_ids)
    facts = {}
    for number, channel in enumerate(sorted(channels)):
        file = f"{name}.{number}.arrow"
        data = channels.pop(channel).build(count, d_sae)
        facts[channel] = facts_of(file, data)
        _put(root / file, data)
        del data
    found = BlockFacts(name, count, tuple(spans), documents_file, facts)
    _put(root / f"{name}.json", found.to_json())
    return found


@dataclass
class _Documents:
    """The documents of a block so far: their ids, and the shard of each."""

    doc_ids: list[str] = field(default_factory=list)
    shards: list[Int64] = field(default_factory=list)


@dataclass
class _Channel:
    """The rows of one channel so far, a list of arrays each: the document of each row, its tokens, its row in the
    part, its number of latents; the latents and values one after the other."""

    documents: list[Int64] = field(default_factory=list)
    n_tokens: list[NDArray[np.int32]] = field(default_factory=list)
    rows: list[Int64] = field(default_factory=list)
    lengths: list[Int64] = field(default_factory=list)
    latents: list[NDArray[np.int32]] = field(default_factory=list)
    packed: list[NDArray[Any]] = field(default_factory=list)

    def add(self, table: pa.Table, documents: Int64, rows: Int64) -> None:
        """Adds the rows of `table`, which are `documents` of the block and `rows` of their part."""
        self.documents.append(documents)
        self.rows.append(rows)
        self.n_tokens.append(table.column("n_tokens").to_numpy())
        self.lengths.append(pc.list_value_length(table.column("latents")).to_numpy().astype(np.int64))
        self.latents.append(_flat(table, "latents"))
        self.packed.append(pack(_flat(table, "max"), _flat(table, "peak")))

    def build(self, documents: int, d_sae: int) -> bytes:
        """The file of its postings; gives the rows up."""
        lengths = np.zeros(documents, np.int64)
        lengths[np.concatenate(self.documents)] = np.concatenate(self.lengths)
        return build_block(lengths, _together(self.latents), _together(self.packed), d_sae)


def _gather(dataset: Dataset, spans: Sequence[Span], d_sae: int) -> tuple[_Documents, dict[str, _Channel]]:
    """The rows of the spans, by channel, in order."""
    found, channels = _Documents(), dict[str, _Channel]()
    for span in spans:
        before, last = len(found.doc_ids), None
        for at, table in _rows_of(dataset, span.shard, span.start, span.stop, COLUMNS):
            _check_latents(dataset, span, table, d_sae)
            ids = table.column("doc_id").to_pylist()
            new = np.fromiter((a != b for a, b in zip(ids, [last, *ids], strict=False)), np.bool_, len(ids))
            documents = len(found.doc_ids) - 1 + np.cumsum(new)
            found.doc_ids += [doc for doc, is_new in zip(ids, new.tolist(), strict=True) if is_new]
            last = ids[-1]
            rows = np.arange(at, at + table.num_rows)
            for channel in pc.unique(table.column("channel")).to_pylist():
                mine = pc.equal(table.column("channel"), channel)
                where = mine.to_numpy()
                own = table if where.all() else table.filter(mine)
                channels.setdefault(channel, _Channel()).add(own, documents[where], rows[where])
        count = len(found.doc_ids) - before
        if count != span.documents:
            raise SaerayError(
                f"shard {span.shard} of {dataset.name} holds {count:,} documents in rows {span.start}-{span.stop}, "
                f"its commit says {span.documents:,}: see what `saeray verify {dataset.name}` says"
            )
        found.shards.append(np.full(count, span.shard))
    return found, channels


def _check_latents(dataset: Dataset, span: Span, table: pa.Table, d_sae: int) -> None:
    highest = pc.max(pc.list_flatten(table.column("latents"))).as_py()
    if highest is not None and highest >= d_sae:
        raise SaerayError(
            f"shard {span.shard} of {dataset.name} holds latent {highest}, the encoder has {d_sae}: "
            f"see what `saeray verify {dataset.name}` says"
        )


def _documents_file(documents: _Documents, channels: dict[str, _Channel]) -> bytes:
    """The Parquet file of a block's documents."""
    count = len(documents.doc_ids)
    columns: dict[str, pa.Array] = {
        "doc_id": pa.array(documents.doc_ids, pa.string()),
        "shard": pa.array(np.concatenate([np.zeros(0, np.int64), *documents.shards]).astype(np.int32)),
    }
    for name in sorted(channels):
        channel = channels[name]
        where = np.concatenate(channel.documents)
        absent = np.ones(count, np.bool_)
        absent[where] = False
        for column, parts in (("n_tokens", channel.n_tokens), ("row", channel.rows)):
            values = np.zeros(count, np.int32)
            values[where] = np.concatenate(parts)
            columns[f"{column}:{name}"] = pa.array(values, mask=absent)
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd", use_dictionary=["shard"])
    return sink.getvalue()


def _rows_of(
    dataset: Dataset, shard: int, start: int, stop: int, columns: Sequence[str]
) -> Iterator[tuple[int, pa.Table]]:
    """Tables of `columns`, each with the row of the part that it begins at; only rows [start, stop)."""
    at = 0
    for table in dataset.scan_shard(shard, None, columns):
        first, last = max(start - at, 0), min(stop - at, table.num_rows)
        if first < last:
            yield at + first, table.slice(first, last - first)
        at += table.num_rows


def _documents_of(dataset: Dataset, shard: int, start: int, stop: int) -> tuple[Int64, Int64]:
    """The first row of each document of rows [start, stop), then `stop`; and how many postings come before each."""
    first: list[int] = []
    sizes: list[Int64] = []
    last = None
    for at, table in _rows_of(dataset, shard, start, stop, ("doc_id", "latents")):
        for row, doc_id in enumerate(table.column("doc_id").to_pylist(), at):
            if doc_id != last:
                first.append(row)
            last = doc_id
        sizes.append(pc.list_value_length(table.column("latents")).to_numpy().astype(np.int64))
    edges = np.array([*first, stop], np.int64)
    before = np.concatenate([np.zeros(1, np.int64), *sizes]).cumsum()
    return edges, before[edges - start]


def _latents_of(dataset: Dataset, shard: int) -> int:
    """How many latents a part holds, from its footer; an empty list counts as one."""
    place = dataset.root / "documents" / part_name(shard)
    try:
        with place.open(FOOTER_BYTES) as stream, pq.ParquetFile(stream) as file:
            groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
            names = [groups[0].column(i).path_in_schema.split(".")[0] for i in range(groups[0].num_columns)]
            return sum(int(group.column(names.index("latents")).num_values) for group in groups)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:120]
        raise SaerayError(f"cannot read {place.uri} ({reason}): see what `saeray verify` says") from error


def _flat(table: pa.Table, column: str) -> NDArray[Any]:
    """All elements of a list column, in row order."""
    flat: NDArray[Any] = pc.list_flatten(table.column(column)).to_numpy()
    return flat


def _together(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """The arrays as one; empties the list, so that they are not held twice."""
    whole: NDArray[Any] = np.concatenate(parts)
    parts.clear()
    return whole


def _put(place: Location, data: bytes) -> None:
    """Creates the file; one of another length is no file of this block but what a failing disk left of it."""
    if not place.create(data) and place.size() != len(data):
        place.replace(data)
