"""Promise: measures and tests of pairs are right for every count, and stay so where p is below the smallest double."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, fisher_exact

from saeray.stats.association import (
    benjamini_yekutieli,
    bonferroni,
    conditional,
    expected_within,
    log_p_together,
    npmi,
    npmi_within,
    pairs,
)


@st.composite
def tables(draw, largest=60):
    """(documents with both, with i, with j, all)."""
    n = draw(st.integers(1, largest))
    a, b = draw(st.integers(0, n)), draw(st.integers(0, n))
    return draw(st.integers(max(0, a + b - n), min(a, b))), a, b, n


def log_tail(k: int, a: int, b: int, n: int) -> float:
    """By exact integers."""
    ways = sum(math.comb(a, x) * math.comb(n - a, b - x) for x in range(k, min(a, b) + 1))
    tail = Fraction(ways, math.comb(n, b))
    return math.log(tail.numerator) - math.log(tail.denominator)


@given(tables())
def test_npmi_is_its_formula(table):
    k, a, b, n = table
    found = float(npmi(k, a, b, n))
    if k == 0:
        assert found == -1
    elif k == n:
        assert math.isnan(found)
    else:
        wanted = math.log((k / n) / (a / n * (b / n))) / -math.log(k / n)
        assert found == pytest.approx(wanted, abs=1e-12)
        assert -1 <= found <= 1


def test_npmi_at_its_ends():
    """Always together 1, independent 0, never -1, and a pair in every document has no value."""
    assert npmi([10, 25, 0, 100], [10, 50, 3, 100], [10, 50, 5, 100], 100) == pytest.approx(
        [1, 0, -1, np.nan], nan_ok=True
    )
    assert npmi(np.ones((4, 1), int), [1, 2], np.full((4, 1), 2), 9).shape == (4, 2)


def test_counts_beyond_what_int32_and_float32_hold():
    """3 billion documents: the product of two counts is above 2^63 / 2, and every count above 2^31."""
    n = 4_000_000_000
    assert float(npmi(2_250_000_000, 3_000_000_000, 3_000_000_000, n)) == pytest.approx(0, abs=1e-12)
    assert float(npmi(2_250_000_001, 3_000_000_000, 3_000_000_000, n)) > 0


@given(st.lists(tables(30), min_size=1, max_size=5))
def test_strata_expect_what_each_of_them_expects(strata):
    k, a, b, n = (np.array(x) for x in zip(*strata, strict=True))
    wanted = sum(int(x) * int(y) / int(z) for x, y, z in zip(a, b, n, strict=True))
    assert float(expected_within(a, b, n)) == pytest.approx(wanted)
    found = float(npmi_within(k.sum(), a, b, n))
    if 0 < k.sum() < n.sum():
        assert found == pytest.approx(math.log(k.sum() / wanted) / -math.log(k.sum() / n.sum()), abs=1e-12)
        assert -1 <= found <= 1, "no clipping is at work"
    assert float(npmi_within(k[0], a[:1], b[:1], n[:1])) == pytest.approx(
        float(npmi(k[0], a[0], b[0], n[0])), nan_ok=True
    )


def test_what_length_alone_brings_together_is_nothing_within_lengths():
    """Both latents are in half of the long documents and in one in a hundred of the short ones, independently."""
    n, each = np.array([10_000, 10_000]), np.array([100, 5_000])
    together = 1 + 2_500
    assert float(npmi(together, each.sum(), each.sum(), n.sum())) > 0.3
    assert float(npmi_within(together, each, each, n)) == pytest.approx(0)


def test_conditional_shares():
    assert conditional([3, 0, 0], [4, 5, 0]) == pytest.approx([0.75, 0, np.nan], nan_ok=True)


@given(tables())
def test_log_p_is_the_exact_tail(table):
    k, a, b, n = table
    found = float(log_p_together(k, a, b, n))
    assert found == pytest.approx(log_tail(k, a, b, n), rel=1e-9, abs=1e-12)
    assert math.exp(found) == pytest.approx(fisher_exact([[k, a - k], [b - k, n - a - b + k]], "greater").pvalue)


@pytest.mark.parametrize(
    "table",
    [(10, 10, 10, 10_000), (900, 1_000, 1_000, 10_000), (110, 1_000, 1_000, 10_000), (90, 1_000, 1_000, 10_000),
     (2_000, 2_000, 2_500, 5_000), (501, 3_000, 2_500, 5_000), (1_250, 2_500, 2_500, 5_000), (1, 1, 1, 10**6)],
)  # fmt: skip
def test_log_p_far_beyond_double_precision(table):
    """(900 of 1,000 twice in 10,000 is 1e-980.)"""
    assert float(log_p_together(*table)) == pytest.approx(log_tail(*table), rel=1e-8, abs=1e-13)


def test_log_p_of_many_pairs_is_that_of_each():
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 300, 500), rng.integers(1, 300, 500)
    k = rng.integers(0, np.minimum(a, b) + 1)
    found = log_p_together(k.reshape(50, 10), a.reshape(50, 10), b.reshape(50, 10), 2_000)
    assert found.ravel() == pytest.approx(
        [log_tail(*map(int, x), 2_000) for x in zip(k, a, b, strict=True)], rel=1e-9, abs=1e-12
    )
    assert (found <= 0).all()


def test_impossible_counts_are_refused():
    for table in [(5, 4, 9, 20), (0, 15, 15, 20), (1, 1, 30, 20)]:
        with pytest.raises(ValueError, match="together"):
            log_p_together(*table)


def test_shuffled_columns_come_out_below_alpha_no_more_often_than_stated():
    """1,000 pairs of independent columns, corrected over themselves, 40 times: some pair at 0.05 in at most 6 of 40
    (2 expected were the test not conservative; 7 would happen 4 times in a thousand)."""
    rng = np.random.default_rng(1)
    below = 0
    for _ in range(40):
        a, b = rng.integers(5, 200, 1_000), rng.integers(5, 200, 1_000)
        k = rng.hypergeometric(a, 1_000 - a, b)
        below += bool((bonferroni(log_p_together(k, a, b, 1_000), 1_000) <= math.log(0.05)).any())
    assert below <= 6


def test_correction_counts_every_pair():
    assert pairs(32_768) == 536_854_528
    assert pairs(3, 5) == 15
    assert bonferroni([math.log(1e-12), math.log(0.5)], 1_000) == pytest.approx([math.log(1e-9), 0.0])
    assert bonferroni([-1.0], 0) == pytest.approx([-1.0])


@given(st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=30), st.integers(0, 2_000))
def test_q_of_a_partial_list_is_that_of_the_whole_with_ones(p, more):
    """Against SciPy on the list with p = 1 for every test that is not at hand."""
    wanted = false_discovery_control([*p, *[1.0] * more], method="by")[: len(p)]
    found = np.exp(benjamini_yekutieli(np.log(p), len(p) + more))
    assert found == pytest.approx(np.minimum(wanted, 1.0), rel=1e-6)


def test_q_holds_where_p_is_no_double():
    log_q = benjamini_yekutieli([-5_000.0, -10.0], 10**9)
    harmonic = math.log(10**9) + 0.5772156649
    assert log_q == pytest.approx([-5_000 + math.log(10**9 * harmonic), 0.0])
    with pytest.raises(ValueError, match="3 p-values of 2 tests"):
        benjamini_yekutieli([0.0] * 3, 2)
