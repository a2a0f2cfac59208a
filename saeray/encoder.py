"""Reader + SAE + pooling on one device: token sequences in, sparse rows out.

It knows no Ray and no files, so that it is tested in milliseconds and runs on a GPU box that has neither. Latent
values of all tokens never exist at once: they are made a chunk of tokens at a time on the device and pooled there, and
only the latents that are present in a document leave it. A document of 300 tokens and an SAE of 65,536 latents would
be 79 MB of float32; its row is some 10 KB.

Max pooling is the embedding of Jiang et al. (arXiv 2512.10092, section 3); count, sum and the place of the maximum are
kept beside it so that other pools need no second reading.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saeray.pooled import PooledRow as PooledRow
from saeray.pooled import merge, pool
from saeray.pooling import CHUNK, Pooling, begin_pooling
from saeray.readers.batches import batches
from saeray.readers.budget import caught, is_out_of_memory, stream_packs
from saeray.readers.lost import is_lost, lost
from saeray.readers.model import Reader
from saeray.readers.packed import Batch, PackedReader
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
class EncodedDocument:
    """Pooled latents of a document, one row a channel in the order of `TokenizedDocument.channels`."""

    rows: tuple[PooledRow, ...]
    n_windows: int


@dataclass(frozen=True)
class FailedDocument:
    """A document that the encoder cannot encode while it encodes others; `reason` is one line without its text."""

    reason: str


# Of one input: its parts as (channel, row), or the reason why it failed.
Parts = list[tuple[int, PooledRow]] | str


class Encoder:
    """A reader and an SAE on one device: in rectangles of like length, or in packs when the reader is a PackedReader.

    window, overlap: longest sequence and context carried from window to window, in tokens. batch_tokens: reader tokens
    in one batch, padding included; of packs it is halved, once and for all, when memory comes short. chunk_tokens:
    tokens whose latent values exist at one time. remark: what its user is to be told of how it was loaded.
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
        remark: str | None = None,
    ) -> None:
        on_cpu = reader.device.type == "cpu"
        self.reader, self.sae, self.window, self.overlap = reader, sae, window, overlap
        self.remark = remark
        self._packed = reader if isinstance(reader, PackedReader) else None
        self._presence = None if sae.presence is None else sae.presence.float().cpu().numpy()
        self.batch_tokens = batch_tokens or (BATCH_CPU if on_cpu else BATCH_GPU)
        self.chunk_tokens = chunk_tokens or (CHUNK_CPU if on_cpu else CHUNK_GPU)

    def encode(self, documents: Sequence[TokenizedDocument]) -> list[EncodedDocument | FailedDocument]:
        """Encodes documents in batches that depend on these documents alone.

        A batch that fails is read again one sequence at a time, and the documents that fail alone come back as
        FailedDocument. When nothing at all can be read any more the error is the device's, not a document's, and is
        raised; of a GPU as DeviceLost.
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

    def _results(self, inputs: list[ReaderInput]) -> Iterator[tuple[ReaderInput, Parts]]:
        """Every input with what `_batch` says of it, in batches that depend on the inputs alone."""
        try:
            lengths = [len(item.ids) for item in inputs]
            found = self._packs(self._packed, inputs, lengths) if self._packed else self._rectangles(inputs, lengths)
            for indices, results in found:
                yield from zip((inputs[i] for i in indices), results, strict=True)
        except RuntimeError as error:
            if is_lost(error):
                raise lost(error, self.reader.device) from error
            raise

    def _rectangles(self, inputs: list[ReaderInput], lengths: list[int]) -> Iterator[tuple[list[int], list[Parts]]]:
        for indices in batches(lengths, self.batch_tokens):
            yield indices, self._batch([inputs[i] for i in indices])

    def _packs(
        self, reader: PackedReader, inputs: list[ReaderInput], lengths: list[int]
    ) -> Iterator[tuple[list[int], list[Parts]]]:
        """(pack, its results); a pack that cannot be read is read one by one."""
        run = partial(self._streamed, reader, inputs)
        for pack, outcome in stream_packs(lengths, self.batch_tokens, run, on_budget=self._lower):
            if isinstance(outcome, Exception):
                outcome = self._one_by_one([inputs[i] for i in pack], outcome)
            yield pack, outcome

    def _streamed(
        self, reader: PackedReader, inputs: list[ReaderInput], packs: Iterator[list[int]]
    ) -> Iterator[list[Parts] | Exception]:
        """The results of each pack, or the error that it met; the host asks for a pack's rows when the device has been
        given the next one to read.
        """
        begun: deque[list[ReaderInput]] = deque()

        def feed() -> Iterator[Batch]:
            for pack in packs:
                begun.append([inputs[i] for i in pack])
                yield [item.ids for item in begun[-1]], [item.take for item in begun[-1]]

        waiting: Pooling | Exception | None = None  # of begun[0]
        for x in reader.stream(feed()):
            if waiting is not None:
                yield self._collected(begun.popleft(), waiting)
                waiting = None  # its state, before the next one's is made
            waiting = x if isinstance(x, Exception) else caught(partial(self._begin_pooling, begun[0], x))
            del x  # before the next pack is read
        if waiting is not None:
            yield self._collected(begun.popleft(), waiting)

    def _collected(self, batch: list[ReaderInput], waiting: Pooling | Exception) -> list[Parts] | Exception:
        return waiting if isinstance(waiting, Exception) else caught(partial(_parts, batch, waiting))

    def _lower(self, batch_tokens: int) -> None:
        self.batch_tokens = batch_tokens

    def _batch(self, batch: list[ReaderInput]) -> list[Parts]:
        """Per input its parts, or the reason why it failed."""
        try:
            return self._pool(batch, pooled_residuals(self.reader, batch))
        except _READ_ERRORS as error:
            return self._one_by_one(batch, error)

    def _one_by_one(self, batch: list[ReaderInput], error: Exception) -> list[Parts]:
        """The same for a batch that met `error`."""
        if is_out_of_memory(error) or is_lost(error):
            raise error  # of the machine, not of a document: a reject would be for good, and a rerun may go well
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
            self._pool([probe], pooled_residuals(self.reader, [probe]))
        except _READ_ERRORS:
            raise (error if self.reader.device.type == "cpu" else lost(error, self.reader.device)) from None

    @torch.inference_mode()
    def _pool(self, batch: list[ReaderInput], x: Tensor) -> list[Parts]:
        """Pools residual vectors x [n, d_in] of the batch's tokens, a chunk of tokens at a time."""
        if self._packed is not None:
            return _parts(batch, self._begin_pooling(batch, x))
        finite = torch.isfinite(x).all(dim=1).cpu().numpy()
        results: list[Parts] = [[] for _ in batch]
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

    def _begin_pooling(self, batch: list[ReaderInput], x: Tensor) -> Pooling:
        sizes = [stop - start for start, stop, _, _ in _segments(batch)]
        return begin_pooling(self.sae, x, sizes, chunk_tokens=self.chunk_tokens)


def _parts(batch: list[ReaderInput], pooling: Pooling) -> list[Parts]:
    """The parts of a batch whose pooling has begun, with one copy to the host."""
    results: list[Parts] = [[] for _ in batch]
    pooled = pooling.rows()
    for i, (_, _, index, channel) in enumerate(_segments(batch)):
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


def _reason(error: Exception) -> str:
    line: Any = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"the reader failed on it: {line[:160]}"
