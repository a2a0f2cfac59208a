"""Words in place of latents: what a user would count who has no encoder, through the very same filters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saeray.labels.facts import STOP
from saeray.labels.meanings import Meanings

Int64 = NDArray[np.int64]

#: Letters in runs, and every mark (an emoji is one) by itself.
TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Postings:
    """Documents of some words, the place of the first occurrence in each, and how often it occurs."""

    offsets: Int64
    documents: Int64
    max: NDArray[np.float64]
    peak: Int64


class WordedPart:
    """Texts as a part whose latents are the words of `vocabulary`."""

    def __init__(self, texts: Sequence[str], vocabulary: dict[str, int]) -> None:
        found: list[tuple[int, int, int, int]] = []
        lengths = []
        for document, text in enumerate(texts):
            words = TOKEN.findall(text.lower())
            lengths.append(len(words))
            first: dict[int, int] = {}
            count = Counter[int]()
            for place, word in enumerate(words):
                number = vocabulary.get(word)
                if number is not None:
                    first.setdefault(number, place)
                    count[number] += 1
            found += [(number, document, place, count[number]) for number, place in first.items()]
        rows = np.array(sorted(found), np.int64).reshape(-1, 4)
        self._offsets = np.searchsorted(rows[:, 0], np.arange(len(vocabulary) + 1)).astype(np.int64)
        self._rows = rows
        self.documents = len(texts)
        self.kept = np.ones(len(texts), bool)
        self.lengths = np.array(lengths, np.int64)

    def held(self, side: int, latents: Int64) -> Postings:
        """Postings of ascending words; there is one side."""
        spans = [self._rows[self._offsets[one] : self._offsets[one + 1]] for one in latents.tolist()]
        rows = np.concatenate(spans) if spans else self._rows[:0]
        offsets = np.concatenate([[0], np.cumsum([len(span) for span in spans])]).astype(np.int64)
        return Postings(offsets, rows[:, 1], rows[:, 3].astype(np.float64), rows[:, 2])


def vocabulary_of(texts: Sequence[str], fewest: int) -> dict[str, int]:
    """Words of at least `fewest` texts, numbered in order."""
    counts = Counter(word for text in texts for word in set(TOKEN.findall(text.lower())))
    return {word: number for number, word in enumerate(sorted(w for w, n in counts.items() if n >= fewest))}


def word_meanings(vocabulary: dict[str, int], like: Meanings) -> Meanings:
    """Each word is its own label; `like` has the embedder. A mark that is no punctuation (an emoji) has its own
    meaning; function words are left without one, as latents of syntax are left out."""
    labels = {number: word for word, number in vocabulary.items() if word not in STOP and not _is_mark(word)}
    return Meanings(labels, like.near, None, like.embedder)


def _is_mark(word: str) -> bool:
    return len(word) == 1 and not word.isalnum() and word.isascii()
