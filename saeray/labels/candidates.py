"""Which of a latent's possible names tells best where it is active: each name's own test, tried on other documents.

A name proposed from documents and judged on the same ones always looks right. The proposing documents make one
candidate of each sort (words, phrase, terms, surface); the choosing documents, unseen by then, rank them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saeray.labels.contexts import STRATA, Part
from saeray.labels.contrast import BLOCK, Float32, Int64, document_words, run_hashes

#: Documents' balanced accuracy is pulled to 0.5 as if this many more active ones had been guessed.
GUESSED = 2.0


@dataclass(frozen=True)
class Judge:
    """The choosing documents, ready to try candidates: which latents are active and which are silent in each."""

    part: Part
    active: NDArray[np.bool_]
    n_words: int

    def words(self, chosen: Int64, least: int = 1) -> Float32:
        """Balanced accuracy, float32[latents], of "`least` of these words are in the text"; `chosen` int64[latents, k]
        word numbers, -1 for none."""
        has = document_words(self.part, self.n_words).T.tocsr()
        rows, columns = np.nonzero(chosen >= 0)
        shape = (len(chosen), self.n_words)
        asked = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, chosen[rows, columns])), shape=shape)
        return self._balanced(lambda low, high: (asked[low:high] @ has).toarray() >= least)

    def phrases(self, hashes: Int64, sizes: NDArray[np.int8]) -> Float32:
        """Balanced accuracy of "this run of units is in the text"; `hashes` of `run_hashes`, `sizes` 0 for none."""
        has = self._runs(hashes, sizes)
        return self._balanced(lambda low, high: has[low:high].toarray() > 0)

    def _runs(self, hashes: Int64, sizes: NDArray[np.int8]) -> sparse.csr_matrix:
        rows, columns = [], []
        for size in np.unique(sizes[sizes > 0]).tolist():
            wanted = np.flatnonzero(sizes == size)
            run = run_hashes(self.part.unit_word, size)
            names, of = np.unique(hashes[wanted], return_inverse=True)
            at = np.flatnonzero(np.isin(run, names))
            number = np.searchsorted(names, run[at])
            holders = sparse.csr_matrix(
                (np.ones(len(at), np.float32), (number, self.part.unit_document[at])),
                shape=(len(names), self.part.n_documents),
            )
            mine = holders[of].tocoo()
            rows.append(wanted[mine.row])
            columns.append(mine.col)
        row = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        column = np.concatenate(columns) if columns else np.zeros(0, np.int64)
        shape = (len(hashes), self.part.n_documents)
        return sparse.csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=shape)

    def _balanced(self, says: Callable[[int, int], NDArray[np.bool_]]) -> Float32:
        """`says(low, high)`: bool[latents low..high, documents]. Silent documents weighed to active lengths."""
        n_rows = len(self.part.pair_first) - 1
        strata = np.eye(STRATA, dtype=np.float32)[self.part.stratum]
        found = np.full(n_rows, 0.5, np.float32)
        for low in range(0, n_rows, BLOCK):
            high = min(low + BLOCK, n_rows)
            said = says(low, high).astype(np.float32)
            pairs = slice(int(self.part.pair_first[low]), int(self.part.pair_first[high]))
            at = (self.part.pair_latent[pairs] - low, self.part.pair_document[pairs])
            silent, active = np.ones(said.shape, np.float32), np.zeros(said.shape, np.float32)
            silent[at] = 0
            active[at] = self.active[pairs]
            found[low:high] = balanced(active, silent, said, strata)
        return found

    def n_active(self) -> Int64:
        """Active choosing documents of each latent, int64[latents]."""
        return np.bincount(self.part.pair_latent[self.active], minlength=len(self.part.pair_first) - 1)


def balanced(active: Float32, silent: Float32, said: Float32, strata: Float32) -> Float32:
    """Balanced accuracy of each row of `said`, float32[rows], from 0/1 matrices float32[rows, documents] and `strata`
    float32[documents, groups] (one-hot); pulled to 0.5 by `GUESSED`. 0.5 without active documents."""
    n_active, n_silent = active @ strata, silent @ strata
    usable = np.where(n_silent > 0, n_active, 0)
    total = np.maximum(usable.sum(axis=1), 1e-6)
    false = ((said * silent) @ strata / np.maximum(n_silent, 1) * usable).sum(axis=1) / total
    n = n_active.sum(axis=1)
    true = (said * active).sum(axis=1) / np.maximum(n, 1)
    plain = (true + 1 - false) / 2
    return np.where(usable.sum(axis=1) > 0, 0.5 + (plain - 0.5) * n / (n + GUESSED), 0.5).astype(np.float32)
