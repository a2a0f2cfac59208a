"""What each engine would take for a block of a tile, from unit costs measured on this machine.

Dense engines: `mac` x documents x cells + `zero` x bytes cleared + `posting` x postings set + `latent` x rows of slices
+ `cell` x cells x slices. The sparse engine: `pair` x sum over documents of k_I(d) k_J(d) + `output` x cells that get a
count + `look` x postings of the smaller side + `turn` x postings of both. All in seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from scipy.optimize import lsq_linear

from saeray.stats.cooccurrence.columns import Columns
from saeray.stats.cooccurrence.engines import (
    DTYPES,
    ENGINES,
    Engine,
    Tile,
    scatter_flat,
    scatter_rows,
    slice_documents,
    strips,
)

# Latents are taken in so many groups of like frequency when the cells with a count are estimated: 32 x 32 exponentials.
GROUPS = 32
# A measurement is the best of so many, of some milliseconds each: a busy machine disturbs some, hardly all.
REPEATS = 5
# Seconds of a pair, output, look-up and turned posting on a server core of 2023. What is fitted stays within a quarter
# and eight times of them: without bounds a disturbed measurement made pairs cost nothing.
USUAL = np.array([4e-9, 35e-9, 50e-9, 12e-9])
# Calibration fits a core's cache; products of 2,048 x 2,048 latents took 1.1 to 1.9 times what it said.
OUT_OF_CACHE = 1.55


@dataclass(frozen=True)
class Costs:
    """Seconds a unit. `mac` by dense engine: a multiply-add. `device`: where the dense engines run."""

    device: str
    mac: dict[str, float]
    zero: float
    posting: float
    latent: float
    cell: float
    pair: float
    output: float
    look: float
    turn: float

    def predict(self, engine: Engine, left: Columns, right: Columns | None) -> float:
        """Seconds to add this block with this engine; `right` None is the tile of `left` with itself."""
        sides = [left] if right is None else [left, right]
        other = right or left
        cells: int = sum(
            (r.stop - r.start) * (c.stop - c.start) for r, c in strips(left.width, right.width if right else None)
        )
        share = cells / max(left.width * other.width, 1)
        if engine == "sparse":
            pairs, outputs, looks, turns = sparse_work(left, other)
            return share * (self.pair * pairs + self.output * outputs) + self.look * looks + self.turn * turns
        slices = math.ceil(left.n_documents / slice_documents(self.device))
        rows = sum(side.width for side in sides)
        return (
            self.mac[engine] * left.n_documents * cells
            + self.zero * rows * left.n_documents * DTYPES[engine].itemsize
            + self.posting * sum(side.postings for side in sides)
            + self.latent * rows * slices
            + self.cell * cells * slices
        )

    def choose(self, left: Columns, right: Columns | None) -> Engine:
        """The engine that is predicted to be the fastest; equal ones in the order of ENGINES."""
        return min(ENGINES, key=lambda engine: self.predict(engine, left, right))

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return asdict(self)


def sparse_work(left: Columns, right: Columns) -> tuple[float, float, float, float]:
    """Pairs, cells that get a count (expected, as if latents were independent), look-ups, postings of both sides."""
    pairs = float(left.activity.astype(np.float64) @ right.activity)
    return pairs, _outputs(left, right), min(left.postings, right.postings), left.postings + right.postings


def _outputs(left: Columns, right: Columns) -> float:
    """Expected cells above zero: 1 - exp(-n_i n_j / N) summed over the cells, by groups of like frequency."""
    sizes, means = zip(*(_grouped(side) for side in (left, right)), strict=True)
    expected = np.outer(means[0], means[1]) / max(left.n_documents, 1)
    return float(sizes[0] @ -np.expm1(-expected) @ sizes[1])


def _grouped(side: Columns) -> tuple[np.ndarray, np.ndarray]:
    groups = [group for group in np.array_split(np.sort(side.frequency), GROUPS) if len(group)]
    return np.array([len(group) for group in groups], float), np.array([group.mean() for group in groups])


def calibrate(device: str = "cpu") -> Costs:
    """Measures the unit costs with the threads torch has now; some 0.1 s."""
    row, posting = _scatter(device)
    pair, output, look, turn = _sparse()
    return Costs(
        device=device,
        mac={name: _mac(dtype, device) for name, dtype in DTYPES.items()},
        zero=_zero(device),
        posting=posting,
        latent=row,
        cell=_cell(device),
        pair=pair,
        output=output,
        look=look,
        turn=turn,
    )


def best(action: Callable[[], object], device: str = "cpu", repeats: int = REPEATS) -> float:
    """Seconds of the quickest of some calls, after one that does not count.

    With one thread it is that thread's own time, so that what else a busy machine does is not taken for cost.
    """
    clock = time.thread_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    action()
    quickest = math.inf
    for _ in range(repeats):
        _wait(device)
        begin = clock()
        action()
        _wait(device)
        quickest = min(quickest, clock() - begin)
    return quickest


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def _mac(dtype: torch.dtype, device: str) -> float:
    # 4 ms at 250 GMAC/s. A GPU is filled by no less than 4,096 x 4,096.
    side, documents = (1024, 1024) if device == "cpu" else (4096, 16_384)
    if dtype == torch.float32:
        documents //= 4
    a = torch.zeros(side, documents, dtype=dtype, device=device)
    product = torch._int_mm if dtype == torch.int8 else torch.mm
    # More often than the rest: it decides most, and of three calls the best was 40% too slow on a machine under load.
    return best(lambda: product(a, a.T), device, 2 * REPEATS) / (side * side * documents)


def _zero(device: str) -> float:
    buffer = torch.empty(8 << 20, dtype=torch.int8, device=device)
    return best(buffer.zero_, device) / buffer.numel()


def _cell(device: str) -> float:
    total = torch.zeros(1024, 1024, dtype=torch.int64, device=device)
    product = torch.zeros(1024, 1024, dtype=torch.int32, device=device)

    def action() -> None:
        total.add_(product)

    return best(action, device) / total.numel()


def _scatter(device: str) -> tuple[float, float]:
    """Seconds a row and a posting: many short rows against few long ones."""
    found = []
    for width, density in ((256, 0.002), (32, 0.25)):
        columns = synthetic(width, 16_384, density)
        matrix = torch.zeros(width, 16_384, dtype=torch.int8, device=device)
        cuts = np.stack([columns.offsets[:-1], columns.offsets[1:]])
        action = _scattering(matrix, columns, cuts)
        found.append((width, columns.postings, best(action, device)))
    rows, postings, seconds = (np.array(column, float) for column in zip(*found, strict=True))
    relative = np.stack([rows * 3e-6, postings * 2.5e-9], 1) / seconds[:, None]
    row, posting = lsq_linear(relative, np.ones(len(seconds)), bounds=(0.1, 100.0)).x
    return float(row) * 3e-6, float(posting) * 2.5e-9


def _scattering(matrix: torch.Tensor, columns: Columns, cuts: np.ndarray) -> Callable[[], None]:
    if matrix.device.type == "cpu":
        return lambda: scatter_rows(matrix, columns, cuts, 0)
    return lambda: scatter_flat(matrix, columns)


def _sparse() -> Sequence[float]:
    """Seconds a pair, output, look-up and turned posting, least squares of relative errors over unlike products."""
    work, seconds = [], []
    for widths, documents, densities in (
        ((64, 1024), 2048, (0.2, 0.2)),  # pairs
        ((32, 2048), 2048, (0.03, 0.03)),
        ((128, 2048), 512, (0.02, 0.02)),  # outputs
        ((512, 512), 8192, (0.002, 0.002)),  # look-ups
        ((8, 512), 8192, (0.001, 0.01)),  # turned postings
    ):
        left, right = (synthetic(w, documents, d) for w, d in zip(widths, densities, strict=True))
        tile = Tile(left.width, right.width)
        seconds.append(best(lambda t=tile, a=left, b=right: t.add(a, b, "sparse")))  # type: ignore[misc]
        work.append(sparse_work(left, right))
    relative = np.array(work) / np.array(seconds)[:, None] * USUAL
    fitted = lsq_linear(relative, np.ones(len(seconds)), bounds=(0.25, 8.0)).x
    return [float(unit) for unit in fitted * USUAL * OUT_OF_CACHE]


def synthetic(width: int, documents: int, density: float) -> Columns:
    """Independent latents of one density, always the same ones."""
    rng = np.random.default_rng(width * documents)
    held = [np.flatnonzero(rng.random(documents) < density).astype(np.uint16) for _ in range(width)]
    return Columns(np.concatenate([[0], np.cumsum([len(one) for one in held])]), np.concatenate(held), documents)
