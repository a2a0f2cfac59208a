"""The documents that an LLM is shown of a latent, and those where it is silent.

Active ones are drawn over the range of activation: half the strongest, half spread over the middling, for what only the
strongest show is half of a meaning. Silent ones lack the latent altogether, not only from the top: half at random, half
hard, where the commonest peak words of the latent stand, or where the latents most like it are present. No text is used
twice, and the part that a text falls into (propose, choose, score) is decided by the text alone.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from saeray.analysis.excerpt import token_span
from saeray.analysis.sides import Side
from saeray.errors import UsageError
from saeray.labels.coactivity import nearest
from saeray.labels.contexts import ACTIVE_FROM, HIGHEST
from saeray.labels.detection import mixed
from saeray.labels.splits import Split, split_of
from saeray.llm.prompts import Example
from saeray.stats.frequency import flat, lengths

#: Documents, drawn by hash, of which a part's silent ones are taken: 2,400 hold ten hard ones of a word in one of 240
#: documents. At 3,000 latents a document all of them take 100 MB.
POOL: dict[Split, int] = {"propose": 2_400, "choose": 800, "score": 800}
#: Latents most like one, and its commonest peak words, by which hard documents are found.
NEIGHBOURS, WORDS = 5, 3
#: Of a window this share stands before the peak: a latent knows nothing of what comes after.
BEFORE = 0.75
_SPLITS: tuple[Split, ...] = ("propose", "choose", "score")
_WORD = re.compile(r"\w+")

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]


@dataclass(frozen=True)
class Hits:
    """Where one latent is active, strongest first: `row` int64, `peak` int32; `present`: in how many documents it is
    present at all, weakly or not."""

    row: Int64
    peak: Int32
    present: int


@dataclass(frozen=True)
class Document:
    """A text with its token starts (characters); `latents` ascending, and the token each peaks on. All int32."""

    text: str
    starts: Int32
    latents: Int32
    peaks: Int32

    def peak(self, latent: int) -> int | None:
        """The token that `latent` peaks on; None where it is silent."""
        at = int(np.searchsorted(self.latents, latent))
        return int(self.peaks[at]) if at < len(self.latents) and self.latents[at] == latent else None


@dataclass(frozen=True)
class Drawn:
    """What is shown of one latent from one part; `hard`: of the silent, how many were chosen to mislead."""

    active: tuple[Example, ...]
    silent: tuple[Example, ...]
    hard: int

    @property
    def enough(self) -> int:
        """The smaller of the two numbers."""
        return min(len(self.active), len(self.silent))


class Documents:
    """Texts of several sides, each once, and where some latents are active in them.

    each: of a part at most so many active ones are drawn, and as many silent. window: tokens shown of a text.
    UsageError when a side was stored without its texts.
    """

    def __init__(self, sides: Sequence[Side], latents: Sequence[int], each: Mapping[Split, int], window: int) -> None:
        for side in sides:
            if "text" not in side.stored:
                raise UsageError(
                    f"{side.dataset} was stored without its texts, and an LLM labels from texts: encode it again"
                )
        self._window_tokens, self._each = window, dict(each)
        self.latents = np.unique(np.fromiter(latents, np.int64))
        self._first = sides[0].n_documents if sides else 0
        self._survey(sides)
        pool = [self._lowest(split) for split in range(len(_SPLITS))]
        self._pool = dict(zip(_SPLITS, pool, strict=True))
        active = [self._strong_and_middling(self.hits[int(x)], split) for x in self.latents for split in _SPLITS]
        self._read(sides, np.unique(np.concatenate([*pool, *active, np.empty(0, np.int64)])))

    def draw(self, latent: int, split: Split) -> Drawn:
        """Active windows, strongest first, and as many silent ones, by hash."""
        hits = self.hits[latent]
        rows = self._strong_and_middling(hits, split)
        peaks = dict(zip(hits.row.tolist(), hits.peak.tolist(), strict=True))
        active = tuple(self._window(row, peaks[row], marked=True) for row in rows.tolist())
        strong = self._each[split] - self._each[split] // 2
        active = tuple(replace(one, weaker=place >= strong) for place, one in enumerate(active))
        silent, hard = self._silent(latent, split)
        return Drawn(active, tuple(self._window(row, place, marked=False) for row, place in silent), hard)

    def words(self, latent: int) -> list[str]:
        """The commonest words (or marks) that the latent peaks on, in documents that propose."""
        hits = self.hits[latent]
        peaks = dict(zip(hits.row.tolist(), hits.peak.tolist(), strict=True))
        found = Counter(
            _word_at(self._documents[row], peaks[row]) for row in self._strong_and_middling(hits, "propose").tolist()
        )
        return [word for word, _ in sorted(found.items(), key=lambda pair: (-pair[1], pair[0])) if word][:WORDS]

    def _survey(self, sides: Sequence[Side]) -> None:
        """First pass: a key, a part, and the wanted latents of every text that was not seen before."""
        keys: list[int] = []
        splits: list[int] = []
        seen: set[int] = set()
        number = np.full(int(self.latents.max(initial=0)) + 1, -1, np.int64)
        number[self.latents] = np.arange(len(self.latents))
        found: list[tuple[Int64, Int64, NDArray[np.float32], Int32]] = []
        for batch in _batches(sides, ["text", "n_tokens", "latents", "max", "peak"]):
            first = len(keys)
            for text, n_tokens in zip(
                batch.column("text").to_pylist(), batch.column("n_tokens").to_pylist(), strict=True
            ):
                key = int.from_bytes(_digest(text or ""), "big")
                new = bool(text and n_tokens) and key not in seen
                seen.add(key)
                keys.append(key)
                splits.append(_SPLITS.index(split_of(text)) if new else -1)
            latents = flat(batch, "latents").astype(np.int64)
            rows = np.repeat(np.arange(batch.num_rows), lengths(batch, "latents"))
            at = np.flatnonzero((latents < len(number)) & (np.array(splits[first:], np.int8) >= 0)[rows])
            at = at[number[latents[at]] >= 0]
            values, peaks = flat(batch, "max")[at].astype(np.float32), flat(batch, "peak")[at].astype(np.int32)
            found.append((number[latents[at]], rows[at] + first, values, peaks))
        self._keys, self._split = np.array(keys, np.uint64), np.array(splits, np.int8)
        self.hits = _active(found, self.latents, self._keys)

    def _lowest(self, split: int) -> Int64:
        """The pool of a part: its texts of lowest key."""
        rows = np.flatnonzero(self._split == split)
        return rows[np.argsort(self._keys[rows], kind="stable")][: POOL[_SPLITS[split]]]

    def _strong_and_middling(self, hits: Hits, split: Split) -> Int64:
        """Rows of a part where the latent is active: of the first side, of the others where there are too few."""
        each = self._each[split]
        own = hits.row[self._split[hits.row] == _SPLITS.index(split)]
        here = own < self._first
        own = own[here | (np.cumsum(~here) <= each - int(here.sum()))]
        strongest, rest = own[: each - each // 2], own[each - each // 2 :]
        parts = [part for part in np.array_split(rest, max(1, each // 2)) if len(part)]
        middling = [int(part[np.argmin(self._keys[part])]) for part in parts]
        return np.concatenate([strongest, np.array(middling, np.int64)])

    def _read(self, sides: Sequence[Side], wanted: Int64) -> None:
        """Second pass: the texts of `wanted` rows, and all latents of those in the pools."""
        pooled = np.zeros(len(self._keys), bool)
        for rows in self._pool.values():
            pooled[rows] = True
        self._documents: dict[int, Document] = {}
        first = 0
        for batch in _batches(sides, ["text", "token_starts", "latents", "peak"]):
            own = wanted[(wanted >= first) & (wanted < first + batch.num_rows)]
            columns = {name: flat(batch, name) for name in ("token_starts", "latents", "peak")}
            ends = {name: np.cumsum([0, *lengths(batch, name)]) for name in ("token_starts", "latents")}
            for row in own.tolist():
                starts = columns["token_starts"][slice(*ends["token_starts"][row - first : row - first + 2])]
                held = slice(*ends["latents"][row - first : row - first + 2]) if pooled[row] else slice(0, 0)
                self._documents[row] = Document(
                    batch.column("text")[row - first].as_py(),
                    starts.astype(np.int32),
                    columns["latents"][held].astype(np.int32),
                    columns["peak"][held].astype(np.int32),
                )
            first += batch.num_rows

    @cached_property
    def _neighbours(self) -> dict[int, list[int]]:
        rows = np.concatenate(list(self._pool.values()))
        held = [self._documents[row].latents for row in rows.tolist()]
        width = 1 + max([int(self.latents.max(initial=0)), *(int(one.max(initial=0)) for one in held)])
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in held], dtype=np.int64)])
        columns = np.concatenate([*held, np.empty(0, np.int32)])
        presence = sparse.csr_matrix((np.ones(len(columns), np.float32), columns, offsets), (len(rows), width))
        found = nearest(presence, self.latents, min(NEIGHBOURS, width)) if len(rows) else np.empty((0, 0), np.int64)
        return {int(x): [n for n in near if n >= 0] for x, near in zip(self.latents, found.tolist(), strict=False)}

    def _silent(self, latent: int, split: Split) -> tuple[list[tuple[int, int]], int]:
        """(row, token) of silent documents: half hard where there are such, words and neighbours in turn; how many."""
        rows, each = self._pool[split], self._each[split]
        keys = mixed(self._keys[rows] ^ mixed(np.array([latent], np.uint64)))
        free = [
            row for row in rows[np.argsort(keys, kind="stable")].tolist() if self._documents[row].peak(latent) is None
        ]
        by_word, by_neighbour = self._with_word(latent, free), self._with_neighbour(latent, free)
        hard: dict[int, int] = {}
        while len(hard) < each // 2:
            before = len(hard)
            for kind in (by_word, by_neighbour):
                new = next(((row, place) for row, place in kind if row not in hard), None)
                if new is not None and len(hard) < each // 2:
                    hard[new[0]] = new[1]
            if len(hard) == before:
                break
        easy = [row for row in free if row not in hard][: each - len(hard)]
        places = mixed(self._keys[easy]).tolist() if easy else []
        anywhere = [(row, place % len(self._documents[row].starts)) for row, place in zip(easy, places, strict=True)]
        return [*anywhere, *hard.items()], len(hard)

    def _with_word(self, latent: int, rows: Sequence[int]) -> Iterator[tuple[int, int]]:
        words = self.words(latent)
        if not words:
            return
        edges = [(r"\b" if word[0].isalnum() else "") + re.escape(word) for word in words]
        pattern = re.compile("|".join(f"{edge}(?!\\w)" if edge[-1].isalnum() else edge for edge in edges), re.I)
        for row in rows:
            document = self._documents[row]
            # Beyond the last token that was read nothing could have been active.
            end = token_span(document.starts, len(document.starts) - 1, document.text)[1]
            if match := pattern.search(document.text, 0, end):
                yield row, max(0, int(np.searchsorted(document.starts, match.start(), side="right")) - 1)

    def _with_neighbour(self, latent: int, rows: Sequence[int]) -> Iterator[tuple[int, int]]:
        for row in rows:
            places = (self._documents[row].peak(one) for one in self._neighbours[latent])
            if (place := next((one for one in places if one is not None), None)) is not None:
                yield row, place

    def _window(self, row: int, place: int, *, marked: bool) -> Example:
        """The tokens of the text around one of them, and where it stands."""
        document = self._documents[row]
        starts, text = document.starts, document.text
        begin = min(max(0, place - int(BEFORE * self._window_tokens)), max(0, len(starts) - self._window_tokens))
        last = min(begin + self._window_tokens, len(starts)) - 1
        low = int(starts[begin]) if begin else 0
        shown = text[low : token_span(starts, last, text)[1]]
        start, stop = token_span(starts, place, text)
        return Example(shown, (start - low, stop - low) if marked else None)


def _batches(sides: Sequence[Side], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for side in sides:
        for table in side.scan(columns):
            yield from table.to_batches()


def _active(
    found: Sequence[tuple[Int64, Int64, NDArray[np.float32], Int32]], latents: Int64, keys: UInt64
) -> dict[int, Hits]:
    """Of each latent the documents from ACTIVE_FROM of its HIGHEST maxima on, strongest first, then by key."""
    if not found:
        return {int(one): Hits(np.empty(0, np.int64), np.empty(0, np.int32), 0) for one in latents}
    latent, row, value, peak = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((keys[row], -value, latent))
    bounds = np.searchsorted(latent[order], np.arange(len(latents) + 1))
    hits = {}
    for number, one in enumerate(latents.tolist()):
        own = order[bounds[number] : bounds[number + 1]]
        least = ACTIVE_FROM * float(value[own[:HIGHEST]].mean()) if len(own) else np.inf
        active = own[value[own] >= least]
        hits[one] = Hits(row[active], peak[active], len(own))
    return hits


def _word_at(document: Document, place: int) -> str:
    """The whole word that a token is part of, or the token itself where it is a mark; "" where it is only space."""
    start, stop = token_span(document.starts, place, document.text)
    token = document.text[start:stop]
    inside = re.search(r"\w", token)
    if inside is None:
        return token.strip()
    low = start + inside.start()
    while low > 0 and document.text[low - 1].isalnum() and start - low < 40:
        low -= 1
    word = _WORD.match(document.text, low)
    return word.group().casefold() if word else ""


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
