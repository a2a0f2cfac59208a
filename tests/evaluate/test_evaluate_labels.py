"""Promise: the rank of a latent's label, and what a person gets who takes the first labels, are what they say."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from word_sets import D_SAE, WORDS, write_set

from saeray.analysis.write import write
from saeray.evaluate.documents import Documents, folds
from saeray.evaluate.labels import BEST, DOCUMENTS, evaluate_labels, ranks
from saeray.evaluate.tasks import read_tasks
from saeray.labels.baselines import shuffled, top_tokens

MADE = {"saeray": "0", "store": "s", "fingerprint": "f", "d_sae": D_SAE}
GOOD = {i: f"says {word}" for i, word in enumerate(WORDS)}


def embed(texts):
    """A text is the words it has of WORDS; the empty text is the odd one out."""
    rows = np.array([[word in text.split() for word in WORDS] + [not set(text.split()) & set(WORDS)] for text in texts])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def embed_documents(documents):
    return embed(documents.texts)


def run(documents, sources):
    return evaluate_labels([documents], sources, embed, embed_documents, {"sample": 240}, MADE)


def test_good_labels_find_their_latents(documents):
    """The goal's figure: place 1 where the label names the property, and the last places for a latent without one."""
    rows = run(documents, {"auto": GOOD, "partial": {4: "says the", 0: "nothing of it"}}).rows.to_pylist()
    alpha, beta = (row for row in rows if row["source"] == "auto")
    assert (alpha["latent"], alpha["label"], alpha["rank"]) == (0, "says alpha", 1)
    assert (beta["latent"], beta["rank"], beta["first"], beta["first_label"]) == (1, 1, 1, "says beta")
    assert alpha["auroc_first"] == 1
    assert alpha["auroc_held_out"] == 1
    count = documents.pools["max"][:, [1]].toarray()[:, 0]
    assert beta["auroc_first"] == pytest.approx(roc_auc_score(documents.relevant[:, 1], count))
    other_alpha, other_beta = (row for row in rows if row["source"] == "partial")
    assert other_alpha["label"] == "nothing of it"
    # Of 16 latents two have labels, so the 14 others share places 3 to 16.
    assert (other_beta["label"], other_beta["rank"]) == (None, 9.5)


def test_figures_of_chosen_latents_come_from_other_documents(documents):
    """What is chosen and measured on one half flatters itself."""
    row = run(documents, {"auto": GOOD}).rows.to_pylist()[1]
    x, relevant = documents.pools["max"].toarray(), documents.relevant[:, 1]
    held_out = []
    for train, test in folds(documents.first_half(1)):
        chosen = max(range(len(WORDS)), key=lambda j: roc_auc_score(relevant[train], x[train, j]))
        held_out.append(roc_auc_score(relevant[test], x[test, chosen]))
    assert row["auroc_held_out"] == pytest.approx(np.mean(held_out))
    assert row["auroc_best_of_20"] == pytest.approx(np.mean(held_out)), "all ten labels are within the first 20"


def test_document_embeddings_stand_beside(documents):
    """What a user would use instead, by the same measure."""
    result = run(documents, {"auto": GOOD})
    similarity = embed(documents.texts) @ embed(["has beta"])[0]
    area = roc_auc_score(documents.relevant[:, 1], np.round(similarity, 6))
    assert result.rows.to_pylist()[1]["auroc_documents"] == pytest.approx(area)
    by_way = {row["way"]: row for row in result.compared if row["kind"] == "all"}
    alpha = result.rows.to_pylist()[0]["auroc_documents"]
    assert by_way[DOCUMENTS]["auroc_first"] == pytest.approx((alpha + area) / 2, abs=1e-4)
    assert by_way[BEST]["auroc_first"] > 0.9
    assert by_way["labels: auto"]["rank"] == 1
    assert by_way["labels: auto"]["within_20"] == 1


def test_latents_that_tell_it_as_well_count_in_a_column_of_their_own():
    """Several latents often tell a property equally well; which is best is then chance, and said so."""
    rng = np.random.default_rng(0)
    relevant = np.arange(40) < 20
    strong = np.where(relevant, 2.0 + rng.random(40), 0)
    x = sp.csr_array(np.stack([strong, strong * 0.5 + relevant * 0.1, rng.random(40), rng.random(40)], axis=1))
    task = read_tasks_of_one()
    documents = Documents("s", "a.parquet", (task,), [f"t{i}" for i in range(40)], np.ones(40, int), relevant[:, None],
                          {"max": x})  # fmt: skip
    labels = {0: "says gamma", 1: "says alpha", 2: "says alpha beta", 3: "says alpha gamma"}
    row = run(documents, {"auto": labels}).rows.to_pylist()[0]
    assert row["as_good"] == 2
    other = {0: 1, 1: 0}[row["latent"]]
    places = {0: 4.0, 1: 1.0}
    assert row["rank"] == places[row["latent"]]
    assert row["rank_as_good"] == min(places[row["latent"]], places[other])


def read_tasks_of_one():
    from saeray.evaluate.tasks import Condition, Retrieval

    return Retrieval("a.parquet", "t", "about alpha", Condition("x", "==", 1), None, "other")


@settings(max_examples=40)
@given(st.dictionaries(st.integers(0, 9), st.sampled_from([0.1, 0.5, 0.9]), min_size=1))
def test_ranks_are_a_fair_order_of_all_latents(similarity):
    """Places 1 to d_sae are all given out, equal labels share theirs, and no label is better than no label."""
    latents = np.array(sorted(similarity))
    values = np.array([similarity[i] for i in latents.tolist()])
    found = ranks(values, latents, 10)
    assert found.sum() == pytest.approx(55)
    for i, latent in enumerate(latents):
        expected = (values > values[i]).sum() + ((values == values[i]).sum() + 1) / 2
        assert found[latent] == pytest.approx(expected)
    without = np.delete(found, latents)
    assert (without > len(latents)).all()
    assert len(set(without)) <= 1


def test_labels_beside_come_from_the_labels_themselves():
    """Random ones are the same texts elsewhere; plain ones are the tokens behind each latent's best label."""
    mixed = shuffled(GOOD)
    assert sorted(mixed.values()) == sorted(GOOD.values())
    assert mixed.keys() == GOOD.keys()
    assert mixed != GOOD
    assert shuffled(GOOD) == mixed
    evidence = [json.dumps({"tokens": [["sorry", 0.4], ["Sorry", 0.1]]}), json.dumps({"tokens": [["x", 1]]}), None]
    table = pa.table({"latent": [3, 3, 5], "evidence": evidence})
    assert [(row["latent"], row["text"]) for row in top_tokens(table).to_pylist()] == [(3, "sorry, Sorry")]


def test_the_result_is_written_the_same_twice_and_escaped(documents, tmp_path):
    """Labels come from files and models: a page shows them and never obeys them."""
    hostile = GOOD | {0: "<script>alert(1)</script> alpha"}
    for name in ("a", "b"):
        files = write(run(documents, {"auto": hostile, "random": shuffled(hostile)}), str(tmp_path / name))
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    page = (tmp_path / "a" / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "2 properties on 240 documents of 1 sets" in page
    assert pq.read_table(tmp_path / "a" / "result.parquet").num_rows == 4
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["labels"] == {"auto": 10, "random": 10}


def test_tasks_say_what_a_property_is_about(tmp_path):
    """Figures are told by kind; a set of unknown kind is never counted to another."""
    tasks = read_tasks(str(write_set(tmp_path / "data", "prop_language_xquad")))
    assert [task.kind for task in tasks.retrieval] == ["form", "topic"], "what the task says goes before its file"
