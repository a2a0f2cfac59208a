"""The documents on which labels are put to the test: drawn by hash, so the same for every label, run and machine.

For each latent: documents where it is present, half its strongest and half spread over the rest of its range (a label
that fits the top alone is half a label); and documents where it is silent, half at random and half hard: there a latent
that is nearly always present with it is present instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from saeray.analysis.sides import Side
from saeray.errors import SaerayError, UsageError
from saeray.labels.coactivity import nearest
from saeray.labels.splits import Split, split_of
from saeray.stats.frequency import flat, lengths

Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]

#: Characters of an excerpt: a sentence or two, some 45 tokens of the embedder.
WIDTH = 200
#: Nearest other latents whose documents are hard negatives.
NEIGHBOURS = 5
_WORD = 20


@dataclass(frozen=True)
class Draw:
    """Documents drawn for one latent. `rows` of the pool, `places` index into token_starts: the latent's peak, the
    neighbour's for hard negatives, else any; `positive`, `hard` bool. All of one length."""

    rows: Int64
    places: Int64
    positive: NDArray[np.bool_]
    hard: NDArray[np.bool_]

    @property
    def n_positive(self) -> int:
        return int(self.positive.sum())

    @property
    def n_negative(self) -> int:
        return len(self.rows) - self.n_positive


@dataclass(frozen=True)
class Pool:
    """Documents of one split, no text twice. `keys` uint64: a hash of each doc_id. `active`: [documents, d_sae], each
    entry 1 + its place in `maximum` and `peak`, which stand in row order."""

    keys: UInt64
    texts: list[str]
    token_starts: list[NDArray[np.int32]]
    active: sparse.csr_matrix
    maximum: NDArray[np.float32]
    peak: NDArray[np.int32]

    @cached_property
    def _columns(self) -> sparse.csc_matrix:
        return self.active.tocsc()

    def present(self, latent: int) -> tuple[Int64, Int64]:
        """Rows where `latent` is present, ascending, and where their values stand in `maximum` and `peak`."""
        start, stop = self._columns.indptr[latent : latent + 2]
        return self._columns.indices[start:stop].astype(np.int64), self._columns.data[start:stop].astype(np.int64) - 1

    def neighbours(self, latents: Int64, k: int = NEIGHBOURS) -> Int64:
        """The k latents most often present in the same documents, int64[latents, k]; -1 where there are fewer."""
        return nearest(self.active, latents, k)

    def draw(self, latent: int, neighbours: Int64, each: int) -> Draw:
        """At most `each` positives and as many negatives, chosen by value and hash."""
        keys = mixed(self.keys ^ mixed(np.array([latent], np.uint64)))
        rows, at = self.present(latent)
        order = np.lexsort((keys[rows], -self.maximum[at]))
        strongest, rest = order[: each // 2], order[each // 2 :]
        spread = [part[np.argmin(keys[rows[part]])] for part in np.array_split(rest, each - each // 2) if len(part)]
        chosen = np.concatenate([strongest, np.asarray(spread, np.int64)])
        silent = np.ones(len(self.texts), bool)
        silent[rows] = False
        by_hash = np.argsort(keys, kind="stable")
        by_hash = by_hash[silent[by_hash]]
        easy, others = by_hash[: each - each // 2], by_hash[each - each // 2 :]
        instead = self._peaks_of(neighbours)
        is_hard = instead[others] >= 0
        hard = others[is_hard][: each // 2]
        more = others[~is_hard][: each // 2 - len(hard)]
        easy = np.concatenate([easy, more])
        return Draw(
            np.concatenate([rows[chosen], easy, hard]),
            np.concatenate([self.peak[at[chosen]].astype(np.int64), self._any_place(easy), instead[hard]]),
            np.repeat([True, False], [len(chosen), len(easy) + len(hard)]),
            np.repeat([False, True], [len(chosen) + len(easy), len(hard)]),
        )

    def excerpt(self, row: int, place: int) -> str:
        """Some `WIDTH` characters around a token."""
        starts = self.token_starts[row]
        return passage(self.texts[row], int(starts[place]) if len(starts) else 0)

    def _peaks_of(self, neighbours: Int64) -> Int64:
        """For each row the peak of the first of `neighbours` that is present there; -1 where none is."""
        peaks = np.full(len(self.texts), -1, np.int64)
        for neighbour in neighbours[neighbours >= 0][::-1].tolist():
            rows, at = self.present(neighbour)
            peaks[rows] = self.peak[at]
        return peaks

    def _any_place(self, rows: Int64) -> Int64:
        """A place a document, the same for all latents, so that silent documents are embedded once."""
        n_tokens = np.array([max(1, len(self.token_starts[row])) for row in rows.tolist()], np.uint64)
        return (mixed(self.keys[rows]) % n_tokens).astype(np.int64)


class Distinct:
    """Texts, each once, numbered as they come."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        found = self._numbers.setdefault(text, len(self.all))
        if found == len(self.all):
            self.all.append(text)
        return found


class Drawn:
    """What was drawn from one pool for each latent; `excerpts`: latent -> numbers of its excerpts."""

    def __init__(self, pool: Pool, latents: Int64, neighbours: Int64, each: int) -> None:
        self.pool = pool
        self.draws: dict[int, Draw] = {
            latent: pool.draw(latent, near, each) for latent, near in zip(latents.tolist(), neighbours, strict=True)
        }
        self.excerpts: dict[int, Int64] = {}

    def number(self, texts: Distinct) -> None:
        for latent, draw in self.draws.items():
            places = zip(draw.rows.tolist(), draw.places.tolist(), strict=True)
            self.excerpts[latent] = np.array([texts.number(self.pool.excerpt(r, p)) for r, p in places], np.int64)

    def texts(self, latent: int) -> list[str]:
        return [self.pool.texts[row] for row in self.draws[latent].rows.tolist()]

    def enough(self, latent: int, least: int) -> bool:
        draw = self.draws[latent]
        return draw.n_positive >= least and draw.n_negative >= least

    def facts(self, latent: int) -> dict[str, int]:
        draw = self.draws[latent]
        return {"n_positive": draw.n_positive, "n_negative": draw.n_negative, "n_hard": int(draw.hard.sum())}


def passage(text: str, at: int, width: int = WIDTH) -> str:
    """At most `width` characters of `text` around character `at`, whole words.

    Centres lie on a grid of width / 2, so that the peaks of many latents share one passage: embedding is what scoring
    waits for.
    """
    grid = width // 2
    low = min(max(0, at // grid * grid - grid // 2), max(0, len(text) - width))
    high = min(len(text), low + width)
    if low > 0:
        space = text.find(" ", low, min(low + _WORD, at))
        low = space + 1 if space >= 0 else low
    if high < len(text):
        space = text.rfind(" ", max(high - _WORD, at + _WORD), high)
        high = space if space >= 0 else high
    return text[low:high]


def gather(side: Side, d_sae: int, limits: Mapping[Split, int]) -> dict[Split, Pool]:
    """Up to `limits` documents of each split, those of lowest hash of doc_id; of copies of one text, one.

    Two passes: one over the texts, one over the rows that were chosen. Memory: 24 bytes a latent present in a pooled
    document. UsageError when the texts were not stored.
    """
    if "text" not in side.stored:
        raise UsageError(
            f"{side.dataset} was stored without its texts, and labels are tested on texts: encode it again"
        )
    chosen = _choose(side, limits)
    parts: dict[Split, list[pa.RecordBatch]] = {split: [] for split in limits}
    first = 0
    for table in side.scan(["doc_id", "text", "token_starts", "latents", "max", "peak"]):
        for split, rows in chosen.items():
            own = rows[(rows >= first) & (rows < first + table.num_rows)] - first
            parts[split] += table.take(pa.array(own)).to_batches()
        first += table.num_rows
    return {split: _pool([b for b in parts[split] if b.num_rows], d_sae) for split in limits}


def _choose(side: Side, limits: Mapping[Split, int]) -> dict[Split, Int64]:
    """Scan positions of the documents of each pool, ascending."""
    best: dict[bytes, tuple[int, int, Split]] = {}
    row = 0
    for table in side.scan(["doc_id", "text"]):
        for doc_id, text in zip(table.column("doc_id").to_pylist(), table.column("text").to_pylist(), strict=True):
            split = split_of(text)
            if split in limits:
                digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
                entry = (_key(doc_id), row, split)
                best[digest] = min(best.get(digest, entry), entry)
            row += 1
    found = sorted(best.values())
    return {
        split: np.sort(np.array([r for _, r, s in found if s == split][:limit], np.int64))
        for split, limit in limits.items()
    }


def _pool(batches: list[pa.RecordBatch], d_sae: int) -> Pool:
    none = np.empty(0, np.int64)
    latents = np.concatenate([none, *(flat(b, "latents").astype(np.int64) for b in batches)])
    if latents.size and latents.max() >= d_sae:
        raise SaerayError(f"a row holds latent {latents.max()}, the encoder has {d_sae}; run `saeray verify`")
    counts = np.concatenate([none, *(lengths(b, "latents") for b in batches)])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    places = np.arange(1, len(latents) + 1, dtype=np.int32)
    starts = [
        part.astype(np.int32)
        for b in batches
        for part in np.split(flat(b, "token_starts"), np.cumsum(lengths(b, "token_starts"))[:-1])
    ]
    return Pool(
        np.array([_key(d) for b in batches for d in b.column("doc_id").to_pylist()], np.uint64),
        [text for b in batches for text in b.column("text").to_pylist()],
        starts,
        sparse.csr_matrix((places, latents.astype(np.int32), offsets), shape=(len(counts), d_sae)),
        np.concatenate([np.empty(0, np.float32), *(flat(b, "max").astype(np.float32) for b in batches)]),
        np.concatenate([np.empty(0, np.int32), *(flat(b, "peak").astype(np.int32) for b in batches)]),
    )


def _key(doc_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(doc_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def mixed(keys: UInt64) -> UInt64:
    """A uniform hash of each key: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    z = keys + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)), np.uint64)
