"""The latent-major form of one block of documents: for each latent the documents that have it, and the stored values.

A file is one Arrow IPC record batch, uncompressed: row i is latent i, columns `document` large_list<uint16> ascending,
`max` large_list<halffloat>, `peak` large_list<uint16 or uint32>. Any Arrow library opens it. Where each buffer lies in
the file is noted when it is written, so reading a latent is a slice of a mapped file, or one range of an object, and
parses nothing. Rejected: a record batch for each range of latents, which costs an object store the whole range for one
latent and the whole file for a count; and compression: postings are read at 200 million a second and core, zstd
decodes a tenth of that.

Six bytes a posting, eight where a document of the block has more than 65,536 tokens.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from saeray.errors import SaerayError
from saeray.store.files import Location

Int64 = NDArray[np.int64]

#: Documents of a block are numbered by uint16.
MAX_DOCUMENTS = 1 << 16
#: A block is held in memory when it is made, 17 bytes a posting (measured; 25 with wide peaks): 2.3 GB of 2**27.
MAX_POSTINGS = 1 << 27
# Object storage answers after 10 to 50 ms and then gives some 100 MB/s a request: below 2 MB a gap is cheaper to read
# than to leave out, and 8 MB a request keep several in flight.
GAP_BYTES = 2 << 20
REQUEST_BYTES = 8 << 20
FETCH_THREADS = 16


@dataclass(frozen=True)
class PostingsFacts:
    """What is noted of a file when it is written. `peak` is the type of that column; `at` the byte each of `offsets`
    (int64[d_sae + 1]), `document`, `max` and `peak` begins at."""

    file: str
    bytes: int
    sha256: str
    postings: int
    peak: str
    at: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def pack(maximum: NDArray[np.float32], peak: NDArray[np.int32]) -> NDArray[np.uint32] | NDArray[np.uint64]:
    """Maxima (halves held in float32) and peaks in one word, so that a posting moves once: uint32, or uint64 where a
    peak needs more than 16 bits."""
    halves = maximum.astype(np.float16).view(np.uint16)
    wide = np.uint64 if peak.size and peak.max() >= 1 << 16 else np.uint32
    packed: NDArray[Any] = peak.astype(wide)
    packed <<= wide(16)
    packed |= halves
    return packed


def build_block(lengths: Int64, latents: NDArray[np.int32], packed: NDArray[Any], d_sae: int) -> bytes:
    """The file of one channel of a block, a pure function of its rows.

    `lengths` int64[documents]: how many latents each document has. `latents` int32[postings]: those, document by
    document, ascending in each. `packed` [postings]: their values, by `pack`. A counting sort; it holds 17 bytes a
    posting, input and result included, when the caller keeps no reference to the input.
    """
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    rows = csr_matrix((packed, latents, offsets), shape=(len(lengths), d_sae), copy=False)
    del packed, latents  # each array goes as soon as it is used: a block is large
    columns = rows.tocsc()
    del rows
    starts, data, document = columns.indptr.astype(np.int64), columns.data, columns.indices.astype(np.uint16)
    del columns
    halves = data.astype(np.uint16).view(np.float16)
    data >>= data.dtype.type(16)
    peak = data.astype(np.uint16 if data.dtype == np.uint32 else np.uint32)
    del data
    return _ipc(starts, {"document": document, "max": halves, "peak": peak})


def facts_of(file: str, data: bytes) -> PostingsFacts:
    """What there is to note of a file with these bytes."""
    batch = _batch(data)
    base = pa.py_buffer(data).address
    at = {name: _values(batch.column(name)).buffers()[1].address - base for name in batch.schema.names}
    at["offsets"] = batch.column("document").buffers()[1].address - base
    peak = batch.schema.field("peak").type.value_type
    digest = hashlib.sha256(data).hexdigest()
    return PostingsFacts(file, len(data), digest, len(_values(batch.column("document"))), str(peak), at)


@dataclass(frozen=True)
class Postings:
    """Some latents of a block: `latents[j]` (int64[m], ascending) is present in `documents[offsets[j]:offsets[j + 1]]`
    (uint16[n], ascending; `offsets` int64[m + 1]). `max` and `peak` are read when they are first asked for. On a local
    store nothing is copied while the latents asked for lie together."""

    latents: Int64
    offsets: Int64
    documents: NDArray[np.uint16]
    _file: PostingsFile | None = field(default=None, repr=False, compare=False)
    _runs: Sequence[tuple[int, int]] = field(default=(), repr=False, compare=False)

    @cached_property
    def max(self) -> NDArray[np.float16]:
        """The stored maxima, float16[n]."""
        return np.empty(0, np.float16) if self._file is None else self._file.read("max", self._runs)

    @cached_property
    def peak(self) -> NDArray[np.unsignedinteger[Any]]:
        """The tokens of the maxima, uint16[n], or uint32[n] where the block needs it."""
        return np.empty(0, np.uint16) if self._file is None else self._file.read("peak", self._runs)

    @classmethod
    def none(cls, latents: Int64) -> Postings:
        """Those of `latents` where there are none."""
        latents = np.asarray(latents, np.int64)
        return cls(latents, np.zeros(len(latents) + 1, np.int64), np.empty(0, np.uint16))


class PostingsFile:
    """The file at `place`, of which `facts` were noted. `mend`: what a person does when it is not whole."""

    def __init__(self, place: Location, facts: PostingsFacts, d_sae: int, mend: str) -> None:
        self.place, self.facts, self.d_sae, self._mend = place, facts, d_sae, mend
        self._types: dict[str, np.dtype[Any]] = {
            "offsets": np.dtype(np.int64),
            "document": np.dtype(np.uint16),
            "max": np.dtype(np.float16),
            "peak": np.dtype(facts.peak),
        }

    @cached_property
    def offsets(self) -> Int64:
        """Where each latent's postings begin, int64[d_sae + 1]. Raises SaerayError when the file is not whole."""
        found: Int64 = self.read("offsets", [(0, self.d_sae + 1)])
        if found[0] or found[-1] != self.facts.postings or (found[1:] < found[:-1]).any():
            raise self.broken("its offsets are not those of postings")
        return found

    def postings(self, latents: Int64) -> Postings:
        """Those of some `latents`, ascending; ValueError when they are not, or are not the encoder's."""
        latents = np.asarray(latents, np.int64)
        if latents.size and (latents[0] < 0 or latents[-1] >= self.d_sae or (np.diff(latents) <= 0).any()):
            raise ValueError(f"latents must ascend within 0..{self.d_sae - 1}")
        begin, end = self.offsets[latents], self.offsets[latents + 1]
        offsets = np.zeros(len(latents) + 1, np.int64)
        np.cumsum(end - begin, out=offsets[1:])
        runs = _joined(begin, end)
        return Postings(latents, offsets, self.read("document", runs), self, runs)

    def read(self, column: str, runs: Sequence[tuple[int, int]]) -> NDArray[Any]:
        """Elements [start, stop) of each run of `column`, one after the other."""
        kind, at = self._types[column], self.facts.at[column]
        if self.place.is_local:
            whole = self._mapped[at : at + self._length(column) * kind.itemsize].view(kind)
            pieces = [whole[start:stop] for start, stop in runs]
        else:
            pieces = self._fetch(at, kind, runs)
        if len(pieces) == 1:
            return pieces[0]
        found: NDArray[Any] = np.concatenate(pieces) if pieces else np.empty(0, kind)
        return found

    def broken(self, reason: str) -> SaerayError:
        """The line for a file that is not what was written."""
        return SaerayError(f"{self.place.uri} is not whole ({reason}): {self._mend}")

    @cached_property
    def _mapped(self) -> NDArray[np.uint8]:
        try:
            mapped = np.memmap(self.place.path, np.uint8, "r")
        except FileNotFoundError as error:
            raise self.broken("it is gone") from error
        except (OSError, ValueError) as error:
            raise self.broken(" ".join(str(error).split())[:100]) from error
        if len(mapped) != self.facts.bytes:
            raise self.broken(f"{len(mapped):,} bytes of {self.facts.bytes:,}")
        return np.asarray(mapped)

    def _length(self, column: str) -> int:
        return self.d_sae + 1 if column == "offsets" else self.facts.postings

    def _fetch(self, at: int, kind: np.dtype[Any], runs: Sequence[tuple[int, int]]) -> list[NDArray[Any]]:
        """The runs of an object: near ones are read together, long ones in pieces, several at a time."""
        groups = _near(runs, GAP_BYTES // kind.itemsize)
        step = REQUEST_BYTES // kind.itemsize
        requests = [(a, min(a + step, end)) for begin, end in groups for a in range(begin, end, step)]

        def get(request: tuple[int, int]) -> bytes:
            start, stop = (at + edge * kind.itemsize for edge in request)
            data = self.place.read_range(start, stop)
            if len(data) != stop - start:
                raise self.broken(f"it ends before byte {stop:,}")
            return data

        with ThreadPoolExecutor(FETCH_THREADS) as pool:
            parts = dict(zip(requests, pool.map(get, requests), strict=True))
        pieces = []
        for begin, end in groups:
            group = b"".join(parts[a, min(a + step, end)] for a in range(begin, end, step))
            values = np.frombuffer(group, kind)
            pieces += [values[a - begin : b - begin] for a, b in runs if begin <= a and b <= end]
        return pieces


def _joined(begin: Int64, end: Int64) -> list[tuple[int, int]]:
    """Ranges of postings, those that touch as one; empty ones left out."""
    filled = end > begin
    begin, end = begin[filled], end[filled]
    if not len(begin):
        return []
    apart = begin[1:] != end[:-1]
    starts, stops = begin[np.append(True, apart)], end[np.append(apart, True)]
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def _near(runs: Sequence[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Ranges that cover `runs`, with at most `gap` unasked elements between two runs of one."""
    groups: list[list[int]] = []
    for start, stop in runs:
        if groups and start - groups[-1][1] <= gap:
            groups[-1][1] = stop
        else:
            groups.append([start, stop])
    return [(start, stop) for start, stop in groups]


def _ipc(starts: Int64, columns: dict[str, NDArray[Any]]) -> bytes:
    offsets = pa.py_buffer(starts)
    arrays = []
    for values in columns.values():
        kind = pa.from_numpy_dtype(values.dtype)
        inner = pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
        outer = pa.large_list(pa.field("item", kind, nullable=False))
        arrays.append(pa.Array.from_buffers(outer, len(starts) - 1, [None, offsets], children=[inner]))
    batch = pa.record_batch(arrays, list(columns))
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def _batch(data: bytes) -> pa.RecordBatch:
    return pa.ipc.open_file(pa.py_buffer(data)).get_batch(0)


def _values(column: pa.LargeListArray) -> pa.Array:
    return column.values
