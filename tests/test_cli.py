"""Guards what the command line says for itself, before anything runs: exit codes, one line, one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from runs import files_below
from toy_encoder import encode_missing, new_dataset, write_inputs
from typer.testing import CliRunner, Result

from saeray.cli import app
from saeray.errors import SaerayError
from saeray.terminal import print_json, reporting, with_command


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one whole dataset, `toy`, of a stand-in encoder."""
    encode_missing(new_dataset(str(tmp_path / "store"), write_inputs(tmp_path / "in")))
    return tmp_path / "store"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["verify", "toy", "--store", "{tmp}/none"], 2, "there is no store at"),
        (["verify", "other", "--store", "{tmp}/store"], 2, "there is no dataset other"),
        (["verify", "../in", "--store", "{tmp}/store"], 2, "../in"),
        (["datasets", "--store", "{tmp}/none"], 2, "there is no store at"),
        (["datasets", "--store", "{tmp}/in/a.jsonl"], 2, "is a file"),
        (["datasets", "--store", "ftp://host/x"], 2, "ftp:// is not supported"),
        (["stats", "toy:model=", "--store", "{tmp}/store"], 2, ""),
        (["stats", "toy:nothing=A", "--store", "{tmp}/store"], 2, "nothing"),
        (["diff", "toy:model=Z", "toy:model=A", "--store", "{tmp}/store"], 2, "Z"),
        (["sae", "inspect", "{tmp}/none"], 1, "none"),
        (["sae", "inspect", "builtin:none"], 1, "none"),
        (["encode", "{tmp}/none.jsonl", "--dataset", "d", "--store", "{tmp}/new"], 2, "none.jsonl"),
        (["encode", "{tmp}/in", "--dataset", "d", "--store", "{tmp}/new", "--encoder", "x"], 2, "no encoder preset"),
        (["encode", "{tmp}/in", "--dataset", "a/b", "--store", "{tmp}/new"], 2, "a/b"),
        (
            [
                *("encode", "{tmp}/in", "--dataset", "d", "--store", "{tmp}/new"),
                *("--text-column", "a", "--messages-column", "b"),
            ],
            2,
            "not both",
        ),
    ],
)
def test_what_is_asked_for_wrongly_is_one_line(
    arguments: list[str], code: int, says: str, store: Path, tmp_path: Path
) -> None:
    before = files_below(tmp_path)
    result = invoke(*(word.format(tmp=tmp_path) for word in arguments), "--json")
    assert result.exit_code == code, (result.stderr, result.exception)
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert json.loads(result.stdout) == {"error": line.removeprefix("error: ")}
    assert files_below(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode"],
        ["encode", "x.jsonl", "--store", "s"],
        ["encode", "x.jsonl", "--dataset", "d", "--store", "s", "--workers", "0"],
        ["encode", "x.jsonl", "--dataset", "d", "--store", "s", "--shard-tokens", "many"],
        ["nonsense"],
    ],
)
def test_a_command_that_does_not_parse_exits_with_2(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAERAY_STORE", raising=False)
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


def test_json_is_one_object_for_people_there_is_a_table(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--store` may come from $SAERAY_STORE."""
    monkeypatch.setenv("SAERAY_STORE", str(store))
    listed = invoke("datasets", "--json")
    assert listed.exit_code == 0
    assert listed.stderr == ""
    [dataset] = json.loads(listed.stdout)["datasets"]
    assert (dataset["dataset"], dataset["documents"], dataset["rejects"]) == ("toy", 120, 5)
    assert "toy" in invoke("datasets").stdout

    verified = invoke("verify", "toy", "--json")
    assert verified.exit_code == 0
    assert json.loads(verified.stdout)["ok"] is True
    assert "documents: 120" in invoke("verify", "toy").stdout


def test_a_store_that_is_not_whole_is_told_in_one_object_and_exits_with_1(store: Path) -> None:
    """The figures and the error together, not one object each."""
    (store / "datasets/toy/commits/00001.json").unlink()
    part = store / "datasets/toy/documents/part-00002.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    result = invoke("verify", "toy", "--store", str(store), "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["missing"], found["ok"]) == ([1], False)
    assert len(found["corrupt"]) == 1
    [line] = result.stderr.splitlines()
    assert line == f"error: {found['error']}"


def test_jobs_exit_as_the_command_does(tmp_path: Path) -> None:
    """`jobs/encode.py` is no Typer command and still prints one line and exits with 2."""
    config = tmp_path / "encode.yaml"
    config.write_text("inputs: [x.jsonl]\ndataset: d\nstore: s\nworker: 3\n")
    job = Path(__file__).parents[1] / "jobs" / "encode.py"
    done = subprocess.run(
        [sys.executable, str(job), "--config", str(config), "--json"], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert "worker" in line
    assert json.loads(done.stdout) == {"error": line.removeprefix("error: ")}


def fail(line: str) -> None:
    with reporting(True):
        print("noise")
        raise SaerayError(line)


def test_stdout_of_a_json_command_is_the_object_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Ray prints a cluster's warnings to stdout from a thread of its own; who reads JSON there must not meet them."""
    with reporting(True):
        print("(raylet) WARNING: 10 PYTHON worker processes have been started")
        print_json({"a": 1})
    with pytest.raises(SystemExit):
        fail("no such thing")
    found = capsys.readouterr()
    assert found.out == '{"a": 1}\n{"error": "no such thing"}\n'
    assert "WARNING" in found.err
    print("afterwards stdout is as it was")
    assert capsys.readouterr().out == "afterwards stdout is as it was\n"


def test_a_key_in_a_typed_address_is_in_no_result(monkeypatch):
    """The command stands on the page, so that it can be typed again; a key or a password in it does not."""
    typed = [
        "saeray",
        "diff",
        "a",
        "b",
        "--llm",
        "openai:m@https://user:pw@host/v1?key=AIzaSyTOPSECRET99",
        "--out",
        "x",
    ]
    monkeypatch.setattr("sys.argv", typed)
    assert with_command({})["command"] == "saeray diff a b --llm 'openai:m@https://host/v1?key=[key]'"
