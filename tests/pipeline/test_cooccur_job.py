"""Co-occurrence over a whole store: exact, the same whatever happens on the way, and only what is new is counted."""

from __future__ import annotations

import json
import math
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from toy_encoder import encode_missing, new_dataset, write_inputs

from saeray.analysis.cooccurrence import CooccurResult
from saeray.errors import SaerayError, UsageError
from saeray.pipeline import cooccur as job
from saeray.pipeline.cooccur import cooccur
from saeray.pipeline.tiles import Counter
from saeray.store import Dataset, PlanSettings, Store, builder, list_inputs
from saeray.store.index import build_missing
from saeray.store.tiles import Tiles

ROOT = Path(__file__).parents[2]
OPTIONS: dict[str, Any] = {"band": (0.03, 0.5), "min_support": 2, "floor": 0.0, "width": 72}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of documents, of which some are settled and the last is not."""
    monkeypatch.setattr(builder, "MAX_DOCUMENTS", 60)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[tuple[set[str], np.ndarray, np.ndarray]]:
    """What Ray's workers do, done in this process; returns the blocks, rows and columns of each count."""
    counted = []
    plain = Counter.count

    def count(self: Counter, blocks: Any, rows: Any, columns: Any) -> Any:
        counted.append((set(blocks), rows, rows if columns is None else columns))
        return plain(self, blocks, rows, columns)

    def count_all(store: Store, chosen: Any, tiles: Tiles, todo: Any, *_: Any) -> None:
        masks = {name: np.packbits(mask).tobytes() for name, mask in chosen.masks.items() if mask is not None}
        counter = Counter(Store.open(store.uri), chosen.index.dataset.name, chosen.channels, masks)
        for task in todo:
            counter.make(tiles, task)

    monkeypatch.setattr(Counter, "count", count)
    monkeypatch.setattr(job, "_count", count_all)
    monkeypatch.setattr(job, "connected", lambda: nullcontext(False))
    monkeypatch.setattr(job, "index", build_missing)
    monkeypatch.setattr(job, "_is_fresh", lambda store, name: bool(build_missing(store, name)))
    return counted


def toy(place: Path, *files: int, seed: int = 0) -> Dataset:
    """A store of some files of toy documents, its shards committed in an order of the seed's."""
    for number in files:
        write_inputs(place / "in", documents=130, bad=1, name=f"{number}.jsonl")
    dataset = new_dataset(str(place / "store"), place / "in")
    encode_missing(dataset, seed)
    return dataset


def sets_of(dataset: Dataset, take: Callable[[dict[str, Any]], bool] = lambda row: True) -> dict[str, dict[str, set]]:
    """Channel -> document -> latents, from the rows themselves."""
    found: dict[str, dict[str, set]] = {}
    for table in dataset.scan():
        for row in table.to_pylist():
            if take(row):
                found.setdefault(row["channel"], {})[row["doc_id"]] = set(row["latents"])
    return found


def expected(left: dict[str, set], right: dict[str, set], within: bool) -> dict[tuple[int, int], tuple[int, float]]:
    """Pair -> count and NPMI by OPTIONS, counted in sets and with one logarithm at a time."""
    both = sorted(left.keys() & right.keys())
    n, (low, high) = len(both), OPTIONS["band"]
    sides = [[{d for d in both if latent in side[d]} for latent in range(512)] for side in (left, right)]
    kept = [[i for i, held in enumerate(s) if len(held) >= 2 and low <= len(held) / n <= high] for s in sides]
    pairs = {}
    for i in kept[0]:
        for j in kept[1]:
            count = len(sides[0][i] & sides[1][j])
            if (within and i >= j) or count < 2 or count == n:
                continue
            p = count / n
            value = math.log(p / (len(sides[0][i]) / n * len(sides[1][j]) / n)) / -math.log(p)
            if value >= 0:
                pairs[i, j] = (count, value)
    assert len(pairs) > 100, "few pairs would test little"
    return pairs


def assert_pairs(result: CooccurResult, pairs: dict[tuple[int, int], tuple[int, float]]) -> None:
    rows = result.edges().to_pylist()
    assert {(row["i"], row["j"]): row["count"] for row in rows} == {pair: count for pair, (count, _) in pairs.items()}
    assert [row["npmi"] for row in rows] == pytest.approx([pairs[row["i"], row["j"]][1] for row in rows])
    assert rows == sorted(rows, key=lambda row: (-row["npmi"], row["i"], row["j"]))
    n_i = dict(zip(result.latents(result.channels[0]), result.frequency(result.channels[0]), strict=True))
    n_j = dict(zip(result.latents(result.channels[-1]), result.frequency(result.channels[-1]), strict=True))
    for row in rows[:50]:
        given = (row["count"] / n_j[row["j"]], row["count"] / n_i[row["i"]])
        assert (row["p_i_given_j"], row["p_j_given_i"]) == pytest.approx(given)


def files_of(result: CooccurResult) -> dict[str, bytes]:
    place = Path(result.tiles.place.path)
    return {path.name: path.read_bytes() for path in place.iterdir()}


@pytest.mark.usefixtures("here")
def test_every_pair_of_a_store_is_what_sets_say(tmp_path: Path) -> None:
    """Over several blocks, with settled ones and a tail, and tiles of which the last are narrower."""
    dataset = toy(tmp_path, 0, 1)
    result = cooccur(dataset.store, "toy", **OPTIONS)
    documents = sets_of(dataset)["text"]
    assert_pairs(result, expected(documents, documents, within=True))
    assert result.documents == len(documents)
    assert {bool(tile.settled) and bool(tile.tail) for tile in result.needed.values()} == {True}
    assert len(result.needed) > 6
    tile = result.tile(0, 1)
    for a, b in ((0, 0), (5, 7), (71, 3)):
        i, j = result.ranges(0)[0][a], result.ranges(1)[1][b]
        assert tile[a, b] == sum({i, j} <= held for held in documents.values())


@pytest.mark.usefixtures("here")
def test_the_order_of_shards_does_not_show(tmp_path: Path) -> None:
    """Shards committed in another order are the same blocks, and the files come out the same."""
    results = [cooccur(toy(tmp_path / str(seed), 0, 1, seed=seed).store, "toy", **OPTIONS) for seed in (1, 2)]
    assert files_of(results[0]) == files_of(results[1])


def test_new_documents_add_to_old_counts(here: list[Any], tmp_path: Path) -> None:
    """Three runs as files come in give the pairs of one run over all; what was settled is read once."""
    dataset = toy(tmp_path, 0)
    results = [cooccur(dataset.store, "toy", **OPTIONS)]
    settled: set[str] = set()
    for number in (1, 2):
        settled |= {name for tile in results[-1].needed.values() if tile.settled for name in tile.settled.blocks}
        done = len(here)
        write_inputs(tmp_path / "in", documents=130 + number, bad=0, name=f"{number}.jsonl")
        dataset.add_plan(list_inputs([str(tmp_path / "in")]), PlanSettings(keep=("model",), shard_tokens=200))
        encode_missing(dataset)
        old = set(results[-1].manifest.latents[0])
        results.append(cooccur(dataset.store, "toy", **OPTIONS))
        again = [columns for blocks, _, columns in here[done:] if blocks & settled]
        assert all(not old & set(columns.tolist()) for columns in again), "an old pair was counted again"
    documents = sets_of(dataset)["text"]
    assert_pairs(results[-1], expected(documents, documents, within=True))
    assert settled
    assert set(files_of(results[-1])) == {
        "manifest.json", *(one.file for tile in results[-1].manifest.tiles for one in tile.files())
    }  # fmt: skip


def test_a_latent_that_enters_the_band_costs_a_strip(here: list[Any], tmp_path: Path) -> None:
    """A wider band on the same documents: pairs of old latents are not counted again in settled blocks."""
    dataset = toy(tmp_path, 0, 1)
    narrow = cooccur(dataset.store, "toy", **OPTIONS | {"band": (0.05, 0.5)})
    old = set(narrow.manifest.latents[0])
    settled = {name for tile in narrow.needed.values() if tile.settled for name in tile.settled.blocks}
    del here[:]
    wide = cooccur(dataset.store, "toy", **OPTIONS)
    assert wide.manifest.latents[0][: len(old)] == narrow.manifest.latents[0]
    assert len(old) % 72, "the last range has to be lengthened"
    again = [columns for blocks, _, columns in here if blocks <= settled]
    assert again
    assert all(not old & set(columns.tolist()) for columns in again)
    documents = sets_of(dataset)["text"]
    assert_pairs(wide, expected(documents, documents, within=True))
    del here[:]
    cooccur(dataset.store, "toy", **OPTIONS | {"band": (0.05, 0.5)})
    assert not here, "a narrower band has all it needs"
    assert cooccur(dataset.store, "toy", **OPTIONS).edges() == wide.edges()


def conversations(place: Path) -> Dataset:
    """Documents of two channels, some of which have one only."""
    place.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(260):
        messages = [{"role": "user", "content": f"question {i} " + "word " * (i % 11)}]
        messages += [{"role": "assistant", "content": f"answer {i} " + "word " * (i % 7)}] if i % 5 else []
        lines.append(json.dumps({"messages": messages, "model": "AB"[i % 2]}))
    (place / "in.jsonl").write_text("\n".join(lines) + "\n")
    dataset = new_dataset(str(place / "store"), place / "in.jsonl", text_column=None, messages_column="messages")
    encode_missing(dataset)
    return dataset


@pytest.mark.usefixtures("here")
def test_pairs_between_two_channels_and_of_a_selection(tmp_path: Path) -> None:
    """Documents without one of the channels do not count, nor do those that the selector leaves out."""
    dataset = conversations(tmp_path)
    channels = sets_of(dataset)
    between = cooccur(dataset.store, "toy", channels=("user", "assistant"), **OPTIONS)
    assert between.documents == 208
    assert_pairs(between, expected(channels["user"], channels["assistant"], within=False))

    chosen = sets_of(dataset, lambda row: row["model"] == "A")
    within = cooccur(dataset.store, "toy:model=A", channels=("user",), **OPTIONS)
    assert within.documents == 130
    assert_pairs(within, expected(chosen["user"], chosen["user"], within=True))
    both = cooccur(dataset.store, "toy:model=A", channels=("user", "assistant"), **OPTIONS)
    assert_pairs(both, expected(chosen["user"], chosen["assistant"], within=False))
    assert len({result.tiles.place.path for result in (between, within, both)}) == 3


@pytest.mark.usefixtures("here")
def test_what_cannot_be_counted_is_said(tmp_path: Path) -> None:
    """An empty selection, an empty band, channels that are not there: one line, and nothing is written."""
    dataset = conversations(tmp_path)
    for selection, options, reason in (
        ("toy:model=C", {"channels": ("user",)}, "nothing is selected by toy:model=C: model has A, B"),
        ("toy", {"channels": ("user",), "band": (0.9, 1.0)}, "no latent of user is in 0.9 to 1 of the 260 documents"),
        ("toy", {}, "choose one with --channel: assistant, user"),
        ("toy", {"channels": ("user", "tool")}, "no rows of channel 'tool'"),
        ("toy", {"channels": ("user", "user")}, "two different ones"),
        ("toy:model=A", {"channels": ("user",), "band": (0.5, 0.1)}, "not a band: 0.5 to 0.1"),
    ):
        with pytest.raises(UsageError, match=reason):
            cooccur(dataset.store, selection, **options)
    assert not (tmp_path / "store" / "cooccurrence").exists()


@pytest.mark.usefixtures("here")
def test_a_spoilt_tile_is_named_and_a_lost_one_counted_again(tmp_path: Path) -> None:
    """What is read has the digest it was written with."""
    dataset = toy(tmp_path, 0, 1)
    result = cooccur(dataset.store, "toy", **OPTIONS)
    edges, file = result.edges(), result.needed[0, 1].settled
    assert file is not None
    path = Path(result.tiles.place.path) / file.file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(SaerayError, match=rf"{file.file} is not whole .* delete it"):
        cooccur(dataset.store, "toy", **OPTIONS).edges()
    path.unlink()
    assert cooccur(dataset.store, "toy", **OPTIONS).edges() == edges


SLOW = """
import sys, time
from saeray.pipeline import cooccur as job
from saeray.store import Store, builder
plain = job._make_tile
def slowly(about, task, masks):
    time.sleep(20 * (task.facts.row > 0))
    plain(about, task, masks)
job._make_tile = slowly
job.TASK_BYTES = 1 << 60  # one worker is enough, and importing torch takes it seconds
builder.MAX_DOCUMENTS = 60
job.cooccur(Store.open(sys.argv[1]), "toy", band=(0.03, 0.5), min_support=2, floor=0.0, width=150)
"""


def test_killed_workers_and_a_killed_driver_leave_the_same_files(
    ray_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Workers die on their first tile; then a driver dies in the middle, and its tiles are not made again. The run that
    goes on leaves the files of the first, and so does the job, which has nothing left to do."""
    options = OPTIONS | {"width": 150}
    whole_node = job.memory_of_a_node
    monkeypatch.setattr(job, "TASK_BYTES", 1 << 60)
    monkeypatch.setattr(job, "memory_of_a_node", lambda: whole_node() // 2)  # two workers, not one a CPU
    with monkeypatch.context() as patch:
        plain, marks = job._make_tile, tmp_path / "marks"
        marks.mkdir()

        def dying(about: Any, task: Any, masks: Any) -> None:
            mark = marks / f"{task.facts.row}-{task.facts.column}"
            if task.facts.row == 1 and not mark.exists():
                mark.touch()
                os._exit(1)
            plain(about, task, masks)

        patch.setattr(job, "_make_tile", dying)
        whole = cooccur(toy(tmp_path / "whole", 0, 1).store, "toy", **options)
    assert len(list(marks.iterdir())) == 2
    documents = sets_of(Store.open(str(tmp_path / "whole" / "store")).dataset("toy"))["text"]
    assert_pairs(whole, expected(documents, documents, within=True))

    store = toy(tmp_path / "killed", 0, 1).store
    place = Path(store.uri) / whole.tiles.place.path.split("/store/")[1]
    environment = os.environ | {"RAY_ADDRESS": ray_address}
    driver = subprocess.Popen([sys.executable, "-c", SLOW, store.uri], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while len(done := list(place.glob("tile-*.arrow"))) < 3:
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert not (place / "manifest.json").exists()
    stamps = {path: path.stat().st_mtime_ns for path in done}
    resumed = cooccur(store, "toy", **options)
    assert len(done) < resumed.work["tiles"] * 2
    assert files_of(resumed) == files_of(whole)

    config = {"selection": "toy", "store": store.uri, "out": str(tmp_path / "out"), "tiles": True}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(config | options | {"band": list(options["band"])}))
    monkeypatch.setattr(sys, "argv", ["cooccur.py", "--config", str(tmp_path / "job.yaml"), "--json"])
    runpy.run_path(str(ROOT / "jobs" / "cooccur.py"), run_name="__main__")
    printed = capsys.readouterr()
    assert "0 of 6 tiles counted now" in printed.err
    assert {path: path.stat().st_mtime_ns for path in done} == stamps
    summary = json.loads(printed.out.strip().splitlines()[-1])
    assert summary["edges"] == whole.edges().num_rows
    assert summary["selection"]["documents"] == 260
    assert pq.read_table(tmp_path / "out" / "result.parquet") == whole.edges()
    assert "The strongest pairs" in (tmp_path / "out" / "report.html").read_text()
    assert len(list((tmp_path / "out" / "tiles").iterdir())) == 6
