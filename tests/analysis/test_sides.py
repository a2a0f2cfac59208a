"""Promise: a side is fixed when it is opened, and names what it was read from."""

import pytest

from saeray.analysis.sides import open_side, provenance, ranges
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
