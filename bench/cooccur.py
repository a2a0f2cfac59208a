"""Exact co-occurrence counts against SciPy's and MKL's sparse products of the same documents.

    python bench/cooccur.py

Synthetic documents: latents have the document frequencies measured on 9,472 varied documents with an SAE of 32,768
latents (33 quantiles below), moved in log-odds until a document has `--active` latents on average, and documents
differ in size (log-normal). All engines get what they want of the same documents before the clock starts: ours posting
lists, SciPy and MKL CSR. Every count of the 16,384 x 16,384 is compared. Every one has one thread, as a tile has in the
job, and times are its CPU seconds, so that they hold on a busy machine. MKL is measured where sparse_dot_mkl is there.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from common import report
from scipy.sparse import csc_matrix, csr_matrix
from scipy.special import expit, logit

from saeray.stats.cooccurrence import ENGINES, Columns, Costs, Tile, calibrate

# fmt: off
QUANTILES = [
    0.98, 0.407, 0.244, 0.18, 0.148, 0.128, 0.114, 0.103, 0.0935, 0.0853, 0.0781, 0.0715, 0.0658, 0.0607, 0.056, 0.0513,
    0.0471, 0.0433, 0.0397, 0.0361, 0.0328, 0.0298, 0.0268, 0.024, 0.0211, 0.0187, 0.016, 0.0135, 0.011, 0.00855,
    0.00612, 0.00359, 0.0001,
]
# fmt: on
WIDTH = 2048
BLOCK = 65_536


def frequencies(latents: int, active: float) -> np.ndarray:
    """Document frequencies, falling, whose sum is `active`."""
    odds = np.interp(np.linspace(0, 1, latents), np.linspace(0, 1, len(QUANTILES)), logit(QUANTILES))
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(odds + middle).sum() < active else (low, middle)
    return expit(odds + low)


def synthetic(share: np.ndarray, documents: int, seed: int) -> Columns:
    """Documents with latents of these frequencies; the size of a document moves all of its frequencies."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(0, 0.4, documents).astype(np.float32)
    size /= size.mean()
    held = [np.flatnonzero(rng.random(documents, np.float32) < p * size).astype(np.uint16) for p in share]
    return Columns(np.concatenate([[0], np.cumsum([len(one) for one in held])]), np.concatenate(held), documents)


def rows_of(columns: Columns) -> csr_matrix:
    """The same documents as SciPy has them, int32."""
    ones = np.ones(columns.postings, np.int32)
    held = columns.documents.astype(np.int32)
    return csc_matrix((ones, held, columns.offsets), shape=(columns.n_documents, columns.width)).tocsr()


def seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this one thread, which a busy machine changes little, and what came of it."""
    begin = time.thread_time()
    found = action()
    return time.thread_time() - begin, found


def tiles_of(width: int) -> list[tuple[int, int]]:
    return [(i, j) for i, j in itertools.product(range(0, width, WIDTH), repeat=2) if i <= j]


def count(columns: Columns, at: tuple[int, int], costs: Costs) -> np.ndarray:
    """One tile with the engine of the model's choice."""
    left = columns.part(at[0], min(at[0] + WIDTH, columns.width))
    right = None if at[0] == at[1] else columns.part(at[1], min(at[1] + WIDTH, columns.width))
    tile = Tile(left.width, right.width if right else None)
    tile.add(left, right, costs.choose(left, right))
    return tile.counts()


def against_others(latents: int, documents: int, active: float) -> dict[str, Any]:
    """Seconds of all pairs by each, equality, and the memory of ours."""
    columns = synthetic(frequencies(latents, active), documents, 0)
    tiles = tiles_of(latents)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    costs = calibrate()
    ours = min(seconds(lambda: [count(columns, at, costs).sum() for at in tiles])[0] for _ in range(2))
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    matrix = rows_of(columns)
    scipy, product = seconds(lambda: (matrix.T @ matrix).tocsr())
    equal = True
    for i, j in tiles:
        part = product[i : i + WIDTH, j : j + WIDTH].toarray()
        equal &= np.array_equal(part, count(columns, (i, j), costs))
    del product
    mkl = _mkl(matrix)
    return {
        "latents": latents,
        "documents": documents,
        "active_a_document": columns.postings / documents,
        "pairs": float((columns.activity.astype(float) ** 2).sum()),
        "exactly_equal": bool(equal),
        "seconds": ours,
        "scipy_seconds": scipy,
        "times_scipy": scipy / ours,
        "sparse_dot_mkl_seconds": mkl or "not installed",
        "times_sparse_dot_mkl": mkl and mkl / ours,
        "peak_bytes_beyond_the_documents": peak,
        "whole_matrix_int64_bytes": 8 * latents**2,
    }


def _mkl(matrix: csr_matrix) -> float | None:
    if importlib.util.find_spec("sparse_dot_mkl") is None:
        return None
    from sparse_dot_mkl import gram_matrix_mkl, mkl_set_num_threads

    mkl_set_num_threads(1)
    floats = matrix.astype(np.float32)
    return seconds(lambda: gram_matrix_mkl(floats, dense=True))[0]


def grid(densities: Sequence[float], latents: int, documents: int) -> list[dict[str, Any]]:
    """For tiles from dense to sparse: the model's choice beside the best engine. Engines that are predicted to take
    more than four times the least are not run."""
    costs = calibrate()
    found = []
    for active in densities:
        share = frequencies(latents, active)
        ranges = {at: synthetic(share[at : at + WIDTH], documents, at) for at in (0, latents // 2, latents - WIDTH)}
        for left, right in itertools.combinations_with_replacement(ranges, 2):
            a, b = ranges[left], None if left == right else ranges[right]
            predicted = {engine: costs.predict(engine, a, b) for engine in ENGINES}
            taken = {}
            for engine in ENGINES:
                if predicted[engine] <= 4 * min(predicted.values()):
                    tile = Tile(WIDTH, None if b is None else WIDTH)
                    runs = 3 if predicted[engine] < 0.5 else 2
                    taken[engine] = min(
                        seconds(lambda t=tile, e=engine, x=a, y=b: t.add(x, y, e))[0] for _ in range(runs)
                    )
            chosen = costs.choose(a, b)
            found.append(
                {
                    "active": active,
                    "tile": [left // WIDTH, right // WIDTH],
                    "chosen": chosen,
                    "best": min(taken, key=lambda engine: taken[engine]),
                    "chosen_over_best": round(taken[chosen] / min(taken.values()), 3),
                    "predicted_over_taken": round(predicted[chosen] / taken[chosen], 2),
                }
            )
    return found


def linear(latents: int, active: float, sizes: Sequence[int]) -> dict[str, float]:
    """Seconds for all pairs of fewer latents, by number of documents; making them is not counted."""
    costs = calibrate()
    share = frequencies(16_384, active)[:: 16_384 // latents]
    taken = dict.fromkeys(map(str, sizes), 0.0)
    tile = Tile(latents, None)
    for size in sizes:
        for start in range(0, size, BLOCK):
            block = synthetic(share, min(BLOCK, size - start), start)
            taken[str(size)] += seconds(lambda b=block: tile.add(b, None, costs.choose(b, None)))[0]
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latents", type=int, default=16_384)
    parser.add_argument("--documents", type=int, default=4096, help="of the comparison; SciPy takes 10 ms each")
    parser.add_argument("--active", type=float, default=1000)
    parser.add_argument("--densities", type=float, nargs="+", default=[30, 100, 300, 1000, 3000])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = against_others(options.latents, options.documents, options.active)
    calibration, _ = seconds(calibrate)
    cells = grid(options.densities, options.latents, 16_384)
    taken = linear(512, options.active, options.sizes)
    each = [taken[str(size)] / size for size in options.sizes]
    report(
        "cooccur",
        figures
        | {
            "calibration_seconds": calibration,
            "grid_worst_chosen_over_best": max(cell["chosen_over_best"] for cell in cells),
            "grid_median_chosen_over_best": statistics.median(cell["chosen_over_best"] for cell in cells),
            "grid": cells,
            "linear_latents": 512,
            "linear_seconds": taken,
            "linear_largest_over_smallest_a_document": each[-1] / each[0],
        },
    )


if __name__ == "__main__":
    main()
