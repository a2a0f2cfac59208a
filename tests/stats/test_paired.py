"""Promise: paired p-values are exact, intervals solve Tango's score equation, and whole keys are swapped, not rows."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.sparse import csr_array
from scipy.stats import binom, binomtest

from saeray.stats import paired
from saeray.stats.paired import discordant, key_differences, mcnemar, per_key, sign_flip, tango
from saeray.stats.significance import benjamini_hochberg

counts = st.integers(0, 60)


@settings(max_examples=200, deadline=None)
@given(counts, counts.filter(bool))
def test_mcnemar_is_the_binomial_test(b, c):
    """SciPy's binomial test at 1/2 is the same test by another road."""
    assert mcnemar(b, c) == pytest.approx(binomtest(b, b + c).pvalue, rel=1e-10)
    assert mcnemar(b, c, "greater") == pytest.approx(binomtest(b, b + c, alternative="greater").pvalue, rel=1e-10)
    half = binom.pmf(b, b + c, 0.5)
    assert mcnemar(b, c, midp=True) == pytest.approx(min(binomtest(b, b + c).pvalue - half * (b != c), 1), rel=1e-9)
    assert mcnemar(b, c, "greater", midp=True) + mcnemar(c, b, "greater", midp=True) == pytest.approx(1)


def test_mcnemar_of_the_published_example_and_of_no_pairs():
    """Airway reactivity before and after stem-cell transplantation, Fagerland and others 2013: 0.0703, mid-p 0.0391."""
    assert mcnemar(1, 7) == pytest.approx(0.0703125)
    assert mcnemar(1, 7, midp=True) == pytest.approx(0.0390625)
    np.testing.assert_array_equal([mcnemar(0, 0), mcnemar(0, 0, midp=True), mcnemar(0, 0, "greater")], 1.0)
    assert mcnemar(0, 0, "greater", midp=True) == 0.5
    assert mcnemar(1000, 0) == pytest.approx(2.0**-999, rel=1e-9)


def slow_tango(b: int, c: int, n: int) -> tuple[float, float]:
    """The score equation with the restricted likelihood maximised numerically: none of the formulas of the module."""

    def score(d: float) -> float:
        def misfit(q: float) -> float:
            cells = zip((b, c, n - b - c), (q + d, q, 1 - 2 * q - d), strict=True)
            return -sum(count * np.log(max(share, 1e-300)) for count, share in cells if count)

        bounds = (max(0.0, -d), (1 - d) / 2)
        q = minimize_scalar(misfit, bounds=bounds, method="bounded", options={"xatol": 1e-13}).x
        q = min((q, *bounds), key=misfit)
        return (b - c - n * d) / np.sqrt(n * (2 * q + d - d * d))

    z, seen, end = 1.959963984540054, (b - c) / n, 1 - 1e-9
    lower = brentq(lambda d: score(d) - z, -end, seen - 1e-9) if b - c > -n else -1.0
    upper = brentq(lambda d: score(d) + z, seen + 1e-9, end) if b - c < n else 1.0
    return lower, upper


@pytest.mark.parametrize(
    ("b", "c", "n"),
    [(1, 7, 21), (0, 1, 44), (9, 3, 30), (0, 0, 50), (12, 12, 24), (5, 0, 5), (0, 9, 10), (80, 50, 500)],
)
def test_tango_solves_the_score_equation(b, c, n):
    low, high = tango(b, c, n)
    np.testing.assert_allclose([low, high], slow_tango(b, c, n), atol=2e-6)


def test_tango_of_the_published_example():
    """The same airway data in Fagerland, Lydersen and Laake 2014: -0.517 to -0.026."""
    low, high = tango(1, 7, 21)
    assert (round(float(low), 3), round(float(high), 3)) == (-0.517, -0.026)


def test_tango_turns_round_with_its_sides_and_holds_the_estimate():
    """Every small table: swapped sides negate the limits bit for bit, and the estimate is within them."""
    b, c, concordant = (axis.ravel() for axis in np.mgrid[0:15, 0:15, 0:20])
    b, c, concordant = (axis[b + c + concordant > 0] for axis in (b, c, concordant))
    n = b + c + concordant
    low, high = tango(b, c, n)
    other_low, other_high = tango(c, b, n)
    np.testing.assert_array_equal((low, high), (-other_high, -other_low))
    seen = (b - c) / n
    assert ((low >= -1) & (low <= seen) & (seen <= high) & (high <= 1)).all()
    assert ((low < seen) == (b - c > -n)).all(), "only where every pair is of one kind does the interval end there"
    none = (b == 0) & (c == 0)
    np.testing.assert_allclose(high[none], 1.959963984540054**2 / (n[none] + 1.959963984540054**2))


def test_tango_covers():
    """Pairs with 20% of one kind and 5% of the other; and a rare latent in few documents."""
    rng = np.random.default_rng(0)
    for n, shares in ((80, (0.2, 0.05, 0.75)), (40, (0.06, 0.02, 0.92))):
        b, c, _ = rng.multinomial(n, shares, 4000).T
        low, high = tango(b, c, n)
        truth = shares[0] - shares[1]
        assert 0.94 < np.mean((low <= truth) & (truth <= high)) < 0.985


def test_counts_that_no_pairs_have_are_refused():
    for bad in ((3, 3, 5), (-1, 0, 5), (0, 0, 0)):
        with pytest.raises(ValueError, match="discordant"):
            tango(*bad)
    with pytest.raises(ValueError, match="negative"):
        mcnemar(-1, 2)


def test_discordant_counts_pairs_with_the_latent_on_one_side():
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 50, 30)) < 0.3
    # Values, not only ones, and an explicit zero, which is absence.
    target = csr_array(first * rng.random((50, 30)))
    target.data[0] = 0
    here = target.toarray() > 0
    b, c = discordant(target, csr_array(second))
    np.testing.assert_array_equal(b, (here & ~second).sum(0))
    np.testing.assert_array_equal(c, (second & ~here).sum(0))
    with pytest.raises(ValueError, match="one row a key"):
        discordant(target, csr_array(second[1:]))


def test_keys_with_several_rows_are_gathered():
    rows = csr_array(np.array([[1.5, 0], [2, 3], [0, 1]]))
    many, sizes = per_key(rows, [2, 0, 2], 4)
    np.testing.assert_array_equal(many.toarray(), [[1, 1], [0, 0], [1, 1], [0, 0]])
    np.testing.assert_array_equal(sizes, [1, 0, 2, 0])
    d = key_differences(many, sizes, csr_array(np.array([[0, 3], [1, 1], [0, 0], [0, 0]])), [3, 1, 1, 0])
    # Key 0: 1 of 1 against 0 of 3 and 3 of 3; key 1 has no rows of the target; key 2: 1 of 2 against 0 of 1.
    np.testing.assert_array_equal(d.toarray(), [[3, 0], [0, 0], [1, 1], [0, 0]])


def by_enumeration(d: np.ndarray, alternative: str) -> np.ndarray:
    sums = np.array([np.array(signs) @ d for signs in product((-1, 1), repeat=len(d))])
    total = d.sum(0)
    if alternative == "greater":
        return (sums >= total - 1e-9).mean(0)
    return (np.abs(sums) >= np.abs(total) - 1e-9).mean(0)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(0, 10_000), st.sampled_from(["two-sided", "greater"]), st.booleans())
def test_sign_flips_are_the_enumeration(clusters, seed, alternative, whole):
    """Both exact roads: whole numbers by their characteristic function, any numbers of few clusters by all patterns."""
    rng = np.random.default_rng(seed)
    d = rng.integers(-4, 5, (clusters, 6)) * 3 if whole else rng.normal(size=(clusters, 6))
    p, exact = sign_flip(d, alternative)
    assert exact.all()
    np.testing.assert_allclose(p, by_enumeration(d, alternative), atol=1e-12)
    np.testing.assert_allclose(sign_flip(csr_array(d[::-1]), alternative)[0], p, atol=1e-12)


def test_sign_flips_of_single_rows_are_mcnemar():
    rng = np.random.default_rng(2)
    d = rng.integers(-1, 2, (300, 200)) * (rng.random(200) < 0.8)
    b, c = (d == 1).sum(0), (d == -1).sum(0)
    for alternative in ("two-sided", "greater"):
        p, exact = sign_flip(csr_array(d), alternative)
        assert exact.all()
        np.testing.assert_allclose(p, mcnemar(b, c, alternative), atol=1e-13)


def test_seeded_flips_come_near_the_exact_ones_and_are_never_zero(monkeypatch):
    rng = np.random.default_rng(3)
    d = rng.integers(-3, 4, (40, 30)) + np.linspace(0, 2, 30).astype(int)
    exact, _ = sign_flip(d)
    monkeypatch.setattr(paired, "LATTICE", 0)
    p, is_exact = sign_flip(d, flips=4_000, seed=1)
    assert not is_exact.any()
    assert p.min() == 1 / 4_001
    np.testing.assert_allclose(p, exact, atol=0.035)
    np.testing.assert_array_equal(p, sign_flip(d, flips=4_000, seed=1)[0])


def test_rows_of_one_key_are_no_independent_witnesses():
    """4 rows a key that all agree: rows taken as pairs reject the null four times as often as they may."""
    rng = np.random.default_rng(4)
    first, second = np.repeat(rng.random((2, 60, 2_000)) < 0.3, 4, axis=1)
    keys = np.repeat(np.arange(60), 4)
    (x, t), (y, u) = per_key(csr_array(first), keys, 60), per_key(csr_array(second), keys, 60)
    p, _ = sign_flip(key_differences(x, t, y, u))
    assert 0.02 < np.mean(p <= 0.05) <= 0.06
    assert np.mean(mcnemar(*discordant(csr_array(first), csr_array(second))) <= 0.05) > 0.2


def test_null_pairs_report_nothing_more_often_than_q():
    """Answers of one model split at random within each prompt: at q 0.05 few of 60 runs report anything."""
    rng = np.random.default_rng(5)
    rate = rng.beta(0.5, 3, 300)
    prompt = rng.beta(2, 2, (400, 1)) * 2
    reporting = 0
    for _ in range(60):
        first, second = rng.random((2, 400, 300)) < np.minimum(rate * prompt, 1)
        p = mcnemar((first & ~second).sum(0), (second & ~first).sum(0), midp=True)
        reporting += bool((benjamini_hochberg(p) <= 0.05).any())
    assert reporting <= 9, "0.05 x 60 is 3; 9 would happen once in 500"
