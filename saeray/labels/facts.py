"""All that is known of every latent before it gets a name: the three contrasts as arrays, and one latent's of them.

Made in vectorised steps over all latents; `Facts.of(latent)` is what a phrase is made from and what the evidence keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from saeray.analysis.excerpt import normalised, token_span
from saeray.labels import contrast
from saeray.labels.candidates import Judge
from saeray.labels.contexts import Corpus, Part, Peaks, strongest
from saeray.labels.contrast import Float32, Rates, Top
from saeray.labels.languages import SMALL_WORDS

#: Words, neighbours, terms and tests kept a latent.
KEPT = 8
#: How far the terms near a peak may be from it, in units.
REACH = 12
#: A term stands in at least this many documents and at most in this share of them.
TERM_LEAST, TERM_MOST = 4, 0.2

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Facts:
    """Arrays over all latents, row by row; see `contrast` for what each holds. `ba_*` float32[latents]: balanced
    accuracy on the choosing documents of the candidate of that name, `ba_tests` float32[latents, tests]."""

    corpus: Corpus
    peaks: Peaks
    present: NDArray[np.int64]
    words: Top
    before: Top
    after: Top
    phrases: contrast.Phrases
    terms: Top
    near: Top
    tokens: list[list[tuple[str, float]]]
    spots: Float32
    spot_base: Float32
    rates: Rates
    ba_tests: Float32
    position: Float32
    inside_word: Float32
    capitalised: Float32
    n_active: NDArray[np.int64]

    @cached_property
    def sure(self) -> Float32:
        """Balanced accuracy of the tests on proposing documents, less three standard errors."""
        return np.asarray(self.rates.balanced - 3 * self.rates.error, np.float32)

    @cached_property
    def vocabulary(self) -> list[str]:
        return self.corpus.vocabulary.words

    def listed(self, top: Top, latent: int) -> list[tuple[str, float, float]]:
        """(word, share, weight) of a row, most weight first."""
        names = self.vocabulary
        return [
            (names[item], float(share), float(said))
            for item, share, said in zip(top.item[latent], top.share[latent], top.weight[latent], strict=True)
            if item >= 0
        ]

    def phrase(self, latent: int) -> tuple[str, float]:
        """The commonest run of units around the peak as text, and its share; '' when there is none."""
        place, size = int(self.phrases.place[latent]), int(self.phrases.size[latent])
        if place < 0:
            return "", 0.0
        names = self.vocabulary
        run = self.corpus.propose.unit_word[place : place + size]
        return " ".join(names[i] for i in run), float(self.phrases.share[latent])


def collect(corpus: Corpus, progress: Progress | None = None) -> Facts:
    """All contrasts of all latents."""
    told = progress or (lambda step, done, of: None)
    part = corpus.propose
    peaks = strongest(part, corpus.threshold)
    names = corpus.vocabulary.words
    wordlike = np.array([is_word(name) for name in names])
    termlike = np.array([is_term(name) for name in names])
    n_words = len(names)
    told("peaks", 0, 4)
    words = contrast.commonest(peaks.latent, part.unit_word[peaks.unit], peaks.n, n_words, 3 * KEPT)
    before = contrast.neighbours(part, peaks, -1, n_words, KEPT)
    after = contrast.neighbours(part, peaks, 1, n_words, KEPT)
    runs = contrast.phrases(part, peaks, wordlike)
    told("terms", 1, 4)
    has = contrast.document_words(part, n_words)
    terms = contrast.term_numbers(has, termlike, TERM_LEAST, TERM_MOST)
    of_documents = contrast.class_terms(has, part, peaks, terms, KEPT)
    near = contrast.near_terms(part, peaks, terms, n_words, REACH, KEPT)
    told("surface", 2, 4)
    spots = contrast.spot_shares(part, peaks)
    holds = (part.amount >= 1).astype(np.float32)
    rates = contrast.test_rates(part, corpus.active(part), holds)
    chosen = contrast.test_rates(
        corpus.choose, corpus.active(corpus.choose), (corpus.choose.amount >= 1).astype(np.float32)
    )
    n_choose = Judge(corpus.choose, corpus.active(corpus.choose), n_words).n_active()
    pull = (n_choose / (n_choose + 2.0))[:, None]
    told("tokens", 3, 4)
    document = part.unit_document[peaks.unit]
    size = np.diff(part.unit_first)[document]
    place = (peaks.unit - part.unit_first[document]) / np.maximum(size - 1, 1)
    starts_inside = _inside_word(part, peaks)
    n = np.maximum(peaks.n, 1)
    return Facts(
        corpus,
        peaks,
        np.diff(part.pair_first) + np.diff(corpus.choose.pair_first),
        words,
        before,
        after,
        runs,
        of_documents,
        near,
        _tokens(part, peaks),
        spots,
        spots[peaks.n > 0].mean(axis=0) if (peaks.n > 0).any() else spots.mean(axis=0),
        rates,
        (0.5 + (chosen.balanced - 0.5) * pull).astype(np.float32),
        (np.bincount(peaks.latent, weights=place, minlength=len(n)) / n).astype(np.float32),
        (np.bincount(peaks.latent, weights=starts_inside, minlength=len(n)) / n).astype(np.float32),
        (np.bincount(peaks.latent, weights=part.unit_case[peaks.unit] > 0, minlength=len(n)) / n).astype(np.float32),
        np.bincount(part.pair_latent[corpus.active(part)], minlength=len(n)),
    )


def is_word(name: str) -> bool:
    """Does a unit read as a word (letters, or a number)."""
    return name[0].isalnum()


def is_term(name: str) -> bool:
    """May a unit name a topic: three letters at least (or one of a script without spaces), no small word."""
    if name in STOP:
        return False
    # A contraction ("i'll") is a way of speaking, which the tests of manner name better.
    return name.isalpha() and (len(name) >= 3 or (len(name) == 2 and not name.isascii()))


_VAGUE = (
    "unk than then them these those some any all each every more most other another such only just also very much"
    " many well even still now here how why into out over up down about after before because while where could"
    " should may might must shall did does done being let get got make made say said one two three first last"
    " own same both few too our us me him its it's i'm don't that's can't didn't you're isn't am like think"
    " know want see go going come way thing things really since though through between during without within"
    " against under again back off yes upon used using use however please per etc"
)
#: Words that name no topic, though they may be rare enough to.
STOP = SMALL_WORDS | frozenset(_VAGUE.split())


def _inside_word(part: Part, peaks: Peaks) -> NDArray[np.bool_]:
    """bool[peaks]: does the token begin inside its unit (the token before is of the same unit)."""
    earlier = np.maximum(peaks.token - 1, 0)
    return np.asarray((part.token_unit[earlier] == part.token_unit[peaks.token]) & (peaks.token > 0))


def _tokens(part: Part, peaks: Peaks) -> list[list[tuple[str, float]]]:
    """The commonest peak tokens of each latent with their shares; ties by token."""
    document = part.unit_document[peaks.unit].tolist()
    first = part.token_first
    numbers: dict[str, int] = {}
    ids = np.empty(len(peaks.token), np.int64)
    order = np.argsort(peaks.token, kind="stable")
    last, number = -1, 0
    for i in order.tolist():
        token = int(peaks.token[i])
        if token != last:
            d = document[i]
            low = int(first[d])
            start, end = token_span(part.token_start[low : int(first[d + 1])], token - low, part.texts[d])
            number = numbers.setdefault(normalised(part.texts[d][start:end]), len(numbers))
            last = token
        ids[i] = number
    names = list(numbers)
    key, count = np.unique(peaks.latent.astype(np.int64) * max(len(names), 1) + ids, return_counts=True)
    found: list[list[tuple[str, float]]] = [[] for _ in range(len(peaks.n))]
    for k, c in zip(key.tolist(), count.tolist(), strict=True):
        found[k // len(names)].append((names[k % len(names)], c))
    return [
        [(t, round(c / int(peaks.n[i]), 3)) for t, c in sorted(row, key=lambda x: (-x[1], x[0]))[:KEPT]]
        for i, row in enumerate(found)
    ]
