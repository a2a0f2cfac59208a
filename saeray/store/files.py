"""Files at a local path or in object storage, with the one operation the store stands on: create only if absent.

`Location.create` either makes the whole file visible under its name or says that one is there already. Locally that is
a temporary file, fsync and a hard link, which the kernel refuses when the name is taken; in object storage it is a
conditional put. Nothing else in saeray decides between two writers.
"""

from __future__ import annotations

import errno
import importlib.util
import io
import os
import random
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeVar, cast

import fsspec

from saeray.errors import SaerayError, UsageError
from saeray.store.failures import NO_HARD_LINKS, MissingFile, explain, is_conflict, is_transient

T = TypeVar("T")

# An S3 server that was killed and started again took 15 to 31 s to answer; three times that, then it is really away.
RETRY_SECONDS = 90.0
TEMPORARY = ".tmp-"
ABANDONED_SECONDS = 3600.0
BUFFER_BYTES = 4 << 20


@dataclass(frozen=True)
class Location:
    """A file or directory: `uri` as people know it, `path` as its file system does."""

    uri: str
    path: str
    fs: Any = field(repr=False, compare=False)
    is_local: bool

    def __truediv__(self, name: str) -> Location:
        return Location(f"{self.uri.rstrip('/')}/{name}", f"{self.path.rstrip('/')}/{name}", self.fs, self.is_local)

    def create(self, data: bytes) -> bool:
        """Makes the file, whole, only if it is absent. False: one is there already (perhaps by a retry of our own)."""
        if self.is_local:
            return self.retrying("write", lambda: _create_local(self.path, data))
        return self.retrying("write", lambda: self._create_object(data))

    def replace(self, data: bytes) -> None:
        """Makes the file whatever was there: for leases and for what can be derived again, never for a commit."""
        if self.is_local:
            self.retrying("write", lambda: _replace_local(self.path, data))
        else:
            self.retrying("write", lambda: self.fs.pipe_file(self.path, data))

    def read_bytes(self) -> bytes:
        """The whole file. Raises MissingFile when there is none."""
        return cast(bytes, self.retrying("read", lambda: self.fs.cat_file(self.path)))

    def read_if_there(self) -> bytes | None:
        """The whole file, or None when there is none."""
        try:
            return self.read_bytes()
        except MissingFile:
            return None

    def info(self) -> dict[str, Any]:
        """fsspec's description of the file: at least `size` and `type`. Raises MissingFile."""
        return cast("dict[str, Any]", self.retrying("read", lambda: self.fs.info(self.path)))

    def exists(self) -> bool:
        """True when a file (or a directory with something in it) is there."""
        return bool(self.retrying("read", lambda: self.fs.exists(self.path)))

    def size(self) -> int:
        """Bytes of the file."""
        return int(self.info()["size"])

    def names(self) -> list[str]:
        """Names of the files directly below, sorted; none when there is no such directory. Temporaries never show."""
        return self._below("file")

    def directories(self) -> list[str]:
        """Names of the directories directly below, sorted."""
        return self._below("directory")

    def delete(self) -> None:
        """Removes the file if it is there."""

        def action() -> None:
            try:
                self.fs.rm_file(self.path)
            except FileNotFoundError:
                return

        self.retrying("delete", action)

    def open(self, buffer_bytes: int = BUFFER_BYTES) -> BinaryIO:
        """The file as a seekable stream. Each read of object storage is retried for itself, so a long scan survives a
        server that restarts under it."""
        if self.is_local:
            return self.retrying("read", lambda: open(self.path, "rb"))
        return cast(BinaryIO, io.BufferedReader(_Ranges(self, self.size()), buffer_bytes))

    def read_range(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of an object."""
        return cast(bytes, self.retrying("read", lambda: self.fs.cat_file(self.path, start=start, end=stop)))

    def check_bucket(self) -> None:
        """Raises the line for a bucket that is not there or refuses us; nothing to check locally."""
        if self.is_local:
            return
        bucket = self.path.split("/")[0]
        if self.uri.startswith("s3://"):
            # A listing of one key: its refusal names the reason (no bucket, bad key), which a HEAD's does not.
            self.retrying("list", lambda: self.fs.call_s3("list_objects_v2", Bucket=bucket, MaxKeys=1))
        elif not self.retrying("read", lambda: self.fs.exists(bucket)):
            raise SaerayError(f"there is no bucket {'/'.join(self.uri.split('/')[:3])}: create it, or check the name")

    def sweep(self, older_than: float = ABANDONED_SECONDS) -> int:
        """Removes temporary files that killed writers left directly below, once nobody can still be writing them."""
        if not self.is_local or not os.path.isdir(self.path):
            return 0
        swept = 0
        with os.scandir(self.path) as entries:
            for entry in entries:
                try:
                    if entry.name.startswith(TEMPORARY) and time.time() - entry.stat().st_mtime > older_than:
                        os.unlink(entry.path)
                        swept += 1
                except FileNotFoundError:
                    continue  # its writer, or another sweeper, was quicker
        return swept

    def _below(self, kind: str) -> list[str]:
        def action() -> list[str]:
            try:
                entries = self.fs.ls(self.path, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
            names = (entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry["type"] == kind)
            return sorted(name for name in names if name and not name.startswith(TEMPORARY))

        return self.retrying("list", action)

    def _create_object(self, data: bytes) -> bool:
        try:
            self.fs.pipe_file(self.path, data, mode="create")
        except Exception as error:
            if is_conflict(error):
                return False
            raise
        return True

    def retrying(self, doing: str, action: Callable[[], T]) -> T:
        deadline = time.monotonic() + RETRY_SECONDS
        pause = 0.2
        while True:
            try:
                return action()
            except SaerayError:
                raise
            except Exception as error:
                late = time.monotonic() + pause > deadline
                if self.is_local and not isinstance(error, OSError):
                    raise
                if self.is_local or late or not is_transient(error):
                    raise explain(error, self.uri, doing) from error
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, 5.0)


def location(uri: str) -> Location:
    """The place `uri` names: a local path, file://, s3:// (AWS_ENDPOINT_URL is honoured) or gs://."""
    match = re.match(r"^([A-Za-z][A-Za-z0-9+.-]+)://(.*)$", uri, re.DOTALL)
    if "\0" in uri or not uri:
        raise UsageError(f"not a path or URI: {uri!r}")
    if match is None or match[1] == "file":
        path = os.path.abspath(os.path.expanduser(uri if match is None else match[2]))
        return Location(path, path, fsspec.filesystem("file"), True)
    scheme, rest = match[1], match[2].strip("/")
    if not rest or "@" in rest.split("/")[0] or "?" in rest:
        raise UsageError(f"a {scheme}:// URI is a bucket and a path, without keys or a query: {scheme}://BUCKET/PATH")
    if scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        options = {"endpoint_url": endpoint} if endpoint else {}
        return Location(f"s3://{rest}", rest, fsspec.filesystem("s3", use_listings_cache=False, **options), False)
    if scheme in ("gs", "gcs"):
        if importlib.util.find_spec("gcsfs") is None:
            raise UsageError("gs:// needs the gcsfs package: pip install 'saeray[gcs]'")
        return Location(f"gs://{rest}", rest, fsspec.filesystem("gcs", use_listings_cache=False), False)
    raise UsageError(f"{scheme}:// is not supported: give a local path, s3:// or gs://")


class _Ranges(io.RawIOBase):
    """Ranged reads of one object as a raw stream."""

    def __init__(self, place: Location, size: int) -> None:
        self._place, self._size, self._at = place, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._size)
        if stop <= self._at:
            return 0
        data = self._place.read_range(self._at, stop)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _write_temporary(path: str, data: bytes) -> str:
    directory, name = os.path.split(path)
    os.makedirs(directory, exist_ok=True)
    temporary = os.path.join(directory, f"{TEMPORARY}{name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        _unlink(temporary)
        raise
    return temporary


def _create_local(path: str, data: bytes) -> bool:
    if os.path.lexists(path):
        return False
    temporary = _write_temporary(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in NO_HARD_LINKS:
            raise SaerayError(
                f"the file system of {path} has no hard links, without which a file cannot be created only once:"
                " put the store on another disk or in object storage"
            ) from error
        raise
    finally:
        _unlink(temporary)
    _sync_directory(os.path.dirname(path))
    return True


def _replace_local(path: str, data: bytes) -> None:
    temporary = _write_temporary(path, data)
    try:
        os.replace(temporary, path)
    except BaseException:
        _unlink(temporary)
        raise


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _sync_directory(path: str) -> None:
    """Makes the new name survive a power cut. Some network file systems cannot sync a directory; there the name is as
    durable as they make it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)
