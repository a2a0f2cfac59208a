"""Promise: when sides share keys, every number is of the shared keys and as a loop over them counts it."""

import shutil

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import binomtest

from saeray.analysis.diff.run import diff
from saeray.analysis.diff.tests import key_limits
from saeray.errors import UsageError
from saeray.labels.meanings import Meanings
from saeray.stats.paired import per_key, tango

TABLE, SORRY, GREAT = 0, 1, 2
WORDS = ("table", "sorry", "great")


def rows(n: int = 80, models: str = "AB", copies: int = 1, seed: int = 0) -> list[dict]:
    """Answers to `n` prompts; whether a word suits the prompt is shared by the models, so that pairs agree."""
    rng = np.random.default_rng(seed)
    more = {"A": (0.5, 0.05, 0.1), "B": (0.05, 0.4, 0.1), "C": (0.1, 0.1, 0.1)}
    found = []
    for i in range(n):
        suits = rng.random(3) < 0.3
        for model in models:
            for copy in range(copies):
                use = suits | (rng.random(3) < more[model])
                words = " ".join(word for word, used in zip(WORDS, use, strict=True) if used)
                found.append({"doc_id": f"{model}{i}-{copy}", "text": f"the cat {words} {model}{i}.{copy}",
                              "model": model, "prompt": i})  # fmt: skip
    return found


def present(found: list[dict], model: str, word: str) -> dict[int, list[bool]]:
    """prompt -> whether each of the model's answers to it has the word."""
    answers: dict[int, list[bool]] = {}
    for row in found:
        if row["model"] == model:
            answers.setdefault(row["prompt"], []).append(word in row["text"].split())
    return answers


def test_one_answer_a_key_is_mcnemars_test_with_tangos_limits(store_of):
    """Counted by a loop over prompts; the p-value is the binomial test's of the discordant ones."""
    found = [row for row in rows(90) if not (row["model"] == "B" and row["prompt"] % 9 == 0)]
    store = store_of(found, keep=("model", "prompt"))
    result = diff(store, "d:model=A", ["d:model=B"], pair_on="prompt", meanings=Meanings())
    assert result.parameters["n_pairs"] == 80
    assert result.parameters["left_out"] == [10, 0]
    assert [side["documents"] for side in result.sides] == [80, 80]
    assert not result.parameters["halves"]
    assert "80" in result.parameters["why_no_halves"]
    for latent, word in enumerate(WORDS):
        a, b = present(found, "A", word), present(found, "B", word)
        shared = sorted(a.keys() & b.keys())
        only_a = sum(a[k][0] and not b[k][0] for k in shared)
        only_b = sum(b[k][0] and not a[k][0] for k in shared)
        row = result.row(latent)
        assert row["p"] == pytest.approx(binomtest(only_a, only_a + only_b).pvalue)
        limits = [float(limit) for limit in tango(only_a, only_b, 80)]
        assert [row["lower"], row["upper"]] == pytest.approx(limits)
        assert row["difference"] == pytest.approx((only_a - only_b) / 80)
        assert row["confirmed"] == (row["lower"] > 0 if row["proposed_difference"] > 0 else row["upper"] < 0)
    assert result.more[0].latents == (TABLE,)
    assert result.less[0].latents == (SORRY,)


def test_the_order_of_the_rows_and_of_the_others_changes_nothing(store_of, tmp_path):
    """Keys are numbered by their text, so neither rows nor sides may move a figure."""
    found = rows(60, "ABC")
    shuffled = [found[i] for i in np.random.default_rng(1).permutation(len(found))]
    first = diff(store_of(found, keep=("model", "prompt")), "d:model=A", ["d:model=B", "d:model=C"], pair_on="prompt")

    shutil.rmtree(tmp_path / "store")
    other = diff(
        store_of(shuffled, keep=("model", "prompt")), "d:model=A", ["d:model=C", "d:model=B"], pair_on="prompt"
    )
    assert first.rows.drop_columns(["documents"]).equals(other.rows.drop_columns(["documents"]))


def test_union_counts_a_key_that_any_of_the_others_has(store_of):
    """Row-aligned: McNemar between the target and any other, keys in the place of documents."""
    found = rows(70, "ABC")
    store = store_of(found, keep=("model", "prompt"))
    result = diff(store, "d:model=A", ["d:model=B", "d:model=C"], pair_on="prompt", against="union")
    for latent, word in enumerate(WORDS):
        a, b, c = (present(found, model, word) for model in "ABC")
        here = np.array([a[k][0] for k in sorted(a)])
        there = np.array([b[k][0] or c[k][0] for k in sorted(a)])
        row = result.row(latent)
        assert row["documents"] == [here.sum(), there.sum()]
        assert row["frequency_other"] == pytest.approx(there.mean())
        assert row["difference"] == pytest.approx(here.mean() - there.mean())
        only = int((here & ~there).sum()), int((there & ~here).sum())
        assert row["p"] == pytest.approx(binomtest(only[0], sum(only), alternative="greater").pvalue)
        assert row["other"] == "d:model=B or d:model=C"
    with pytest.raises(UsageError, match="--pair-on"):
        diff(store, "d:model=A", ["d:model=B"], against="union")


def test_several_others_take_the_weakest_pair_and_rest_pools_them(store_of):
    """Intersection-union over McNemar's one-sided tests; pooled, each key is one cluster of the others' answers."""
    found = rows(70, "ABC")
    store = store_of(found, keep=("model", "prompt"))
    result = diff(store, "d:model=A", ["d:model=B", "d:model=C"], pair_on="prompt")
    a, b, c = (present(found, model, "table") for model in "ABC")
    p, low = [], []
    for other in (b, c):
        only = sum(a[k][0] > other[k][0] for k in a), sum(a[k][0] < other[k][0] for k in a)
        p.append(binomtest(only[0], sum(only), alternative="greater").pvalue)
        low.append(float(tango(*only, 70)[0]))
    row = result.row(TABLE)
    assert (row["p"], row["lower"], row["upper"]) == (pytest.approx(max(p)), pytest.approx(min(low)), None)
    pooled = diff(store, "d:model=A", ["d:model=B", "d:model=C"], pair_on="prompt", against="rest")
    row = pooled.row(TABLE)
    here = sum(a[k][0] for k in a) / 70
    there = sum(b[k][0] + c[k][0] for k in a) / 140
    assert (row["difference"], row["frequency_other"]) == (pytest.approx(here - there), pytest.approx(there))
    assert row["lower"] < row["difference"] < row["upper"]


def test_several_answers_a_key_are_flipped_together(store_of):
    """A key's answers are one witness: all 2^12 swaps of whole keys, tried one by one."""
    found = rows(12, copies=3, seed=5)
    store = store_of(found, keep=("model", "prompt"))
    result = diff(store, "d:model=A", ["d:model=B"], pair_on="prompt", min_support=1)
    for latent, word in enumerate(WORDS):
        a, b = present(found, "A", word), present(found, "B", word)
        each = np.array([sum(a[k]) - sum(b[k]) for k in sorted(a)])
        signs = 1 - 2 * (np.arange(4096)[:, None] >> np.arange(12) & 1)
        share = (np.abs(signs @ each) >= abs(each.sum())).mean()
        assert result.row(latent)["p"] == pytest.approx(share)


def test_limits_of_clustered_pairs_cover():
    """3 answers a key that agree: limits that took the 3 for independent would miss the truth in one of six runs."""
    rng = np.random.default_rng(0)
    keys, runs, covered, naive = 60, 1500, 0, 0
    suits = rng.random((keys, runs)) < 0.3

    def side(rate):
        own = rng.random((keys, runs)) < rate  # an answer's habit is its key's, too
        return np.array([(suits | own) ^ (rng.random((keys, runs)) < 0.05) for _ in range(3)]).sum(axis=0)

    x, y = side(0.25), side(0.1)
    # P(suits or own), then each answer turned with a chance of 5%.
    truth = 0.9 * ((0.3 + 0.7 * 0.25) - (0.3 + 0.7 * 0.1))
    size = np.full(keys, 3)
    lower, upper = key_limits(csr_array(x), size, csr_array(y), size)
    covered = ((lower <= truth) & (truth <= upper)).mean()
    assert 0.93 <= covered <= 0.98
    b, c = x.sum(axis=0), y.sum(axis=0)
    low, high = tango(np.maximum(b - c, 0) + 20, np.maximum(c - b, 0) + 20, 3 * keys)
    naive = ((low <= truth) & (truth <= high)).mean()
    assert naive < covered


@pytest.mark.parametrize("keys", [1, 40])
def test_limits_of_clusters_of_one_are_tangos_but_for_students_quantile(keys):
    """And where no answer has the latent they stay open: 0 of 40 is not 0 for certain."""
    rng = np.random.default_rng(keys)
    x, y = (csr_array((rng.random((keys, 30)) < rate).astype(np.int64)) for rate in (0.5, 0.2))
    one = np.ones(keys, np.int64)
    lower, upper = key_limits(x, one, y, one)
    both = np.asarray(x.multiply(y).sum(axis=0)).ravel()
    low, high = tango(x.sum(axis=0) - both, y.sum(axis=0) - both, keys)
    assert (lower <= low + 1e-9).all()
    assert (upper >= high - 1e-9).all()
    if keys > 1:
        np.testing.assert_allclose(lower, low, atol=0.03)
    none = csr_array((keys, 1), dtype=np.int64)
    lower, upper = key_limits(none, one, none, one)
    assert lower[0] < 0 < upper[0]


def test_per_key_sizes_are_what_the_limits_take():
    """Keys of unequal sizes: the difference inside the limits is that of document frequencies."""
    rng = np.random.default_rng(2)
    keys = np.repeat(np.arange(30), rng.integers(1, 5, 30))
    x = csr_array((rng.random((keys.size, 20)) < 0.6).astype(np.int64))
    y = csr_array((rng.random((30, 20)) < 0.3).astype(np.int64))
    lower, upper = key_limits(*per_key(x, keys, 30), *per_key(y, np.arange(30), 30))
    difference = x.toarray().mean(axis=0) - y.toarray().mean(axis=0)
    assert ((lower < difference) & (difference < upper)).all()


@pytest.mark.parametrize(
    ("column", "says"),
    [("nothing", "no such column nothing"), ("empty", "empty is empty in every document"), ("model", "share no value")],
)
def test_what_cannot_pair_is_said(store_of, column, says):
    """One line that names the column, before anything is counted."""
    found = [row | {"empty": None} for row in rows(40)]
    found[0]["empty"] = None
    store = store_of([row | {"empty": "x" if row["model"] == "C" else None} for row in found] + [
        {"doc_id": "z", "text": "cat", "model": "C", "prompt": 1, "empty": "x"}
    ], keep=("model", "prompt", "empty"))  # fmt: skip
    with pytest.raises(UsageError, match=says):
        diff(store, "d:model=A", ["d:model=B"], pair_on=column)


def test_a_refusal_does_not_show_whole_documents(store_of):
    """A column of texts is a likely slip; its values are cut in the line."""
    found = [
        {"doc_id": f"{model}{i}", "text": "the cat", "model": model, "prompt": f"{'x' * 2_000} {model} {i}"}
        for model in "AB"
        for i in range(130)
    ]
    store = store_of(found, keep=("model", "prompt"))
    with pytest.raises(UsageError, match="the sides share no value of prompt") as error:
        diff(store, "d:model=A", ["d:model=B"], pair_on="prompt", meanings=Meanings())
    assert len(str(error.value)) < 300
