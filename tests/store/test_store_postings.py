"""The latent-major index holds exactly what is stored, in the same bytes however it was made, and says when it does
not fit the dataset or its files are not whole."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_encoder import D_SAE, encode, encode_missing, new_dataset, write_inputs

from saeray.errors import SaerayError, UsageError
from saeray.store import Dataset, Store, builder, commit_shard, list_inputs, parts, postings, read_shard
from saeray.store.index import Index, build_missing, plan_index
from saeray.store.postings import MAX_DOCUMENTS, build_block, pack

ALL = np.arange(D_SAE)
Stored = dict[tuple[str, int, str], tuple[float, int]]


def stored(dataset: Dataset) -> Stored:
    """(channel, latent, doc_id) -> (max, peak) of every posting, read from the documents."""
    found = {}
    for table in dataset.scan(columns=["doc_id", "channel", "latents", "max", "peak"]):
        for row in table.to_pylist():
            for latent, value, peak in zip(row["latents"], row["max"], row["peak"], strict=True):
                found[row["channel"], latent, row["doc_id"]] = (value, peak)
    return found


def indexed(index: Index) -> Stored:
    """The same, read from the index."""
    found: Stored = {}
    for block in index.blocks:
        ids = block.doc_ids().to_pylist()
        assert len(ids) == block.documents
        for channel in index.channels:
            all_of_it = block.postings(channel, ALL)
            values = zip(all_of_it.max.tolist(), all_of_it.peak.tolist(), strict=True)
            where = np.repeat(ALL, np.diff(all_of_it.offsets)).tolist()
            for latent, document, value in zip(where, all_of_it.documents.tolist(), values, strict=True):
                assert (channel, latent, ids[document]) not in found
                found[channel, latent, ids[document]] = value
    return found


def files(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (store / "index").rglob("*") if path.is_file()}


def chats(directory: Path, count: int = 40) -> Path:
    """Conversations of one, two or three roles; some say nothing that is encoded."""
    roles = (["user"], ["user", "assistant"], ["system", "user", "assistant"], ["assistant"])
    rows = [
        {"messages": [{"role": r, "content": f"{r} {i} " + "w " * (i % 9)} for r in roles[i % 4]]} for i in range(count)
    ]
    directory.mkdir()
    (directory / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return directory


@pytest.fixture
def chat_dataset(tmp_path: Path) -> Dataset:
    settings = {"text_column": None, "messages_column": "messages", "keep": (), "shard_tokens": 100}
    dataset = new_dataset(str(tmp_path / "store"), chats(tmp_path / "in"), **settings)
    encode_missing(dataset)
    return dataset


@pytest.fixture
def text_dataset(tmp_path: Path) -> Dataset:
    dataset = new_dataset(str(tmp_path / "store"), write_inputs(tmp_path / "in"))
    encode_missing(dataset)
    assert len(dataset.committed()) > 4
    return dataset


def add_inputs(dataset: Dataset, inputs: Path, name: str, documents: int) -> None:
    """One more plan, encoded."""
    write_inputs(inputs, documents, name=name)
    dataset.add_plan(list_inputs([str(inputs)]), dataset.plans()[0].settings)
    encode_missing(dataset)


@given(st.data())
def test_a_block_is_the_transposed_rows(data: st.DataObject) -> None:
    """Every value is where it belongs and unchanged, wide peaks, empty documents and unused latents included."""
    d_sae = data.draw(st.integers(1, 12))
    most = data.draw(st.sampled_from([0, 9, 65_535, 65_536, 2**31 - 1]))
    halves = st.floats(2.0**-24, 65504.0, width=16)
    row = st.dictionaries(st.integers(0, d_sae - 1), st.tuples(halves, st.integers(0, most)))
    rows = data.draw(st.lists(row, max_size=9))
    latents = [sorted(one) for one in rows]
    values = [one[latent] for one, mine in zip(rows, latents, strict=True) for latent in mine]
    flat = np.array([latent for mine in latents for latent in mine], np.int32)
    packed = pack(np.array([v for v, _ in values], np.float32), np.array([p for _, p in values], np.int32))
    written = build_block(np.array([len(mine) for mine in latents], np.int64), flat, packed, d_sae)

    batch = pa.ipc.open_file(written).get_batch(0)
    naive = [[(d, *one[latent]) for d, one in enumerate(rows) if latent in one] for latent in range(d_sae)]
    found = [batch.column(name).to_pylist() for name in ("document", "max", "peak")]
    assert [list(zip(*lists, strict=True)) for lists in zip(*found, strict=True)] == naive
    wide = any(peak > 65_535 for _, peak in values)
    assert batch.schema.field("peak").type.value_type == (pa.uint32() if wide else pa.uint16())


def test_a_full_block_counts_to_its_last_document() -> None:
    """A latent in all of 65,536 documents, in one, and in none: the numbers are uint16, the counts are not."""
    count = MAX_DOCUMENTS
    lengths = np.ones(count, np.int64)
    lengths[7] = 2
    latents = np.insert(np.zeros(count, np.int32), 8, 2)
    packed = pack(np.full(count + 1, 0.5, np.float32), np.zeros(count + 1, np.int32))
    batch = pa.ipc.open_file(build_block(lengths, latents, packed, 3)).get_batch(0)
    document = batch.column("document")
    assert document.value_lengths().to_pylist() == [count, 0, 1]
    assert document[0].values.to_numpy().tolist() == list(range(count))
    assert document[2].as_py() == [7]


def test_the_index_holds_what_is_stored(text_dataset: Dataset) -> None:
    """All postings and token counts, by way of document numbers; frequencies from the offsets are the counts."""
    index = build_missing(text_dataset.store, "toy")
    want = stored(text_dataset)
    assert indexed(index) == want
    assert (index.documents(), index.missing, index.channels, index.d_sae) == (120, 0, ("text",), D_SAE)
    counts = np.bincount([latent for _, latent, _ in want], minlength=D_SAE)
    assert index.frequency("text").tolist() == counts.tolist()
    rows = pa.concat_tables(text_dataset.scan(columns=["doc_id", "n_tokens"])).to_pylist()
    block = index.blocks[0]
    pairs = zip(block.doc_ids().to_pylist(), block.n_tokens("text").tolist(), strict=True)
    assert list(pairs) == [(row["doc_id"], row["n_tokens"]) for row in rows]


def test_channels_of_a_document_share_its_number(
    chat_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So that pairs between two channels are pairs within a document, however the rows were grouped on disk."""
    index = build_missing(chat_dataset.store, "toy")
    assert index.channels == ("assistant", "system", "user")
    assert index.documents() == 40
    assert indexed(index) == stored(chat_dataset)
    where = {}
    for shard in chat_dataset.committed():
        rows = pa.concat_tables(chat_dataset.scan_shard(shard, None, ["doc_id", "channel", "n_tokens"])).to_pylist()
        where |= {(row["doc_id"], row["channel"]): (shard, at, row["n_tokens"]) for at, row in enumerate(rows)}
    found = {}
    for block in index.blocks:
        ids = block.doc_ids().to_pylist()
        for channel in index.channels:
            told = zip(block.rows(channel).to_pylist(), block.n_tokens(channel).tolist(), strict=True)
            for doc_id, (row, n_tokens) in zip(ids, told, strict=True):
                assert (row["row"] < 0) == (n_tokens < 0) == ((doc_id, channel) not in where)
                if n_tokens >= 0:
                    found[doc_id, channel] = (row["shard"], row["row"], n_tokens)
    assert found == where

    monkeypatch.setattr(parts, "MAX_GROUP_ROWS", 3)  # a document's rows lie in two row groups
    settings = {"text_column": None, "messages_column": "messages", "keep": (), "shard_tokens": 100}
    grouped = new_dataset(str(tmp_path / "grouped"), tmp_path / "in", **settings)
    encode_missing(grouped)
    again = build_missing(grouped.store, "toy")
    assert again.blocks[0].doc_ids().to_pylist() == index.blocks[0].doc_ids().to_pylist()
    assert indexed(again) == indexed(index)


@pytest.mark.parametrize(("documents", "most_postings"), [(7, 1 << 27), (65_536, 100), (1, 1 << 27)])
def test_a_shard_larger_than_a_block_is_cut(
    chat_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, documents: int, most_postings: int
) -> None:
    """Documents of a block are numbered by uint16, its memory is bounded; no cut goes through a document."""
    monkeypatch.setattr(builder, "MAX_DOCUMENTS", documents)
    monkeypatch.setattr(builder, "MAX_POSTINGS", most_postings)
    index = build_missing(chat_dataset.store, "toy")
    assert len(index.blocks) > 4
    assert max(block.documents for block in index.blocks) <= documents
    sizes = [sum(one.postings for one in block.facts.channels.values()) for block in index.blocks]
    assert all(size <= most_postings or block.documents == 1 for size, block in zip(sizes, index.blocks, strict=True))
    assert indexed(index) == stored(chat_dataset)
    assert build_missing(chat_dataset.store, "toy").blocks[0].digest == index.blocks[0].digest


def test_masks_are_the_selected_rows(chat_dataset: Dataset) -> None:
    """A selector over the index takes the documents that it takes over the rows."""
    index = build_missing(chat_dataset.store, "toy")
    for text in ("toy", "toy:n_tokens>=8", "toy:n_tokens>=8,channel=user", "toy:n_tokens>=999"):
        _, chosen = chat_dataset.store.select(text)
        for selector in (chosen, chosen.rest()):
            for channel in index.channels:
                found = [
                    doc_id
                    for block in index.blocks
                    for doc_id, taken in zip(
                        block.doc_ids().to_pylist(), block.mask(chat_dataset, selector, channel), strict=True
                    )
                    if taken
                ]
                rows = [row for t in chat_dataset.scan(selector, ["doc_id", "channel"]) for row in t.to_pylist()]
                assert found == [row["doc_id"] for row in rows if row["channel"] == channel], str(selector)
    with pytest.raises(UsageError, match="no such column colour"):
        index.blocks[0].mask(chat_dataset, chat_dataset.store.select("toy:colour=red")[1], "user")


def test_bytes_follow_from_the_commits(text_dataset: Dataset, tmp_path: Path) -> None:
    """The same commits give the same files, and a second run writes nothing."""
    build_missing(text_dataset.store, "toy")
    first = files(tmp_path / "store")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "store/index").rglob("*")}
    assert not plan_index(text_dataset.store, "toy").todo
    build_missing(text_dataset.store, "toy")
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    shutil.rmtree(tmp_path / "store/index")
    build_missing(text_dataset.store, "toy")
    assert files(tmp_path / "store") == first


def test_new_commits_make_new_blocks(text_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full blocks are not touched, one less than half full is made again with what came, and its files go."""
    monkeypatch.setattr(builder, "MAX_DOCUMENTS", 32)
    store = text_dataset.store
    index = build_missing(store, "toy")
    sizes = [block.documents for block in index.blocks]
    assert sizes[-1] < 16 <= min(sizes[:-1])
    before = files(tmp_path / "store")
    add_inputs(text_dataset, tmp_path / "in", "b.jsonl", 40)

    old = Index.open(store, "toy")
    assert (old.documents(), old.refresh_needed()) == (120, True)
    assert old.missing == len(text_dataset.committed()) - len({s.shard for b in old.blocks for s in b.facts.spans})
    new = build_missing(store, "toy")
    assert (new.documents(), new.missing, new.refresh_needed()) == (160, 0, False)
    assert indexed(new) == stored(text_dataset)
    after = files(tmp_path / "store")
    kept = {block.digest for block in index.blocks[:-1]}
    assert kept < {block.digest for block in new.blocks}
    assert {name: data for name, data in before.items() if name.split(".")[0] in kept}.items() <= after.items()
    gone = index.blocks[-1].digest
    assert any(name.startswith(gone) for name in before)
    assert {name.split(".")[0] for name in after} == {block.digest for block in new.blocks} | {"manifest"}


def test_shards_that_are_committed_out_of_order_are_all_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A late shard of the middle is added; what lacks it says how many shards are missing."""
    monkeypatch.setattr(builder, "MAX_DOCUMENTS", 32)
    dataset = new_dataset(str(tmp_path / "store"), write_inputs(tmp_path / "in"))
    with pytest.raises(SaerayError, match="nothing committed yet"):
        build_missing(dataset.store, "toy")
    shards = dataset.shards()
    late = (shards[1], shards[3])

    def commit(one: Any) -> None:
        content = read_shard(dataset.plan_of(one), one)
        commit_shard(dataset, one, encode(content, dataset), content.rejects, 0.1)

    for one in shards:
        if one not in late:
            commit(one)
    assert build_missing(dataset.store, "toy").missing == 0
    for count, one in enumerate(late, 1):
        commit(one)
        assert Index.open(dataset.store, "toy").missing == count
        assert Index.open(dataset.store, "toy", check=False).missing == count
    index = build_missing(dataset.store, "toy")
    assert indexed(index) == stored(dataset)
    held = [(s.shard, s.start, s.stop) for block in index.blocks for s in block.facts.spans]
    assert sorted(held) == [(c.shard, 0, c.rows) for c in dataset.commits()]


def test_a_shard_of_rejects_alone_is_not_missing_for_ever(tmp_path: Path) -> None:
    """It has no rows to index."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_text('{"text": ""}\n' * 3)
    dataset = new_dataset(str(tmp_path / "store"), tmp_path / "in", keep=())
    encode_missing(dataset)
    index = build_missing(dataset.store, "toy")
    assert (index.documents(), index.missing, index.channels) == (0, 0, ())
    assert index.frequency("text").sum() == 0
    assert not plan_index(dataset.store, "toy").todo


def test_a_dataset_that_was_encoded_anew_is_refused_until_it_is_indexed(text_dataset: Dataset, tmp_path: Path) -> None:
    """An index of rows that are gone would give numbers of nothing."""
    store = Store.open(str(tmp_path / "store"))
    build_missing(store, "toy")
    shutil.rmtree(tmp_path / "store/datasets/toy")
    with pytest.raises(UsageError, match="no dataset toy"):
        Index.open(store, "toy")
    write_inputs(tmp_path / "other", documents=90, name="other.jsonl")
    dataset = new_dataset(str(tmp_path / "store"), tmp_path / "other")
    encode_missing(dataset)
    with pytest.raises(SaerayError, match=r"holds shard 0 as it was before .*: run `saeray index toy`$") as caught:
        Index.open(store, "toy")
    assert "\n" not in str(caught.value)
    plan = plan_index(store, "toy")
    assert "were encoded anew or deleted since toy was indexed" in plan.notes[0]
    assert indexed(build_missing(store, "toy")) == stored(dataset)


def spoil(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "cut":
        os.truncate(path, len(data) // 2)
    else:
        middle = len(data) // 2
        data[middle : middle + 64] = bytes(255 - one for one in data[middle : middle + 64])
        path.write_bytes(data)


@pytest.mark.parametrize("how", ["gone", "cut"])
@pytest.mark.parametrize("suffix", [".0.arrow", ".documents.parquet"])
def test_a_file_that_is_not_whole_is_one_line_and_mended_by_a_run(
    text_dataset: Dataset, tmp_path: Path, how: str, suffix: str
) -> None:
    """A disk that lost half a file does not give half the postings."""
    name = build_missing(text_dataset.store, "toy").blocks[0].digest + suffix
    before = files(tmp_path / "store")
    spoil(tmp_path / "store/index/toy" / name, how)
    with pytest.raises(SaerayError, match=r"is not whole .*: delete it and run `saeray index toy`$") as caught:
        indexed(Index.open(text_dataset.store, "toy"))
    assert "\n" not in str(caught.value)
    build_missing(text_dataset.store, "toy")
    assert files(tmp_path / "store") == before


def test_bytes_that_changed_are_found_by_digest(text_dataset: Dataset, tmp_path: Path) -> None:
    """What cannot be seen in passing is seen by `--check`, which makes it again; damaged offsets are seen at once."""
    index = build_missing(text_dataset.store, "toy")
    before = files(tmp_path / "store")
    assert index.verify() == []
    facts = index.blocks[0].facts
    place = tmp_path / "store/index/toy" / facts.channels["text"].file
    data = bytearray(place.read_bytes())
    at = facts.channels["text"].at["offsets"] + 8 * 10
    data[at : at + 8] = (1 << 40).to_bytes(8, "little")
    place.write_bytes(data)
    with pytest.raises(SaerayError, match="offsets are not those of postings"):
        Index.open(text_dataset.store, "toy").frequency("text")
    assert index.verify() == [place.name]
    build_missing(text_dataset.store, "toy", check=True)
    assert files(tmp_path / "store") == before


def test_a_manifest_that_cannot_be_read_is_one_line(text_dataset: Dataset, tmp_path: Path) -> None:
    """Neither nothing nor something wrong is taken for an index."""
    store = text_dataset.store
    with pytest.raises(UsageError, match=r"there is no index of toy: run `saeray index toy`"):
        Index.open(store, "toy")
    build_missing(store, "toy")
    manifest = tmp_path / "store/index/toy/manifest.json"
    for content in ("{", '{"version": 99}', "[]"):
        manifest.write_text(content)
        for action in (lambda: Index.open(store, "toy"), lambda: build_missing(store, "toy")):
            with pytest.raises(SaerayError, match=r"is not the manifest of an index .*: delete it and run"):
                action()
    manifest.unlink()
    assert indexed(build_missing(store, "toy")) == stored(text_dataset)


def test_a_row_with_a_foreign_latent_is_refused(text_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be counted for a latent of another number."""
    monkeypatch.setattr("saeray.store.index._d_sae", lambda store: 3)
    with pytest.raises(SaerayError, match=r"holds latent \d+, the encoder has 3: see what `saeray verify toy` says"):
        build_missing(text_dataset.store, "toy")


def test_what_killed_runs_left_goes_after_a_day(text_dataset: Dataset, tmp_path: Path) -> None:
    """A run that is just making a block keeps it; a stray of yesterday goes."""
    root = tmp_path / "store/index/toy"
    root.mkdir(parents=True)
    for name, age in (("block-new.0.arrow", 10), ("block-old.0.arrow", 90_000)):
        (root / name).write_bytes(b"x")
        stamp = (root / name).stat().st_mtime - age
        os.utime(root / name, (stamp, stamp))
    build_missing(text_dataset.store, "toy")
    assert (root / "block-new.0.arrow").exists()
    assert not (root / "block-old.0.arrow").exists()


def test_some_latents_are_those_latents(text_dataset: Dataset) -> None:
    """Any ascending choice gives what all of them give; another is refused."""
    block = build_missing(text_dataset.store, "toy").blocks[0]
    whole = block.postings("text", ALL)
    rng = np.random.default_rng(0)
    for size in (0, 1, 2, 50, 300):
        latents = np.sort(rng.choice(D_SAE, size, replace=False))
        some = block.postings("text", latents)
        assert some.offsets[-1] == len(some.documents) == len(some.max) == len(some.peak)
        for j, latent in enumerate(latents):
            mine, theirs = (slice(*p.offsets[i : i + 2]) for p, i in ((some, j), (whole, latent)))
            for name in ("documents", "max", "peak"):
                assert getattr(some, name)[mine].tolist() == getattr(whole, name)[theirs].tolist()
    assert block.postings("text", np.arange(3, 9)).documents.base is not None, "neighbours are a view of the file"
    for wrong in ([3, 3], [4, 3], [-1], [D_SAE]):
        with pytest.raises(ValueError, match="must ascend"):
            block.postings("text", np.array(wrong))
    assert block.postings("nobody", ALL).max.size == 0


def test_an_index_in_object_storage_is_read_by_ranges(
    s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near runs are read together and long ones in pieces; what comes out is the same, a cut object is one line."""
    inputs = write_inputs(tmp_path / "in")
    dataset, local = new_dataset(s3_uri, inputs), new_dataset(str(tmp_path / "local"), inputs)
    encode_missing(dataset)
    encode_missing(local)
    here, there = build_missing(local.store, "toy"), build_missing(dataset.store, "toy")
    assert [block.facts for block in there.blocks] == [block.facts for block in here.blocks]
    monkeypatch.setattr(postings, "REQUEST_BYTES", 1 << 10)
    latents = np.flatnonzero(np.random.default_rng(1).random(D_SAE) < 0.1)
    for gap in (0, 64, 1 << 20):
        monkeypatch.setattr(postings, "GAP_BYTES", gap)
        there = Index.open(Store.open(s3_uri), "toy")
        assert indexed(there) == stored(local)
        some, same = (one.blocks[0].postings("text", latents) for one in (there, here))
        assert some.documents.tolist() == same.documents.tolist()
        assert some.max.tolist() == same.max.tolist()
    place = there.dataset.store.root / "index" / "toy" / there.blocks[0].facts.channels["text"].file
    place.replace(place.read_bytes()[:900])
    with pytest.raises(SaerayError, match=r"is not whole .*: delete it and run `saeray index toy`"):
        Index.open(Store.open(s3_uri), "toy").frequency("text")
    assert indexed(build_missing(dataset.store, "toy")) == stored(local)
