"""Promise: every pool is measured on the same properties and documents, on halves that did not choose."""

import json

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import binomtest, spearmanr
from sklearn.metrics import roc_auc_score
from word_sets import D_SAE

from saeray.analysis.write import write
from saeray.evaluate.documents import folds
from saeray.evaluate.pooling import WAYS, against, compare, evaluate_pooling, read_out
from saeray.stats.ranking import auroc, contrast

MADE = {"saeray": "0", "store": "s", "fingerprint": "f", "d_sae": D_SAE}


@pytest.fixture
def result(documents):
    return evaluate_pooling([documents], {"sample": 240}, MADE)


def test_pools_are_what_their_names_say(documents):
    """One document by hand: its words, their places, their number."""
    pools = {name: make(documents).toarray() for name, make in WAYS.items()}
    for i in (0, 7, 100):
        words = documents.texts[i].split()
        for latent, word in enumerate(["alpha", "beta", "gamma", "delta", "the", "of"]):
            strengths = [8 / (1 + at) for at, own in enumerate(words) if own == word]
            assert pools["max"][i, latent] == pytest.approx(max(strengths, default=0), rel=1e-3)
            assert pools["count"][i, latent] == len(strengths)
            assert pools["count/n_tokens"][i, latent] == pytest.approx(len(strengths) / len(words))
            assert pools["mean"][i, latent] == pytest.approx(sum(strengths) / len(words), rel=1e-3)
            assert pools["presence"][i, latent] == bool(strengths)
    assert pools["length"].shape[1] == 1
    assert pools["words"].sum(axis=1)[0] <= len(documents.texts[0].split())


def test_figures_are_held_out_and_both_ways(documents, result):
    """By hand for one pool: choose on one half, measure on the other, and the mean of both."""
    x, relevant = documents.pools["count"].toarray(), documents.relevant[:, 1]
    area, length, chosen = [], [], []
    for train, test in folds(documents.first_half(1)):
        best = max(range(D_SAE), key=lambda j: roc_auc_score(relevant[train], x[train, j]))
        chosen.append(best)
        area.append(roc_auc_score(relevant[test], x[test, best]))
        others = test[~relevant[test]]
        length.append(spearmanr(x[others, best], documents.n_tokens[others]).statistic)
    row = next(r for r in result.rows.to_pylist() if r["way"] == "count" and r["query"] == "has beta")
    assert row["latents"] == chosen
    assert row["auroc_latent"] == pytest.approx(np.mean(area))
    assert row["length_latent"] == pytest.approx(np.mean(length))


def test_the_read_out_adds_what_single_latents_lack():
    """Two latents that tell half of the property each: together they tell all of it."""
    rng = np.random.default_rng(0)
    relevant = np.arange(200) % 2 == 0
    x = (rng.random((200, 30)) < 0.3).astype(float)
    x[relevant, 0], x[relevant, 1] = np.arange(100) % 2, (np.arange(100) + 1) % 2
    x[~relevant, :2] = 0
    sparse = sp.csr_array(x)
    columns, weights = read_out(sparse, auroc(sparse, relevant), contrast(sparse, relevant))
    assert set(columns[:2]) == {0, 1}
    for column, weight in zip(columns, weights, strict=True):
        own = x[:, column]
        assert weight == pytest.approx((own[relevant].mean() - own[~relevant].mean()) / own.var())
    assert roc_auc_score(relevant, sparse[:, columns] @ weights) > 0.95 > auroc(sparse, relevant).max()


def test_a_read_out_turns_a_score_that_falls():
    """Length tells short texts as well as long ones; a constant column says nothing and breaks nothing."""
    relevant = np.arange(20) < 10
    sparse = sp.csr_array(np.stack([np.arange(20) + 1.0, np.ones(20)], axis=1))
    columns, weights = read_out(sparse, auroc(sparse, relevant), contrast(sparse, relevant))
    assert roc_auc_score(relevant, sparse[:, columns] @ weights) == 1
    assert weights[list(columns).index(1)] == 0


def test_gains_are_paired_with_their_interval_and_sign_test():
    """A pool that is better on each property by little is better, whatever the spread between properties."""
    gains = np.array([0.02, 0.01, 0.03, 0.0, 0.02, 0.01, -0.01])
    found = against(gains)
    assert found["gain"] == pytest.approx(gains.mean(), abs=1e-4)
    assert (found["better"], found["worse"]) == (5, 1)
    assert found["p"] == pytest.approx(binomtest(5, 6).pvalue)
    assert found["lower"] < found["gain"] < found["upper"]
    rng = np.random.default_rng(1)
    exact = [rng.choice(gains, len(gains)).mean() for _ in range(4000)]
    np.testing.assert_allclose([found["lower"], found["upper"]], np.quantile(exact, [0.025, 0.975]), atol=0.002)
    assert against(np.zeros(3))["p"] == 1


def test_kinds_are_summed_up_by_themselves():
    """A mean over form and tone together would hide that they differ."""
    rows = []
    for i, kind in enumerate(["form", "form", "tone"]):
        for way in WAYS:
            value = 0.5 + 0.1 * i + 0.05 * (way == "count")
            rows.append({"file": "a", "query": str(i), "kind": kind, "way": way, "auroc_latent": value,
                         "auroc_readout": value, "length_latent": -0.2, "length_readout": 0.4})  # fmt: skip
    found = {(row["kind"], row["way"]): row for row in compare(rows)}
    assert found["form", "count"]["auroc_latent"] == pytest.approx(0.6)
    assert found["form", "count"]["auroc_latent_gain"] == pytest.approx(0.05)
    assert found["tone", "max"]["auroc_latent"] == pytest.approx(0.7)
    assert found["tone", "max"]["auroc_latent_gain"] is None
    assert found["all", "max"]["properties"] == 3
    assert (found["all", "max"]["length_latent"], found["all", "max"]["length_readout"]) == (0.2, 0.4)


def test_the_result_is_written_whole(result, documents, tmp_path):
    """The same documents give the same files; the page names every way and every property."""
    files = write(result, str(tmp_path / "a"))
    write(evaluate_pooling([documents], {"sample": 240}, MADE), str(tmp_path / "b"))
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    page = (tmp_path / "a" / "report.html").read_text()
    for word in (*WAYS, "about alpha", "has beta"):
        assert word in page
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert summary["documents"] == {"notes.parquet": 240}
    assert len(summary["compared"]) == 3 * len(WAYS), "all, other and topic"
