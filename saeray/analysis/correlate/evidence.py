"""The documents that show a pair, with both peaks marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.analysis.correlate.indexed import IndexedPart, parts_of
from saeray.analysis.correlate.pairs import columns
from saeray.analysis.excerpt import excerpt, token_span
from saeray.store.chosen import Chosen

Int64 = NDArray[np.int64]
Pair = tuple[int, int]
Span = tuple[int, int]

#: Marks of a piece: none, the first latent's peak, the second's, both on one token.
PLAIN, FIRST, SECOND, BOTH = "", "i", "j", "ij"


@dataclass(frozen=True)
class Piece:
    """A stretch of text and whose peak it is."""

    text: str
    mark: str = PLAIN


@dataclass(frozen=True)
class PairExample:
    """A document with both latents: one excerpt where the peaks are near each other, else one of each."""

    doc_id: str
    excerpts: tuple[tuple[Piece, ...], ...]


def examples_of(chosen: Chosen, pairs: list[Pair], most: int = 3) -> list[list[PairExample]]:
    """Of each pair the documents in which the weaker of the two is strongest, each measured by its maximum among the
    pair's documents; at most `most`, no text twice. Empty where the texts are not stored."""
    parts = parts_of(chosen)
    if "text" not in chosen.index.dataset.schema().names:
        return [[] for _ in pairs]
    wanted = [_strongest(parts, pair, 4 * most) for pair in pairs]
    texts = _Texts(chosen, parts, [place for one in wanted for place in one])
    shown = []
    for one in wanted:
        kept: dict[tuple[str, ...], PairExample] = {}
        for place in one:
            kept.setdefault(texts.of(place), texts.example(place))
        shown.append(list(kept.values())[:most])
    return shown


@dataclass(frozen=True)
class _Place:
    """A document of a part, and the token each of the two latents peaks on."""

    part: int
    document: int
    peaks: Pair


def _strongest(parts: Sequence[IndexedPart], pair: Pair, most: int) -> list[_Place]:
    places: list[_Place] = []
    values: list[NDArray[np.float64]] = []
    for number, part in enumerate(parts):
        own = [columns(part, side, np.array([latent])) for side, latent in enumerate(pair)]
        both, *at = np.intersect1d(*(one.matrix.indices for one in own), return_indices=True)
        peaks = np.stack([one.matrix.data[a] for one, a in zip(own, at, strict=True)], axis=1)
        places += [_Place(number, int(d), (int(p), int(q))) for d, (p, q) in zip(both, peaks, strict=True)]
        values.append(np.stack([one.maximum[a].astype(np.float64) for one, a in zip(own, at, strict=True)], axis=1))
    every = np.concatenate(values)
    if not places:
        return []
    weaker = (every / every.max(axis=0)).min(axis=1)
    return [places[k] for k in np.argsort(-weaker, kind="stable")[:most].tolist()]


class _Texts:
    """Texts of some documents, a shard read once."""

    def __init__(self, chosen: Chosen, parts: Sequence[IndexedPart], places: Sequence[_Place]) -> None:
        self._channels = (chosen.channels[0], chosen.channels[-1])
        self._row: dict[tuple[int, int, str], tuple[int, int]] = {}
        for number in sorted({place.part for place in places}):
            own = sorted({place.document for place in places if place.part == number})
            for channel in dict.fromkeys(self._channels):
                at = parts[number].block.rows(channel).take(pa.array(own))
                for document, shard, row in zip(own, at["shard"].to_pylist(), at["row"].to_pylist(), strict=True):
                    self._row[number, document, channel] = shard, row
        self._found: dict[tuple[int, int], dict[str, Any]] = {}
        for shard in sorted({shard for shard, _ in self._row.values()}):
            rows = sorted({row for own, row in self._row.values() if own == shard})
            table = pa.concat_tables(chosen.index.dataset.scan_shard(shard, None, ["doc_id", "text", "token_starts"]))
            for row, content in zip(rows, table.take(pa.array(rows)).to_pylist(), strict=True):
                self._found[shard, row] = content

    def _content(self, place: _Place, side: int) -> dict[str, Any]:
        return self._found[self._row[place.part, place.document, self._channels[side]]]

    def of(self, place: _Place) -> tuple[str, ...]:
        """The text of each channel."""
        return tuple(self._content(place, side)["text"] for side in range(len(set(self._channels))))

    def example(self, place: _Place) -> PairExample:
        spans, texts = [], []
        for side, peak in enumerate(place.peaks):
            content = self._content(place, side)
            texts.append(content["text"])
            spans.append(token_span(np.array(content["token_starts"], np.int32), peak, content["text"]))
        doc_id = self._content(place, 0)["doc_id"]
        if len(set(self._channels)) == 1:
            return PairExample(doc_id, excerpts(texts[0], spans[0], spans[1]))
        return PairExample(doc_id, (_one(texts[0], spans[0], FIRST), _one(texts[1], spans[1], SECOND)))


def excerpts(text: str, first: Span, second: Span) -> tuple[tuple[Piece, ...], ...]:
    """Both peaks in one excerpt around the first where it holds the second too, else an excerpt of each."""
    start, end = first
    found = excerpt(text, start, end)
    left, right = start - len(found.before), end + len(found.after)
    cut = ("… " if found.cut_left else ""), (" …" if found.cut_right else "")
    if second == first:
        return ((Piece(cut[0] + found.before), Piece(found.peak, BOTH), Piece(found.after + cut[1])),)
    if left <= second[0] and second[1] <= right and (second[1] <= start or second[0] >= end):
        low, high = sorted([(first, FIRST), (second, SECOND)])
        pieces = (
            Piece(cut[0] + text[left : low[0][0]]),
            Piece(text[slice(*low[0])], low[1]),
            Piece(text[low[0][1] : high[0][0]]),
            Piece(text[slice(*high[0])], high[1]),
            Piece(text[high[0][1] : right] + cut[1]),
        )
        return (tuple(piece for piece in pieces if piece.text),)
    return _one(text, first, FIRST), _one(text, second, SECOND)


def _one(text: str, span: Span, mark: str) -> tuple[Piece, ...]:
    found = excerpt(text, *span)
    before = ("… " if found.cut_left else "") + found.before
    after = found.after + (" …" if found.cut_right else "")
    return Piece(before), Piece(found.peak, mark), Piece(after)
