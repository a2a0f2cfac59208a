"""Inputs: whatever a user names becomes a sorted list with stable names, or one clear line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from saeray.errors import UsageError
from saeray.store import list_inputs
from saeray.store.inputs import kind_of


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")


def test_names_are_relative_to_what_was_given(tmp_path: Path) -> None:
    _touch(tmp_path / "d/b.jsonl", tmp_path / "d/sub/a.csv.gz", tmp_path / "d/README.md", tmp_path / "d/.x.jsonl")
    _touch(tmp_path / "d/_delta/log.jsonl")
    names = {
        str(tmp_path / "d"): ["b.jsonl", "sub/a.csv.gz"],
        str(tmp_path / "d") + "/": ["b.jsonl", "sub/a.csv.gz"],
        f"file://{tmp_path}/d": ["b.jsonl", "sub/a.csv.gz"],
        str(tmp_path / "d/b.jsonl"): ["b.jsonl"],
        str(tmp_path / "d/*.jsonl"): ["b.jsonl"],
        str(tmp_path / "*/**/*.csv.gz"): ["d/sub/a.csv.gz"],
    }
    for given, expected in names.items():
        assert [one.name for one in list_inputs([given])] == expected, given


def test_kinds_follow_the_name() -> None:
    assert kind_of("x.parquet") == ("parquet", "")
    assert kind_of("a/X.JSONL.GZ") == ("jsonl", "gz")
    assert kind_of("x.ndjson.zst") == ("jsonl", "zst")
    assert kind_of("x.csv") == ("csv", "")
    assert kind_of("x.parquet.gz") is kind_of("x.json") is kind_of("x") is kind_of("x.gz") is None


def test_the_same_file_named_twice_is_one_input(tmp_path: Path) -> None:
    _touch(tmp_path / "a.jsonl")
    assert len(list_inputs([str(tmp_path), str(tmp_path / "a.jsonl")])) == 1


def test_two_files_of_one_relative_name_are_refused(tmp_path: Path) -> None:
    _touch(tmp_path / "x/a.jsonl", tmp_path / "y/a.jsonl")
    with pytest.raises(UsageError, match=r"two inputs have the relative name a\.jsonl"):
        list_inputs([str(tmp_path / "x"), str(tmp_path / "y")])


def test_a_name_with_glob_characters_is_itself(tmp_path: Path) -> None:
    _touch(tmp_path / "data[1].jsonl")
    assert list_inputs([str(tmp_path / "data[1].jsonl")])[0].name == "data[1].jsonl"


@pytest.mark.parametrize(
    ("make", "given", "words"),
    [
        (None, "nowhere.jsonl", "there is no input"),
        (None, "*.jsonl", "nothing to read matches"),
        ("d/", "d", "nothing to read in"),
        ("d/notes.txt", "d", "nothing to read in"),
        ("notes.txt", "notes.txt", "cannot read"),
        ("x.json", "x.json", "cannot read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, make: str | None, given: str, words: str) -> None:
    if make and make.endswith("/"):
        (tmp_path / make).mkdir()
    elif make:
        _touch(tmp_path / make)
    with pytest.raises(UsageError, match=words) as caught:
        list_inputs([str(tmp_path / given)])
    assert str(tmp_path / given) in str(caught.value)


def test_nothing_given(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no input given"):
        list_inputs([])


def test_a_pipe_is_refused_before_it_hangs_anything(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.jsonl")
    for given in (tmp_path, tmp_path / "p.jsonl", tmp_path / "*.jsonl"):
        with pytest.raises(UsageError, match=r"not a regular file|nothing to read"):
            list_inputs([str(given)])


def test_a_dangling_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError, match=r"l\.jsonl"):
        list_inputs([str(tmp_path)])


def test_a_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.jsonl", "w") as file:
        file.write("{}\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        list_inputs([str(tmp_path)])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    _touch(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").chmod(0)
    with pytest.raises(UsageError, match=r"a\.jsonl"):
        list_inputs([str(tmp_path)])
