"""Promise: what `stats` counts is what a dense table says, however the rows are cut, kept and added again."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saeray.errors import SaerayError
from saeray.stats.quantiles import ERROR
from saeray.stats.tally import EDGES, Exact, Tally, empty, tally
from saeray.stats.tally_rows import from_table, to_table

D_SAE = 12
halves = st.floats(2.0**-24, 65504, width=32).map(lambda x: float(np.float16(x)))
# A document: its tokens, and for each latent present its maximum, count and sum (11 significant bits, as stored).
document = st.tuples(
    st.integers(0, 100_000),
    st.dictionaries(
        st.integers(0, D_SAE - 1), st.tuples(halves, st.integers(1, 2**31 - 1), st.integers(1, 2**11 - 1)), max_size=6
    ),
)


def batch(documents: list, with_sum: bool = True) -> pa.RecordBatch:
    """The rows that the store would hold."""
    ordered = [(n, sorted(found.items())) for n, found in documents]
    columns = {
        "n_tokens": pa.array([n for n, _ in ordered], pa.int32()),
        "latents": pa.array([[i for i, _ in found] for _, found in ordered], pa.list_(pa.int32())),
        "max": pa.array([[v[0] for _, v in found] for _, found in ordered], pa.list_(pa.float32())),
        "count": pa.array([[v[1] for _, v in found] for _, found in ordered], pa.list_(pa.int32())),
    }
    if with_sum:
        columns["sum"] = pa.array([[v[2] / 64 for _, v in found] for _, found in ordered], pa.list_(pa.float32()))
    return pa.RecordBatch.from_pydict(columns)


def check(found: Tally, documents: list) -> None:
    """Against a dense table, column by column."""
    maxima = np.zeros((len(documents), D_SAE))
    counts, sums = np.zeros(maxima.shape, np.int64), np.zeros(maxima.shape)
    for row, (_, present) in enumerate(documents):
        for latent, (value, count, total) in present.items():
            maxima[row, latent], counts[row, latent], sums[row, latent] = value, count, total / 64
    n_tokens = np.array([n for n, _ in documents], np.int64)
    frequencies = found.frequencies()
    assert (frequencies.n_documents, frequencies.n_tokens) == (len(documents), n_tokens.sum())
    np.testing.assert_array_equal(found.documents, (maxima > 0).sum(0))
    np.testing.assert_array_equal(found.tokens, counts.sum(0))
    np.testing.assert_array_equal(found.maximum, maxima.max(0, initial=0))
    # In units of 2**-24 the sums are integers, which Python adds exactly.
    units = [sum(int(v * 2**24) for v in maxima[:, i]) for i in range(D_SAE)]
    assert [int(h) * 2**20 + int(low) for h, low in zip(found.max_sum.high, found.max_sum.low, strict=True)] == units
    np.testing.assert_array_equal(found.max_sum.to_float(), [unit / 2**24 for unit in units])
    np.testing.assert_array_equal(found.sum.to_float(), sums.sum(0))
    for stratum in range(len(EDGES) + 1):
        own = np.searchsorted(EDGES, n_tokens, side="right") == stratum
        np.testing.assert_array_equal(found.strata.get(stratum, np.zeros(D_SAE)), (maxima[own] > 0).sum(0))
        assert (stratum in found.strata) == own.any()  # a stratum of documents without latents is one too
    for p, row in zip((50, 90), found.percentiles([50, 90]), strict=True):
        for latent in range(D_SAE):
            values = maxima[:, latent][maxima[:, latent] > 0]
            exact = np.percentile(values, p, method="inverted_cdf") if values.size else 0
            assert abs(row[latent] - exact) <= ERROR * exact
    assert found.median_tokens() == pytest.approx(np.median(n_tokens)) if documents else np.isnan(found.median_tokens())


@settings(max_examples=50, deadline=None)
@given(st.lists(document, min_size=1, max_size=20), st.lists(st.integers(0, 20), max_size=4), st.randoms())
def test_tallies_equal_a_dense_table_in_any_number_and_order_of_parts(documents, cuts, chance):
    bounds = [0, *sorted(min(cut, len(documents)) for cut in cuts), len(documents)]
    parts = [documents[a:b] for a, b in pairwise(bounds)]
    check(tally(batch(documents), D_SAE), documents)
    whole = batch(documents)
    counted = [tally(whole.slice(a, b - a), D_SAE) for a, b in pairwise(bounds)]
    assert len(counted) == len(parts)
    chance.shuffle(counted)
    total = empty(D_SAE, True)
    for one in counted:
        total = total + from_table(to_table({"g": one}), D_SAE)["g"]
    check(total, documents)
    assert to_table({"g": total}).equals(to_table({"g": tally(whole, D_SAE)}))


def test_latents_in_no_document_in_all_and_in_one():
    documents = [(5, {0: (1.5, 2, 3)} | ({7: (2.0, 1, 2)} if i == 3 else {})) for i in range(6)]
    found = tally(batch(documents, with_sum=False), D_SAE)
    assert found.sum is None
    assert found.documents[[0, 7, 1]].tolist() == [6, 1, 0]
    assert found.maximum[[0, 7, 1]].tolist() == [1.5, 2, 0]
    np.testing.assert_allclose(found.percentiles([90])[0, [0, 7, 1]], [1.5, 2, 0], rtol=ERROR)
    assert found.frequencies().frequency[[0, 7, 1]].tolist() == [1, 1 / 6, 0]


def test_counts_beyond_31_bits_and_sums_beyond_53_are_exact():
    """Doubling 40 times what one batch counts: a trillion documents of the largest half, and one of the smallest."""
    large = [(100, {3: (65504.0, 2**20 - 1, 64)})] * 3
    total = tally(batch(large), D_SAE)
    for _ in range(40):
        total = from_table(to_table({"": total + total}), D_SAE)[""]
    total = total + tally(batch([(100, {3: (2.0**-24, 1, 64)})]), D_SAE)
    assert total.documents[3] == total.strata[int(np.searchsorted(EDGES, 100, "right"))][3] == 3 * 2**40 + 1
    assert total.tokens[3] == 3 * 2**40 * (2**20 - 1) + 1
    units = int(total.max_sum.high[3]) * 2**20 + int(total.max_sum.low[3])
    assert units == 3 * 2**40 * 65504 * 2**24 + 1
    assert total.frequencies().n_tokens == 100 * (3 * 2**40 + 1)
    assert Exact(*(np.array([x]) for x in (5, 2**20 - 1))).to_float()[0] == 5 / 16 + (2**20 - 1) / 2**24


def test_strata_are_fixed_and_a_factor_of_the_square_root_of_two():
    """They add only if they do not depend on the data."""
    assert EDGES[:9].tolist() == [2, 3, 4, 6, 8, 12, 16, 23, 32]
    assert EDGES[-1] == 2**31
    wide = EDGES[EDGES >= 16]
    assert ((wide[1:] - 1) / wide[:-1] < 2**0.5).all()


@pytest.mark.parametrize(
    ("change", "message"), [({"latents": [[12]]}, "the encoder has 12"), ({"max": [[0.3]]}, "not a half above 0")]
)
def test_rows_that_no_encoder_makes_are_named(change, message):
    rows = {"n_tokens": [4], "latents": [[3]], "max": [[1.0]], "count": [[1]]} | change
    kinds = {"latents": pa.list_(pa.int32()), "max": pa.list_(pa.float32()), "count": pa.list_(pa.int32())}
    made = pa.RecordBatch.from_pydict({k: pa.array(v, kinds.get(k, pa.int32())) for k, v in rows.items()})
    with pytest.raises(SaerayError, match=message):
        tally(made, 12)


def test_unlike_tallies_do_not_add():
    with pytest.raises(ValueError, match="cannot be added"):
        empty(3, False) + empty(4, False)
    with pytest.raises(ValueError, match="cannot be added"):
        empty(3, False) + empty(3, True)
