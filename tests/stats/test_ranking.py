"""Promise: the measures of all columns of a sparse matrix are what the definitions give for each column by itself."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from saeray.stats.ranking import above, auroc, average_precision, balanced_accuracy, column, contrast, spearman

MATRICES = st.integers(2, 12).flatmap(
    lambda n: st.tuples(
        arrays(np.int8, (n, 3), elements=st.integers(0, 4)),
        arrays(np.bool_, n).filter(lambda y: 0 < y.sum() < len(y)),
    )
)


def by_pairs(score, relevant):
    """The chance that a relevant document has more, ties half, by looking at every pair."""
    a, b = score[relevant][:, None], score[~relevant][None, :]
    return float(((a > b) + 0.5 * (a == b)).mean())


def by_thresholds(score, relevant):
    """Recall gained times precision, one distinct value after another, from the highest."""
    total, before = 0.0, 0
    for value in sorted(set(score), reverse=True):
        hits = int(relevant[score >= value].sum())
        total += (hits - before) * hits / (score >= value).sum()
        before = hits
    return total / relevant.sum()


@settings(max_examples=60)
@given(MATRICES)
def test_every_measure_is_that_of_its_column(case):
    """Ties, absent values and empty columns included."""
    dense, relevant = case
    x = sp.csr_array(dense.astype(np.float64))
    areas, precisions, accuracies, apart = (
        measure(x, relevant) for measure in (auroc, average_precision, balanced_accuracy, contrast)
    )
    for j, score in enumerate(dense.T.astype(float)):
        assert areas[j] == pytest.approx(by_pairs(score, relevant))
        assert precisions[j] == pytest.approx(by_thresholds(score, relevant))
        present = score > 0
        assert accuracies[j] == pytest.approx((present[relevant].mean() + (~present)[~relevant].mean()) / 2)
        gap = score[relevant].mean() - score[~relevant].mean()
        assert apart[j] == pytest.approx(gap / score.std() if score.std() > 0 else 0.0)


def test_measures_are_those_of_scikit_learn():
    """On a matrix like that of a sample: many columns, few values, ties among them."""
    rng = np.random.default_rng(0)
    dense = np.round(rng.exponential(size=(80, 12)), 1) * (rng.random((80, 12)) < 0.3)
    x, relevant = sp.csr_array(dense), rng.random(80) < 0.2
    for j, score in enumerate(dense.T):
        assert auroc(x, relevant)[j] == pytest.approx(roc_auc_score(relevant, score))
        assert average_precision(x, relevant)[j] == pytest.approx(average_precision_score(relevant, score))
        assert balanced_accuracy(x, relevant)[j] == pytest.approx(balanced_accuracy_score(relevant, score > 0))


def test_presence_alone_has_one_threshold():
    """The area under the curve of a yes-or-no score is its balanced accuracy."""
    rng = np.random.default_rng(0)
    x, relevant = sp.csr_array((rng.random((50, 20)) < 0.3).astype(float)), rng.random(50) < 0.4
    np.testing.assert_allclose(auroc(x, relevant), balanced_accuracy(x, relevant))


def test_the_order_of_stored_values_and_stored_zeros_change_nothing():
    """A row of the store may hold a maximum that rounded to zero; a matrix may be of any sparse form."""
    x = sp.coo_array(([2.0, 0.0, 1.0], ([2, 0, 1], [0, 0, 0])), shape=(4, 1))
    relevant = np.array([True, False, True, False])
    for form in (x, x.tocsr(), x.tocsc()):
        assert auroc(form, relevant)[0] == pytest.approx(by_pairs(np.array([0, 1, 2, 0.0]), relevant))


@pytest.mark.parametrize("measure", [auroc, average_precision, balanced_accuracy])
def test_nothing_can_be_told_without_both_kinds(measure):
    """No relevant document: undefined, and never a number that could be taken for a result."""
    assert np.isnan(measure(sp.csr_array(np.eye(3)), np.zeros(3, bool))).all()


def test_scores_of_any_sign_become_a_column_of_the_same_order():
    """Cosine similarities are measured by the same code as latents."""
    score, relevant = np.array([-0.5, 0.2, 0.2, -0.9, 0.7]), np.array([False, True, False, False, True])
    assert auroc(column(score), relevant)[0] == pytest.approx(by_pairs(score, relevant))
    with pytest.raises(ValueError, match="positive"):
        auroc(sp.csr_array(score[:, None]), relevant)
    with pytest.raises(ValueError, match="3 labels for 5"):
        auroc(column(score), relevant[:3])


@settings(max_examples=30)
@given(arrays(np.int8, (2, 9), elements=st.integers(0, 5)))
def test_rank_correlation(pair):
    """SciPy's, and 0 where one side does not vary."""
    a, b = pair
    expected = 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else spearmanr(a, b).statistic
    assert spearman(a, b) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30), st.integers(-3, 3))
def test_scores_of_any_sign_by_their_definitions(pairs: list[tuple[int, bool]], cut: int) -> None:
    """Every positive against every negative, ties half; shares right of each class at a threshold."""
    scores, positive = np.array([s for s, _ in pairs], float), np.array([p for _, p in pairs])
    yes, no = scores[positive], scores[~positive]
    area = auroc(column(scores), positive)[0]
    right = balanced_accuracy(above(scores, cut), positive)[0]
    if not len(yes) or not len(no):
        assert np.isnan(area)
        assert np.isnan(right)
        return
    wins = sum(float(a > b) + 0.5 * float(a == b) for a in yes for b in no)
    assert area == pytest.approx(wins / (len(yes) * len(no)))
    shares = (sum(a >= cut for a in yes) / len(yes) + sum(b < cut for b in no) / len(no)) / 2
    assert right == pytest.approx(shares)
