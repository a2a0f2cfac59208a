"""Which latents are present in the same documents: Jaccard similarity beyond chance, in blocks.

Two latents that are each in 85% of all documents share a Jaccard similarity of 0.74 by that alone, so everything here
is (J - E) / (1 - E), with E = pq / (p + q - pq) the similarity of independent latents of the same frequencies p and q:
0 by chance, 1 for the same documents, never above J. Counts are integers below 2^24, exact in float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]

#: Latents a block: a result of 512 x 2,048 float32 is 4 MB, so the working set stays in the cache's reach.
_BLOCK, _OTHERS = 512, 2048
# Measured on one busy core: a sparse product makes 1e8 additions a second, a dense one 3e10 operations.
_SPARSE_RATE, _DENSE_RATE = 1e8, 3e10


def pairs_above(presence: sparse.csr_matrix, level: float, min_support: int) -> tuple[Int64, Int64]:
    """Pairs (i, j), i != j, each once, of columns whose similarity beyond chance is >= `level` > 0.

    `presence`: [documents, latents], an entry where a latent is present. Columns with fewer than `min_support`
    documents are left out. Only pairs of like frequency are multiplied: J >= level needs a ratio >= level.
    """
    n_documents = presence.shape[0]
    rows, support = _by_latent(presence)
    order = np.argsort(support, kind="stable")
    order = order[support[order] >= max(1, min_support)]
    rows, support = rows[order], support[order]
    found: list[tuple[Int64, Int64]] = []
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        last = int(np.searchsorted(support, support[stop - 1] / level, side="right"))
        for low, high, together in _products(rows, np.arange(start, stop), start, last):
            similar = beyond_chance(together, support[start:stop, None], support[None, low:high], n_documents)
            i, j = np.nonzero(similar >= level)
            i, j = i + start, j + low
            found.append((order[i[i < j]], order[j[i < j]]))
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate([i for i, _ in found]), np.concatenate([j for _, j in found])


def nearest(presence: sparse.csr_matrix, wanted: Int64, k: int) -> Int64:
    """The k columns most like each of `wanted` beyond chance, most alike first: int64[len(wanted), k].

    -1 where fewer than k are more alike than chance.
    """
    n_documents, d_sae = presence.shape
    rows, support = _by_latent(presence)
    result = np.full((len(wanted), k), -1, np.int64)
    for start in range(0, len(wanted), _BLOCK):
        own = wanted[start : start + _BLOCK]
        similar = np.zeros((len(own), d_sae), np.float32)
        for low, high, together in _products(rows, own, 0, d_sae):
            similar[:, low:high] = beyond_chance(together, support[own, None], support[None, low:high], n_documents)
        similar[np.arange(len(own)), own] = -1
        # Of equals the first: less than half a step of float32 a latent, for any similarity that matters.
        order = np.arange(d_sae) * 1e-13 - similar
        top = np.argpartition(order, min(k, d_sae - 1), axis=1)[:, :k]
        top = np.take_along_axis(top, np.argsort(np.take_along_axis(order, top, 1), axis=1), 1)
        value = np.take_along_axis(similar, top, 1)
        result[start : start + _BLOCK, : top.shape[1]] = np.where(value > 0, top, -1)
    return result


def beyond_chance(together: Float32, a: Int64, b: Int64, n_documents: int) -> Float32:
    """(J - E) / (1 - E) from counts of documents: with both, with each, and of all; 0 where it is undefined."""
    either = a + b - together
    jaccard = together / np.maximum(either, 1)
    p, q = a / n_documents, b / n_documents
    expected = p * q / np.maximum(p + q - p * q, 1e-12)
    room = 1 - expected
    return np.asarray(np.where(room > 1e-9, (jaccard - expected) / np.maximum(room, 1e-9), 0), np.float32)


def _by_latent(presence: sparse.csr_matrix) -> tuple[sparse.csr_matrix, Int64]:
    """[latents, documents] with ones, and each latent's documents."""
    rows = presence.T.tocsr()
    rows = sparse.csr_matrix((np.ones(rows.nnz, np.float32), rows.indices, rows.indptr), shape=rows.shape)
    return rows, np.diff(rows.indptr).astype(np.int64)


def _products(rows: sparse.csr_matrix, own: Int64, first: int, last: int) -> Iterator[tuple[int, int, Float32]]:
    """Documents shared by rows `own` and rows low..high: (low, high, float32[own, high - low]), over first..last.

    Sparse or dense, whichever costs less: rare latents meet rarely, frequent ones nearly everywhere.
    """
    block = rows[own]
    dense: Float32 | None = None
    per_document = np.asarray(block.sum(axis=0)).ravel()
    for low in range(first, last, _OTHERS):
        high = min(low + _OTHERS, last)
        others = rows[low:high]
        additions = float(per_document @ np.asarray(others.sum(axis=0)).ravel())
        operations = 2.0 * len(own) * (high - low) * rows.shape[1]
        if additions / _SPARSE_RATE < operations / _DENSE_RATE:
            yield low, high, (block @ others.T).toarray()
        else:
            dense = block.toarray() if dense is None else dense
            yield low, high, dense @ others.toarray().T
