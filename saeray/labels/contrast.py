"""What is commoner with a latent than without it: counts of words, neighbours, phrases, terms and tests, all at once.

Every statistic is one sparse product or one sort over all latents, never a loop over documents. A raw ratio makes the
rarest word win, so ratios are shrunk: the background counts as `PRIOR` further observations of every latent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saeray.labels.contexts import STRATA, Part, Peaks

#: Imaginary peaks that are drawn from the background. With 8, a word seen twice in 48 peaks at a background of 1 in
#: 10,000 has a shrunk ratio of 350 and one seen twenty times 3,500: order by weight, not by ratio, decides.
PRIOR = 8.0
#: Latents handled together where a product would not fit in memory.
BLOCK = 2048

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Top:
    """The best k items of each row: `item` int32[rows, k] (-1: none), `share` and `weight` float32[rows, k]."""

    item: Int32
    share: Float32
    weight: Float32


def weight(count: Float64, n: Float64, background: Float64) -> Float64:
    """How much an item says of a row: share * ln(shrunk share / background), the item's part of the relative entropy.

    `count` of `n` observations are the item; `background` its share among all. The share is pulled to the background
    by `PRIOR` observations (the informative Dirichlet prior of Monroe, Colaresi and Quinn 2008).
    """
    shrunk = (count + PRIOR * background) / (n + PRIOR)
    return np.asarray(count / np.maximum(n, 1) * np.log(shrunk / background))


def commonest(row: Int64 | Int32, item: Int64 | Int32, n: Int64, n_items: int, k: int, least: int = 2) -> Top:
    """The k items of most `weight` in each of len(n) rows, from parallel observations (row, item).

    `n` int64[rows]: observations a row is judged by. An item counts from `least` observations on. The background is all
    observations. Ties: the lower item.
    """
    key, count = np.unique(row.astype(np.int64) * n_items + item, return_counts=True)
    total = np.bincount(item, minlength=n_items)
    enough = count >= least
    key, count = key[enough], count[enough]
    rows, items = key // n_items, key % n_items
    said = weight(count, n[rows].astype(float), total[items] / max(len(item), 1))
    return top(rows, items, count / np.maximum(n[rows], 1), said, len(n), k)


def top(rows: Int64, items: Int64, share: Float64, said: Float64, n_rows: int, k: int) -> Top:
    """The k items of most weight (above 0) of each row, from parallel arrays."""
    order = np.lexsort((items, -said, rows))
    order = order[said[order] > 0]
    rows = rows[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    keep = place < k
    order, rows, place = order[keep], rows[keep], place[keep]
    found = Top(
        np.full((n_rows, k), -1, np.int32), np.zeros((n_rows, k), np.float32), np.zeros((n_rows, k), np.float32)
    )
    found.item[rows, place] = items[order]
    found.share[rows, place] = share[order]
    found.weight[rows, place] = said[order]
    return found


def neighbours(part: Part, peaks: Peaks, offset: int, n_words: int, k: int) -> Top:
    """The words `offset` units after (before, when negative) the peak, where it is in the same text."""
    at = peaks.unit + offset
    inside = (at >= 0) & (at < len(part.unit_word))
    at = np.clip(at, 0, len(part.unit_word) - 1)
    inside &= part.unit_document[at] == part.unit_document[peaks.unit]
    return commonest(peaks.latent[inside], part.unit_word[at[inside]], peaks.n, n_words, k)


@dataclass(frozen=True)
class Phrases:
    """The commonest run of 2 to 4 units with the peak in it: `place` int64[rows] its first unit (-1: none), `size`
    int8[rows], `share` float32[rows]."""

    place: Int64
    size: NDArray[np.int8]
    share: Float32


def phrases(part: Part, peaks: Peaks, wordlike: NDArray[np.bool_], least: float = 0.3) -> Phrases:
    """For each latent the run that most of its peaks are in; longer runs win where they lose little.

    `wordlike` bool[vocabulary]: a run has two such units at least and begins and ends with one.
    """
    n_rows = len(peaks.n)
    best = np.zeros(n_rows)
    found = Phrases(np.full(n_rows, -1, np.int64), np.zeros(n_rows, np.int8), np.zeros(n_rows, np.float32))
    for size in (2, 3, 4):
        hashes = run_hashes(part.unit_word, size)
        for before in range(size):
            first = peaks.unit.astype(np.int64) - before
            last = np.clip(first + size - 1, 0, len(part.unit_word) - 1)
            safe = np.clip(first, 0, len(hashes) - 1) if len(hashes) else first * 0
            good = (first >= 0) & (first < len(hashes))
            good &= part.unit_document[safe] == part.unit_document[last]
            good &= wordlike[part.unit_word[safe]] & wordlike[part.unit_word[last]]
            if not good.any():
                continue
            rows, run, at = peaks.latent[good].astype(np.int64), hashes[first[good]], first[good]
            order = np.lexsort((at, run, rows))
            rows, run, at = rows[order], run[order], at[order]
            new = np.flatnonzero(np.concatenate([[True], (rows[1:] != rows[:-1]) | (run[1:] != run[:-1])]))
            count = np.diff(np.concatenate([new, [len(rows)]]))
            share = count / peaks.n[rows[new]]
            # 0.15 a word more: "on the other hand" at 40% says more than "other hand" at 50%.
            value = np.where((share >= least) & (count >= 3), share * (1 + 0.15 * size), 0)
            order = np.lexsort((at[new], value, rows[new]))
            last_of = np.flatnonzero(np.diff(rows[new][order], append=-1))
            pick = order[last_of]
            row = rows[new][pick]
            better = value[pick] > best[row]
            row, pick = row[better], pick[better]
            best[row] = value[pick]
            found.place[row], found.size[row], found.share[row] = at[new][pick], size, share[pick]
    return found


def run_hashes(word: Int32, size: int) -> Int64:
    """A 63-bit hash of every run of `size` units, int64[units - size + 1]; equal runs, equal hashes."""
    n = max(len(word) - size + 1, 0)
    found = np.full(n, size, np.uint64)
    for i in range(size):
        mixed = (found ^ word[i : i + n].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        found = mixed ^ (mixed >> np.uint64(29))
    return (found >> np.uint64(1)).astype(np.int64)


def document_words(part: Part, n_words: int) -> sparse.csr_matrix:
    """bool CSR [documents, vocabulary]: does the document hold the word."""
    key = np.unique(part.unit_document.astype(np.int64) * n_words + part.unit_word)
    shape = (part.n_documents, n_words)
    return sparse.csr_matrix((np.ones(len(key), np.float32), (key // n_words, key % n_words)), shape=shape)


def term_numbers(has: sparse.csr_matrix, wordlike: NDArray[np.bool_], least: int, most: float) -> Int64:
    """The words that may name a topic: in at least `least` documents and in at most the share `most` of them."""
    frequency = np.asarray(has.sum(axis=0)).ravel()
    return np.flatnonzero(wordlike & (frequency >= least) & (frequency <= most * has.shape[0]))


def class_terms(has: sparse.csr_matrix, part: Part, peaks: Peaks, terms: Int64, k: int) -> Top:
    """Class-based TF-IDF: the terms that the documents of a latent's peaks share, against all documents.

    The background of a term is its document frequency, raised for longer documents: at most as likely as their length
    over the mean makes it.
    """
    documents = part.unit_document[peaks.unit]
    chosen = has[:, terms].tocsr()
    size = np.diff(part.unit_first)
    base = np.asarray(chosen.sum(axis=0)).ravel() / max(part.n_documents, 1)
    longer = np.bincount(peaks.latent, weights=size[documents], minlength=len(peaks.n)) / np.maximum(peaks.n, 1)
    longer = longer / max(size.mean(), 1)
    rows = np.concatenate([[0], np.cumsum(peaks.n)])
    groups = sparse.csr_matrix(
        (np.ones(len(documents), np.float32), documents, rows), shape=(len(peaks.n), has.shape[0])
    )
    return _by_blocks(groups, chosen, peaks.n, base, longer, terms, k)


def near_terms(part: Part, peaks: Peaks, terms: Int64, n_words: int, reach: int, k: int) -> Top:
    """The terms within `reach` units of the peak, but not the peak's own word, against those near all peaks."""
    number = np.full(n_words, -1, np.int32)
    number[terms] = np.arange(len(terms))
    term = number[part.unit_word]
    columns, rows = [], []
    for offset in (o for o in range(-reach, reach + 1) if o):
        at = np.clip(peaks.unit + offset, 0, len(term) - 1)
        good = (part.unit_document[at] == part.unit_document[peaks.unit]) & (term[at] >= 0)
        good &= term[at] != term[peaks.unit]
        columns.append(term[at][good])
        rows.append(np.flatnonzero(good).astype(np.int32))
    row, column = np.concatenate(rows), np.concatenate(columns)
    near = sparse.csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=(len(peaks.unit), len(terms)))
    near.data[:] = 1
    first = np.concatenate([[0], np.cumsum(peaks.n)])
    groups = sparse.csr_matrix(
        (np.ones(len(peaks.unit), np.float32), np.arange(len(peaks.unit)), first), shape=(len(peaks.n), len(peaks.unit))
    )
    base = np.asarray(near.sum(axis=0)).ravel() / max(len(peaks.unit), 1)
    return _by_blocks(groups, near, peaks.n, base, np.ones(len(peaks.n)), terms, k)


def _by_blocks(
    groups: sparse.csr_matrix, has: sparse.csr_matrix, n: Int64, base: Float64, longer: Float64, terms: Int64, k: int
) -> Top:
    found = []
    for low in range(0, len(n), BLOCK):
        counts = (groups[low : low + BLOCK] @ has).tocoo()
        enough = counts.data >= 2
        rows, columns, count = counts.row[enough], counts.col[enough], counts.data[enough].astype(float)
        expected = np.clip(base[columns] * longer[low + rows], 1e-6, 0.95)
        size = n[low + rows].astype(float)
        said = weight(count, size, expected)
        size_here = len(n[low : low + BLOCK])
        found.append(top(rows.astype(np.int64), terms[columns], count / np.maximum(size, 1), said, size_here, k))
    return Top(*(np.concatenate([getattr(f, name) for f in found]) for name in ("item", "share", "weight")))


@dataclass(frozen=True)
class Rates:
    """How often something holds: `active` among documents where the latent is active, `silent` among those where it is
    not present, at the active ones' lengths. float32[rows, columns]; `balanced` = (active + 1 - silent) / 2."""

    active: Float32
    silent: Float32
    n_active: Int64
    n_silent: Int64

    @property
    def balanced(self) -> Float32:
        return np.asarray((self.active + 1 - self.silent) / 2, np.float32)

    @property
    def error(self) -> Float32:
        """The standard error of `balanced`, each rate pulled to a half by two imaginary documents."""
        a, b = self.n_active[:, None] + 2.0, self.n_silent[:, None] + 2.0
        p, q = (self.active * (a - 2) + 1) / a, (self.silent * (b - 2) + 1) / b
        return np.asarray(np.sqrt(p * (1 - p) / a + q * (1 - q) / b) / 2, np.float32)


def test_rates(part: Part, active: NDArray[np.bool_], holds: Float32) -> Rates:
    """Rates of each column of `holds` float32[documents, columns] for every latent; `active` bool[pairs].

    A long document has more latents and more of everything else, so the silent documents are weighed to have the
    lengths of the active ones, by stratum.
    """
    n_rows = len(part.pair_first) - 1
    hits, silent = np.zeros((n_rows, holds.shape[1]), np.float32), np.zeros((n_rows, holds.shape[1]), np.float32)
    n_active = np.bincount(part.pair_latent[active], minlength=n_rows)
    weighed = np.zeros(n_rows, np.float32)
    stratum = part.stratum[part.pair_document]
    for s in range(STRATA):
        mine = part.stratum == s
        present = latent_documents(part, stratum == s)
        strong = latent_documents(part, (stratum == s) & active)
        n_strong = np.diff(strong.indptr)
        quiet = mine.sum() - np.diff(present.indptr)
        with_it = holds[mine].sum(axis=0) - present @ holds
        # A stratum without silent documents can say nothing; its active documents are left out on both sides.
        usable = (n_strong / np.maximum(n_active, 1) * (quiet > 0)).astype(np.float32)
        silent += usable[:, None] * with_it / np.maximum(quiet, 1)[:, None]
        weighed += usable
        hits += strong @ holds
    share = hits / np.maximum(n_active, 1)[:, None]
    n_silent = part.n_documents - np.diff(part.pair_first)
    quiet_share = (silent / np.maximum(weighed, 1e-6)[:, None]).astype(np.float32)
    return Rates(share.astype(np.float32), quiet_share, n_active, n_silent)


def latent_documents(part: Part, which: NDArray[np.bool_]) -> sparse.csr_matrix:
    """float32 CSR [latents, documents] of ones: the pairs chosen by `which` bool[pairs]."""
    first = np.concatenate([[0], np.cumsum(which)])[part.pair_first]
    documents = part.pair_document[which]
    shape = (len(part.pair_first) - 1, part.n_documents)
    return sparse.csr_matrix((np.ones(len(documents), np.float32), documents, first), shape=shape)


def spot_shares(part: Part, peaks: Peaks, block: int = 1 << 18) -> Float32:
    """float32[latents, tests]: the share of a latent's peaks that are inside a span of the test."""
    n_tests = part.amount.shape[1]
    sums = np.zeros((len(peaks.n), n_tests), np.float32)
    ends = np.cumsum(peaks.n)
    low_row = 0
    while low_row < len(ends):
        before = ends[low_row - 1] if low_row else 0
        high_row = max(int(np.searchsorted(ends, before + block)), low_row + 1)
        a, b = int(before), int(ends[min(high_row, len(ends)) - 1])
        bits = part.bits(peaks.unit[a:b])
        if b > a:
            rows = peaks.latent[a:b] - low_row
            first = np.searchsorted(rows, np.arange(rows[-1] + 1))
            present = np.unique(rows)
            sums[low_row + present] = np.add.reduceat(bits.astype(np.float32), first[present], axis=0)
        low_row = high_row
    return np.asarray(sums / np.maximum(peaks.n, 1)[:, None], np.float32)
