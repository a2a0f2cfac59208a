"""Stores and datasets: one encoder a store, readers see what is committed, `verify` finds what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_encoder import ENCODER, encode, encode_missing, new_dataset, write_inputs

from saeray.errors import SaerayError, UsageError
from saeray.store import Dataset, Store, commit_shard, encoder_fingerprint, parse, read_shard
from saeray.store.lease import LEASE_SECONDS


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    dataset = new_dataset(str(tmp_path / "s"), write_inputs(tmp_path / "in"))
    encode_missing(dataset)
    return dataset


def test_an_encoder_claims_a_store_once(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "s"), create=True)
    assert not (tmp_path / "s").exists()
    with pytest.raises(SaerayError, match="no encoder has claimed"):
        store.fingerprint()
    claimed = store.claim_encoder(ENCODER)
    assert claimed["fingerprint"] == encoder_fingerprint(ENCODER) == Store.open(store.uri).fingerprint()
    reordered = {"sae": ENCODER["sae"], "reader": dict(reversed(ENCODER["reader"].items()))}
    assert Store.open(store.uri).claim_encoder(reordered) == claimed
    before = (tmp_path / "s/encoder.json").read_bytes()
    other = {"reader": {"name": "toy", "layer": 4}, "sae": {"d_sae": 512}, "window": 2048}
    with pytest.raises(
        SaerayError, match=r"reader\.layer is 3 there, 4 asked for; window is nothing there, 2048"
    ) as caught:
        Store.open(store.uri).claim_encoder(other)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "s/encoder.json").read_bytes() == before


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"fingerprint": "x", "a": 1}'])
def test_a_spoilt_encoder_file_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "encoder.json").write_text(content)
    with pytest.raises(SaerayError, match=r"encoder\.json is not an encoder description"):
        Store.open(str(tmp_path))


def test_what_is_not_there_is_named(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="there is no store at"):
        Store.open(str(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        Store.open(str(tmp_path / "file"), create=True)
    with pytest.raises(UsageError, match=r"there is no dataset nope in .*; there is: toy"):
        dataset.store.dataset("nope")
    with pytest.raises(UsageError, match="no such column nope in dataset toy; it has: doc_id"):
        list(dataset.scan(columns=["nope"]))
    with pytest.raises(UsageError, match="no such column nope"):
        dataset.store.select("toy:nope=1")
    assert dataset.store.datasets() == ["toy"]


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "/etc", "a\0", ""])
def test_no_dataset_name_leads_out_of_the_store(dataset: Dataset, name: str) -> None:
    for create in (False, True):
        with pytest.raises(UsageError, match="not a dataset name"):
            dataset.store.dataset(name, create=create)


def test_a_scan_gives_the_selected_rows_and_columns(dataset: Dataset) -> None:
    everything = pa.concat_tables(dataset.scan())
    assert everything.schema.equals(dataset.schema(), check_metadata=True)
    assert everything.column("doc_id").to_pylist() == [f"a.jsonl:{i}" for i in range(120)]
    store = dataset.store
    for text in ("toy", "toy:model=A", "toy:model=A,n_tokens>=10", "toy:latents*=7|9", 'toy:doc_id="a.jsonl:3"'):
        _, selector = store.select(text)
        for chosen in (selector, selector.rest()):
            mask = chosen.mask(everything).to_pylist()
            rows = everything.filter(pa.array(mask))
            assert dataset.count(chosen) == rows.num_rows
            for columns in (["doc_id"], ["max", "doc_id"], ["n_tokens", "model"], None):
                found = list(dataset.scan(chosen, columns))
                wanted = rows if columns is None else rows.select(columns)
                assert [row for table in found for row in table.to_pylist()] == wanted.to_pylist()
                assert all(table.num_rows for table in found)
    one = pa.concat_tables(dataset.scan_shard(2, columns=["doc_id"]))
    assert one.num_rows == dataset.shards()[2].rows


def test_an_empty_selection_says_what_there_is(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match=r"nothing is selected by toy:model=C: model has A, B$"):
        dataset.require(parse("toy:model=C"))
    with pytest.raises(UsageError, match=r"n_tokens is 2 to 18"):
        dataset.require(parse("toy:n_tokens>=999"))
    assert dataset.require(parse("toy:model=A")) == 60


def test_readers_see_what_is_committed_and_nothing_else(dataset: Dataset) -> None:
    root = Path(dataset.root.path)
    (root / "commits/00001.json").unlink()
    (root / "documents/.tmp-part-00099.parquet-1-a").write_bytes(b"half")
    (root / "documents/part-00077.parquet").write_bytes(b"from nowhere")
    fresh = Store.open(dataset.store.uri).dataset("toy")
    seen = [one for table in fresh.scan(columns=["doc_id"]) for one in table.column(0).to_pylist()]
    gone = fresh.shards()[1]
    assert seen == [f"a.jsonl:{i}" for i in range(120) if not gone.start <= i < gone.stop]
    assert [shard.shard for shard in fresh.missing()] == [1]
    with pytest.raises(SaerayError, match="shard 1 of toy is not committed"):
        list(fresh.scan_shard(1))
    report = fresh.verify()
    assert report.missing == [1]
    assert report.stray == ["documents/part-00001.parquet", "documents/part-00077.parquet"]
    assert not report.ok


def _spoil(path: Path, at: int = 60) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 255
    path.write_bytes(data)


def test_verify_names_every_kind_of_damage(dataset: Dataset) -> None:
    root = Path(dataset.root.path)
    last = len(dataset.shards()) - 1
    assert dataset.verify().ok
    _spoil(root / "documents/part-00000.parquet")
    (root / "documents/part-00001.parquet").unlink()
    (root / "documents/part-00002.parquet").write_bytes((root / "documents/part-00003.parquet").read_bytes())
    (root / "commits/00004.json").write_text("{")
    _spoil(root / f"rejects/{last:05d}.parquet")
    commit = json.loads((root / "commits/00005.json").read_text())
    (root / "commits/00005.json").write_text(json.dumps({**commit, "documents": commit["documents"] + 1}))
    (root / "commits/00006.json").unlink()
    (root / "commits/00999.json").write_text("{}")
    report = Store.open(dataset.store.uri).dataset("toy").verify()
    named = " ".join(report.corrupt)
    for name in ("part-00000", "part-00001", "part-00002", "commits/00004", f"rejects/{last:05d}"):
        assert name in named, name
    assert len(report.corrupt) == 5
    assert report.missing == [6]
    assert [one.split(":")[0] for one in report.miscounted] == ["shard 5"]
    assert report.stray == ["commits/00999.json", "documents/part-00006.parquet"]
    assert not report.ok
    assert json.loads(json.dumps(report.to_dict()))["ok"] is False


def test_verify_finds_a_row_that_is_there_twice(tmp_path: Path) -> None:
    """Two inputs of one content under one id column whose sidecar and plan were tampered with."""
    inputs = tmp_path / "in"
    inputs.mkdir()
    for name in "ab":
        (inputs / f"{name}.jsonl").write_text('{"id": "same", "text": "x"}\n')
    dataset = new_dataset(str(tmp_path / "s"), inputs, keep=(), id_column="id", shard_tokens=1)
    plan = Path(dataset.root.path) / "plans/00000.json"
    plan.write_text(plan.read_text().replace('"duplicate_rows":[0]', '"duplicate_rows":[]'))
    fresh = Store.open(dataset.store.uri).dataset("toy")
    encode_missing(fresh)
    report = fresh.verify()
    assert report.duplicates == ["same (text) in part-00001.parquet"]
    assert not report.ok


def test_chats_have_a_row_a_channel(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    chat = [{"role": "user", "content": "hi there"}, {"role": "assistant", "content": "yes"}]
    rows = [json.dumps({"chat": chat}), json.dumps({"chat": []}), json.dumps({"chat": chat[:1]})]
    (tmp_path / "in/a.jsonl").write_text("\n".join(rows))
    settings = {"text_column": None, "messages_column": "chat", "keep": (), "store_sum": True}
    dataset = new_dataset(str(tmp_path / "s"), tmp_path / "in", **settings)
    encode_missing(dataset)
    (commit,) = dataset.commits()
    assert (commit.documents, commit.rows, commit.rejects) == (2, 3, 1)
    assert dataset.count(parse("toy:channel=user")) == 2
    assert dataset.verify().ok
    assert "sum" in dataset.schema().names


def test_text_may_be_left_out(tmp_path: Path) -> None:
    dataset = new_dataset(str(tmp_path / "s"), write_inputs(tmp_path / "in"), store_text=False)
    assert "text" not in dataset.schema().names
    shard = dataset.shards()[0]
    content = read_shard(dataset.plan_of(shard), shard)
    commit_shard(dataset, shard, encode(content, dataset), content.rejects, 0.1)
    part = Path(dataset.root.path) / "documents/part-00000.parquet"
    assert "text" not in pq.read_schema(part).names
    assert b"document 0" not in part.read_bytes()


def test_hostile_ids_and_values_stay_data(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    ids = ["../../x", "/etc/passwd", "a\0b", "<script>alert(1)</script>", "'; drop table", "🎉", " ", "x" * 1024, "\n"]
    rows = [json.dumps({"id": one, "text": f"t {one}"}) for one in ids]
    (tmp_path / "in/a.jsonl").write_text("\n".join(rows))
    dataset = new_dataset(str(tmp_path / "s"), tmp_path / "in", keep=(), id_column="id")
    before = {path.name for path in tmp_path.iterdir()}
    encode_missing(dataset)
    assert {path.name for path in tmp_path.iterdir()} == before
    assert [one for table in dataset.scan(columns=["doc_id"]) for one in table.column(0).to_pylist()] == ids
    assert [one for table in dataset.scan(columns=["text"]) for one in table.column(0).to_pylist()] == [
        f"t {one}" for one in ids
    ]
    assert dataset.verify().ok


def test_a_lease_is_held_by_one_and_ends_by_itself(dataset: Dataset) -> None:
    assert dataset.acquire_lease("me").owner == "me"
    assert dataset.acquire_lease("you").owner == "me"
    assert not dataset.renew_lease("you")
    dataset.release_lease("you")
    assert dataset.renew_lease("me")
    assert dataset.acquire_lease("me", 0.05).expires - time.time() <= LEASE_SECONDS
    time.sleep(0.1)
    assert dataset.acquire_lease("you").owner == "you"
    dataset.release_lease("you")
    assert dataset.acquire_lease("me").owner == "me"


@pytest.mark.parametrize(
    "content", ["", "junk", '{"owner": "x", "expires": 9e99}', '{"owner": "x", "expires": 0}', "[1]"]
)
def test_a_lease_that_cannot_be_true_stops_nobody(dataset: Dataset, content: str) -> None:
    (Path(dataset.root.path) / "lease.json").write_text(content)
    assert dataset.acquire_lease("me").owner == "me"


def test_the_store_imports_neither_torch_nor_ray() -> None:
    code = "import saeray.store, sys; print([m for m in ('torch', 'ray', 's3fs', 'transformers') if m in sys.modules])"
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env).stdout.strip() == "[]"
