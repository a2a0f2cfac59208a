"""What a latent fires on, straight from the documents: its strongest examples and the tokens it peaks on.

A latent without a label is a number. Its peak tokens and its sentences are facts of this corpus, so they can be shown
without claiming a meaning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from saeray.analysis.excerpt import Excerpt, excerpt, normalised, token_span
from saeray.analysis.sides import Side, spread
from saeray.stats.frequency import flat, lengths

#: Documents whose peak tokens are counted. At 5,000 a share of 10% is known to within a point.
PEAK_DOCUMENTS = 5_000


@dataclass(frozen=True)
class Example:
    """A document in which the latent is strong: `value` its maximum there."""

    doc_id: str
    value: float
    excerpt: Excerpt


@dataclass(frozen=True)
class WholeExample(Example):
    """An example with its `text`; `peak`: the character that the peak token begins at."""

    text: str = ""
    peak: int = 0


@dataclass(frozen=True)
class Evidence:
    """`peak_tokens`: the commonest normalised peak tokens, each with its share of the documents with the latent."""

    examples: tuple[Example, ...] = ()
    peak_tokens: tuple[tuple[str, float], ...] = ()


def collect(side: Side, latents: Iterable[int], examples: int = 3, tokens: int = 3) -> dict[int, Evidence]:
    """Evidence of each latent from the documents of `side`; empty when the dataset was stored without its texts.

    Examples: highest maximum first, then doc_id; no text twice. Peak tokens come from `PEAK_DOCUMENTS`
    drawn documents. One pass; only the texts that are needed are decoded.
    """
    found = collect_whole(side, latents, examples, tokens)
    return {
        latent: Evidence(tuple(Example(one.doc_id, one.value, one.excerpt) for one in of), peaks)
        for latent, (of, peaks) in found.items()
    }


def collect_whole(
    side: Side, latents: Iterable[int], examples: int = 3, tokens: int = 3
) -> dict[int, tuple[list[WholeExample], tuple[tuple[str, float], ...]]]:
    """`collect` with the texts of the examples: of each latent these and its peak tokens."""
    wanted = np.unique(np.fromiter(latents, np.int64))
    if not wanted.size or "text" not in side.stored:
        return {int(latent): ([], ()) for latent in wanted}
    counted = spread(side.n_documents, PEAK_DOCUMENTS)
    best: dict[int, list[WholeExample]] = {int(latent): [] for latent in wanted}
    peaks: dict[int, Counter[str]] = {int(latent): Counter() for latent in wanted}
    first_row = 0
    for table in side.scan(["doc_id", "text", "token_starts", "latents", "max", "peak"]):
        for batch in table.to_batches():
            hits = _Hits(batch, wanted)
            for h in hits.strongest(examples).tolist():
                best[hits.latent(h)] = _strongest([*best[hits.latent(h)], hits.example(h)], examples)
            for h in np.flatnonzero(counted[hits.row + first_row]).tolist():
                peaks[hits.latent(h)][normalised(hits.token(h))] += 1
            first_row += batch.num_rows
    return {latent: (found, _commonest(peaks[latent], tokens)) for latent, found in best.items()}


class _Hits:
    """The places in one batch where a wanted latent is present: parallel arrays, one element a (row, latent)."""

    def __init__(self, batch: pa.RecordBatch, wanted: NDArray[np.int64]) -> None:
        latents = flat(batch, "latents").astype(np.int64)
        at = np.flatnonzero(np.isin(latents, wanted))
        self._latents = latents[at]
        self.row = np.repeat(np.arange(batch.num_rows), lengths(batch, "latents"))[at]
        self._value = flat(batch, "max")[at].astype(np.float32)
        self._peak = flat(batch, "peak")[at]
        self._doc_ids = batch.column("doc_id")
        self._texts = batch.column("text")
        self._starts = flat(batch, "token_starts")
        self._offset = np.concatenate([[0], np.cumsum(lengths(batch, "token_starts"))])
        self._decoded: dict[int, str] = {}

    def latent(self, h: int) -> int:
        return int(self._latents[h])

    def text(self, h: int) -> str:
        row = int(self.row[h])
        if row not in self._decoded:
            self._decoded[row] = self._texts[row].as_py()
        return self._decoded[row]

    def _span(self, h: int) -> tuple[int, int]:
        row = self.row[h]
        starts = self._starts[self._offset[row] : self._offset[row + 1]]
        return token_span(starts.astype(np.int32), int(self._peak[h]), self.text(h))

    def token(self, h: int) -> str:
        start, end = self._span(h)
        return self.text(h)[start:end]

    def example(self, h: int) -> WholeExample:
        doc_id = self._doc_ids[int(self.row[h])].as_py()
        text, span = self.text(h), self._span(h)
        return WholeExample(doc_id, float(self._value[h]), excerpt(text, *span), text, span[0])

    def strongest(self, k: int) -> NDArray[np.int64]:
        """Up to k hits a latent: by value downwards, then doc_id, the first of each text."""
        if not self.row.size:
            return self.row
        id_rank = pc.rank(self._doc_ids, tiebreaker="first").to_numpy()[self.row].astype(np.int64)
        order = np.lexsort((id_rank, -self._value, self._latents))
        text = pc.dictionary_encode(self._texts).indices.to_numpy()[self.row].astype(np.int64)
        key = self._latents[order] * len(self._texts) + text[order]
        order = order[np.sort(np.unique(key, return_index=True)[1])]
        latent = self._latents[order]
        place = np.arange(order.size) - np.searchsorted(latent, latent)
        return np.asarray(order[place < k], np.int64)


def _strongest(found: list[WholeExample], k: int) -> list[WholeExample]:
    """The k strongest of different texts, in order; of copies of one text the first in order stays."""
    kept: dict[str, WholeExample] = {}
    for example in sorted(found, key=lambda one: (-one.value, one.doc_id)):
        kept.setdefault(example.text, example)
    return list(kept.values())[:k]


def _commonest(counts: Counter[str], k: int) -> tuple[tuple[str, float], ...]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple((token, n / counts.total()) for token, n in ranked[:k])
