"""Replies kept in the store, so that the same question is paid for once.

`STORE/llm/cache/` holds segments: files of many replies, each created only if absent and named by the SHA-256 of its
bytes, so runs side by side never touch each other's. A reply is found by the key of its whole request. Only keys and
replies are written, never a prompt.

Rejected: a file a reply (100,000 judge calls were 100,000 objects: 20 ms each to read back from S3, and as many
requests to pay); one file that grows (object storage cannot append); a database (not on object storage). A segment is
written every 64 replies or 5 seconds, which is what a kill can cost; a run that ends in order joins its own into one.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from saeray.errors import SaerayError
from saeray.store.failures import MissingFile
from saeray.store.files import Location
from saeray.store.store import canonical_json

log = logging.getLogger(__name__)

FLUSH_REPLIES = 64
FLUSH_SECONDS = 5.0
_READERS = 16
# Where they stand in a line `{"key":"<64 hex>","record":<JSON>}`: a line is parsed only when it is asked for.
_KEY, _RECORD = slice(8, 72), slice(83, -1)


class Cache:
    """Records by key. place: the directory of the segments; None keeps them in memory alone."""

    def __init__(self, place: Location | None) -> None:
        self._place = place
        self._records: dict[str, bytes] = {}
        self._fresh: dict[str, bytes] = {}  # not in a segment yet
        self._own: dict[str, list[str]] = {}  # segments of this run -> their keys
        self._flushed = time.monotonic()
        self._loaded = place is None
        self._lock = threading.RLock()

    def __len__(self) -> int:
        self._load()
        return len(self._records)

    def get(self, key: str) -> dict[str, Any] | None:
        """The record kept under `key`."""
        self._load()
        data = self._records.get(key)
        return None if data is None else dict(json.loads(data))

    def put(self, records: Mapping[str, dict[str, Any]]) -> None:
        """Keeps records, those of one call in one segment; in the store at the latest after 64, after 5 seconds, or at
        `flush`."""
        data = {key: canonical_json(one).encode("utf-8", "surrogatepass") for key, one in records.items()}
        with self._lock:
            self._records |= data
            self._fresh |= data
            full = len(self._fresh) >= FLUSH_REPLIES or time.monotonic() - self._flushed >= FLUSH_SECONDS
        if full:
            self.flush()

    def flush(self) -> None:
        """Writes what is not in the store yet."""
        with self._lock:
            self._flushed = time.monotonic()
            if self._place is None or not self._fresh:
                return
            batch, self._fresh = self._fresh, {}
        try:
            name = self._write(batch)
        except BaseException:
            with self._lock:
                self._fresh = {**batch, **self._fresh}
            raise
        with self._lock:
            self._own[name] = list(batch)

    def close(self) -> None:
        """Writes what is left and joins this run's segments into one."""
        self.flush()
        with self._lock:
            own, self._own = self._own, {}
        if self._place is None or len(own) < 2:
            return
        joined = self._write({key: self._records[key] for keys in own.values() for key in keys})
        for name in own:
            if name != joined:  # another run that lists at this moment finds the joined one when it looks again
                (self._place / name).delete()

    def _write(self, batch: dict[str, bytes]) -> str:
        assert self._place is not None
        lines = b"".join(b'{"key":"%s","record":%s}\n' % (key.encode(), data) for key, data in batch.items())
        packed = gzip.compress(lines, compresslevel=3, mtime=0)
        name = hashlib.sha256(packed).hexdigest() + ".jsonl.gz"
        (self._place / name).create(packed)
        return name

    def _load(self) -> None:
        if self._loaded:
            return
        with self._lock:
            if self._loaded:
                return
            seen: set[str] = set()
            while new := [name for name in self._names() if name not in seen]:
                seen |= set(new)
                with ThreadPoolExecutor(min(_READERS, len(new))) as pool:
                    for records in pool.map(self._read, new):
                        for key, data in records.items():
                            # names come sorted: of two replies to one question the same one is always taken
                            self._records.setdefault(key, data)
            self._loaded = True
            log.info("%d cached replies", len(self._records))

    def _names(self) -> list[str]:
        assert self._place is not None
        return [name for name in self._place.names() if name.endswith(".jsonl.gz")]

    def _read(self, name: str) -> dict[str, bytes]:
        assert self._place is not None
        place = self._place / name
        try:
            packed = place.read_bytes()
        except MissingFile:
            return {}  # joined by the run that wrote it, after we listed it
        if hashlib.sha256(packed).hexdigest() != name.removesuffix(".jsonl.gz"):
            raise SaerayError(f"{place.uri} is damaged: delete it, and its replies will be asked and paid for again")
        lines = gzip.decompress(packed).splitlines()
        return {line[_KEY].decode(): line[_RECORD] for line in lines}
