"""Promise: counts are exact whatever the chunks, slices, order and grouping the rows arrive in."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saeray.errors import SaerayError
from saeray.stats.frequency import Frequencies, frequencies, grouped, values

D_SAE = 24


def corpus(seed: int, n: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dense float32[n, D_SAE] maxima (halves), int counts and lengths."""
    rng = np.random.default_rng(seed)
    value = (rng.random((n, D_SAE)) + 0.1).astype(np.float16).astype(np.float32)
    dense = np.where(rng.random((n, D_SAE)) < 0.2, value, np.float32(0))
    return dense, np.where(dense > 0, rng.integers(1, 9, dense.shape), 0), rng.integers(10, 99, n)


def rows(dense: np.ndarray, counts: np.ndarray, n_tokens: np.ndarray, half: bool = False) -> pa.Table:
    active = [np.flatnonzero(row) for row in dense]
    value = pa.float16() if half else pa.float32()
    cast = np.float16 if half else np.float32
    return pa.table(
        {
            "n_tokens": pa.array(n_tokens, pa.int32()),
            "latents": pa.array(active, pa.list_(pa.int32())),
            "max": pa.array([r[i].astype(cast) for r, i in zip(dense, active, strict=True)], pa.list_(value)),
            "count": pa.array([c[i] for c, i in zip(counts, active, strict=True)], pa.list_(pa.int32())),
        }
    )


def check(found: Frequencies, dense: np.ndarray, counts: np.ndarray, n_tokens: np.ndarray) -> None:
    assert (found.n_documents, found.n_tokens, found.d_sae) == (len(dense), n_tokens.sum(), D_SAE)
    np.testing.assert_array_equal(found.documents, (dense > 0).sum(0))
    np.testing.assert_array_equal(found.tokens, counts.sum(0))
    np.testing.assert_array_equal(found.maximum, dense.max(0, initial=0))
    np.testing.assert_array_equal(found.max_sum, dense.astype(np.float64).sum(0))
    assert found.documents.dtype == found.tokens.dtype == np.int64


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.lists(st.integers(0, 40), max_size=5), st.booleans())
def test_counts_equal_dense_numpy_however_rows_are_cut(seed, cuts, half):
    dense, counts, n_tokens = corpus(seed)
    whole = rows(dense, counts, n_tokens, half)
    bounds = [0, *sorted(cuts), 40]
    pieces = [whole.slice(a, b - a) for a, b in pairwise(bounds)]
    check(frequencies(pieces, D_SAE), dense, counts, n_tokens)
    check(frequencies([pa.concat_tables(pieces)], D_SAE), dense, counts, n_tokens)
    parts = [frequencies([piece], D_SAE) for piece in reversed(pieces)]
    check(sum(parts[1:], parts[0]), dense, counts, n_tokens)


@pytest.mark.parametrize("piece", [1, 2, 7, 50])
def test_pieces_of_any_size_count_the_same(piece, monkeypatch):
    """A batch is counted in pieces that fit a cache: none left out, none twice, rows without latents among them."""
    monkeypatch.setattr("saeray.stats.frequency.PIECE", piece)
    dense, counts, n_tokens = corpus(5)
    dense[[0, 7, 8, 39]] = counts[[0, 7, 8, 39]] = 0
    check(frequencies([rows(dense, counts, n_tokens)], D_SAE), dense, counts, n_tokens)
    check(frequencies([rows(dense[:0], counts[:0], n_tokens[:0])], D_SAE), dense[:0], counts[:0], n_tokens[:0])


def test_groups_in_one_pass_equal_each_alone():
    dense, counts, n_tokens = corpus(3)
    group = np.random.default_rng(0).integers(0, 3, 40)
    table = rows(dense, counts, n_tokens).append_column("group", pa.array(group))
    found = grouped([table.slice(0, 11), table.slice(11)], D_SAE, 4, lambda batch: values(batch, "group"))
    for g in range(3):
        check(found[g], dense[group == g], counts[group == g], n_tokens[group == g])
    check(found[3], dense[:0], counts[:0], n_tokens[:0])


def test_shares_are_of_documents_and_of_tokens():
    dense = np.zeros((4, D_SAE), np.float32)
    dense[:2, 5] = [2, 4]
    counts = np.where(dense > 0, 3, 0)
    found = frequencies([rows(dense, counts, np.full(4, 15))], D_SAE)
    assert (found.frequency[5], found.token_frequency[5], found.mean_max[5], found.maximum[5]) == (0.5, 0.1, 3, 4)
    assert (found.frequency[6], found.mean_max[6]) == (0, 0)
    empty = frequencies([], D_SAE)
    assert (empty.n_documents, empty.frequency.max(), empty.mean_max.max()) == (0, 0, 0)


def test_a_latent_the_encoder_lacks_is_named():
    dense, counts, n_tokens = corpus(0)
    with pytest.raises(SaerayError, match="encoder has 7"):
        frequencies([rows(dense, counts, n_tokens)], 7)
    with pytest.raises(ValueError, match="cannot be added"):
        frequencies([], 7) + frequencies([], 8)
