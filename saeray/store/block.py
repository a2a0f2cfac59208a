"""A block of the latent-major index: at most 65,536 documents of a dataset, made once and never changed.

It is a pure function of its spans, the rows of committed shards that it holds, and is named by them, so two runs that
make the same block make the same bytes, and a new commit makes new blocks and leaves the others. Of each block there
are a file of postings a channel, a Parquet file of its documents, and a JSON note, written last, that says what the
others hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saeray.errors import SaerayError
from saeray.store.dataset import Dataset
from saeray.store.files import Location
from saeray.store.postings import Int64, Postings, PostingsFacts, PostingsFile
from saeray.store.selectors import Selector

FORMAT = 1


@dataclass(frozen=True, order=True)
class Span:
    """Rows [start, stop) of a committed shard, whose part has the `digest` (its first 16 hex digits), with how many
    documents they are, and postings (at least as many as there are)."""

    shard: int
    start: int
    stop: int
    documents: int
    postings: int
    digest: str


@dataclass(frozen=True)
class BlockFacts:
    """The JSON note of a block. `documents_file`: name, bytes and sha256; `channels`: the postings of each."""

    name: str
    documents: int
    spans: tuple[Span, ...]
    documents_file: tuple[str, int, str]
    channels: dict[str, PostingsFacts]

    def files(self) -> dict[str, tuple[int, str]]:
        """Bytes and sha256 of each data file."""
        found = {facts.file: (facts.bytes, facts.sha256) for facts in self.channels.values()}
        return found | {self.documents_file[0]: self.documents_file[1:]}

    def to_json(self) -> bytes:
        """The note."""
        return (json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=False) + "\n").encode()

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        spans = [[s.shard, s.start, s.stop, s.documents, s.postings, s.digest] for s in self.spans]
        return asdict(self) | {"format": FORMAT, "spans": spans}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> BlockFacts:
        """The inverse; KeyError, TypeError or ValueError when it is not one."""
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        name, size, digest = content["documents_file"]
        return cls(
            str(content["name"]),
            int(content["documents"]),
            tuple(Span(*span) for span in content["spans"]),
            (name, size, digest),
            {channel: PostingsFacts(**facts) for channel, facts in content["channels"].items()},
        )


def block_name(spans: Sequence[Span], d_sae: int) -> str:
    """The name of the block with these spans: what its bytes follow from, digested."""
    content = [FORMAT, d_sae, [[s.shard, s.start, s.stop, s.digest] for s in spans]]
    return "block-" + hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def read_facts(root: Location, name: str) -> BlockFacts | None:
    """The note of a block; None when there is none that can be read."""
    data = (root / f"{name}.json").read_if_there()
    try:
        return None if data is None else BlockFacts.from_dict(json.loads(data))
    except (ValueError, KeyError, TypeError):
        return None


def is_whole(root: Location, facts: BlockFacts) -> bool:
    """Whether every file of the block is there in its full length."""
    sizes = ((root / file, size) for file, (size, _) in facts.files().items())
    return all(place.exists() and place.size() == size for place, size in sizes)


class Block:
    """The read side of one block; documents are numbered from 0 in the order of their rows, whatever the channel."""

    def __init__(self, root: Location, number: int, facts: BlockFacts, d_sae: int, dataset: str) -> None:
        self.number, self.documents, self.digest, self.facts = number, facts.documents, facts.name, facts
        self._root, self._d_sae = root, d_sae
        self._mend = f"delete it and run `saeray index {dataset}`"
        self._files = {
            channel: PostingsFile(root / one.file, one, d_sae, self._mend) for channel, one in facts.channels.items()
        }

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that some document of the block has, sorted."""
        return tuple(sorted(self._files))

    def n_tokens(self, channel: str) -> NDArray[np.int32]:
        """Pooled tokens of each document, int32[documents]; -1 where it has no such channel."""
        return self._numbers(f"n_tokens:{channel}")

    def frequency(self, channel: str) -> Int64:
        """In how many documents of the block each latent is present, int64[d_sae]."""
        file = self._files.get(channel)
        return np.zeros(self._d_sae, np.int64) if file is None else np.diff(file.offsets)

    def postings(self, channel: str, latents: Int64) -> Postings:
        """The postings of some ascending latents."""
        file = self._files.get(channel)
        return Postings.none(latents) if file is None else file.postings(latents)

    def doc_ids(self) -> pa.ChunkedArray:
        """The doc_id of each document, string[documents]."""
        return self._documents.column("doc_id")

    def rows(self, channel: str) -> pa.Table:
        """Where each document's row of a channel lies: `shard` int32, and `row` of its part int32, -1 where the
        document has no such channel."""
        row = pa.array(self._numbers(f"row:{channel}"))
        return pa.table({"shard": self._documents.column("shard"), "row": row})

    def mask(self, dataset: Dataset, selector: Selector, channel: str) -> NDArray[np.bool_]:
        """Which documents have a row of `channel` that `selector` takes, bool[documents]."""
        selector.check(dataset.schema())
        rows = self._numbers(f"row:{channel}")
        chosen = rows >= 0
        if not selector.conditions:
            return chosen & (not selector.negate)
        base = 0
        for span in self.facts.spans:
            here = slice(base, base + span.documents)
            base += span.documents
            if not span.documents:
                continue
            tables = dataset.scan_shard(span.shard, None, selector.columns)
            taken = np.concatenate([selector.mask(table).to_numpy(zero_copy_only=False) for table in tables])
            chosen[here] &= taken[np.maximum(rows[here], 0)]
        return chosen

    @cached_property
    def _documents(self) -> pa.Table:
        file, size, _ = self.facts.documents_file
        place = self._root / file
        data = place.read_if_there()
        try:
            if data is None or len(data) != size:
                raise OSError("it is gone" if data is None else f"{len(data):,} bytes of {size:,}")
            return pq.read_table(pa.BufferReader(data))
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:100]
            raise SaerayError(f"{place.uri} is not whole ({reason}): {self._mend}") from error

    def _numbers(self, column: str) -> NDArray[np.int32]:
        if column not in self._documents.column_names:
            return np.full(self.documents, -1, np.int32)
        found: NDArray[np.int32] = pc.fill_null(self._documents.column(column), -1).to_numpy()
        return found
