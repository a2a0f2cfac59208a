"""What there is to encode: files, directories and globs become a sorted list of inputs, each with a mark of its state.

An input's name is its path relative to what was given, so that the same data keeps its document ids wherever it lies;
its size and mark (modification time, or ETag) tell later whether it is still what was planned.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from saeray.errors import SaerayError, UsageError
from saeray.store.failures import MissingFile
from saeray.store.files import Location, location

FORMATS = {".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
COMPRESSIONS = {".gz": "gz", ".zst": "zst", ".zstd": "zst"}
_ENDINGS = "|".join(map(re.escape, FORMATS)) + ")(?:" + "|".join(map(re.escape, COMPRESSIONS))
# A colon stands before a scheme's slashes or before conditions, so `d:file=x.csv` is a dataset's selector.
_FILE = re.compile(rf"((?:[a-z0-9]+://)?[^:]+?(?:{_ENDINGS})?)(:.*)?", re.IGNORECASE | re.DOTALL)
KINDS = "Parquet (.parquet), JSONL (.jsonl) or CSV (.csv), the last two also as .gz or .zst"


@dataclass(frozen=True)
class Input:
    """One input file. `format` is parquet, jsonl or csv; `compression` is "", gz or zst; `size` is in bytes."""

    name: str
    uri: str
    format: str
    compression: str
    size: int
    mark: str


def list_inputs(patterns: Sequence[str]) -> list[Input]:
    """The inputs that files, directories (searched below) and globs name, sorted by name.

    Files of other kinds in a directory are passed over, and so are hidden ones; a file named outright must be of a
    known kind. Raises UsageError: nothing there, unreadable, two inputs with one relative name.
    """
    found: dict[str, Input] = {}
    for pattern in patterns:
        for name, place, info in _expand(pattern):
            try:
                name.encode()
            except UnicodeEncodeError:
                raise UsageError(f"the name of input {name!r} is not UTF-8: rename the file") from None
            kind = kind_of(name)
            if kind is None:
                raise UsageError(f"cannot read {place.uri}: inputs are {KINDS}")
            size, mark = _state(place, info)
            one = Input(name, place.uri, *kind, size, mark)
            other = found.setdefault(name, one)
            if other.uri != one.uri:
                raise UsageError(
                    f"two inputs have the relative name {name}: {other.uri} and {one.uri}; give their common directory"
                )
    if not found:
        raise UsageError("no input given: name a file, a directory or a glob")
    return [found[name] for name in sorted(found)]


def kind_of(name: str) -> tuple[str, str] | None:
    """(format, compression) that a file's name tells, or None."""
    stem, ending = os.path.splitext(name.lower())
    compression = COMPRESSIONS.get(ending, "")
    if compression:
        ending = os.path.splitext(stem)[1]
    kind = FORMATS.get(ending)
    if kind is None or (kind == "parquet" and compression):
        return None
    return kind, compression


def file_and_conditions(word: str) -> tuple[str, str] | None:
    """`answers.jsonl:model=A` as ("answers.jsonl", ":model=A"); None when `word` does not name a data file."""
    found = _FILE.fullmatch(word)
    return None if found is None else (found[1], found[2] or "")


def names_file(word: str) -> bool:
    """Whether `word` names a data file, perhaps with conditions, and not a dataset."""
    return file_and_conditions(word) is not None


def check_unchanged(planned: Input, place: Location) -> None:
    """Raises SaerayError when the file at `place` is not what was planned, or not there."""
    try:
        size, mark = _state(place, place.info())
    except MissingFile:
        raise SaerayError(f"input {planned.name} is gone ({place.uri}): bring it back and rerun") from None
    if (size, mark) != (planned.size, planned.mark):
        raise changed(planned, size)


def changed(planned: Input, size: int) -> SaerayError:
    """The refusal of an input that is not what it was when it was planned."""
    what = f"{planned.size} bytes then, {size} now" if size != planned.size else "modified since, same size"
    return SaerayError(
        f"input {planned.name} changed after it was planned ({what}): restore it, or give the new data another name"
    )


def _state(place: Location, info: dict[str, Any]) -> tuple[int, str]:
    if place.is_local:
        status = os.stat(place.path)
        return status.st_size, str(status.st_mtime_ns)
    mark = info.get("ETag") or info.get("etag") or info.get("generation") or info.get("LastModified") or ""
    return int(info["size"]), str(mark).strip('"')


def _expand(pattern: str) -> Iterable[tuple[str, Location, dict[str, Any]]]:
    """(relative name, place, fsspec info) of every file that one argument stands for."""
    place = location(pattern)
    try:
        info = place.info()
    except MissingFile:
        info = {"type": "none"}
    except SaerayError as error:
        raise UsageError(f"cannot read input: {error}") from error
    if info["type"] == "directory":
        return _in_directory(place)
    if info["type"] == "none":
        if not glob.has_magic(pattern):
            raise UsageError(f"there is no input {place.uri}")
        return _matching(place)
    if place.is_local:
        _check_local(place)
    return [(place.path.rsplit("/", 1)[-1], place, info)]


def _in_directory(place: Location) -> list[tuple[str, Location, dict[str, Any]]]:
    found = []
    for path, info in _walk(place):
        name = path[len(place.path.rstrip("/")) + 1 :]
        if kind_of(name) and not any(part.startswith((".", "_")) for part in name.split("/")):
            child = place / name
            if place.is_local:
                _check_local(child)
            found.append((name, child, info))
    if not found:
        raise UsageError(f"nothing to read in {place.uri}: inputs are {KINDS}")
    return found


def _matching(place: Location) -> list[tuple[str, Location, dict[str, Any]]]:
    parts = place.path.split("/")
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    root = "/".join(parts[:first])
    matches = place.retrying("list", lambda: place.fs.glob(place.path, detail=True))
    base = location(root or "/") if place.is_local else location(place.uri.split("://")[0] + "://" + root)
    found = []
    for path, info in sorted(matches.items()):
        name = path[len(root) + 1 :]
        hidden = any(part.startswith(".") for part in name.split("/"))
        if info["type"] != "directory" and kind_of(name) and not hidden:
            child = base / name
            if place.is_local:
                _check_local(child)
            found.append((name, child, info))
    if not found:
        raise UsageError(f"nothing to read matches {place.uri}: inputs are {KINDS}")
    return found


def _walk(place: Location) -> Iterable[tuple[str, dict[str, Any]]]:
    if not place.is_local:
        return sorted(place.retrying("list", lambda: place.fs.find(place.path, detail=True)).items())

    def refuse(error: OSError) -> None:
        raise UsageError(f"cannot read input directory {error.filename}: {error.strerror}")

    paths = []
    for directory, _, names in os.walk(place.path, onerror=refuse):
        paths += [os.path.join(directory, name) for name in names]
    return [(path, {}) for path in sorted(paths)]


def _check_local(place: Location) -> None:
    """Refuses what would fail, or hang, only when a worker comes to it."""
    try:
        if not stat.S_ISREG(os.stat(place.path).st_mode):
            raise UsageError(f"cannot read {place.uri}: not a regular file")
        with open(place.path, "rb"):
            pass
    except OSError as error:
        raise UsageError(f"cannot read input {place.uri}: {error.strerror}") from error
