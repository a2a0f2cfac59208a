"""One document's latents after pooling, from the latent values of its tokens and from rows of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class PooledRow:
    """One document's (or part's) pooled latents in one channel; all arrays of length k, latents ascending.

    latents: int32. max: float32 > 0. count: int32, tokens on which the latent is active. peak: int32, index among the
    channel's pooled tokens of the first token with the maximum. sum: float32 over tokens.
    """

    latents: npt.NDArray[np.int32]
    max: npt.NDArray[np.float32]
    count: npt.NDArray[np.int32]
    peak: npt.NDArray[np.int32]
    sum: npt.NDArray[np.float32]


def pool(z: Tensor, tokens: npt.NDArray[np.int32]) -> PooledRow:
    """Pools latent values z [n, d_sae] of n consecutive tokens, whose indices in their row are `tokens`.

    One cheap pass finds the maxima; the rest looks only at the latents that are active, a fifth of all on short
    documents. The first of equal maxima is the peak, on every device.
    """
    top = z.amax(dim=0)
    latents = torch.nonzero(top > 0).flatten()
    active = z.index_select(1, latents).float()
    highest = top[latents].float()
    on = active.gt(0)
    countdown = torch.arange(len(z), 0, -1, device=z.device, dtype=torch.float32)[:, None]
    peak = len(z) - (active.eq(highest).float() * countdown).amax(dim=0)
    arrays = (latents, highest, on.float().sum(dim=0), peak, active.sum(dim=0))
    ids, maxima, counts, peaks, sums = (array.cpu().numpy() for array in arrays)
    return PooledRow(ids.astype(np.int32), maxima, counts.astype(np.int32), tokens[peaks.astype(np.int64)], sums)


_EMPTY = PooledRow(
    np.zeros(0, np.int32),
    np.zeros(0, np.float32),
    np.zeros(0, np.int32),
    np.zeros(0, np.int32),
    np.zeros(0, np.float32),
)


def merge(parts: Sequence[PooledRow]) -> PooledRow:
    """One row from the rows of a document's parts (windows, chunks); the earliest of equal maxima is the peak."""
    if not parts:
        return _EMPTY
    if len(parts) == 1:
        return parts[0]
    latents, maxima, counts, peaks, sums = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("latents", "max", "count", "peak", "sum")
    )
    order = np.lexsort((peaks, -maxima, latents))
    unique, first, where = np.unique(latents[order], return_index=True, return_inverse=True)
    return PooledRow(
        unique,
        maxima[order][first],
        np.bincount(where, counts[order]).astype(np.int32),
        peaks[order][first],
        # In float64 and in the order of the sort above, so that the result does not depend on which part came first.
        np.bincount(where, sums[order].astype(np.float64)).astype(np.float32),
    )
