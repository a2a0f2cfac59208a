"""One side of a tile in one block of documents: which documents hold which latent, by latent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]

#: A document number inside a block is a uint16.
MOST_DOCUMENTS = 1 << 16


@dataclass(frozen=True)
class Columns:
    """A binary matrix documents x latents in compressed columns.

    Latent j of the tile is present in `documents[offsets[j]:offsets[j + 1]]`: ascending, none twice, all below
    `n_documents`, which is at most 65,536. `offsets` int64[latents + 1], `documents` uint16[postings].
    """

    offsets: Int64
    documents: NDArray[np.uint16]
    n_documents: int

    def __post_init__(self) -> None:
        if not 0 <= self.n_documents <= MOST_DOCUMENTS:
            raise ValueError(f"a block of {self.n_documents} documents: at most {MOST_DOCUMENTS}")

    @property
    def width(self) -> int:
        """How many latents."""
        return len(self.offsets) - 1

    @property
    def postings(self) -> int:
        """How many (document, latent) pairs."""
        return int(self.offsets[-1] - self.offsets[0])

    @cached_property
    def frequency(self) -> Int64:
        """Documents each latent is present in, int64[latents]."""
        return np.diff(self.offsets)

    @cached_property
    def activity(self) -> Int64:
        """Latents present in each document, int64[n_documents]."""
        held = self.documents[self.offsets[0] : self.offsets[-1]]
        return np.bincount(held, minlength=self.n_documents)

    def part(self, start: int, stop: int) -> Columns:
        """Latents start to stop as columns of their own; nothing is copied."""
        return Columns(self.offsets[start : stop + 1], self.documents, self.n_documents)

    def only(self, mask: NDArray[np.bool_]) -> Columns:
        """The same latents in the documents of `mask`, bool[n_documents]; document numbers stay."""
        held = self.documents[self.offsets[0] : self.offsets[-1]]
        kept = mask[held]
        before = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])
        return Columns(before[self.offsets - self.offsets[0]], held[kept], self.n_documents)
