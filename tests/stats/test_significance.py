"""Promise: p- and q-values are exactly what their definitions say, and come fast enough for a whole dictionary."""

import time
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from saeray.stats.significance import benjamini_hochberg, fisher_midp, intersection_union, supported


def exact_midp(a: int, n1: int, b: int, n2: int, alternative: str) -> float:
    """By enumeration in whole numbers: no tolerance, no logarithm."""
    m = a + b
    weights = {k: comb(n1, k) * comb(n2, m - k) for k in range(max(0, m - n2), min(m, n1) + 1)}
    seen = weights[a]
    if alternative == "greater":
        mass = Fraction(sum(w for k, w in weights.items() if k > a)) + Fraction(seen, 2)
    else:
        mass = Fraction(sum(w for w in weights.values() if w < seen))
        mass += Fraction(sum(w for w in weights.values() if w == seen), 2)
    return float(mass / comb(n1 + n2, m))


tables = st.tuples(st.integers(1, 60), st.integers(1, 60)).flatmap(
    lambda n: st.tuples(st.integers(0, n[0]), st.just(n[0]), st.integers(0, n[1]), st.just(n[1]))
)


@settings(max_examples=400, deadline=None)
@given(tables, st.sampled_from(["two-sided", "greater"]))
def test_midp_is_the_enumeration(table, alternative):
    a, n1, b, n2 = table
    assert fisher_midp(a, n1, b, n2, alternative) == pytest.approx(exact_midp(a, n1, b, n2, alternative), rel=1e-10)


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
@pytest.mark.parametrize(("n1", "n2"), [(7, 7), (9, 4), (4, 9), (1, 12)])
def test_midp_of_every_small_table_at_once(n1, n2, alternative):
    a, b = (axis.ravel() for axis in np.mgrid[0 : n1 + 1, 0 : n2 + 1])
    expected = [exact_midp(int(i), n1, int(j), n2, alternative) for i, j in zip(a, b, strict=True)]
    np.testing.assert_allclose(fisher_midp(a, n1, b, n2, alternative), expected, rtol=1e-11)


def test_far_tails_keep_their_digits():
    """500 against 100 of 1,000 a side: a p-value of 1e-88 is a number, not 0 and not rounding noise."""
    assert fisher_midp(500, 1000, 100, 1000) == pytest.approx(exact_midp(500, 1000, 100, 1000, "two-sided"), rel=1e-9)
    assert fisher_midp(100, 1000, 500, 1000, "greater") == pytest.approx(1.0)


def test_large_samples_agree_with_scipy():
    n1, n2 = 400_000, 300_000
    a, b = np.array([2_000, 150_000, 40]), np.array([1_400, 111_800, 12])
    law = hypergeom(n1 + n2, a + b, n1)
    np.testing.assert_allclose(fisher_midp(a, n1, b, n2, "greater"), law.sf(a) + law.pmf(a) / 2, rtol=1e-6)


def test_a_dictionary_of_65536_latents_takes_seconds():
    rng = np.random.default_rng(0)
    rate = rng.beta(0.3, 2, 65_536)
    a, b = rng.binomial(50_000, rate), rng.binomial(30_000, rate)
    start = time.perf_counter()
    p = fisher_midp(a, 50_000, b, 30_000)
    assert time.perf_counter() - start < 20, "one diff would make its user wait"
    assert ((p >= 0) & (p <= 1)).all()


def test_midp_is_calibrated_on_null_data():
    """Documents of one kind split at random: p <= 0.05 about once in twenty."""
    rng = np.random.default_rng(1)
    p = fisher_midp(rng.binomial(200, 0.1, 20_000), 200, rng.binomial(200, 0.1, 20_000), 200)
    assert 0.040 < np.mean(p <= 0.05) < 0.056


def test_null_data_seldom_report_and_a_spike_is_found():
    """Spec section 7, small: over shuffles at q 0.05 few report anything; 10 points in 500 documents are found."""
    rng = np.random.default_rng(2)
    present = rng.random((1000, 400)) < rng.beta(0.5, 3, 400)
    reporting, found = 0, 0
    for _ in range(60):
        side = rng.permutation(1000) < 500
        a, b = present[side].sum(0), present[~side].sum(0)
        kept = supported(a + b, 1000, 15)
        reporting += bool((benjamini_hochberg(fisher_midp(a[kept], 500, b[kept], 500)) <= 0.05).any())
        spiked = np.append(a[kept], rng.binomial(500, 0.30)), np.append(b[kept], rng.binomial(500, 0.20))
        found += bool(benjamini_hochberg(fisher_midp(spiked[0], 500, spiked[1], 500))[-1] <= 0.05)
    assert reporting <= 9, "0.05 x 60 is 3; 9 would happen once in 500"
    # One spike among 400 true nulls at 30% against 20%: z is about 3.6 and the bar about 3.8.
    assert found >= 15


def test_counts_outside_their_side_are_refused():
    with pytest.raises(ValueError, match="between 0"):
        fisher_midp(5, 4, 0, 4)
    assert fisher_midp(np.array([], int), 4, np.array([], int), 4).shape == (0,)


def test_intersection_union_is_the_weakest_comparison():
    np.testing.assert_array_equal(intersection_union([[0.01, 0.5], [0.04, 0.2]]), [0.04, 0.5])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_q_values_reject_what_the_step_up_rule_rejects(p):
    """The definition, naively: at level q reject the k smallest p, k the largest with p_(k) <= k q / m."""
    p = np.array(p)
    q = benjamini_hochberg(p)
    expected = np.array([min(1.0, *(x * p.size / (p <= x).sum() for x in p if x >= own)) for own in p])
    np.testing.assert_allclose(q, expected, rtol=1e-12)


def test_q_values_refuse_untested_latents():
    with pytest.raises(ValueError, match="NaN"):
        benjamini_hochberg([0.1, np.nan])


def test_support_is_blind_to_the_grouping_and_symmetric():
    np.testing.assert_array_equal(supported([4, 5, 50, 95, 96], 100, 5), [False, True, True, True, False])
