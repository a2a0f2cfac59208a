"""The chosen documents of an index, block after block, as what asks about pairs of latents reads them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saeray.store.chosen import Chosen
from saeray.store.postings import Postings

Int64 = NDArray[np.int64]


class IndexedPart:
    """One block. `documents`: how many it has; `kept`: bool[documents], those that are chosen; `lengths`:
    int64[documents], pooled tokens of the channels together."""

    def __init__(self, chosen: Chosen, number: int) -> None:
        self.block = chosen.index.blocks[number]
        self.channels = (chosen.channels[0], chosen.channels[-1])
        self.documents = self.block.documents
        tokens = np.stack([self.block.n_tokens(channel) for channel in chosen.channels]).astype(np.int64)
        mask = chosen.masks[self.block.digest]
        self.kept: NDArray[np.bool_] = np.all(tokens >= 0, axis=0) if mask is None else mask
        self.lengths: Int64 = np.maximum(tokens, 0).sum(axis=0)

    def held(self, side: int, latents: Int64) -> Postings:
        """Postings of ascending `latents` in the channel of i (side 0) or of j (side 1)."""
        return self.block.postings(self.channels[side], latents)


def parts_of(chosen: Chosen) -> list[IndexedPart]:
    """The chosen documents, a part a block."""
    return [IndexedPart(chosen, number) for number in range(len(chosen.index.blocks))]
