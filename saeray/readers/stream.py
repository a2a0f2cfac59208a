"""Documents through the reader: the residual vectors of exactly those tokens that enter a pool.

The encoder and the SAE's training both read their vectors here, so an SAE is trained on text that is framed, cut and
masked exactly as it will be encoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from saeray.readers.batches import batches
from saeray.readers.model import Reader
from saeray.readers.packed import PackedReader
from saeray.readers.tokens import TokenizedDocument, windows


@dataclass(frozen=True)
class ReaderInput:
    """One sequence for the reader and what of it is pooled.

    owner: any key that tells whose it is. ids: int32[n] token ids. take: intp[m] positions that enter a pool, ordered
    by channel and then by position. channel: int32[m] their channels. token: int32[m] their index among the channel's
    tokens.
    """

    owner: Any
    ids: npt.NDArray[np.int32]
    take: npt.NDArray[np.intp]
    channel: npt.NDArray[np.int32]
    token: npt.NDArray[np.int32]


def reader_inputs(owner: Any, document: TokenizedDocument, window: int, overlap: int) -> list[ReaderInput]:
    """The windows of one document; every pooled token is taken in exactly one of them."""
    rank = np.zeros(len(document.ids), np.int32)
    for channel in range(len(document.channels)):
        positions = document.pooled(channel)
        rank[positions] = np.arange(len(positions))
    inputs = []
    for cut in windows(document, window, overlap):
        own = document.channel[cut.fresh : cut.stop]
        inside = np.flatnonzero(own >= 0)
        inside = inside[np.argsort(own[inside], kind="stable")]
        ids = document.ids[cut.start : cut.stop]
        if cut.head:
            ids = np.concatenate([document.ids[: cut.head], ids])
        take = inside + cut.head + cut.fresh - cut.start
        inputs.append(ReaderInput(owner, ids, take, own[inside], rank[cut.fresh + inside]))
    return inputs


def residuals(
    reader: Reader, inputs: Sequence[ReaderInput], most_tokens: int
) -> Iterator[tuple[list[ReaderInput], Tensor]]:
    """Batches of inputs with the residual vectors of their pooled tokens.

    Yields `(inputs of the batch, x)` where x is [sum of len(input.take), d_in] on the reader's device, in the inputs'
    order. Inputs without a pooled token are not read.
    """
    useful = [item for item in inputs if len(item.take)]
    for indices in batches([len(item.ids) for item in useful], most_tokens):
        batch = [useful[i] for i in indices]
        yield batch, pooled_residuals(reader, batch)


def pooled_residuals(reader: Reader | PackedReader, batch: Sequence[ReaderInput]) -> Tensor:
    """Residual vectors [sum of len(input.take), d_in] of one batch's pooled tokens."""
    return reader.take([item.ids for item in batch], [item.take for item in batch])
