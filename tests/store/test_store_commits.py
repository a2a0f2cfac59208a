"""Exactly once: whatever is killed, whoever races, a shard is committed once, whole, and never changed."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pyarrow as pa
import pytest
from toy_encoder import encode, encode_missing, new_dataset, processes, write_inputs

from saeray.errors import SaerayError
from saeray.store import Commit, Dataset, PlanSettings, Store, adopt_shard, commit_shard, list_inputs, read_shard


def files(root: Path) -> dict[str, str]:
    """Digests of what must not depend on who did the work: all but the commits, which hold seconds."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and "commits" not in path.parts:
            found[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    return write_inputs(tmp_path / "in")


@pytest.fixture
def dataset(tmp_path: Path, inputs: Path) -> Dataset:
    return new_dataset(str(tmp_path / "s"), inputs)


def _content(dataset: Dataset, number: int = 0) -> tuple[pa.Table, pa.Table]:
    shard = dataset.shards()[number]
    content = read_shard(dataset.plan_of(shard), shard)
    return encode(content, dataset), content.rejects


def test_input_is_encoded_or_rejected(dataset: Dataset) -> None:
    encode_missing(dataset)
    report = dataset.verify()
    assert report.ok
    assert (report.documents, report.rejected, report.input_rows) == (120, 5, 125)
    assert sum(commit.documents + commit.rejects for commit in dataset.commits()) == 125
    assert dataset.rejects().column("row").to_pylist() == list(range(120, 125))
    assert dataset.missing() == []
    assert report.stray == []


def test_a_second_commit_is_the_first(dataset: Dataset) -> None:
    table, rejects = _content(dataset)
    first = commit_shard(dataset, dataset.shards()[0], table, rejects, 1.0, {"windows": 3})
    before = files(Path(dataset.root.path))
    fresh = Store.open(dataset.store.uri).dataset("toy")
    assert commit_shard(fresh, fresh.shards()[0], table, rejects, 99.0) == first
    assert files(Path(dataset.root.path)) == before
    assert first.extra == {"windows": 3}
    assert Commit.from_json(first.to_json()) == first


def test_a_part_without_a_commit_is_adopted_with_its_rejects_never_overwritten(dataset: Dataset) -> None:
    """The late worker computes something else; the part that is there stays the truth."""
    last = dataset.shards()[-1]
    table, rejects = _content(dataset, -1)
    first = commit_shard(dataset, last, table, rejects, 1.0)
    root = Path(dataset.root.path)
    before = files(root)
    (root / "commits" / f"{last.shard:05d}.json").unlink()
    shutil.rmtree(root / "rejects")
    fresh = Store.open(dataset.store.uri).dataset("toy")
    other = table.set_column(table.column_names.index("n_tokens"), "n_tokens", pa.array([1] * len(table), pa.int32()))
    again = commit_shard(fresh, last, other, rejects, 2.0)
    assert (again.sha256, again.rejects_sha256, again.tokens) == (first.sha256, first.rejects_sha256, first.tokens)
    assert files(root) == before


def test_adopting_needs_no_encoding(dataset: Dataset) -> None:
    shard = dataset.shards()[0]
    assert adopt_shard(dataset, shard) is None
    first = commit_shard(dataset, shard, *_content(dataset), 1.0)
    (Path(dataset.root.path) / "commits" / "00000.json").unlink()
    fresh = Store.open(dataset.store.uri).dataset("toy")
    adopted = adopt_shard(fresh, shard)
    assert adopted is not None
    assert (adopted.sha256, adopted.documents) == (first.sha256, first.documents)
    assert fresh.committed() == [0]


@pytest.mark.parametrize("how", ["cut", "empty", "flipped", "of another shard", "of another encoder"])
def test_a_part_in_the_way_is_named_with_its_mend(dataset: Dataset, tmp_path: Path, inputs: Path, how: str) -> None:
    shard = dataset.shards()[0]
    commit_shard(dataset, shard, *_content(dataset), 1.0)
    root = Path(dataset.root.path)
    part = root / "documents" / "part-00000.parquet"
    data = part.read_bytes()
    if how == "of another shard":
        commit_shard(dataset, dataset.shards()[1], *_content(dataset, 1), 1.0)
        data = (root / "documents" / "part-00001.parquet").read_bytes()
    elif how == "of another encoder":
        store = Store.open(str(tmp_path / "other"), create=True)
        store.claim_encoder({"reader": "other"})
        other = store.dataset("toy", create=True)
        other.add_plan(list_inputs([str(inputs)]), PlanSettings(keep=("model",), shard_tokens=200))
        commit_shard(other, shard, *_content(other), 1.0)
        data = (Path(other.root.path) / "documents" / "part-00000.parquet").read_bytes()
    elif how == "flipped":
        data = data[:100] + bytes([data[100] ^ 1]) + data[101:]
    else:
        data = data[: len(data) // 2] if how == "cut" else b""
    (root / "commits" / "00000.json").unlink()
    part.write_bytes(data)
    fresh = Store.open(dataset.store.uri).dataset("toy")
    with pytest.raises(SaerayError, match=r"part-00000\.parquet.* has no commit: delete it and run") as caught:
        commit_shard(fresh, shard, *_content(fresh), 1.0)
    assert "\n" not in str(caught.value)
    assert part.read_bytes() == data
    part.unlink()
    commit_shard(fresh, shard, *_content(fresh), 1.0)


def test_a_shard_that_does_not_add_up_is_a_bug_and_writes_nothing(dataset: Dataset) -> None:
    shard = dataset.shards()[0]
    table, rejects = _content(dataset)
    before = files(Path(dataset.root.path))
    row = {"row": 0, "input": "a.jsonl", "doc_id": "a.jsonl:0", "reason": "r"}
    twice = pa.Table.from_pylist([row], rejects.schema)
    for wrong in ((table.slice(1), rejects), (table, twice), (pa.concat_tables([table, table]), rejects)):
        with pytest.raises(ValueError):
            commit_shard(dataset, shard, *wrong, 1.0)
    assert files(Path(dataset.root.path)) == before


def _work(uri: str, seed: int, barrier) -> None:
    dataset = Store.open(uri).dataset("toy")
    barrier.wait()
    commits = encode_missing(dataset, seed)
    for commit in commits:
        assert Commit.from_json((dataset.root / "commits" / f"{commit.shard:05d}.json").read_bytes()) == commit


def test_racing_workers_leave_what_one_leaves(dataset: Dataset, tmp_path: Path, inputs: Path) -> None:
    """Every worker sees the commit that is there, whoever made it, and the files are byte for byte those of one."""
    alone = new_dataset(str(tmp_path / "alone"), inputs)
    encode_missing(alone)
    context = processes()
    barrier = context.Barrier(5)
    workers = [context.Process(target=_work, args=(dataset.store.uri, seed, barrier)) for seed in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert dataset.verify().ok
    assert files(tmp_path / "s") == files(tmp_path / "alone")


def _die_at(uri: str, step: int) -> None:
    """Encodes until the `step`-th system call that changes the store, and dies there as by SIGKILL."""
    count = 0

    def deadly(call):
        def counted(*args, **kwargs):
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counted

    for name in ("fsync", "link", "unlink"):
        setattr(os, name, deadly(getattr(os, name)))
    encode_missing(Store.open(uri).dataset("toy"))


def test_dying_before_any_single_step_costs_nothing(tmp_path: Path) -> None:
    """Every place between two system calls of two shards' commits, one after another, over one store each."""
    inputs = write_inputs(tmp_path / "in", documents=12, bad=2)
    alone = new_dataset(str(tmp_path / "alone"), inputs, shard_tokens=100)
    encode_missing(alone)
    context, step, deaths = processes(), 0, 0
    while True:
        step += 1
        dataset = new_dataset(str(tmp_path / f"s{step}"), inputs, shard_tokens=100)
        worker = context.Process(target=_die_at, args=(dataset.store.uri, step))
        worker.start()
        worker.join()
        if worker.exitcode == 0:
            break
        assert worker.exitcode == -signal.SIGKILL
        deaths += 1
        committed = dataset.committed()
        again = encode_missing(dataset)
        assert sorted([*committed, *(commit.shard for commit in again)]) == [one.shard for one in dataset.shards()]
        report = dataset.verify()
        assert report.ok
        assert report.stray == []
        left = {path: digest for path, digest in files(tmp_path / f"s{step}").items() if "/.tmp-" not in path}
        assert left == files(tmp_path / "alone")
    assert deaths >= 4 * 2 * len(alone.shards())


def test_thirty_kills_at_random_moments(dataset: Dataset, tmp_path: Path, inputs: Path) -> None:
    """Two workers at a time, killed whenever by SIGKILL, then one run to the end: the same bytes as without a kill."""
    alone = new_dataset(str(tmp_path / "alone"), inputs)
    encode_missing(alone)
    root, uri, context, chance = tmp_path / "s", dataset.store.uri, processes(), random.Random(7)
    kept: dict[str, str] = {}
    deaths = 0
    for round_number in range(15):
        barrier = context.Barrier(3)
        workers = [context.Process(target=_work, args=(uri, 2 * round_number + i, barrier)) for i in range(2)]
        for worker in workers:
            worker.start()
        barrier.wait()
        time.sleep(chance.random() * 0.03)
        for worker in workers:
            if worker.is_alive() and worker.pid is not None:
                os.kill(worker.pid, signal.SIGKILL)
            worker.join()
            deaths += worker.exitcode == -signal.SIGKILL
        commits = {path.name: path.read_text() for path in (root / "datasets/toy/commits").glob("0*.json")}
        assert {name: commits[name] for name in kept} == kept  # nothing that was committed is changed or done again
        kept = commits
    assert deaths >= 5
    fresh = Store.open(uri).dataset("toy")
    encode_missing(fresh)
    assert fresh.verify().ok
    assert {path: digest for path, digest in files(root).items() if "/.tmp-" not in path} == files(tmp_path / "alone")
    for path in root.rglob(".tmp-*"):
        os.utime(path, (0, 0))
    left = len(list(root.rglob(".tmp-*")))
    assert Store.open(uri).sweep() == left
    assert list(root.rglob(".tmp-*")) == []
