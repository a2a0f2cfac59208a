"""Pairs that say one thing as one finding: two groups of latents, or one set of documents, behind them.

A hundred recipes that are numbered lists give every pair of a recipe latent and a list latent. A pair belongs to the
strongest pair that stands in mostly the same documents, or whose latents mean the same. Stars, not chains, as for
latents (`saeray.labels.groups`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from saeray.analysis.correlate.labels import ReadLabels
from saeray.analysis.correlate.pairs import Part, columns
from saeray.labels.groups import group as group_latents

Int64 = NDArray[np.int64]

#: Share of the smaller set of documents that two pairs of one finding have in common. At 0.5 a pair of ten injected
#: texts was counted to another finding; at 0.8 there are 1.6 times as many findings as at 0.6.
SAME_DOCUMENTS = 0.6
#: Pairs that are grouped, the strongest: 20,000 of 100 documents are 2 million postings.
MOST_PAIRS = 20_000


@dataclass(frozen=True)
class PairGroup:
    """`members`: rows of the table of pairs, the strongest first. `documents`: of the strongest pair, numbered through
    all parts, ascending."""

    members: tuple[int, ...]
    documents: Int64


def group_pairs(pairs: pa.Table, parts: Sequence[Part], labels: ReadLabels, top: int) -> tuple[PairGroup, ...]:
    """The `top` strongest findings among `pairs` (columns i, j; strongest first). A pair that is like several belongs
    to the first."""
    pairs = pairs.slice(0, MOST_PAIRS)
    i, j = (pairs.column(name).to_numpy().astype(np.int64) for name in ("i", "j"))
    if not len(i):
        return ()
    documents = shared_documents(parts, i, j)
    size = np.diff(documents.indptr)
    latents = np.union1d(i, j)
    meaning = _meanings(latents, labels)
    key = np.sort(np.stack([meaning[np.searchsorted(latents, one)] for one in (i, j)]), axis=0)
    free = np.ones(len(i), bool)
    groups: list[PairGroup] = []
    while len(groups) < top and free.any():
        leader = int(np.argmax(free))
        common = np.asarray((documents @ documents[leader].T).todense()).ravel()
        like = common >= SAME_DOCUMENTS * np.minimum(size, size[leader])
        like |= (key == key[:, [leader]]).all(axis=0)
        members = np.flatnonzero(free & like)
        free[members] = False
        own = documents.indices[documents.indptr[leader] : documents.indptr[leader + 1]]
        groups.append(PairGroup(tuple(members.tolist()), np.sort(own).astype(np.int64)))
    return tuple(groups)


def shared_documents(parts: Sequence[Part], i: Int64, j: Int64) -> sparse.csr_matrix:
    """bool-like float32 CSR [pairs, documents of all parts]: where both latents are present."""
    found = []
    for part in parts:
        sides = []
        for number, of in enumerate((i, j)):
            latents, place = np.unique(of, return_inverse=True)
            matrix = columns(part, number, latents).matrix
            there = sparse.csc_matrix((np.ones(matrix.nnz, np.float32), matrix.indices, matrix.indptr), matrix.shape)
            sides.append(there.T.tocsr()[place])
        found.append(sides[0].multiply(sides[1]).tocsr())
    return sparse.hstack(found, format="csr")


def _meanings(latents: Int64, labels: ReadLabels) -> Int64:
    """A number for each of ascending `latents`: that of its group of near-same labels."""
    own = latents.tolist()
    groups = group_latents(own, labels=labels.texts, embeddings=labels.vectors(latents), near=labels.near or 1.0)
    of = {latent: number for number, group in enumerate(groups) for latent in group.latents}
    return np.array([of[latent] for latent in own], np.int64)
