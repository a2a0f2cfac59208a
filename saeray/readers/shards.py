"""Where a checkpoint's files lie, on a local disk or in any fsspec storage, and the node's copy of them.

Only what reads bytes is here: sizes, ranges, headers, and a directory that the processes of a node share. A file is
copied by one process under a lock, into a name of its own, checked against its size, and moved into place: whoever
looks sees a whole file or none.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from saeray.errors import SaerayError, first_line
from saeray.readers.model import load_config
from saeray.readers.source import (
    INDEX,
    SINGLE,
    SMALL,
    ReaderSource,
    cache_directory,
    in_directory,
    is_needed,
    weight_map,
)

PART = 2**25  # bytes of one request to a store; several run at once
AT_ONCE = 8
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I8": torch.int8, "U8": torch.uint8, "F8_E4M3": torch.float8_e4m3fn,
    "BOOL": torch.bool, "I16": torch.int16, "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64,
    "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
}  # fmt: skip
_LONGEST_HEADER = 100_000_000  # safetensors' own limit


@dataclass(frozen=True)
class Piece:
    """One tensor in a file: its bytes are begin..end of the file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Checkpoint:
    """directory: local, with config.json and the tokenizer. tensors: name -> URI or path of the file that holds it."""

    directory: Path
    tensors: dict[str, str]

    @classmethod
    def of(cls, source: ReaderSource) -> Checkpoint:
        """A reader that is ready on this node."""
        return cls(source.directory, {name: str(path) for name, path in source.tensors.items()})

    def config(self, layer: int) -> Any:
        """The reader's configuration. Raises SaerayError when it has no block `layer`."""
        return load_config(ReaderSource(self.directory, {}, {}), layer)


def open_checkpoint(uri: str, layer: int) -> Checkpoint:
    """The checkpoint in Hugging Face's layout at `uri`, a directory or a prefix of any fsspec storage.

    Its weights stay where they are; of one in storage, configuration and tokenizer are copied to the node. Raises
    SaerayError when something is not there.
    """
    if "://" not in uri:
        directory, base = Path(uri), str(Path(uri))
    else:
        base = uri.rstrip("/")
        directory = _linked(base, _small_files(base))
    if not (directory / "config.json").is_file():
        raise SaerayError(f"no reader at {uri}: it has no config.json")
    if (directory / INDEX).is_file():
        names = weight_map(directory)
    else:
        names = {piece.name: SINGLE for piece in read_pieces(f"{base}/{SINGLE}")}
    return Checkpoint(directory, {name: f"{base}/{file}" for name, file in names.items() if is_needed(name, layer)})


def prepare_from_storage(uri: str, layer: int) -> ReaderSource:
    """The reader at `uri`, a prefix of any fsspec storage, made ready on this node as `source.prepare` does it.

    The files that hold blocks up to `layer` are copied whole, because the fingerprint is made of their digests, and
    once a node; of the copies only the needed tensors are read. Raises SaerayError when something is not there.
    """
    base = uri.rstrip("/")
    small = _small_files(base)
    if "config.json" not in small:
        raise SaerayError(f"no reader at {uri}: it has no config.json")
    files = {SINGLE}
    if INDEX in small:
        files = {file for name, file in weight_map(_linked(base, [INDEX])).items() if is_needed(name, layer)}
    return in_directory(_linked(base, [*small, *files]), layer)


def copy_from_storage(uri: str) -> Path:
    """The file at `uri`, or all files right below it, on this node under their own names: an SAE's checkpoint.

    Raises SaerayError when nothing is there.
    """
    base = uri.rstrip("/")
    file_system, path = _file_system(base)
    with _one_line(uri):
        listed = file_system.ls(path, detail=True)
    # s3fs lists the empty object that stands for a folder as a file of its name.
    found = [one["name"] for one in listed if one["type"] == "file" and not one["name"].endswith("/")]
    if not found:
        raise SaerayError(f"cannot read {uri}: it holds no files")
    if [name.rstrip("/") for name in found] == [path.rstrip("/")]:  # of a file, listing gives the file
        base, _, name = base.rpartition("/")
        return _linked(base, [name]) / name
    return _linked(base, [name.rsplit("/", 1)[-1] for name in found])


def read_pieces(uri: str) -> list[Piece]:
    """The tensors of a safetensors file in file order, from its header; the file's length is checked against it."""
    size = size_of(uri)
    length = int.from_bytes(read_range(uri, 0, 8), "little") if size >= 8 else 0
    if not 0 < length <= min(_LONGEST_HEADER, size - 8):
        raise SaerayError(f"cannot read the weights at {uri}: it is truncated or no safetensors file; fetch it again")
    try:
        header = json.loads(read_range(uri, 8, 8 + length))
        header.pop("__metadata__", None)
        pieces = [
            Piece(name, DTYPES[one["dtype"]], tuple(one["shape"]), *(8 + length + at for at in one["data_offsets"]))
            for name, one in header.items()
        ]
    except KeyError as error:
        raise SaerayError(f"cannot read the weights at {uri}: its header knows a {error} that is not read") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise SaerayError(f"cannot read the weights at {uri}: its header is spoilt; fetch it again") from error
    pieces.sort(key=lambda piece: (piece.begin, piece.end))
    last = 8 + length
    for piece in pieces:
        expected = piece.dtype.itemsize * torch.Size(piece.shape).numel()
        if piece.end - piece.begin != expected or piece.begin < last:
            raise SaerayError(f"cannot read the weights at {uri}: its header is spoilt at {piece.name}; fetch it again")
        last = piece.end
    if last > size:
        raise SaerayError(
            f"cannot read the weights at {uri}: it is truncated, {size:,} bytes of {last:,}; fetch it again"
        )
    return pieces


def node_copy(uri: str) -> Path:
    """The file at `uri` on this node's disk, copied there by the first process that asks."""
    file_system, path = _file_system(uri)
    with _one_line(uri):
        info = file_system.info(path)
    size = int(info["size"])
    stamp = [str(info.get(name)) for name in ("ETag", "etag", "mtime", "created", "LastModified") if info.get(name)]
    key = hashlib.sha256("\n".join([uri, str(size), *stamp]).encode()).hexdigest()[:16]
    target = cache_directory() / "shards" / f"{key}-{path.rsplit('/', 1)[-1]}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(target.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go by the kernel when the holder dies
        if target.is_file() and target.stat().st_size == size:
            return target
        scratch = target.with_name(f"{target.name}.{os.getpid()}")
        try:
            with _one_line(uri), scratch.open("wb") as out:
                for begin in range(0, size, PART * AT_ONCE):
                    out.write(_ask(uri, begin, min(begin + PART * AT_ONCE, size)))
                out.flush()
                os.fsync(out.fileno())
            if scratch.stat().st_size != size:
                raise SaerayError(f"cannot copy {uri} to this node: {scratch.stat().st_size:,} bytes of {size:,} came")
            scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)
    return target


def _small_files(base: str) -> list[str]:
    """The names of the checkpoint's configuration, tokenizer and index."""
    file_system, path = _file_system(base)
    with _one_line(base):
        found = [name.rstrip("/").rsplit("/", 1)[-1] for name in file_system.ls(path, detail=False)]
    return sorted(name for name in found if any(fnmatch(name, pattern) for pattern in SMALL))


def _linked(base: str, names: Iterable[str]) -> Path:
    """A directory with links to the node's copies of these files; one of its own as soon as one of them changes."""
    copies = {name: node_copy(f"{base}/{name}") for name in sorted(names)}
    key = hashlib.sha256("\n".join([base, *(copy.name for copy in copies.values())]).encode()).hexdigest()[:16]
    directory = cache_directory() / "shards" / f"{key}-files"
    directory.mkdir(parents=True, exist_ok=True)
    for name, copy in copies.items():
        scratch = directory / f".{name}.{os.getpid()}"
        scratch.unlink(missing_ok=True)
        scratch.symlink_to(copy)
        scratch.replace(directory / name)
    return directory


def size_of(uri: str) -> int:
    """Bytes of a file. Raises SaerayError when it is not there."""
    file_system, path = _file_system(uri)
    with _one_line(uri):
        return int(file_system.size(path))


def read_range(uri: str, begin: int, end: int, into: memoryview | None = None) -> bytes:
    """Bytes begin..end of a file, written to `into` (of that length) where it is given, else returned.

    Raises SaerayError when the file is shorter or cannot be read.
    """
    with _one_line(uri):
        if "://" in uri:
            found = _ask(uri, begin, end)
            if into is not None and len(found) == len(into):
                into[:] = found
            got = len(found)
        else:
            with open(uri, "rb", buffering=0) as file:
                file.seek(begin)
                view = memoryview(bytearray(end - begin)) if into is None else into
                got = 0
                while got < len(view) and (count := file.readinto(view[got : got + 2**30])):
                    got += count
                found = b"" if into is not None else bytes(view[:got])
    if got != end - begin:
        raise SaerayError(f"cannot read {uri}: it ends early, at byte {begin + got:,} instead of {end:,}")
    return found


def _ask(uri: str, begin: int, end: int) -> bytes:
    """Bytes of an object, in parts that are asked for at once."""
    file_system, path = _file_system(uri)
    starts = list(range(begin, end, PART)) or [begin]
    stops = [min(start + PART, end) for start in starts]
    parts = file_system.cat_ranges([path] * len(starts), starts, stops, on_error="raise")
    return b"".join(parts)


def _file_system(uri: str) -> tuple[Any, str]:
    import fsspec

    try:
        file_system, path = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise SaerayError(f"cannot read {uri}: {first_line(error)}") from error
    return file_system, str(path)


@contextmanager
def _one_line(uri: str) -> Iterator[None]:
    """Whatever a storage library raises, as one line that names the file."""
    try:
        yield
    except SaerayError:
        raise
    except FileNotFoundError as error:
        raise SaerayError(f"cannot read {uri}: it is not there") from error
    except Exception as error:  # object stores raise classes of their own clients
        raise SaerayError(f"cannot read {uri}: {first_line(error)}") from error
