"""Promise: a difference that is length alone vanishes at equal length, and one that is not stays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saeray.stats.length import by_stratum, edges, probability_longer, shared, standardise


def rates(*sides: list[tuple[int, ...]]) -> np.ndarray:
    """Of sides whose strata are (documents, of which with latent 0, with latent 1, …)."""
    found = np.array(sides)
    return standardise(found[:, :, 1:], found[:, :, :1])


def test_a_length_effect_vanishes_and_a_real_one_stays():
    """Latent 0 is in 10% of short and 50% of long documents on both sides; latent 1 in 30% more of the first side."""
    first = [(100, 10, 40), (300, 150, 120)]
    second = [(300, 30, 30), (100, 50, 10)]
    crude = [sum(stratum[i] for stratum in side) / 400 for side in (first, second) for i in (1, 2)]
    assert crude[0] - crude[2] == pytest.approx(0.2)
    found = rates(first, second)
    np.testing.assert_allclose(found[0] - found[1], [0.0, 0.3], atol=1e-12)
    np.testing.assert_allclose(found[0], [0.3, 0.4], atol=1e-12)


def test_strata_weigh_what_they_are_worth_in_a_comparison():
    """Mantel and Haenszel's difference of rates: 10 x 20 / 30 against 30 x 40 / 70."""
    found = rates([(10, 5), (30, 30)], [(20, 20), (40, 10)])
    a, b = 200 / 30, 1200 / 70
    difference = (a * (0.5 - 1) + b * (1 - 0.25)) / (a + b)
    assert found[0, 0] - found[1, 0] == pytest.approx(difference)
    assert found[0, 0] == pytest.approx((a * 0.5 + b) / (a + b))


@given(st.lists(st.tuples(*[st.integers(0, 40)] * 3), min_size=1, max_size=6))
def test_weights_are_harmonic_means_and_sum_to_one(sizes):
    """Of three sides, against a loop; a stratum that a side lacks weighs nothing; NaN where they share too little."""
    worth = [3 / sum(1 / n for n in each) if all(each) else 0.0 for each in sizes]
    found = shared(np.array(sizes).T)
    if sum(worth) < 5:
        assert np.isnan(found).all()
    else:
        np.testing.assert_allclose(found, np.array(worth) / sum(worth))


def test_a_difference_in_a_stratum_with_few_of_one_side_is_not_lost():
    """Long texts are bold on the first side alone, and the other has four of them: what they say counts, as little as
    four can; with none there it does not."""
    found = rates([(50, 25), (40, 40)], [(50, 25), (4, 0)])
    w = 40 * 4 / 44
    assert found[0, 0] - found[1, 0] == pytest.approx(w / (25 + w))
    np.testing.assert_allclose(rates([(50, 25), (40, 40)], [(50, 5), (0, 0)])[:, 0], [0.5, 0.1])
    assert np.isnan(rates([(50, 25), (0, 0)], [(0, 0), (50, 9)])).all()


def test_documents_are_counted_by_stratum():
    """Against a loop, with a stratum that has none."""
    rng = np.random.default_rng(2)
    there, stratum = rng.random((40, 3)) < 0.4, rng.choice([0, 1, 3], 40)
    counts, n = by_stratum(there, stratum, 5)
    for j in range(5):
        own = [there[i] for i in range(40) if stratum[i] == j]
        assert n[j, 0] == len(own)
        assert counts[j].tolist() == [sum(row[k] for row in own) for k in range(3)]


def test_edges_cut_equal_shares_and_survive_ties():
    n_tokens = np.arange(100)
    stratum = np.searchsorted(edges(n_tokens), n_tokens, side="right")
    assert np.ptp(np.bincount(stratum)) <= 2
    assert len(np.bincount(stratum)) == 5
    assert list(edges(np.full(9, 7))) == [7]


def test_probability_longer_counts_pairs():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 30), rng.integers(0, 12, 40)
    pairs = np.mean([(x > y) + (x == y) / 2 for x in a for y in b])
    assert probability_longer(a, b) == pytest.approx(pairs)
