"""Counts of pairs of latents on disk: a file a tile, and a manifest that says which latents and blocks they are of.

`STORE/cooccurrence/NAME/SELECTION/` holds the counts of one selection of documents and one channel, or two. Latents
stand in order of entry into the band, the first ones by frequency, and are cut into ranges of `width`: tile (I, J)
counts range I against range J. The order is never changed, so a latent that enters later lengthens the last range.

Of each tile there may be two files. `settled` adds up the blocks of the index that stay as they are; `tail` those less
than half full, which the index makes again with what is new. A file's name is the digest of all that decides its
content, and it is created only if absent. The manifest is replaced last; what it no longer names is deleted then.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.errors import SaerayError
from saeray.store.files import ABANDONED_SECONDS, Location

Int64 = NDArray[np.int64]

VERSION = 1
MANIFEST = "manifest.json"
_NARROW = (np.uint16, np.uint32, np.int64)


@dataclass(frozen=True)
class TileFile:
    """One file: the counts of the first `rows` x `columns` latents of its ranges over `blocks` (names, sorted)."""

    file: str
    rows: int
    columns: int
    blocks: tuple[str, ...]

    @classmethod
    def of(cls, question: str, row: int, column: int, rows: Int64, columns: Int64, blocks: Sequence[str]) -> TileFile:
        """The file of latents `rows` x `columns` (int64, in order) over `blocks`, named by all of it."""
        names = tuple(sorted(blocks))
        content = json.dumps([VERSION, question, rows.tolist(), columns.tolist(), names])
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        return cls(f"tile-{row:04d}-{column:04d}-{digest}.arrow", len(rows), len(columns), names)


@dataclass(frozen=True)
class TileFacts:
    """The files of tile (row, column); None where there are no such blocks."""

    row: int
    column: int
    settled: TileFile | None
    tail: TileFile | None

    def files(self) -> list[TileFile]:
        """Those there are."""
        return [one for one in (self.settled, self.tail) if one is not None]


@dataclass(frozen=True)
class Manifest:
    """What was counted. `selection`: NAME or NAME:cond,cond; `latents`: of each side in order of entry, the same twice
    within one channel; `tiles` by row and column."""

    selection: str
    channels: tuple[str, ...]
    width: int
    latents: tuple[tuple[int, ...], tuple[int, ...]]
    tiles: tuple[TileFacts, ...]

    @property
    def question(self) -> str:
        """What every tile of this manifest answers."""
        return json.dumps([self.selection, list(self.channels)])

    def to_json(self) -> bytes:
        """The file; the digest at its end is of the rest."""
        content = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return (
            json.dumps({"version": VERSION, "sha256": _sha256(content.encode()), "content": content}).encode() + b"\n"
        )

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """The inverse; KeyError, TypeError or ValueError when it is not one."""
        outer = json.loads(data)
        if outer["version"] != VERSION or outer["sha256"] != _sha256(outer["content"].encode()):
            raise ValueError("its digest is not that of what it says")
        content = json.loads(outer["content"])
        tiles = tuple(
            TileFacts(one["row"], one["column"], *(_file(one[kind]) for kind in ("settled", "tail")))
            for one in content.pop("tiles")
        )
        first, second = (tuple(side) for side in content.pop("latents"))
        return cls(channels=tuple(content.pop("channels")), latents=(first, second), tiles=tiles, **content)


class Tiles:
    """The files of one selection at `place`, a directory."""

    def __init__(self, place: Location) -> None:
        self.place = place

    def manifest(self) -> Manifest | None:
        """What is there; None before the first run, and where the file cannot be read: it is counted again then."""
        data = (self.place / MANIFEST).read_if_there()
        try:
            return None if data is None else Manifest.from_json(data)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def publish(self, manifest: Manifest) -> None:
        """Replaces the manifest, then deletes tiles that only the one before named, and what was abandoned long ago."""
        before = self.manifest()
        data = manifest.to_json()
        if (self.place / MANIFEST).read_if_there() != data:
            (self.place / MANIFEST).replace(data)
        named, were = (
            {one.file for tile in (found.tiles if found else ()) for one in tile.files()}
            for found in (manifest, before)
        )
        self.place.sweep()
        for name in self.place.names():
            place = self.place / name
            if name == MANIFEST or name in named:
                continue
            if name in were or time.time() - place.fs.modified(place.path).timestamp() > ABANDONED_SECONDS:
                place.delete()

    def write(self, file: TileFile, counts: Int64) -> None:
        """Creates the file if it is absent."""
        self._check_shape(file, counts)
        (self.place / file.file).create(encode_tile(counts))

    def read(self, file: TileFile) -> Int64:
        """The counts, int64[rows, columns]. Raises SaerayError when the file is gone or is not what was written."""
        place = self.place / file.file
        try:
            return self._check_shape(file, decode_tile(place.read_bytes()))
        except (ValueError, KeyError, TypeError, OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:100]
            raise SaerayError(
                f"{place.uri} is not whole ({reason}): delete it and run `saeray cooccur` again"
            ) from error

    def counts(self, tile: TileFacts) -> Int64:
        """All counts of a tile."""
        read = [self.read(one) for one in tile.files()]
        total = read[0]
        for more in read[1:]:
            total += more
        return total

    def _check_shape(self, file: TileFile, counts: Int64) -> Int64:
        if counts.shape != (file.rows, file.columns):
            raise ValueError(f"{counts.shape[0]} x {counts.shape[1]} counts, not {file.rows} x {file.columns}")
        return counts


def encode_tile(counts: Int64, about: Mapping[str, str] | None = None) -> bytes:
    """An Arrow IPC file of one column, `count`, row after row in the narrowest type that holds them; `rows`, `columns`
    and the digest of the values are in its metadata, and `about`."""
    kind = next(kind for kind in _NARROW if not counts.size or counts.max() <= np.iinfo(kind).max)
    values = np.ascontiguousarray(counts, dtype=kind).reshape(-1)
    facts = {"rows": str(counts.shape[0]), "columns": str(counts.shape[1]), "sha256": _sha256(values.tobytes())}
    array = pa.array(values)
    schema = pa.schema([pa.field("count", array.type, nullable=False)], metadata=facts | dict(about or {}))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(pa.record_batch([array], schema=schema))
    return bytes(sink.getvalue().to_pybytes())


def decode_tile(data: bytes) -> Int64:
    """int64[rows, columns]. Raises ValueError, KeyError or ArrowException for what `encode_tile` did not write."""
    table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
    facts = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    values = table.column("count").to_numpy()
    if _sha256(values.tobytes()) != facts["sha256"]:
        raise ValueError("its counts do not have their digest")
    counts: Int64 = values.astype(np.int64).reshape(int(facts["rows"]), int(facts["columns"]))
    return counts


def folder(selection: str, channels: Sequence[str]) -> str:
    """The directory's name for a selection and its channels, of which either may hold any character."""
    return _sha256(json.dumps([selection, list(channels)]).encode())[:16]


def _file(content: dict[str, Any] | None) -> TileFile | None:
    return None if content is None else TileFile(**content | {"blocks": tuple(content["blocks"])})


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
