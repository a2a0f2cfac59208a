"""Create-if-absent is atomic: a file is there whole under its name, or not at all, and the second writer is told."""

from __future__ import annotations

import errno
import importlib.util
import os
import time
from pathlib import Path

import pytest
from toy_encoder import processes

from saeray.errors import SaerayError, UsageError
from saeray.store.failures import MissingFile, explain, is_conflict, is_transient
from saeray.store.files import location


def test_the_first_of_two_creates_stays(tmp_path: Path) -> None:
    place = location(str(tmp_path / "deep" / "down" / "x"))
    assert place.create(b"one")
    assert not place.create(b"two")
    assert place.read_bytes() == b"one"
    assert os.listdir(tmp_path / "deep" / "down") == ["x"]


def _race(path: str, number: int, barrier, results) -> None:
    barrier.wait()
    results.put((number, location(path).create(bytes([number]) * 100_000)))


def test_one_of_many_racing_creates_wins(tmp_path: Path) -> None:
    context = processes()
    for attempt in range(3):
        path = str(tmp_path / str(attempt))
        barrier, results = context.Barrier(6), context.Queue()
        workers = [context.Process(target=_race, args=(path, number, barrier, results)) for number in range(6)]
        for worker in workers:
            worker.start()
        outcome = dict(results.get(timeout=60) for _ in workers)
        for worker in workers:
            worker.join()
        winners = [number for number, won in outcome.items() if won]
        assert len(winners) == 1
        assert location(path).read_bytes() == bytes(winners) * 100_000


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk full"),
        (errno.EDQUOT, "disk full"),
        (errno.EROFS, "read-only"),
        (errno.EPERM, "no hard links"),
    ],
)
def test_a_failed_write_leaves_nothing_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link" if number == errno.EPERM else "fsync", fail)
    with pytest.raises(SaerayError, match=words) as caught:
        location(str(tmp_path / "x")).create(b"data")
    assert str(tmp_path / "x") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """The real thing: /dev/full answers every write with ENOSPC."""
    with pytest.raises(OSError) as caught, open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")
    assert "disk full" in str(explain(caught.value, "somewhere/part", "write"))


def test_a_directory_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(SaerayError, match="in each other's place"):
        location(str(tmp_path / "x" / "y")).create(b"data")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o500)
    with pytest.raises(SaerayError, match="no permission to write"):
        location(str(tmp_path / "d" / "x")).create(b"data")


def test_temporaries_are_never_listed_and_are_swept_when_old(tmp_path: Path) -> None:
    old, young, real = tmp_path / ".tmp-a-1-2", tmp_path / ".tmp-b-1-2", tmp_path / "a"
    for path in (old, young, real):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 4000, time.time() - 4000))
    os.utime(real, (0, 0))
    place = location(str(tmp_path))
    assert place.names() == ["a"]
    assert place.sweep() == 1
    assert sorted(os.listdir(tmp_path)) == [".tmp-b-1-2", "a"]


def test_what_is_missing_is_said_or_none(tmp_path: Path) -> None:
    place = location(str(tmp_path / "no"))
    assert place.read_if_there() is None
    assert place.names() == []
    place.delete()
    with pytest.raises(MissingFile, match="no such file"):
        place.read_bytes()


@pytest.mark.parametrize("uri", ["", "ftp://host/x", "s3://", "s3://key:secret@bucket/x", "s3://b/x?token=1", "a\0b"])
def test_a_place_that_cannot_be_is_refused_without_its_secrets(uri: str) -> None:
    with pytest.raises(UsageError) as caught:
        location(uri)
    assert "secret" not in str(caught.value)
    assert "token" not in str(caught.value)


def test_google_storage_without_its_package_names_the_extra() -> None:
    if importlib.util.find_spec("gcsfs") is not None:
        pytest.skip("gcsfs is installed")
    with pytest.raises(UsageError, match=r"saeray\[gcs\]"):
        location("gs://bucket/store")


class _Answer(Exception):
    def __init__(self, code: str, status: int) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}


@pytest.mark.parametrize(
    ("code", "status", "conflict", "transient"),
    [
        ("PreconditionFailed", 412, True, False),
        ("ConditionalRequestConflict", 409, False, True),
        ("InternalError", 500, False, True),
        ("SlowDown", 503, False, True),
        ("AccessDenied", 403, False, False),
        ("NoSuchBucket", 404, False, False),
    ],
)
def test_a_servers_answers_are_told_apart(code: str, status: int, conflict: bool, transient: bool) -> None:
    error = OSError(errno.EINVAL, "translated")
    error.__cause__ = _Answer(code, status)
    assert (is_conflict(error), is_transient(error)) == (conflict, transient)
