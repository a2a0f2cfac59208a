"""Co-occurrence counts: every engine gives the integers of a dense product; the cheapest is found beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saeray.stats.cooccurrence import ENGINES, Columns, Costs, Engine, Tile, calibrate, engines
from saeray.stats.cooccurrence.costs import sparse_work


def columns_of(matrix: np.ndarray) -> Columns:
    """Columns of a bool matrix documents x latents."""
    held = [np.flatnonzero(column).astype(np.uint16) for column in matrix.T]
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in held], dtype=np.int64)])
    return Columns(offsets, np.concatenate([*held, np.empty(0, np.uint16)]), len(matrix))


def dense(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The reference: one product of int64."""
    return left.astype(np.int64).T @ right.astype(np.int64)


def random_matrix(seed: int, documents: int, latents: int, density: float) -> np.ndarray:
    """Bool documents x latents; the first latent is in no document, the second in all, the third in one."""
    matrix = np.random.default_rng(seed).random((documents, latents)) < density
    for latent, present in enumerate(((), slice(None), (documents // 2,))[: min(latents, 3)]):
        matrix[:, latent] = False
        if documents:
            matrix[np.asarray(present, int) if isinstance(present, tuple) else present, latent] = True
    return matrix


shapes = st.tuples(
    st.integers(0, 2**32 - 1),
    st.integers(1, 90),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.02, 0.3, 1.0]),
)


@given(shapes, st.sampled_from(ENGINES))
def test_every_engine_counts_what_a_dense_product_counts(shape: tuple, engine: Engine) -> None:
    """Whatever the widths, the documents and the density, odd ones and empty ones among them."""
    seed, documents, rows, columns, density = shape
    left, right = random_matrix(seed, documents, rows, density), random_matrix(seed + 1, documents, columns, density)
    tile = Tile(rows, columns)
    tile.add(columns_of(left), columns_of(right), engine)
    assert np.array_equal(tile.counts(), dense(left, right))


@given(shapes, st.sampled_from(ENGINES), st.sampled_from([1, 3, 16]), st.sampled_from([8, 24]))
def test_the_tile_of_a_range_with_itself_is_whole(shape: tuple, engine: Engine, strip: int, step: int) -> None:
    """It is counted in strips and slices of which none may be lost or added twice; the mirror half follows."""
    seed, documents, rows, _, density = shape
    matrix = random_matrix(seed, documents, rows, density)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "STRIP", strip)
        patch.setattr(engines, "CPU_SLICE", step)
        tile = Tile(rows, None)
        tile.add(columns_of(matrix), None, engine)
    assert np.array_equal(tile.counts(), dense(matrix, matrix))
    assert np.array_equal(np.diag(tile.counts()), matrix.sum(axis=0))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_full_block_has_no_last_document_too_few(engine: Engine) -> None:
    """65,536 documents, the most that a uint16 numbers, over several slices of a dense engine."""
    left, right = np.zeros((1 << 16, 3), bool), np.zeros((1 << 16, 2), bool)
    left[:, 0] = left[-1, 1] = left[[0, 16_383, 16_384], 2] = True
    right[[0, 16_384, 65_535], 0] = right[:, 1] = True
    tile = Tile(3, 2)
    tile.add(columns_of(left), columns_of(right), engine)
    assert tile.counts().tolist() == [[3, 1 << 16], [1, 1], [2, 3]]
    with pytest.raises(ValueError, match="65537 documents"):
        Columns(np.zeros(2, np.int64), np.empty(0, np.uint16), (1 << 16) + 1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("before", [2**24 - 1, 2**31 - 2, 2**53 - 1, 2**62])
def test_counts_stay_exact_where_float32_int32_and_float64_end(engine: Engine, before: int) -> None:
    """A corpus of billions of documents: what came before is added to in int64, in both ways it can come."""
    matrix = random_matrix(5, 40, 6, 0.5)
    tile = Tile(6, 6, start=np.full((6, 6), before))
    tile.add(columns_of(matrix), columns_of(matrix), engine)
    tile.add(columns_of(matrix), columns_of(matrix), engine)
    assert np.array_equal(tile.counts(), before + 2 * dense(matrix, matrix))
    many = Tile(6, None)
    many.add(columns_of(matrix), None, engine, times=before // 40)
    assert np.array_equal(many.counts(), before // 40 * dense(matrix, matrix))


def test_blocks_add_in_any_order_with_any_engines() -> None:
    """Counts are sums of integers: neither the order nor the engines that were chosen can show."""
    matrix = random_matrix(3, 300, 20, 0.2)
    blocks = [columns_of(part) for part in np.array_split(matrix, 7)]
    for order in (range(7), [5, 3, 1, 0, 2, 4, 6]):
        tile = Tile(20, None)
        for at, block in enumerate(order):
            tile.add(blocks[block], None, ENGINES[at % 3])
        assert np.array_equal(tile.counts(), dense(matrix, matrix))


def test_a_block_that_is_taken_away_leaves_what_was_there() -> None:
    """times=-1 undoes an addition, whatever engine made it."""
    matrix = random_matrix(4, 50, 9, 0.4)
    tile = Tile(9, None)
    tile.add(columns_of(matrix), None, "sparse")
    tile.add(columns_of(matrix), None, "int8", times=-1)
    assert not tile.counts().any()


def test_two_sides_of_different_documents_are_refused() -> None:
    """Document numbers of two blocks have nothing to do with each other."""
    with pytest.raises(ValueError, match="not one block"):
        Tile(2, 2).add(columns_of(np.ones((3, 2), bool)), columns_of(np.ones((4, 2), bool)), "int8")
    with pytest.raises(ValueError, match="for a tile of"):
        Tile(2, 2).add(columns_of(np.ones((3, 2), bool)), None, "int8")


@given(shapes)
def test_columns_know_their_documents_parts_and_masks(shape: tuple) -> None:
    """What the cost model and the selectors rest on."""
    seed, documents, latents, cut, density = shape
    matrix = random_matrix(seed, documents, latents, density)
    columns = columns_of(matrix)
    assert np.array_equal(columns.frequency, matrix.sum(axis=0))
    assert np.array_equal(columns.activity, matrix.sum(axis=1))
    start = min(cut, latents) // 2
    part = columns.part(start, latents)
    assert np.array_equal(part.activity, matrix[:, start:].sum(axis=1))
    mask = np.random.default_rng(seed).random(documents) < 0.5
    kept = part.only(mask)
    assert np.array_equal(kept.frequency, matrix[mask, start:].sum(axis=0))
    assert np.array_equal(kept.activity, (matrix[:, start:] & mask[:, None]).sum(axis=1))


def test_the_one_index_of_a_gpu_sets_what_the_rows_of_a_cpu_set() -> None:
    """The way a GPU's matrix is filled, run here; document numbers above 32,767 are negative as int16."""
    columns = columns_of(random_matrix(6, 40_000, 5, 0.1))
    flat, rows = (torch.zeros(24, 40_000, dtype=torch.int8) for _ in range(2))
    engines.scatter_flat(flat, columns)
    engines.scatter_rows(rows, columns, np.stack([columns.offsets[:-1], columns.offsets[1:]]), 0)
    assert torch.equal(flat, rows)
    assert flat.sum() == columns.postings


def test_the_work_of_a_sparse_product_is_counted() -> None:
    """Pairs are exact; cells with a count are as many as independent latents would have."""
    left, right = random_matrix(1, 500, 60, 0.05), random_matrix(2, 500, 80, 0.1)
    pairs, outputs, looks, turned = sparse_work(columns_of(left), columns_of(right))
    counts = dense(left, right)
    assert pairs == counts.sum()
    assert outputs == pytest.approx((counts > 0).sum(), rel=0.05)
    assert (looks, turned) == (min(left.sum(), right.sum()), left.sum() + right.sum())


COSTS = Costs("cpu", {"int8": 4e-12, "float32": 16e-12}, 1e-10, 2.5e-9, 3e-6, 2e-9, 4e-9, 35e-9, 50e-9, 12e-9)


@pytest.mark.parametrize(("density", "engine"), [(0.001, "sparse"), (0.3, "int8")])
def test_dense_blocks_go_to_int8_and_sparse_ones_to_scipy(density: float, engine: Engine) -> None:
    """At 4 ns a pair and 4 ps a multiply-add the two meet at 3% of documents."""
    columns = columns_of(random_matrix(1, 4000, 256, density))
    assert COSTS.choose(columns, columns) == engine
    assert COSTS.choose(columns, None) == engine


def test_a_machine_without_fast_integer_products_takes_float32() -> None:
    """On such machines `_int_mm` is a loop."""
    slow = Costs(**{**COSTS.__dict__, "mac": {"int8": 1e-9, "float32": 16e-12}})
    columns = columns_of(random_matrix(1, 4000, 256, 0.3))
    assert slow.choose(columns, columns) == "float32"


def test_calibration_gives_costs_that_a_machine_can_have() -> None:
    """Positive, and a multiply-add of a matrix product far cheaper than a pair of a sparse one."""
    found = calibrate()
    assert 0 < found.mac["int8"] < 1e-8
    assert 0 < found.mac["float32"] < 1e-8
    assert min(found.zero, found.posting, found.cell) > 0
    assert 1e-10 < found.pair < 1e-6
    columns = columns_of(random_matrix(1, 2000, 64, 0.2))
    assert 0 < found.predict("int8", columns, None) < found.predict("int8", columns, columns)
