"""Where each latent peaks: the documents of a side, their words and surface, and for every latent its strongest places.

One pass over the rows. Kept of each document are word numbers, surface bits and the (latent, maximum, peak) triples,
some 60 KB in all at 3,000 latents a document; of each latent then the strongest peaks and as many middling ones, for
what only the strongest show is half of a meaning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.analysis.sides import Side
from saeray.errors import SaerayError
from saeray.labels.splits import split_of
from saeray.labels.surface import measure, tests
from saeray.labels.units import Units, units
from saeray.stats.frequency import flat, lengths

#: Documents read: 20,000 of 3,000 latents are 60 M triples, about 1 GB. More make no label better.
DOCUMENTS = 20_000
#: Peaks looked at a latent: this many of the strongest documents and as many spread over the middling ones.
STRONGEST, MIDDLING = 24, 24
#: A document counts as active for a label from this share of the mean maximum of the HIGHEST strongest. Below it a
#: latent is present for reasons that no label names: read by hand, peaks at 0.15 of the strongest were on other words
#: in most of 45 latents, at 0.5 seldom (JumpReLU latents flicker near their threshold).
ACTIVE_FROM, HIGHEST = 0.4, 12
#: Groups of equally many documents by length, within which active and silent documents are compared.
STRATA = 5
COLUMNS = ["text", "token_starts", "latents", "max", "peak"]

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclass
class Vocabulary:
    """Numbers for words in order of first sight. `ids[word]`, `words[id]`: lower-cased units."""

    ids: dict[str, int] = field(default_factory=dict)

    def encode(self, words: list[str]) -> Int32:
        """int32[words]: the number of each, new ones added."""
        ids = self.ids
        return np.fromiter((ids.setdefault(word, len(ids)) for word in words), np.int32, len(words))

    @property
    def words(self) -> list[str]:
        return list(self.ids)


@dataclass(frozen=True)
class Part:
    """The documents of one split. Units and tokens of all of them stand end to end.

    `unit_word` int32[units], `unit_first` int64[documents + 1]; `unit_bits` uint8[units, tests / 8]: the tests in whose
    spans a unit starts. `token_unit` int32[tokens]: the unit of a token; `token_start` int32: its first character in
    its text. `amount` float32[documents, tests]. `pair_*`: one element a (latent, document), by latent and then from
    the largest maximum: `pair_first` int64[d_sae + 1], `pair_value` float32, `pair_token` int32.
    """

    texts: list[str]
    unit_word: Int32
    unit_case: NDArray[np.uint8]
    unit_first: Int64
    unit_bits: NDArray[np.uint8]
    token_unit: Int32
    token_start: Int32
    token_first: Int64
    amount: NDArray[np.float32]
    pair_first: Int64
    pair_value: NDArray[np.float32]
    pair_token: Int32

    @property
    def n_documents(self) -> int:
        return len(self.texts)

    @cached_property
    def unit_document(self) -> Int32:
        """The document of each unit, int32[units]."""
        return np.repeat(np.arange(self.n_documents, dtype=np.int32), np.diff(self.unit_first))

    @cached_property
    def pair_document(self) -> Int32:
        """The document of each pair, int32[pairs]."""
        return np.asarray(self.unit_document[self.token_unit[self.pair_token]], np.int32)

    @cached_property
    def pair_latent(self) -> Int32:
        return np.repeat(np.arange(len(self.pair_first) - 1, dtype=np.int32), np.diff(self.pair_first))

    @cached_property
    def stratum(self) -> NDArray[np.int8]:
        """The length group of each document, int8[documents] in 0..STRATA-1."""
        order = np.argsort(np.argsort(np.diff(self.unit_first), kind="stable"), kind="stable")
        return (order * STRATA // max(self.n_documents, 1)).astype(np.int8)

    def bits(self, at: Int32) -> NDArray[np.bool_]:
        """bool[places, tests] of some units."""
        return np.unpackbits(self.unit_bits[at], axis=1, count=len(tests())).astype(bool)


@dataclass(frozen=True)
class Corpus:
    """`propose` and `choose`: two splits with one vocabulary. `threshold` float32[d_sae]: active from this maximum."""

    d_sae: int
    vocabulary: Vocabulary
    propose: Part
    choose: Part
    threshold: NDArray[np.float32]

    def active(self, part: Part) -> NDArray[np.bool_]:
        """bool[pairs]: is the latent active, not only present."""
        return part.pair_value >= self.threshold[part.pair_latent]


@dataclass(frozen=True)
class Peaks:
    """The chosen peaks of all latents, by latent: `pair` int64 into the proposing part's pairs; `latent`, `unit`,
    `token` int32; `n` int64[d_sae] peaks each."""

    pair: Int64
    latent: Int32
    unit: Int32
    token: Int32
    n: Int64


def gather(side: Side, d_sae: int, progress: Callable[[int, int], None] | None = None) -> Corpus:
    """Reads the documents that propose and choose; each text once. SaerayError when the dataset has no texts.

    `progress(documents read, of)` is called after every batch.
    """
    if "text" not in side.stored:
        raise SaerayError(f"{side.dataset} was encoded without its texts; labels need them: encode it with texts kept")
    vocabulary = Vocabulary()
    builders = {"propose": _Builder(vocabulary, d_sae), "choose": _Builder(vocabulary, d_sae)}
    seen: set[bytes] = set()
    stride = -(-side.n_documents // DOCUMENTS)
    done = 0
    for table in side.scan(COLUMNS):
        for batch in table.to_batches():
            rows = np.arange(batch.num_rows)
            columns = _Columns(batch)
            for row in rows[(rows + done) % stride == 0].tolist():
                text = batch.column("text")[row].as_py()
                key = hashlib.blake2b((text or "").encode("utf-8", "surrogatepass"), digest_size=16).digest()
                if text and key not in seen and (split := split_of(text)) in builders:
                    seen.add(key)
                    builders[split].add(text, *columns.row(row))
            done += batch.num_rows
            if progress:
                progress(done, side.n_documents)
    propose, choose = builders["propose"].part(), builders["choose"].part()
    return Corpus(d_sae, vocabulary, propose, choose, _thresholds(propose))


def strongest(part: Part, threshold: NDArray[np.float32], strong: int = STRONGEST, middling: int = MIDDLING) -> Peaks:
    """Of each latent's active documents the `strong` first and up to `middling` evenly spread over the others."""
    first = part.pair_first[:-1]
    active = np.bincount(part.pair_latent[part.pair_value >= threshold[part.pair_latent]], minlength=len(first))
    top = np.minimum(active, strong)
    more = np.minimum(active - top, middling)
    n = top + more
    latent = np.repeat(np.arange(len(first)), n)
    place = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    beyond = place - top[latent]
    spread = top[latent] + (beyond * 2 + 1) * (active - top)[latent] // np.maximum(2 * more[latent], 1)
    pair = first[latent] + np.where(beyond < 0, place, spread)
    token = part.pair_token[pair]
    return Peaks(pair, latent.astype(np.int32), part.token_unit[token], token, n)


def _thresholds(part: Part) -> NDArray[np.float32]:
    """float32[d_sae]: ACTIVE_FROM of the mean maximum in the HIGHEST documents; infinite for a latent with none."""
    first, count = part.pair_first[:-1], np.diff(part.pair_first)
    sums = np.concatenate([[0.0], np.cumsum(part.pair_value, dtype=np.float64)])
    top = np.minimum(count, HIGHEST)
    mean = (sums[first + top] - sums[first]) / np.maximum(top, 1)
    return np.where(count > 0, ACTIVE_FROM * mean, np.inf).astype(np.float32)


class _Columns:
    """The list columns of a batch as flat arrays, cut by row."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._flat = {name: flat(batch, name) for name in COLUMNS[1:]}
        self._first = {
            name: np.concatenate([[0], np.cumsum(lengths(batch, name))]) for name in ("token_starts", "latents")
        }

    def row(self, row: int) -> tuple[Int32, Int32, NDArray[np.float32], Int32]:
        a, b = self._first["token_starts"][row : row + 2]
        c, d = self._first["latents"][row : row + 2]
        starts = self._flat["token_starts"][a:b].astype(np.int32)
        values = self._flat["max"][c:d].astype(np.float32)
        return starts, self._flat["latents"][c:d].astype(np.int32), values, self._flat["peak"][c:d].astype(np.int32)


class _Builder:
    """Collects documents and lays them end to end."""

    def __init__(self, vocabulary: Vocabulary, d_sae: int) -> None:
        self._vocabulary, self._d_sae = vocabulary, d_sae
        self._texts: list[str] = []
        self._units: list[tuple[Int32, NDArray[np.uint8], NDArray[np.uint8]]] = []
        self._tokens: list[tuple[Int32, Int32]] = []
        self._pairs: list[tuple[NDArray[np.uint16] | Int32, NDArray[np.float16], Int32]] = []
        self._amounts: list[NDArray[np.float32]] = []
        self._n_units = self._n_tokens = 0

    def add(self, text: str, starts: Int32, latents: Int32, values: NDArray[np.float32], peaks: Int32) -> None:
        found = units(text)
        if not found.words or not starts.size:
            return
        if latents.size and latents.max() >= self._d_sae:
            raise SaerayError(f"a row holds latent {latents.max()}, the encoder has {self._d_sae}; run `saeray verify`")
        measured = measure(found)
        self._texts.append(text)
        bits = np.packbits(measured.inside(found.starts), axis=1)
        self._units.append((self._vocabulary.encode(found.lower), _cases(found), bits))
        self._tokens.append((found.at(starts) + np.int32(self._n_units), starts))
        small = latents.astype(np.uint16) if self._d_sae <= 1 << 16 else latents
        self._pairs.append((small, values.astype(np.float16), peaks + np.int32(self._n_tokens)))
        self._amounts.append(measured.amount)
        self._n_units += len(found.words)
        self._n_tokens += len(starts)

    def part(self) -> Part:
        if not self._texts:
            raise SaerayError("there are too few documents to label from; encode some hundreds or more")
        latent, value, token = (np.concatenate(column) for column in zip(*self._pairs, strict=True))
        # Largest first within each latent: two stable sorts, by 16-bit keys that NumPy sorts by radix. The bits of
        # positive halves are in the halves' order.
        order = np.argsort(np.uint16(65535) - value.view(np.uint16), kind="stable")
        order = order[np.argsort(latent[order], kind="stable")]
        words, case, bits = (np.concatenate(column) for column in zip(*self._units, strict=True))
        token_unit, token_start = (np.concatenate(column) for column in zip(*self._tokens, strict=True))
        return Part(
            self._texts,
            words,
            case,
            _firsts([len(u[0]) for u in self._units]),
            bits,
            token_unit,
            token_start,
            _firsts([len(t[0]) for t in self._tokens]),
            np.stack(self._amounts),
            _firsts(np.bincount(latent, minlength=self._d_sae).tolist()),
            value[order].astype(np.float32),
            token[order],
        )


def _cases(found: Units) -> NDArray[np.uint8]:
    """uint8[units]: 0 lower case or none, 1 Capitalised, 2 ALL CAPITALS."""
    upper = ((word[0].isupper(), len(word) > 1 and word.isupper()) for word in found.words)
    return np.array([0 if not first else 2 if full else 1 for first, full in upper], np.uint8)


def _firsts(counts: list[int]) -> Int64:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
