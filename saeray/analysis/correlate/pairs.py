"""What the documents say of candidate pairs: where both peak, how long they are, and what else they are about.

Two latents of one kind of document (code and its semicolons) share documents because everything of that kind does, and
their documents are alike even where the pair is not. Two that meet by surprise stand otherwise in unlike documents. A
document's profile is a random projection of the latents present in it, rare ones weighing more, so a mean over
documents costs 128 numbers; cosines of means are kept to within 0.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saeray.stats.length import edges

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Numbers of a document's profile.
DIMENSIONS = 128
#: Fewer documents than this without the other latent say nothing of what a latent is otherwise about.
FEWEST = 5
#: Latents projected at a time; 2,048 x 65,536 documents at 8% are 11 million postings.
STEP = 2048
#: Shared documents of pairs that are summed up at a time: 16 million take some 400 MB.
AT_ONCE = 1 << 24
#: Partners of one latent that are compared at a time.
MOST_PAIRS = 1 << 13


class Held(Protocol):
    """Postings of some latents of one side of a part (`saeray.store.postings.Postings` is one)."""

    @property
    def offsets(self) -> Int64: ...
    @property
    def documents(self) -> NDArray[np.integer]: ...
    @property
    def max(self) -> NDArray[np.floating]: ...
    @property
    def peak(self) -> NDArray[np.integer]: ...


class Part(Protocol):
    """Some documents, numbered from 0. `kept`: bool[documents], those that are looked at; `lengths`: int64[documents],
    pooled tokens of a document's channels together. `held(side, latents)`: side 0 is the channel of i, 1 that of j."""

    documents: int
    kept: Bool
    lengths: Int64

    def held(self, side: int, latents: Int64) -> Held: ...


@dataclass(frozen=True)
class Looked:
    """What was seen of each pair [pairs]. `near`: documents with both peaks on the same or next token; `alike`: cosine
    of the mean profiles of i's documents without j and j's without i; `n_i`, `n_j`: documents with each, by stratum
    [pairs, strata]; `n` [strata]; `inner`: edges of the strata of length."""

    near: Int64
    alike: Float64
    n_i: Int64
    n_j: Int64
    n: Int64
    inner: Int64


@dataclass(frozen=True)
class Columns:
    """Some latents in the documents looked at: `matrix` SciPy CSC [documents, latents], its data the peaks; `maximum`
    in the same order."""

    matrix: sparse.csc_matrix
    maximum: NDArray[np.floating]


def columns(part: Part, side: int, latents: Int64) -> Columns:
    """The postings of ascending `latents` in the kept documents of a part."""
    held = part.held(side, latents)
    documents = np.asarray(held.documents, np.int64)
    use = part.kept[documents]
    before = np.concatenate([[0], np.cumsum(use, dtype=np.int64)])
    shape = (part.documents, len(latents))
    matrix = sparse.csc_matrix(shape, dtype=np.int64)
    matrix.indptr, matrix.indices = before[held.offsets], documents[use]
    matrix.data = np.asarray(held.peak)[use].astype(np.int64)
    return Columns(matrix, np.asarray(held.max)[use])


class Profiles:
    """Projections of the latents of one or two channels, and with them the profiles of documents.

    `bands`: the latents that profiles are made of, ascending, one array a channel; `frequencies`: int64[d_sae] of each;
    `documents`: among how many those were counted.
    """

    def __init__(self, bands: Sequence[Int64], frequencies: Sequence[Int64], documents: int) -> None:
        self._bands = tuple(bands)
        self._projections: list[Float32] = []
        self._mean = np.zeros(DIMENSIONS, np.float32)
        for number, (band, frequency) in enumerate(zip(bands, frequencies, strict=True)):
            random = np.random.default_rng(number).standard_normal((len(frequency), DIMENSIONS), np.float32)
            share = (frequency[band] / max(documents, 1)).astype(np.float32)
            self._projections.append(random[band] * -np.log(np.maximum(share, 1e-12))[:, None])
            self._mean += share @ self._projections[-1]

    def of(self, part: Part) -> Float32:
        """float32[documents, DIMENSIONS]: unit rows; 0 where a document is not looked at."""
        found = np.zeros((part.documents, DIMENSIONS), np.float32)
        for number, (band, projection) in enumerate(zip(self._bands, self._projections, strict=True)):
            for start in range(0, len(band), STEP):
                matrix = columns(part, number, band[start : start + STEP]).matrix
                there = _binary(matrix.indices, matrix.indptr, part.documents)
                found += there.T @ projection[start : start + STEP]
        found -= self._mean
        found[~part.kept] = 0
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return found


def look(parts: Sequence[Part], i: Int64, j: Int64, profile_of: Callable[[Part], Float32], within: bool) -> Looked:
    """Every pair (i, j) in all documents of `parts`, in one pass over them.

    `profile_of`: as `Profiles.of`. `within`: both sides are one channel, whose peaks can be compared; else `near` is 0.
    """
    inner = edges(np.concatenate([part.lengths[part.kept] for part in parts]))
    strata = len(inner) + 1
    sides = [_Side(of, strata) for of in (i, j)]
    near, together = np.zeros(len(i), np.int64), np.zeros(len(i), np.int64)
    shared = np.zeros((len(i), DIMENSIONS), np.float32)
    n, every = np.zeros(strata, np.int64), np.zeros(DIMENSIONS, np.float64)
    for part in parts:
        profile = profile_of(part)
        stratum = np.searchsorted(inner, part.lengths, side="right")[part.kept]
        offsets = np.concatenate([[0], np.cumsum(part.kept, dtype=np.int64)])
        in_stratum = _binary(stratum, offsets, strata)
        n += np.bincount(stratum, minlength=strata)
        every += profile.sum(axis=0)
        own = [columns(part, number, side.latents).matrix for number, side in enumerate(sides)]
        for side, matrix in zip(sides, own, strict=True):
            side.add(matrix, in_stratum, profile)
        for at, documents, offsets, close in _together(own[0], own[1], sides[0].place, sides[1].place, within):
            near[at] += close
            together[at] += np.diff(offsets)
            shared[at] += _binary(documents, offsets, part.documents) @ profile
    first, second = (side.strata[side.place] for side in sides)
    alike = _cosine(*(side.without(shared, together, every / max(int(n.sum()), 1)) for side in sides))
    return Looked(near, alike, first, second, n, inner)


class _Side:
    """The latents of one side of the pairs, with their documents summed up."""

    def __init__(self, of: Int64, strata: int) -> None:
        self.latents, self.place = np.unique(of, return_inverse=True)
        self.strata = np.zeros((len(self.latents), strata), np.int64)
        self.sums = np.zeros((len(self.latents), DIMENSIONS), np.float32)

    def add(self, matrix: sparse.csc_matrix, in_stratum: sparse.csr_matrix, profile: Float32) -> None:
        there = _binary(matrix.indices, matrix.indptr, matrix.shape[0])
        self.strata += (there @ in_stratum).toarray().astype(np.int64)
        self.sums += there @ profile

    def without(self, shared: Float32, together: Int64, mean: Float64) -> Float64:
        """Centred sums of the profiles of each pair's documents that lack the other latent; of all documents where
        fewer than FEWEST lack it. float64[pairs, DIMENSIONS]."""
        number = self.strata.sum(axis=1)[self.place]
        enough = number - together >= FEWEST
        sums = self.sums[self.place] - np.where(enough[:, None], shared, 0)
        found: Float64 = sums - np.where(enough, number - together, number)[:, None] * mean
        return found


def _binary(indices: Int64, offsets: Int64, width: int) -> sparse.csr_matrix:
    """float32 CSR [len(offsets) - 1, width] of ones."""
    return sparse.csr_matrix((np.ones(len(indices), np.float32), indices, offsets), shape=(len(offsets) - 1, width))


def _cosine(a: Float64, b: Float64) -> Float64:
    size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: Float64 = np.einsum("pd,pd->p", a, b) / np.maximum(size, 1e-12)
    return found


def _together(
    first: sparse.csc_matrix, second: sparse.csc_matrix, a: Int64, b: Int64, within: bool
) -> Iterator[tuple[Int64, Int64, Int64, Int64]]:
    """Batches of pairs: (their numbers, shared documents, offsets of those, how many with peaks at most 1 apart)."""
    order = np.argsort(a, kind="stable")
    size = np.diff(second.indptr)[b]
    place = np.full(first.shape[0], -9, np.int64)
    starts = np.flatnonzero(np.diff(a[order], prepend=-1))
    numbers: list[Int64] = []
    documents: list[Int64] = []
    counts: list[Int64] = []
    close: list[Int64] = []
    held = 0
    for start, stop in zip(starts, [*starts[1:], len(order)][: len(starts)], strict=True):
        column = int(a[order[start]])
        rows = slice(first.indptr[column], first.indptr[column + 1])
        place[first.indices[rows]] = first.data[rows]
        for low in range(start, stop, MOST_PAIRS):
            at = order[low : min(low + MOST_PAIRS, stop)]
            flat = _spans(second.indptr[b[at]], size[at])
            document = second.indices[flat]
            peak = place[document]
            hit = peak >= 0
            ends = np.concatenate([[0], np.cumsum(size[at])])
            together = np.concatenate([[0], np.cumsum(hit)])
            apart = np.abs(peak - second.data[flat]) <= 1 if within else np.zeros(len(flat), bool)
            beside = np.concatenate([[0], np.cumsum(hit & apart)])
            numbers.append(at)
            documents.append(document[hit].astype(np.int64))
            counts.append(np.diff(together[ends]))
            close.append(np.diff(beside[ends]))
            held += len(documents[-1])
            if held > AT_ONCE:
                yield _joined(numbers, documents, counts, close)
                numbers, documents, counts, close, held = [], [], [], [], 0
        place[first.indices[rows]] = -9
    if numbers:
        yield _joined(numbers, documents, counts, close)


def _joined(
    numbers: list[Int64], documents: list[Int64], counts: list[Int64], close: list[Int64]
) -> tuple[Int64, Int64, Int64, Int64]:
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return np.concatenate(numbers), np.concatenate(documents), offsets, np.concatenate(close)


def _spans(starts: Int64, sizes: Int64) -> Int64:
    """Indices of runs of `sizes` that begin at `starts`, one run after another."""
    ends = np.cumsum(sizes)
    flat: Int64 = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - (ends - sizes), sizes)
    return flat
