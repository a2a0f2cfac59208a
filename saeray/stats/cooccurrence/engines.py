"""Three ways to the same integers, each the fastest somewhere.

`int8`: `torch._int_mm` over bytes of 0 and 1, whose cost depends on the tile and the number of documents alone.
`float32`: the same through an ordinary matrix product, for machines without fast integer products. `sparse`: a SciPy
product, whose cost is the pairs that there are. Beside `costs` the only module of saeray.stats that imports torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from saeray.stats.cooccurrence.columns import MOST_DOCUMENTS, Columns

Int64 = NDArray[np.int64]
Engine = Literal["int8", "float32", "sparse"]

ENGINES: tuple[Engine, ...] = get_args(Engine)
DTYPES = {"int8": torch.int8, "float32": torch.float32}

# Dense engines on a CPU take a block in slices: 2,048 latents x 16,384 documents are 32 MiB a side as bytes. The rate
# of the products is the same from 4,096 documents on, and adding one to the tile takes 2% of its time. On a GPU a
# product takes a millisecond and there is memory, so a block is one slice.
CPU_SLICE = 16_384
# A tile of one latent range with itself is symmetric: strips of 512 rows leave out 37% of 2,048 x 2,048, and a product
# of 512 rows is some 10% slower a cell than one of 2,048.
STRIP = 512
# `torch._int_mm` on CUDA takes more than 16 rows, and columns and documents by eights.
LEAST_ROWS, EIGHT = 24, 8


class Tile:
    """Counts of one tile, added up block by block: int64, so that nothing overflows below 2^63 documents.

    `columns` None: the tile of a latent range with itself, of which only the upper triangle is worked out. `start`
    int64[rows, columns]: what was counted before. Memory: the tile as int64 and int32 and one slice of a block a side.
    """

    def __init__(self, rows: int, columns: int | None, *, device: str = "cpu", start: Int64 | None = None) -> None:
        self.rows, self.columns, self.device = rows, rows if columns is None else columns, device
        self.symmetric = columns is None
        self._total = np.zeros((self.rows, self.columns), np.int64) if start is None else start.copy()
        if self._total.shape != (self.rows, self.columns):
            raise ValueError(f"counts of shape {self._total.shape} for a tile of {self.rows} x {self.columns}")
        # On a CPU the same memory as `_total`; a GPU's part is fetched once, in `counts`.
        self._dense_total = (
            torch.from_numpy(self._total)
            if device == "cpu"
            else torch.zeros(self._total.shape, dtype=torch.int64, device=device)
        )
        self._buffers: dict[tuple[torch.dtype, int], torch.Tensor] = {}

    def add(self, left: Columns, right: Columns | None, engine: Engine, times: int = 1) -> None:
        """Adds one block's counts, `times` over (-1 takes them away). `right` is None in a symmetric tile."""
        if (right is None) != self.symmetric or (left.width, (right or left).width) != (self.rows, self.columns):
            raise ValueError(
                f"{left.width} x {(right or left).width} latents for a tile of {self.rows} x {self.columns}"
            )
        if right is not None and left.n_documents != right.n_documents:
            raise ValueError(f"two sides of {left.n_documents} and {right.n_documents} documents are not one block")
        if not left.postings or not (right or left).postings:
            return
        if engine == "sparse":
            self._add_sparse(left, right, times)
        else:
            self._add_dense(left, right, DTYPES[engine], times)

    def counts(self) -> Int64:
        """int64[rows, columns]: in how many documents both latents were present; both halves of a symmetric tile."""
        total = self._total if self.device == "cpu" else self._total + self._dense_total.cpu().numpy()
        if self.symmetric:
            total = np.triu(total)
            total += np.triu(total, 1).T
        return total

    def _add_sparse(self, left: Columns, right: Columns | None, times: int) -> None:
        for rows, columns in strips(left.width, right.width if right else None):
            a, b = left.part(rows.start, rows.stop), (right or left).part(columns.start, columns.stop)
            part = self._total[rows, columns]
            # Each posting of the side by latent looks up a document of the other: the smaller side has fewer look-ups.
            if a.postings > b.postings:
                a, b, part = b, a, part.T
            product = _by_latent(a) @ _by_latent(b).T.tocsr()
            row = np.repeat(np.arange(a.width), np.diff(product.indptr))
            part[row, product.indices] += product.data.astype(np.int64) * times

    def _add_dense(self, left: Columns, right: Columns | None, dtype: torch.dtype, times: int) -> None:
        # A float32 counts exactly to 2^24 and an int32 to 2^31; a slice has at most 2^16 documents.
        step = slice_documents(self.device)
        cuts = [None if side is None else _cuts(side, step) for side in (left, right)]
        for start in range(0, left.n_documents, step):
            n = min(step, left.n_documents - start)
            a = self._filled(0, left, cuts[0], start, n, dtype)
            b = a if right is None else self._filled(1, right, cuts[1], start, n, dtype)
            for rows, columns in strips(left.width, right.width if right else None):
                last_row = a.shape[0] if rows.stop == left.width else rows.stop
                x, y = a[rows.start : last_row], b[columns.start :].T
                product = torch._int_mm(x, y) if dtype == torch.int8 else (x @ y).to(torch.int32)
                product = product[: rows.stop - rows.start, : columns.stop - columns.start]
                part = self._dense_total[rows, columns]
                part += product if times == 1 else product.to(torch.int64) * times

    def _filled(
        self, side: int, columns: Columns, cuts: Int64 | None, start: int, n: int, dtype: torch.dtype
    ) -> torch.Tensor:
        """Latents x documents of one slice, padded with zeros to what `_int_mm` takes."""
        shape = (max(LEAST_ROWS, _up(columns.width)), _up(n))
        buffer = self._buffers.get((dtype, side))
        if buffer is None or buffer.numel() < shape[0] * shape[1]:
            buffer = torch.empty(shape[0] * shape[1], dtype=dtype, device=self.device)
            self._buffers[dtype, side] = buffer
        matrix = buffer[: shape[0] * shape[1]].view(shape).zero_()
        if self.device != "cpu":
            scatter_flat(matrix, columns)
        else:
            assert cuts is not None
            scatter_rows(matrix, columns, cuts[start // slice_documents(self.device) :], start)
        return matrix


def slice_documents(device: str) -> int:
    """How many documents a dense engine takes at once."""
    return CPU_SLICE if device == "cpu" else MOST_DOCUMENTS


def strips(rows: int, columns: int | None) -> Iterator[tuple[slice, slice]]:
    """The rectangles of a tile that are counted: all of it, or strips down from the diagonal to the right edge."""
    if columns is not None:
        yield slice(0, rows), slice(0, columns)
        return
    starts = [*range(0, max(rows - STRIP, 0) + 1, STRIP), rows]
    for start, stop in itertools.pairwise(starts):
        yield slice(start, stop), slice(start, rows)


def scatter_rows(matrix: torch.Tensor, columns: Columns, cuts: Int64, start: int) -> None:
    """Ones where latents are present in the documents from `start` on: latent by latent, each within its own row.

    `cuts` int64[2 or more, latents]: first posting of the slice, and of the next. 2.4 ns a posting and 3 us a latent on
    one core of a 2023 server; one flat index over the slice takes 6 to 30 ns a posting.
    """
    rows = matrix.numpy()
    for row, (first, last) in enumerate(zip(cuts[0].tolist(), cuts[1].tolist(), strict=True)):
        if first < last:
            rows[row][columns.documents[first:last].astype(np.int64) - start] = 1


def scatter_flat(matrix: torch.Tensor, columns: Columns) -> None:
    """`scatter_rows` of a whole block by one index, made where the matrix is: two bytes a posting are sent there."""
    held = columns.documents[columns.offsets[0] : columns.offsets[-1]].copy()  # what is mapped cannot be written to
    documents = torch.from_numpy(held.view(np.int16)).to(matrix.device).to(torch.int64) & 0xFFFF
    begins = torch.arange(columns.width, device=matrix.device) * matrix.shape[1]
    frequency = torch.from_numpy(columns.frequency).to(matrix.device)
    documents += torch.repeat_interleave(begins, frequency, output_size=columns.postings)
    matrix.view(-1).index_fill_(0, documents, 1)


def _cuts(columns: Columns, step: int) -> Int64:
    """int64[slices + 1, latents]: where the postings of each slice of `step` documents begin in each latent."""
    offsets, documents = columns.offsets, columns.documents
    inner = np.arange(step, columns.n_documents, step).astype(np.uint16)
    cuts = np.empty((len(inner) + 2, columns.width), np.int64)
    cuts[0], cuts[-1] = offsets[:-1], offsets[1:]
    if len(inner):
        for latent, (first, last) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
            cuts[1:-1, latent] = first + np.searchsorted(documents[first:last], inner)
    return cuts


def _by_latent(columns: Columns) -> csr_matrix:
    """int32 matrix latents x documents."""
    first, last = columns.offsets[0], columns.offsets[-1]
    held = columns.documents[first:last].astype(np.int32)
    ones = np.ones(len(held), np.int32)
    return csr_matrix((ones, held, columns.offsets - first), shape=(columns.width, columns.n_documents))


def _up(n: int) -> int:
    return -(-n // EIGHT) * EIGHT
