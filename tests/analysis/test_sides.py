"""Promise: a side is fixed when it is opened, and names what it was read from."""

from dataclasses import replace

import numpy as np
import pytest

from saeray.analysis.sides import open_side, pooled, provenance, ranges, spread
from saeray.errors import SaerayError
from saeray.store import Store, commit_shard, read_shard


@pytest.mark.parametrize(("numbers", "text"), [([], ""), ([4], "4"), ([0, 1, 2, 3, 7], "0-3,7"), ([1, 3, 4], "1,3-4")])
def test_ranges(numbers, text):
    assert ranges(numbers) == text


def test_commits_after_the_opening_are_not_seen(store_of, corpus_table):
    """Encoding may go on while a diff reads: every pass of the diff must read the same documents."""
    store = store_of([{"doc_id": f"{i:03d}", "text": "the cat sat on the mat " * 3} for i in range(60)], missing=1)
    side = open_side(store, "d")
    dataset = store.dataset("d")
    shard = dataset.missing()[0]
    read = read_shard(dataset.plan_of(shard), shard)
    rows = read.documents.drop_columns("row").to_pylist()
    commit_shard(dataset, shard, corpus_table(rows, dataset.schema()), read.rejects, seconds=0.1)
    assert open_side(store, "d").n_documents == 60 > side.n_documents
    assert sum(table.num_rows for table in side.scan(["doc_id"])) == side.n_documents


def test_a_store_without_an_encoder_is_said(tmp_path):
    with pytest.raises(SaerayError, match="encode something"):
        provenance(Store.open(str(tmp_path / "s"), create=True))


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_mask_keeps_its_rows_in_order(side_of, step):
    """Halves and pairs are masks: each scan of one must give the same rows, whatever the tables."""
    side = side_of([{"doc_id": f"{i:02d}", "text": "cat " * (i + 1)} for i in range(40)], step=step)
    keep = np.random.default_rng(0).random(40) < 0.4
    part = side.where(keep, "part")
    ids = [f"{i:02d}" for i in np.flatnonzero(keep)]
    assert (part.name, part.n_documents) == ("part", int(keep.sum()))
    assert part.doc_ids.to_pylist() == ids
    for columns in (["doc_id"], ["n_tokens", "doc_id"]):
        assert [v for t in part.scan(columns) for v in t.column("doc_id").to_pylist()] == ids
    np.testing.assert_array_equal(part.lengths, np.flatnonzero(keep) + 1)
    again = part.where(np.arange(part.n_documents) % 2 == 0)
    assert [v for t in again.scan(["doc_id"]) for v in t.column(0).to_pylist()] == ids[::2]
    with pytest.raises(ValueError, match="mask"):
        side.where(keep[1:])


def test_pooled_sides_are_read_one_after_the_other(side_of):
    """The rest as one side: every row once, and its facts name what it was read from."""
    sides = [side_of([{"doc_id": f"{n}{i}", "text": "cat " * (i + 1)} for i in range(3)], n) for n in "ab"]
    both = pooled(sides, "the others")
    assert both.doc_ids.to_pylist() == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert [v for t in both.scan(["doc_id"]) for v in t.column(0).to_pylist()] == both.doc_ids.to_pylist()
    assert (both.facts()["documents"], both.facts()["tokens"], both.facts()["commits"]) == (6, 12, "0")


def test_documents_of_two_datasets_keep_apart_when_pooled(side_of):
    """Ids tell documents of one dataset apart alone; pooled with another's they say whose they are."""
    parts = [
        replace(
            side_of([{"doc_id": "1", "text": name}], name),
            dataset=name,
            source={"dataset": name, "plans": [0], "commits": "0", "shards_missing": 0},
        )
        for name in ("x", "y")
    ]
    one = pooled(parts, "both")
    assert one.doc_ids.to_pylist() == ["x:1", "y:1"]
    assert [i for table in one.scan(["doc_id"]) for i in table.column("doc_id").to_pylist()] == ["x:1", "y:1"]
    same = pooled([replace(part, dataset="x") for part in parts], "both")
    assert same.doc_ids.to_pylist() == ["1", "1"]


def test_a_sample_is_of_every_model_where_models_take_turns():
    """Every 8th of rows in turn would be one model alone; a drawn sample has each of 8 models about as often."""
    found = np.bincount(np.flatnonzero(spread(8_000, 1_000)) % 8, minlength=8)
    assert found.sum() == 1_000
    assert found.min() > 90
    assert spread(5, 1_000).all()
