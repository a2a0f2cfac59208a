"""Promise: a trend over versions is tested exactly where counts are small, and monotone by chance is counted."""

from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saeray.stats import trend
from saeray.stats.significance import benjamini_hochberg, fisher_midp
from saeray.stats.trend import cochran_armitage, monotone, monotone_by_chance, slope


def exact(x: list[int], n: list[int], scores: list[int], alternative: str) -> float:
    """Every table with the same total, in whole numbers."""
    total, documents = sum(x), sum(n)
    mean = Fraction(total * sum(a * s for a, s in zip(n, scores, strict=True)), documents)

    def far(table):
        distance = sum(a * s for a, s in zip(table, scores, strict=True)) - mean
        return distance if alternative == "greater" else abs(distance)

    mass = Fraction(0)
    for table in product(*(range(size + 1) for size in n)):
        if sum(table) == total and far(table) >= far(x):
            weight = 1
            for size, a in zip(n, table, strict=True):
                weight *= comb(size, a)
            mass += Fraction(weight, 1 if far(table) > far(x) else 2)
    return float(mass / comb(documents, total))


series = st.lists(st.integers(1, 7), min_size=2, max_size=4).flatmap(
    lambda n: st.tuples(st.tuples(*(st.integers(0, size) for size in n)), st.just(n), st.permutations(range(len(n))))
)


@settings(max_examples=150, deadline=None)
@given(series, st.sampled_from(["two-sided", "greater"]))
def test_small_counts_are_the_enumeration(case, alternative):
    x, n, scores = case
    p = cochran_armitage(np.array(x)[:, None], n, scores, alternative)
    assert p[0] == pytest.approx(exact(list(x), n, scores, alternative), rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(series)
def test_the_series_turned_round_mirrors(case):
    """A rise read backwards is a fall; two-sided, and counting absence instead of presence, change nothing."""
    x, n, _ = case
    x, n = np.array(x)[:, None], np.array(n)
    np.testing.assert_allclose(cochran_armitage(x, n), cochran_armitage(x[::-1], n[::-1]), rtol=1e-9)
    np.testing.assert_allclose(cochran_armitage(x, n), cochran_armitage(n[:, None] - x, n), rtol=1e-9)
    up, down = cochran_armitage(x, n, None, "greater"), cochran_armitage(x[::-1], n[::-1], None, "greater")
    np.testing.assert_allclose(up + down, 1.0)
    np.testing.assert_allclose(slope(x, n), -slope(x[::-1], n[::-1]), atol=1e-12)
    np.testing.assert_array_equal(monotone(x, n), -monotone(x[::-1], n[::-1]))


def test_two_versions_are_fishers_test():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 40, (2, 100))
    greater = cochran_armitage(x, [90, 40], None, "greater")
    np.testing.assert_allclose(greater, fisher_midp(x[1], 40, x[0], 90, "greater"), rtol=1e-8)


def test_beyond_small_the_normal_tail_is_near_the_exact_one(monkeypatch):
    """Five versions of unequal size, a latent in 300 documents: 15% off at most down to 1e-9."""
    n = np.array([100, 200, 500, 1000, 700])
    x = np.array([[15, 20, 70, 125, 70], [4, 10, 41, 133, 112], [30, 33, 60, 107, 70]]).T
    tails = [cochran_armitage(x, n, None, a) for a in ("two-sided", "greater")]
    monkeypatch.setattr(trend, "SMALL", 300)
    for alternative, found in zip(("two-sided", "greater"), tails, strict=True):
        np.testing.assert_allclose(found, cochran_armitage(x, n, None, alternative), rtol=0.15)


@pytest.mark.parametrize("rates", [(0.02, 0.1), (0.3, 0.6)])
def test_null_series_are_calibrated(rates):
    """No trend: p <= 0.05 about once in twenty, p <= 0.001 about once in a thousand, in both regimes."""
    rng = np.random.default_rng(1)
    n = np.array([150, 300, 200, 250])
    p = cochran_armitage(rng.binomial(n[:, None], rng.uniform(*rates, 20_000)), n)
    assert 0.043 < np.mean(p <= 0.05) < 0.056
    assert np.mean(p <= 0.001) < 0.0018


def test_trends_survive_correction_where_monotone_ones_by_chance_do_not():
    """10,000 flat series and 5 that rise from 10% to 26% in five versions of 300 documents."""
    rng = np.random.default_rng(2)
    n = np.full(5, 300)
    flat = rng.binomial(300, 0.3, (5, 10_000))
    x = np.hstack([flat, rng.binomial(300, np.linspace(0.10, 0.26, 5)[:, None], (5, 5))])
    found = benjamini_hochberg(cochran_armitage(x, n)) <= 0.05
    assert found[-5:].all()
    assert found[:-5].sum() <= 2
    rising, expected = (monotone(flat, n) == 1).sum(), monotone_by_chance(5, 10_000)
    assert expected == pytest.approx(83.3, abs=0.1)
    # Ties make it rarer: counts of some 90 +- 8 tie in a fifth of the series.
    assert 0.5 * expected < rising <= expected + 3 * expected**0.5
    np.testing.assert_allclose(slope(np.array([[30], [60], [90]]), [300, 300, 300]), 0.1)


def test_monotone_compares_shares_not_counts():
    x = np.array([[1, 10, 2, 1], [1, 10, 4, 2], [1, 10, 9, 2]])
    np.testing.assert_array_equal(monotone(x, [30, 20, 10]), [1, 1, 1, 1])
    np.testing.assert_array_equal(monotone(x, [10, 10, 10]), [0, 0, 1, 0])
    np.testing.assert_array_equal(monotone(x, [10, 20, 30]), [-1, -1, 0, 0])


def test_latents_without_news_and_bad_series():
    np.testing.assert_array_equal(cochran_armitage([[0, 4], [0, 5], [0, 6]], [4, 5, 6]), 0.5)
    for bad, message in (
        (([[5]], [5]), "two versions"),
        (([[5], [2]], [4, 9]), "between 0"),
        (([[1], [2]], [4, 9], [3, 3]), "not all the same"),
        (([[1], [2], [2]], [4, 9, 9], [0, 1, 5000]), "coarser"),
    ):
        with pytest.raises(ValueError, match=message):
            cochran_armitage(*bad)
