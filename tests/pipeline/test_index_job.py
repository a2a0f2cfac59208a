"""Guards `saeray index` on Ray: what it leaves is what one process leaves, whoever dies on the way."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from toy_encoder import encode_missing, new_dataset, write_inputs
from typer.testing import CliRunner

from saeray.errors import SaerayError
from saeray.pipeline import index as job
from saeray.pipeline.cli import index as command
from saeray.store import Dataset, Store, builder, list_inputs
from saeray.store.block import BlockFacts, Span
from saeray.store.index import Index, build_missing, make_planned

pytestmark = pytest.mark.usefixtures("ray_address")
JOB = Path(__file__).parents[2] / "jobs" / "index.py"


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """120 documents in blocks of at most 32: five of them."""
    monkeypatch.setattr(builder, "MAX_DOCUMENTS", 32)
    dataset = new_dataset(str(tmp_path / "store"), write_inputs(tmp_path / "in"))
    encode_missing(dataset)
    return dataset


def files(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (store / "index").rglob("*") if path.is_file()}


def undisturbed(dataset: Dataset, path: Path) -> dict[str, bytes]:
    """What one process without Ray leaves."""
    shutil.copytree(dataset.store.root.path, path)
    build_missing(Store.open(str(path)), "toy")
    return files(path)


def test_killed_workers_and_a_killed_run_leave_what_one_process_leaves(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every worker dies once, with a half-made block; the run dies after its second block. What was made stays."""
    want = undisturbed(dataset, tmp_path / "alone")
    deaths, killed = tmp_path / "deaths", os.kill
    deaths.mkdir()

    def make_or_die(uri: str, name: str, spans: Sequence[Span]) -> BlockFacts:
        mark = deaths / str(spans[0].shard)
        facts = make_planned(Store.open(uri), name, spans)
        if not mark.exists():
            mark.touch()
            for file in [f"{facts.name}.json", facts.channels["text"].file]:
                (Path(uri) / "index" / name / file).unlink()
            killed(os.getpid(), signal.SIGKILL)
        return facts

    def stop(progress: job.IndexProgress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(job, "_make_one", make_or_die)
    with pytest.raises(KeyboardInterrupt):
        job.index(dataset.store, "toy", stop)
    assert "manifest.json" not in files(tmp_path / "store")

    result = job.index(dataset.store, "toy")
    assert len(list(deaths.iterdir())) == result.blocks == 5
    assert (result.documents, result.missing, result.channels) == (120, 0, ("text",))
    assert result.postings == Index.open(dataset.store, "toy").frequency("text").sum()
    assert files(tmp_path / "store") == want


def test_a_rerun_does_what_is_new(dataset: Dataset, tmp_path: Path) -> None:
    """Full blocks are neither read nor written again, and nothing new starts nothing."""
    first = job.index(dataset.store, "toy")
    assert first.built == first.blocks == 5
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "store/index").rglob("block-*")}
    assert job.index(dataset.store, "toy").built == 0
    write_inputs(tmp_path / "in", 20, name="b.jsonl")
    dataset.add_plan(list_inputs([str(tmp_path / "in")]), dataset.plans()[0].settings)
    encode_missing(dataset)
    told: list[job.IndexProgress] = []
    again = job.index(dataset.store, "toy", told.append)
    assert (again.documents, again.missing) == (140, 0)
    assert 0 < again.built < again.blocks
    assert [one.done for one in told] == list(range(1, again.built + 1))
    assert (told[-1].documents, told[-1].postings) == (24, again.postings_built)
    still = {path: path.stat().st_mtime_ns for path in kept if path.exists()}
    assert len(still) == len(kept) - 3, "the files of the block of four documents"
    assert still.items() <= kept.items()


def test_what_is_small_is_made_without_a_cluster(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting Ray takes longer than a few million postings; what is left is the same."""
    want = undisturbed(dataset, tmp_path / "alone")
    monkeypatch.setattr(job.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(job, "connected", lambda: pytest.fail("a cluster was started"))
    told: list[job.IndexProgress] = []
    assert job.index(dataset.store, "toy", told.append).built == 5
    assert (told[-1].done, told[-1].documents) == (5, 120)
    assert files(tmp_path / "store") == want


def test_what_a_worker_refuses_is_one_line(dataset: Dataset, tmp_path: Path) -> None:
    """A commit that does not fit its rows is named, and no index is left."""
    commit = tmp_path / "store/datasets/toy/commits/00002.json"
    commit.write_text(json.dumps(json.loads(commit.read_text()) | {"documents": 3}))
    store = Store.open(str(tmp_path / "store"))
    with pytest.raises(SaerayError, match=r"^shard 2 of toy holds 15 documents .* its commit says 3: see") as caught:
        job.index(store, "toy")
    assert "\n" not in str(caught.value)
    assert "manifest.json" not in files(tmp_path / "store")


def test_the_command_and_the_job_say_what_they_did(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both call one function; `--check` mends what was spoilt."""
    app = typer.Typer()
    app.command()(command)
    uri = str(tmp_path / "store")
    made = CliRunner().invoke(app, ["toy", "--store", uri])
    assert made.exit_code == 0, made.output
    assert "toy: 120 documents" in made.stderr
    assert "in 5 blocks" in made.stderr
    before = files(tmp_path / "store")
    spoilt = next(path for path in (tmp_path / "store/index/toy").glob("*.0.arrow"))
    data = bytearray(spoilt.read_bytes())
    data[-300] ^= 255
    spoilt.write_bytes(data)

    config = tmp_path / "index.yaml"
    config.write_text(json.dumps({"dataset": "toy", "store": uri, "check": True}))
    monkeypatch.setattr(sys, "argv", [str(JOB), "--config", str(config), "--json"])
    capsys.readouterr()
    runpy.run_path(str(JOB), run_name="__main__")
    found = json.loads(capsys.readouterr().out)
    assert (found["built"], found["blocks"], found["documents"]) == (1, 5, 120)
    assert found["notes"] == [f"{spoilt.name.split('.')[0]} was not whole"]
    assert files(tmp_path / "store") == before

    refused = CliRunner().invoke(app, ["nothing", "--store", uri, "--json"])
    assert refused.exit_code == 2
    assert "there is no dataset nothing" in json.loads(refused.stdout)["error"]
