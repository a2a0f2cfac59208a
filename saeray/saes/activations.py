"""Residual vectors of many documents on disk: what an SAE is trained on.

One flat float16 file that training maps into memory and reads in a random order over all documents, so that a batch is
never a single document's tokens. Collection notes its progress after every chunk of documents and goes on from there.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saeray.readers.model import Reader
from saeray.readers.stream import reader_inputs, residuals
from saeray.readers.tokens import DocumentError, DocumentTokenizer, apply_long_policy

log = logging.getLogger(__name__)
CHUNK = 256  # documents between two progress notes: some 20 s on two cores
HELD_OUT_EVERY = 50  # every 50th document is never trained on: thresholds and reported figures come from it


@dataclass
class Progress:
    """How far a collection has come. `key` names what it is made of; another key starts afresh."""

    key: str
    documents: int = 0
    tokens: int = 0
    held_out_tokens: int = 0
    skipped: int = 0
    seconds: float = 0.0
    kinds: dict[str, int] = field(default_factory=dict)


class Activations:
    """The vectors collected in a directory. train, held_out: float16 memory maps [tokens, d_in]."""

    def __init__(self, directory: Path, d_in: int) -> None:
        self.directory, self.d_in = directory, d_in
        self.progress = Progress(**json.loads((directory / "progress.json").read_text()))
        self.train = self._map("train.f16", self.progress.tokens)
        self.held_out = self._map("held_out.f16", self.progress.held_out_tokens)

    def _map(self, name: str, tokens: int) -> npt.NDArray[np.float16]:
        return np.memmap(self.directory / name, np.float16, "r", shape=(tokens, self.d_in))


def collect(
    reader: Reader,
    tokenizer: DocumentTokenizer,
    documents: Sequence[tuple[str, str]],
    directory: Path,
    *,
    key: dict[str, Any],
    most_tokens: int,
    tokens_a_document: int = 512,
    batch_tokens: int = 4096,
) -> Activations:
    """Reads (kind, text) documents until `most_tokens` vectors are on disk, resuming what the directory holds.

    Only tokens that `encode` would pool are kept: no template, no special tokens, no attention sink.
    """
    directory.mkdir(parents=True, exist_ok=True)
    note, name = directory / "progress.json", json.dumps(key, sort_keys=True)
    progress = Progress(name)
    if note.is_file() and (known := Progress(**json.loads(note.read_text()))).key == name:
        progress = known
    else:
        note.unlink(missing_ok=True)  # before its vectors go: a note must never vouch for what is not there
    window = tokens_a_document
    with (
        _appender(directory / "train.f16", progress.tokens, reader.d_in) as train,
        _appender(directory / "held_out.f16", progress.held_out_tokens, reader.d_in) as held_out,
    ):
        while progress.documents < len(documents) and progress.tokens < most_tokens:
            begin, first = time.monotonic(), progress.documents
            inputs = []
            for number, (kind, text) in enumerate(documents[first : first + CHUNK], first):
                try:
                    document = apply_long_policy(tokenizer.text(text), "truncate", window)
                except DocumentError:
                    progress.skipped += 1
                    continue
                inputs += reader_inputs(number, document, window, 1)
                progress.kinds[kind] = progress.kinds.get(kind, 0) + 1
            for batch, x in residuals(reader, inputs, batch_tokens):
                vectors = x.float().clamp(-65504, 65504).half().cpu().numpy()
                held = np.repeat([item.owner % HELD_OUT_EVERY == 0 for item in batch], [len(i.take) for i in batch])
                train.write(vectors[~held].tobytes())
                held_out.write(vectors[held].tobytes())
                progress.tokens += int((~held).sum())
                progress.held_out_tokens += int(held.sum())
            progress.documents = min(first + CHUNK, len(documents))
            progress.seconds += time.monotonic() - begin
            for file in (train, held_out):
                file.flush()
                os.fsync(file.fileno())
            scratch = note.with_suffix(".tmp")
            scratch.write_text(json.dumps(asdict(progress)))
            scratch.replace(note)
            rate = (progress.tokens + progress.held_out_tokens) / max(progress.seconds, 1e-9)
            log.info("collected %d tokens of %d documents, %.0f tokens/s", progress.tokens, progress.documents, rate)
    return Activations(directory, reader.d_in)


def _appender(path: Path, tokens: int, d_in: int) -> Any:
    """The file, cut back to what the last progress note vouches for."""
    path.touch()
    file = path.open("r+b")
    file.truncate(tokens * d_in * 2)
    file.seek(0, os.SEEK_END)
    return file


def shuffled_batches(
    vectors: npt.NDArray[np.float16], batch: int, seed: int, start: int
) -> Iterator[npt.NDArray[np.float16]]:
    """Endless batches [batch, d_in] in an order that is a pure function of `seed`, from step `start` on.

    Every epoch is one permutation over all tokens of all documents.
    """
    per_epoch = len(vectors) // batch
    step = start
    while True:
        epoch = step // per_epoch
        order = np.random.default_rng([seed, epoch]).permutation(len(vectors))
        for i in range(step % per_epoch, per_epoch):
            yield vectors[np.sort(order[i * batch : (i + 1) * batch])]
        step = (epoch + 1) * per_epoch
