"""Promise: intervals are the published ones and cover what they say they cover."""

import numpy as np
import pytest

from saeray.stats.intervals import newcombe, wilson

# Newcombe 1998, Table II, method 10 (his examples a to h), 95%.
PUBLISHED = [
    (56, 70, 48, 80, 0.0524, 0.3339),
    (9, 10, 3, 10, 0.1705, 0.8090),
    (6, 7, 2, 7, 0.0582, 0.8062),
    (5, 56, 0, 29, -0.0381, 0.1926),
    (0, 10, 0, 20, -0.1611, 0.2775),
    (0, 10, 0, 10, -0.2775, 0.2775),
    (10, 10, 0, 20, 0.6791, 1.0000),
    (10, 10, 0, 10, 0.6075, 1.0000),
]


@pytest.mark.parametrize(("a", "m", "b", "n", "lower", "upper"), PUBLISHED)
def test_newcombe_1998_table(a, m, b, n, lower, upper):
    low, high = newcombe(a, m, b, n)
    assert (round(float(low), 4), round(float(high), 4)) == (lower, upper)


def test_newcombe_turns_round_with_its_sides():
    low, high = newcombe([56, 3], [70, 9], [48, 8], [80, 9])
    other_low, other_high = newcombe([48, 8], [80, 9], [56, 3], [70, 9])
    np.testing.assert_allclose(low, -other_high)
    np.testing.assert_allclose(high, -other_low)


def test_wilson_solves_the_score_equation():
    """Its limits are the p at which (x/n - p)^2 = z^2 p (1 - p) / n."""
    for limit in wilson(7, 40):
        assert (7 / 40 - limit) ** 2 == pytest.approx(1.959963984540054**2 * limit * (1 - limit) / 40)
    low, high = wilson([0, 12], 12)
    assert low[0] == 0
    assert high[1] == 1


def test_newcombe_covers():
    rng = np.random.default_rng(0)
    low, high = newcombe(rng.binomial(60, 0.3, 4000), 60, rng.binomial(90, 0.15, 4000), 90)
    assert 0.94 < np.mean((low <= 0.15) & (high >= 0.15)) < 0.965
