"""Guards that two files of answers are compared by one command: encoded once, each under its own name, never mixed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from runs import random_texts
from typer.testing import CliRunner

from saeray.cli import app
from saeray.store import Store
from saeray.store.inputs import file_and_conditions

pytestmark = pytest.mark.usefixtures("ray_address")


def answers(path: Path, seed: int, column: str = "output") -> Path:
    texts = random_texts(seed, 12, (5, 30))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({column: text, "prompt_id": i}) + "\n" for i, text in enumerate(texts)))
    return path


def run(*words: Any) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["diff", *map(str, words)])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("a.jsonl", ("a.jsonl", "")),
        ("d/a.csv.gz:model=A", ("d/a.csv.gz", ":model=A")),
        ("s3://b/a.parquet:f=x.csv", ("s3://b/a.parquet", ":f=x.csv")),
        ("d:file=x.csv", None),
        ("answers", None),
        ("rest", None),
    ],
)
def test_a_file_is_told_from_a_dataset(word: str, found: tuple[str, str] | None) -> None:
    """A selector on a file's name stays a selector."""
    assert file_and_conditions(word) == found


def test_two_files_one_command(encoder: Path, tmp_path: Path) -> None:
    """From files to a page; run again it encodes nothing; a file of the same name elsewhere is refused."""
    one, other = answers(tmp_path / "one model.jsonl", 1), answers(tmp_path / "other.jsonl", 2)
    out = tmp_path / "out"
    command = (one, other, "--pair-on", "prompt_id", "--encoder", encoder, "--out", out, "--json")
    code, stdout, stderr = run(*command)
    assert code == 0, stderr
    found = json.loads(stdout)
    assert (found["target"]["name"], found["target"]["documents"]) == ("one-model", 12)
    assert found["parameters"]["n_pairs"] == 12
    assert (out / "report.html").is_file()
    store = Store.open(str(out / "store"))
    commits = {name: store.dataset(name).commits() for name in store.datasets()}
    assert sorted(commits) == ["one-model", "other"]
    assert run(*command)[0] == 0
    assert {name: store.dataset(name).commits() for name in store.datasets()} == commits
    clash = answers(tmp_path / "elsewhere" / "other.csv", 3)
    code, _, stderr = run(one, clash, *command[2:])
    assert code == 2
    assert "other in" in stderr
    assert "holds other files (other.jsonl)" in stderr


def test_what_cannot_be_compared_is_one_line(encoder: Path, tmp_path: Path) -> None:
    """A file without answers, a file that is not there, and a dataset without a store."""
    strange = answers(tmp_path / "strange.jsonl", 1, column="zzz")
    code, _, stderr = run(strange, strange, "--encoder", encoder, "--out", tmp_path / "out")
    assert code == 2
    assert "strange.jsonl has no column of answers; choose one with --text-column: zzz, prompt_id" in stderr
    assert run(tmp_path / "none.jsonl", strange, "--out", tmp_path / "out")[0] == 2
    one, other = answers(tmp_path / "x" / "same.jsonl", 1), answers(tmp_path / "y" / "same.jsonl", 2)
    code, _, stderr = run(one, other, "--encoder", encoder, "--out", tmp_path / "out")
    assert code == 2
    assert "would both be the dataset same" in stderr
    assert run(one, tmp_path / "none.jsonl", "--encoder", encoder, "--out", tmp_path / "out")[0] == 2
    assert run(one, other, "--verify", "--encoder", encoder, "--out", tmp_path / "out")[0] == 2
    assert not (tmp_path / "out" / "store").exists()  # refused before anything was encoded
    code, _, stderr = run("answers:model=A", "rest")
    assert code == 2
    assert "--store" in stderr
