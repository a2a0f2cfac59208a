"""Promise: percentiles of stored maxima are within 1/128 of the exact ones, from counts that add in any order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saeray.errors import SaerayError
from saeray.stats.quantiles import CODES, ERROR, Sketch, codes, value_of

ALL_HALVES = np.arange(1, 0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
halves = st.floats(2.0**-24, 65504, width=32).map(lambda x: float(np.float16(x)))
percents = st.sampled_from([0.1, 1, 10, 50, 90, 99, 99.9, 100])


def sketch(rows: list[list[float]]) -> Sketch:
    """The sketch of each row's values as those of a latent."""
    latents = np.repeat(np.arange(len(rows)), [len(row) for row in rows]).astype(np.uint64)
    keys = np.sort(latents << np.uint64(16) | codes(np.array([v for row in rows for v in row], np.float32)))
    return Sketch.from_sorted(keys, np.searchsorted(keys, np.arange(len(rows) + 1, dtype=np.uint64) << np.uint64(16)))


def test_every_half_above_0_has_its_own_code_in_order():
    """Nothing is lost between a stored value and the key it is sorted by, subnormal halves included."""
    code = codes(ALL_HALVES)
    assert (np.diff(code.astype(np.int64)) > 0).all()
    assert code[0] == 0
    assert code[-1] == CODES - 1
    np.testing.assert_array_equal(value_of(code), ALL_HALVES)


@pytest.mark.parametrize("bad", [0.0, -1.0, 1.0 + 2.0**-11, 65536.0, 2.0**-25, float("nan"), float("inf")])
def test_a_value_that_no_encoder_stores_is_refused(bad):
    """A spoilt part is named instead of being counted as something else."""
    with pytest.raises(SaerayError, match="not a half above 0"):
        codes(np.array([1, bad], np.float32))


def test_the_stated_error_holds_for_every_half():
    """Each value alone as a latent: its only percentile is within the bound."""
    found = sketch([[float(v)] for v in ALL_HALVES]).percentiles([50])[0]
    assert (np.abs(found - ALL_HALVES) <= ERROR * ALL_HALVES).all()
    assert (np.abs(found - ALL_HALVES) > ERROR / 2 * ALL_HALVES).any(), "the bound would be better stated smaller"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(halves, max_size=40), min_size=1, max_size=5), st.lists(percents, min_size=1, max_size=3))
def test_percentiles_are_within_the_bound_of_the_exact_ones(rows, wanted):
    """Whatever the values: NumPy's inverted_cdf of the same values is the reference."""
    found = sketch(rows).percentiles(wanted)
    for latent, row in enumerate(rows):
        if not row:
            assert (found[:, latent] == 0).all()
            continue
        # NumPy takes the percentile's rank in floating point, where 99.9% of 1,000 is not 999.
        for p, value in zip(wanted, found[:, latent], strict=True):
            exact = np.sort(row)[max(-(-round(p * 1000) * len(row) // 100_000), 1) - 1]
            assert abs(value - exact) <= ERROR * exact
            if p in (50, 100):
                assert exact == np.percentile(row, p, method="inverted_cdf")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.lists(halves, max_size=9), min_size=3, max_size=3), min_size=1, max_size=5), st.randoms())
def test_sketches_add_in_any_order_and_survive_being_stored(parts, chance):
    """The sketch of parts, in whatever order, is bit for bit that of the whole."""
    whole = sketch([[v for part in parts for v in part[latent]] for latent in range(3)])
    chance.shuffle(parts)
    total = Sketch.empty(3)
    for part in parts:
        total = total + Sketch.from_buckets(*sketch(part).buckets())
    for mine, theirs in zip(total.buckets(), whole.buckets(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(total.percentiles([1, 90]), whole.percentiles([1, 90]))


def test_counts_beyond_32_bits_are_right():
    """2**40 values of 1, one more of 2: the 100th percentile is the one."""
    many, one = sketch([[1.0]]), sketch([[2.0]])
    for _ in range(40):
        many = many + many
    total = many + one
    assert total.buckets()[2].tolist() == [2**40, 1]
    half, largest = total.percentiles([50, 100])[:, 0]
    assert (abs(half - 1) <= ERROR, abs(largest - 2) <= 2 * ERROR) == (True, True)
