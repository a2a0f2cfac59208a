"""Promise: a sample is the same on every machine, has what its queries ask for, and is encoded once."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from word_sets import encode_words, write_set

from saeray.errors import SaerayError, UsageError
from saeray.evaluate.documents import folds, read_documents
from saeray.evaluate.sample import LEAST_RELEVANT, chosen_files, draw, encode_samples, is_encoded
from saeray.evaluate.tasks import read_tasks
from saeray.store import Store


def counts(sample):
    ids = sample.table.column("relevant").to_pylist()
    return [sum(f"q{q:02d}" in own for own in ids) for q in range(len(sample.queries))]


def test_each_query_gets_its_part_and_labels_stay_with_their_texts(tasks):
    """A query that nothing in the sample answers measures nothing."""
    sample = draw(tasks, "notes.parquet", rows=120)
    source = tasks.table("notes.parquet").to_pylist()
    total = [sum(row["has_alpha"] for row in source), sum(row["label"] == "b" for row in source)]
    assert sample.table.num_rows == 120
    for count, there in zip(counts(sample), total, strict=True):
        assert count >= min(there, 40), "a third each, the last third from all rows"
    for row in sample.table.to_pylist():
        origin = source[row["source_row"]]
        assert row["text"] == origin["body"]
        assert row["relevant"] == ["q00"] * origin["has_alpha"] + ["q01"] * (origin["label"] == "b")


def test_many_queries_widen_the_sample(tasks):
    """A half of fewer than 12 relevant documents would choose latents by chance."""
    sample = draw(tasks, "notes.parquet", rows=48)
    assert sample.table.num_rows == 3 * LEAST_RELEVANT
    assert min(counts(sample)) >= LEAST_RELEVANT


def test_the_draw_is_fixed_and_does_not_follow_the_order_of_rows(tasks, tmp_path):
    """The same sample everywhere; another set of the same rows is another sample."""
    a, b = (draw(tasks, "notes.parquet", rows=90) for _ in range(2))
    assert a.name == b.name
    assert a.table.equals(b.table)
    rows = a.table.column("source_row").to_pylist()
    assert rows == sorted(rows)
    assert max(rows) > 200, "not the first rows of the file"
    assert draw(tasks, "notes.parquet", rows=91).name != a.name


def test_whole_texts_come_before_those_to_be_cut_and_copies_come_once(tmp_path):
    """A label about the end of a text is wrong of a text without its end."""
    texts = [f"short {i}" for i in range(60)] + [f"long {i} " + "x" * 200 for i in range(200)] + ["short 0", "", None]
    table = pa.table({"body": texts, "y": [i % 2 == 0 for i in range(len(texts))]})
    pq.write_table(table, tmp_path / "a.parquet")
    task = {"file": "a.parquet", "text_column": "body", "query": "q", "relevant_when": ["y", "==", True]}
    (tmp_path / "t.json").write_text(json.dumps({"retrieval": [task]}))
    sample = draw(read_tasks(str(tmp_path / "t.json")), "a.parquet", rows=100, characters=100)
    found = sample.table.column("text").to_pylist()
    assert sample.cut == sum(text.startswith("long") for text in found)
    assert {text for text in found if text.startswith("short")} == {f"short {i}" for i in range(60)}
    assert max(map(len, found)) == 100
    assert len(set(found)) == len(found) == 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_relevant": 3}, "where 3 are stated"),
        ({"relevant_when": ["label", "==", "z"], "n_relevant": None}, "is of no rows"),
        ({"relevant_when": ["colour", "==", "b"]}, "colour"),
        ({"text_column": "text"}, "no text column 'text'"),
        ({"text_column": "has_alpha"}, "holds no text"),
        ({"file": "gone.parquet"}, "not beside it"),
    ],
)
def test_labels_that_are_not_as_stated_are_refused(tmp_path, change, message):
    """Wrong labels would make wrong figures, and nothing is encoded for them."""
    place = write_set(tmp_path / "data")
    task = json.loads(place.read_text())["retrieval"][1] | change
    place.write_text(json.dumps({"retrieval": [task]}))
    with pytest.raises(UsageError, match=message):
        draw(read_tasks(str(place)), task["file"])


def test_sets_are_chosen_by_name(tmp_path):
    """With or without the ending; a name that is none is told."""
    write_set(tmp_path / "data")
    tasks = read_tasks(str(write_set(tmp_path / "data", "other")))
    assert chosen_files(tasks) == ["notes.parquet", "other.parquet"]
    assert chosen_files(tasks, only=["other"]) == chosen_files(tasks, without=["notes.parquet"]) == ["other.parquet"]
    with pytest.raises(UsageError, match="no retrieval task is on x"):
        chosen_files(tasks, only=["x"])
    with pytest.raises(UsageError, match="left"):
        chosen_files(tasks, only=["other"], without=["other"])


def test_nothing_is_encoded_twice(tmp_path):
    """The same command again, another --out, one set more: only what the store lacks is encoded."""
    write_set(tmp_path / "data")
    tasks = read_tasks(str(write_set(tmp_path / "data", "other", seed=1)))
    store, encoded = str(tmp_path / "store"), []

    def encode(config, on_progress=None):
        encoded.append([os.path.basename(name) for name in config.inputs])
        encode_words(config)

    first, second = draw(tasks, "notes.parquet"), draw(tasks, "other.parquet")
    assert not is_encoded([first], store)
    encode_samples([first], store, str(tmp_path / "a"), encode=encode)
    parts = Store.open(store).dataset("eval").committed()
    encode_samples([first], store, str(tmp_path / "b"), encode=encode)
    assert len(encoded) == 1, "another --out needs no reader when all is there"
    encode_samples([first, second], store, str(tmp_path / "b"), encode=encode)
    dataset = Store.open(store).dataset("eval")
    assert [len(plan.inputs) for plan in dataset.plans()] == [1, 1], "the second plan has the new set alone"
    assert dataset.committed()[: len(parts)] == parts
    wider = draw(tasks, "notes.parquet", rows=100)
    encode_samples([wider], store, str(tmp_path / "b"), encode=encode)
    assert len(read_documents(Store.open(store), wider).texts) == 100
    assert read_documents(Store.open(store), first).texts == first.table.column("text").to_pylist()


def test_a_run_that_ends_early_is_told(tasks, tmp_path):
    """Figures of half a sample would look like figures."""
    sample = draw(tasks, "notes.parquet")
    with pytest.raises(SaerayError, match="run the same command again"):
        encode_samples([sample], str(tmp_path / "store"), str(tmp_path / "out"), encode=lambda config, show: None)


def test_documents_are_what_the_store_holds(documents):
    """Pools and labels stand in the same rows."""
    for i, text in enumerate(documents.texts):
        words = text.split()
        assert documents.pools["count"][[i], :].toarray()[0, 0] == words.count("alpha")
        assert documents.relevant[i, 0] == ("alpha" in words)
        assert documents.n_tokens[i] == len(words)
    assert (documents.pools["sum"].data >= documents.pools["max"].data - 1e-2).all()


def test_halves_share_no_document_and_have_their_share_of_both_kinds(documents):
    """A latent is chosen on one half and measured on documents it was not chosen on."""
    for q in range(2):
        first, relevant = documents.first_half(q), documents.relevant[:, q]
        for side in (relevant, ~relevant):
            assert abs(first[side].sum() - (~first)[side].sum()) <= 1
        (a, b), (c, d) = folds(first)
        assert not set(a) & set(b)
        np.testing.assert_array_equal(np.sort(np.concatenate([a, b])), np.arange(len(relevant)))
        assert (list(a), list(b)) == (list(d), list(c))
    assert (documents.first_half(0)[:20] != documents.first_half(0)[0]).any(), "not by place"
