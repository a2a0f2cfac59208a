"""Files in any fsspec storage, and this node's copies of them: a reader's, an SAE's.

A directory that the processes of a node share. A file is copied by one process under a lock, into a name of its own,
checked against its size, and moved into place: whoever looks sees a whole file or none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from saeray.errors import SaerayError, first_line
from saeray.readers.source import (
    INDEX,
    SINGLE,
    SMALL,
    ReaderSource,
    cache_directory,
    in_directory,
    is_needed,
    locked,
    weight_map,
)

PART = 2**25  # bytes of one request to a store; several run at once
AT_ONCE = 8


def prepare_from_storage(uri: str, layer: int, *, weights: bool = True) -> ReaderSource:
    """The reader at `uri`, a prefix of any fsspec storage, made ready on this node as `source.prepare` does it.

    The files that hold blocks up to `layer` are copied whole, because the fingerprint is made of their digests, and
    once a node; of the copies only the needed tensors are read. weights: without them only the configuration and the
    tokenizer are copied. Raises SaerayError when something is not there.
    """
    base = uri.rstrip("/")
    small = _small_files(base)
    if "config.json" not in small:
        raise SaerayError(f"no reader at {uri}: it has no config.json")
    if not weights:
        return in_directory(_linked(base, small), layer, weights=False)
    files = {SINGLE}
    if INDEX in small:
        files = {file for name, file in weight_map(_linked(base, [INDEX])).items() if is_needed(name, layer)}
    return in_directory(_linked(base, [*small, *files]), layer)


def copy_from_storage(uri: str, beside: Iterable[str] = ()) -> Path:
    """The file at `uri`, or all files right below it, on this node under their own names: an SAE's checkpoint.

    beside: what a file is read together with; those of them that lie beside it come too. Raises SaerayError when
    nothing is there.
    """
    base = uri.rstrip("/")
    path, found = _listed(base)
    if not found:
        raise SaerayError(f"cannot read {uri}: it holds no files")
    if found != [path.rstrip("/")]:  # of a file, listing gives the file
        return _linked(base, [_last(name) for name in found])
    base, _, name = base.rpartition("/")
    others = {_last(one) for one in _listed(base)[1]} & set(beside) if beside else set()
    return _linked(base, {name, *others}) / name


def node_copy(uri: str) -> Path:
    """The file at `uri` on this node's disk, copied there by the first process that asks."""
    file_system, path = _file_system(uri)
    with _one_line(uri):
        info = file_system.info(path)
    size = int(info["size"])
    stamp = [str(info.get(name)) for name in ("ETag", "etag", "mtime", "created", "LastModified") if info.get(name)]
    key = hashlib.sha256("\n".join([uri, str(size), *stamp]).encode()).hexdigest()[:16]
    target = cache_directory() / "shards" / f"{key}-{path.rsplit('/', 1)[-1]}"
    with locked(target):
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
    found = [_last(name) for name in _listed(base)[1]]
    return sorted(name for name in found if any(fnmatch(name, pattern) for pattern in SMALL))


def _listed(uri: str) -> tuple[str, list[str]]:
    """The path of `uri` in its storage, and the paths of the files right below it; of a file, its own."""
    file_system, path = _file_system(uri)
    with _one_line(uri):
        file_system.invalidate_cache(path)  # listings are kept for the life of a process, which may see other files
        listed = file_system.ls(path, detail=True)
    # s3fs lists the empty object that stands for a folder as a file of its name.
    return path, [one["name"] for one in listed if one["type"] == "file" and not one["name"].endswith("/")]


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1]


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
