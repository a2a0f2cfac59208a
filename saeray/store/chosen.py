"""Which documents of an index a selection takes, and how often each latent is present in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from saeray.errors import UsageError
from saeray.store.block import Block
from saeray.store.index import Index
from saeray.store.selectors import Selector

Int64 = NDArray[np.int64]
Mask = NDArray[np.bool_]

# Latents whose postings are masked at once: 1,024 of 65,536 documents are at most 64 M postings, most often 4 M.
STEP = 1024


class Chosen:
    """The documents of `index` that have a row of every one of `channels`, which `selector` takes.

    `masks`: of each block by name bool[documents], or None where all that there is of these channels is chosen.
    """

    def __init__(self, index: Index, selector: Selector, channels: Sequence[str]) -> None:
        self.index, self.selector = index, selector
        self.channels = tuple(channels) if channels else (index.channel(None),)
        for channel in self.channels:
            index.channel(channel)
        self._documents: dict[str, int] = {}
        self.masks: Mapping[str, Mask | None] = {block.digest: self._mask(block) for block in index.blocks}
        if not self.documents:
            raise UsageError(f"no document of {selector} has {' and '.join(self.channels)}")

    @property
    def documents(self) -> int:
        """How many documents are chosen."""
        return sum(self._documents.values())

    def frequency(self, channel: str) -> Int64:
        """In how many of the chosen documents each latent is present, int64[d_sae]."""
        total = np.zeros(self.index.d_sae, np.int64)
        for block in self.index.blocks:
            mask = self.masks[block.digest]
            total += block.frequency(channel) if mask is None else _masked(block, channel, mask, self.index.d_sae)
        return total

    def _mask(self, block: Block) -> Mask | None:
        there = [block.n_tokens(channel) >= 0 for channel in self.channels]
        chosen = np.logical_and.reduce(there)
        if self.selector.conditions:
            for channel in self.channels:
                chosen &= block.mask(self.index.dataset, self.selector, channel)
        self._documents[block.digest] = int(chosen.sum())
        return None if np.array_equal(chosen, np.logical_or.reduce(there)) else chosen


def _masked(block: Block, channel: str, mask: Mask, d_sae: int) -> Int64:
    found = np.zeros(d_sae, np.int64)
    for start in range(0, d_sae, STEP):
        postings = block.postings(channel, np.arange(start, min(start + STEP, d_sae)))
        before = np.concatenate([[0], np.cumsum(mask[postings.documents], dtype=np.int64)])
        found[postings.latents] = np.diff(before[postings.offsets])
    return found
