"""Reader + SAE + pooling on one device: token sequences in, sparse rows out.

It knows no Ray and no files, so that it is tested in milliseconds and runs on a GPU box that has neither. Latent
values of all tokens never exist at once: they are made a chunk of tokens at a time on the device and pooled there, and
only the latents that are present in a document leave it. A document of 300 tokens and an SAE of 65,536 latents would
be 79 MB of float32; its row is some 10 KB.

Max pooling is the embedding of Jiang et al. (arXiv 2512.10092, section 3); count, sum and the place of the maximum are
kept beside it so that other pools need no second reading.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saeray.pooling import CHUNK, pool_segments
from saeray.readers.batches import batches
from saeray.readers.budget import each_pack, is_out_of_memory
from saeray.readers.model import Reader
from saeray.readers.packed import PackedReader
from saeray.readers.stream import ReaderInput, pooled_residuals, reader_inputs
from saeray.readers.tokens import DocumentError, TokenizedDocument
from saeray.saes.base import SAE

# Tokens whose latent values exist at one time. On a CPU 256 x 16,384 float32 is 17 MB, about a core's share of the
# last cache; on a GPU the product wants more rows: 2,048 x 65,536 bfloat16 is 0.25 GB.
CHUNK_CPU, CHUNK_GPU = 256, CHUNK
# Reader tokens in one batch: small rectangles fit a CPU's cache, a GPU wants full tiles.
BATCH_CPU, BATCH_GPU = 4096, 16_384
# What torch raises for one sequence: out of memory and device errors (RuntimeError), a token without an embedding.
_READ_ERRORS = (RuntimeError, IndexError)
NOT_FINITE = "the reader's activations are not finite"


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


@dataclass(frozen=True)
class EncodedDocument:
    """Pooled latents of a document, one row a channel in the order of `TokenizedDocument.channels`."""

    rows: tuple[PooledRow, ...]
    n_windows: int


@dataclass(frozen=True)
class FailedDocument:
    """A document that the encoder cannot encode while it encodes others; `reason` is one line without its text."""

    reason: str


class Encoder:
    """A reader and an SAE on one device: in rectangles of like length, or in packs when the reader is a PackedReader.

    window, overlap: longest sequence and context carried from window to window, in tokens. batch_tokens: reader tokens
    in one batch, padding included; of packs it is halved, once and for all, when memory comes short. chunk_tokens:
    tokens whose latent values exist at one time.
    """

    def __init__(
        self,
        reader: Reader | PackedReader,
        sae: SAE,
        *,
        window: int = 2048,
        overlap: int = 128,
        batch_tokens: int | None = None,
        chunk_tokens: int | None = None,
    ) -> None:
        on_cpu = reader.device.type == "cpu"
        self.reader, self.sae, self.window, self.overlap = reader, sae, window, overlap
        self._presence = None if sae.presence is None else sae.presence.float().cpu().numpy()
        self.batch_tokens = batch_tokens or (BATCH_CPU if on_cpu else BATCH_GPU)
        self.chunk_tokens = chunk_tokens or (CHUNK_CPU if on_cpu else CHUNK_GPU)

    def encode(self, documents: Sequence[TokenizedDocument]) -> list[EncodedDocument | FailedDocument]:
        """Encodes documents in batches that depend on these documents alone.

        A batch that fails is read again one sequence at a time, and the documents that fail alone come back as
        FailedDocument. When nothing at all can be read any more the error is the device's, not a document's, and is
        raised.
        """
        failed: dict[int, str] = {}
        inputs: list[list[ReaderInput]] = []
        for i, document in enumerate(documents):
            try:
                inputs.append(reader_inputs(i, document, self.window, self.overlap))
            except DocumentError as error:
                inputs.append([])
                failed[i] = str(error)
        flat = [item for items in inputs for item in items if len(item.take)]
        parts: dict[tuple[int, int], list[PooledRow]] = defaultdict(list)
        for item, result in self._results(flat):
            if isinstance(result, str):
                failed[item.owner] = result
                continue
            for channel, row in result:
                parts[item.owner, channel].append(row)
        return [
            FailedDocument(failed[i])
            if i in failed
            else EncodedDocument(
                tuple(self._present(merge(parts[i, c])) for c in range(len(document.channels))), len(inputs[i])
            )
            for i, document in enumerate(documents)
        ]

    def _present(self, row: PooledRow) -> PooledRow:
        """The latents of a whole document's row that pass the SAE's presence thresholds."""
        if self._presence is None:
            return row
        keep = row.max > self._presence[row.latents]
        return PooledRow(row.latents[keep], row.max[keep], row.count[keep], row.peak[keep], row.sum[keep])

    def _results(self, inputs: list[ReaderInput]) -> Iterator[tuple[ReaderInput, list[tuple[int, PooledRow]] | str]]:
        """Every input with what `_batch` says of it, in batches that depend on the inputs alone."""
        lengths = [len(item.ids) for item in inputs]
        if isinstance(self.reader, PackedReader):
            packs = each_pack(
                lengths, self.batch_tokens, lambda pack: self._batch([inputs[i] for i in pack]), on_budget=self._lower
            )
            for pack, results in packs:
                yield from zip((inputs[i] for i in pack), results, strict=True)
            return
        for indices in batches(lengths, self.batch_tokens):
            batch = [inputs[i] for i in indices]
            yield from zip(batch, self._batch(batch), strict=True)

    def _lower(self, batch_tokens: int) -> None:
        self.batch_tokens = batch_tokens

    def _batch(self, batch: list[ReaderInput]) -> list[list[tuple[int, PooledRow]] | str]:
        """Per input its parts as (channel, row), or the reason why it failed."""
        try:
            return list(self._pool(batch, pooled_residuals(self.reader, batch)))
        except _READ_ERRORS as error:
            if is_out_of_memory(error):
                raise  # of the machine, not of a document: a reject would be for good, and a rerun may have the room
            if len(batch) == 1:
                self._check_alive(error)
                return [_reason(error)]
            return [self._batch([item])[0] for item in batch]

    def _check_alive(self, error: Exception) -> None:
        """Raises `error` unless a short harmless sequence can still be read: then one document was to blame."""
        probe = ReaderInput(
            0, np.arange(2, dtype=np.int32), np.array([1]), np.zeros(1, np.int32), np.zeros(1, np.int32)
        )
        try:
            list(self._pool([probe], pooled_residuals(self.reader, [probe])))
        except _READ_ERRORS:
            raise error from None

    @torch.inference_mode()
    def _pool(self, batch: list[ReaderInput], x: Tensor) -> list[list[tuple[int, PooledRow]] | str]:
        """Pools residual vectors x [n, d_in] of the batch's tokens, a chunk of tokens at a time."""
        if isinstance(self.reader, PackedReader):
            return self._pool_packed(batch, x)
        finite = torch.isfinite(x).all(dim=1).cpu().numpy()
        results: list[list[tuple[int, PooledRow]] | str] = [[] for _ in batch]
        edges = _segments(batch)
        for begin in range(0, len(x), self.chunk_tokens):
            end = min(begin + self.chunk_tokens, len(x))
            z = self.sae.encode(x[begin:end])
            for start, stop, index, channel in edges:
                low, high = max(start, begin), min(stop, end)
                result = results[index]
                if low >= high or isinstance(result, str):
                    continue
                if not finite[low:high].all():
                    results[index] = NOT_FINITE
                    continue
                first = int(np.searchsorted(batch[index].channel, channel))
                tokens = batch[index].token[first + low - start : first + high - start]
                result.append((channel, pool(z[low - begin : high - begin], tokens)))
        return results

    def _pool_packed(self, batch: list[ReaderInput], x: Tensor) -> list[list[tuple[int, PooledRow]] | str]:
        """The same, with one copy to the host."""
        results: list[list[tuple[int, PooledRow]] | str] = [[] for _ in batch]
        edges = _segments(batch)
        pooled = pool_segments(
            self.sae, x, [stop - start for start, stop, _, _ in edges], chunk_tokens=self.chunk_tokens
        )
        for i, (_, _, index, channel) in enumerate(edges):
            result = results[index]
            if isinstance(result, str):
                continue
            if not pooled.finite[i]:
                results[index] = NOT_FINITE
                continue
            latents, maxima, counts, peaks, sums = pooled.row(i)
            tokens = batch[index].token[batch[index].channel == channel]
            result.append((channel, PooledRow(latents, maxima, counts, tokens[peaks], sums)))
        return results


def _segments(batch: list[ReaderInput]) -> list[tuple[int, int, int, int]]:
    """(start, stop, index in the batch, channel) of every run of tokens that share a document and a channel."""
    edges, start = [], 0
    for index, item in enumerate(batch):
        for channel, size in zip(*np.unique(item.channel, return_counts=True), strict=True):
            edges.append((start, start + int(size), index, int(channel)))
            start += int(size)
    return edges


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


def _reason(error: Exception) -> str:
    line: Any = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"the reader failed on it: {line[:160]}"
