"""Promise: a difference that is length alone vanishes at equal length, and one that is not stays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saeray.stats.frequency import Frequencies
from saeray.stats.length import edges, probability_longer, shared, standardise


def counts(n: int, *documents: int) -> Frequencies:
    d = np.array(documents, np.int64)
    return Frequencies(n, 0, d, d, np.zeros(len(d), np.float32), np.zeros(len(d)))


def test_a_length_effect_vanishes_and_a_real_one_stays():
    """Latent 0 is in 10% of short and 50% of long documents on both sides; latent 1 in 30% more of the first side."""
    first = [counts(100, 10, 40), counts(300, 150, 120)]
    second = [counts(300, 30, 30), counts(100, 50, 10)]
    crude = [sum(s.documents[i] for s in side) / 400 for side in (first, second) for i in (0, 1)]
    assert crude[0] - crude[2] == pytest.approx(0.2)
    found = standardise([first, second])
    np.testing.assert_allclose(found.rates[0] - found.rates[1], [0.0, 0.3], atol=1e-12)
    np.testing.assert_allclose(found.rates[0], [0.3, 0.4], atol=1e-12)
    assert found.overlap == 1


def test_strata_weigh_what_they_are_worth_in_a_comparison():
    """Mantel and Haenszel's difference of rates: 10 x 20 / 30 against 30 x 40 / 70."""
    found = standardise([[counts(10, 5), counts(30, 30)], [counts(20, 20), counts(40, 10)]])
    a, b = 200 / 30, 1200 / 70
    difference = (a * (0.5 - 1) + b * (1 - 0.25)) / (a + b)
    assert found.rates[0, 0] - found.rates[1, 0] == pytest.approx(difference)
    assert found.rates[0, 0] == pytest.approx((a * 0.5 + b) / (a + b))


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
    found = standardise([[counts(50, 25), counts(40, 40)], [counts(50, 25), counts(4, 0)]])
    w = 40 * 4 / 44
    assert found.rates[0, 0] - found.rates[1, 0] == pytest.approx(w / (25 + w))
    found = standardise([[counts(50, 25), counts(40, 40)], [counts(50, 5), counts(0, 0)]])
    np.testing.assert_allclose(found.rates[:, 0], [0.5, 0.1])
    assert found.overlap == pytest.approx(100 / 140)
    nothing = standardise([[counts(50, 25), counts(0, 0)], [counts(0, 0), counts(50, 9)]])
    assert np.isnan(nothing.rates).all()
    assert nothing.overlap == 0


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
