"""Surface tests: cheap named questions about a text or a place in it, each in words that a person would search for.

"Is there a Markdown table?" "Is this French?" "Is the peak inside a quotation?" A latent that such a test tells better
than any word does gets the test's name, so that a latent about form is not called after the words it happens to meet.
Every test finds spans of characters: a text has the property when there are enough of them, a place when it is in one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from saeray.labels.languages import LANGUAGES, spans
from saeray.labels.manner import MANNER
from saeray.labels.patterns import PATTERNS
from saeray.labels.topics import TOPICS
from saeray.labels.units import BREAK, Units

Spans = list[tuple[int, int]]
#: language, list of words, topic, pattern: how it is found. shape: a fact of the whole text.
Family = Literal["language", "manner", "topic", "pattern", "shape", "casing"]
#: Different words of a topic's list that a text must hold, and how many in a hundred words.
TOPIC_WORDS, TOPIC_RATE = 3, 1.5


@dataclass(frozen=True)
class SurfaceTest:
    """`label` stands alone ("Markdown table"), `setting` follows a word ("in a table"; "" where nothing reads well).

    `least` spans make a text have the property. `spot`: only places have it, every text does.
    """

    name: str
    label: str
    setting: str
    family: Family
    least: int = 1
    spot: bool = False


@cache
def tests() -> tuple[SurfaceTest, ...]:
    """All tests, in a fixed order: the columns of every matrix of measures."""
    found = [SurfaceTest(f"language_{slug(n)}", f"{n} text", f"in {n} text", "language", 1) for n in LANGUAGES]
    found.append(SurfaceTest("language_not_english", "text in other languages than English", "", "language"))
    found.append(SurfaceTest("language_switch", "text that switches language part way", "", "language", 2))
    found += [SurfaceTest(n, label, setting, "manner") for n, (label, setting, _) in MANNER.items()]
    found += [
        SurfaceTest(f"topic_{n}", label, setting, "topic", TOPIC_WORDS) for n, (label, setting, _) in TOPICS.items()
    ]
    found += [SurfaceTest(p.name, p.label, p.setting, "pattern", p.least, p.spot) for p in PATTERNS]
    found += [SurfaceTest(name, label, "", "shape") for name, label in _SHAPES.items()]
    found += [SurfaceTest(n, label, "", "casing", least, spot) for n, (label, least, spot) in _CASING.items()]
    return tuple(found)


@cache
def index() -> dict[str, int]:
    """Column of each test by its name."""
    return {test.name: i for i, test in enumerate(tests())}


@dataclass(frozen=True)
class Measures:
    """What the tests find in one text: `amount` float32[tests], 1 and more when the text has it; `spans` by column."""

    amount: NDArray[np.float32]
    spans: dict[int, Spans]

    def inside(self, places: NDArray[np.int32]) -> NDArray[np.bool_]:
        """bool[places, tests]: is the character in a span of the test."""
        held = np.zeros((len(places), len(self.amount)), bool)
        for column, found in self.spans.items():
            starts, ends = np.array(sorted(found), np.int64).T
            at = np.searchsorted(starts, places, side="right") - 1
            held[:, column] = (at >= 0) & (places < np.maximum.accumulate(ends)[np.maximum(at, 0)])
        return held


def measure(text: Units, only: frozenset[str] | None = None) -> Measures:
    """All tests of a text, or those named `only`."""
    found: dict[str, Spans] = {}
    if only is None or any(name.startswith("language_") for name in only):
        _languages(text, found)
    _lists(text, found)
    for pattern in PATTERNS:
        if (only is None or pattern.name in only) and (got := pattern.find(text.text)):
            found[pattern.name] = got
    _casing(text, found)
    _shape(text, found)
    amount = np.zeros(len(tests()), np.float32)
    by_column = {}
    for name, got in found.items():
        column = index()[name]
        by_column[column] = got
        amount[column] = _amount(tests()[column], got, text)
    return Measures(amount, by_column)


def _amount(test: SurfaceTest, found: Spans, text: Units) -> float:
    if test.family == "topic":
        different = len({text.text[a:b].lower() for a, b in found})
        return min(different / test.least, 100 * len(found) / max(len(text.words), 1) / TOPIC_RATE)
    return len(found) / test.least


def _languages(text: Units, found: dict[str, Spans]) -> None:
    by_language = spans(text.text, text.lower, text.starts)
    other: Spans = []
    for language, got in by_language.items():
        found[f"language_{slug(language)}"] = got
        other += got
    if other:
        found["language_not_english"] = other
    covered = sum(b - a for a, b in other)
    size = max(len(text.text), 1)
    parts = sum(sum(b - a for a, b in got) > 0.15 * size for got in by_language.values())
    if parts + (covered < 0.85 * size) >= 2:
        found["language_switch"] = [*other, (0, 0)]


def _lists(text: Units, found: dict[str, Spans]) -> None:
    by_word = _list_words()
    for word, start, end in zip(text.lower, text.starts.tolist(), text.ends.tolist(), strict=True):
        for name in by_word.get(word, ()):
            found.setdefault(name, []).append((start, end))


@cache
def _list_words() -> dict[str, list[str]]:
    by_word: dict[str, list[str]] = {}
    for name, (_, _, words) in [*MANNER.items(), *((f"topic_{n}", t) for n, t in TOPICS.items())]:
        for word in sorted(set(words.split())):
            by_word.setdefault(word, []).append(name)
    return by_word


_SHAPES = {
    "very_short": "very short text of a line or two",
    "long_text": "long text",
    "no_capitals": "text all in lower case",
    "no_punctuation": "text without punctuation",
    "many_lines": "text of many short lines",
    "repetition": "text that repeats itself",
}
_CASING = {
    "all_caps": ("words in ALL CAPITALS", 2, False),
    "capitalised": ("capitalised names", 1, True),
    "mixed_case": ("camelCase identifiers", 1, False),
    "underscored": ("snake_case identifiers", 1, False),
    "line_start": ("first word of a line", 1, True),
    "line_break": ("line breaks", 1, False),
    "paragraph_break": ("breaks between paragraphs", 1, False),
    "text_start": ("the start of the text", 1, True),
    "text_end": ("the end of the text", 1, True),
    "first_sentence": ("the first sentence of the text", 1, True),
    "last_sentence": ("the last sentence of the text", 1, True),
    "sentence_start": ("first word of a sentence", 1, True),
    "sentence_end": ("end of a sentence", 1, True),
}
_SENTENCE = re.compile(r"[^\s.!?][^.!?\n]*(?:\.(?=\d)[^.!?\n]*)*[.!?\n]?")


def _casing(text: Units, found: dict[str, Spans]) -> None:
    places = list(zip(text.words, text.starts.tolist(), text.ends.tolist(), strict=True))
    start_of_line, start_of_sentence = True, True
    for word, a, b in places:
        first = word[0]
        if word == BREAK:
            found.setdefault("line_break", []).append((a, b))
            if text.text.count("\n", a, b) > 1:
                found.setdefault("paragraph_break", []).append((a, b))
            start_of_line = start_of_sentence = True
            continue
        is_word = first.isalnum()
        if start_of_line:
            found.setdefault("line_start", []).append((a, b))
        if is_word and start_of_sentence:
            found.setdefault("sentence_start", []).append((a, b))
        if first.isupper():
            if len(word) > 1 and word.isupper():
                found.setdefault("all_caps", []).append((a, b))
            elif not start_of_sentence:
                found.setdefault("capitalised", []).append((a, b))
        if "_" in word and len(word) > 2 and is_word:
            found.setdefault("underscored", []).append((a, b))
        elif first.islower() and word.isascii() and not word.islower() and word.isalpha():
            found.setdefault("mixed_case", []).append((a, b))
        start_of_line = False
        if first in ".!?":
            found.setdefault("sentence_end", []).append((a, b))
            start_of_sentence = True
        elif is_word:
            start_of_sentence = False
    if places:
        found["text_start"] = [(0, places[min(4, len(places) - 1)][2])]
        found["text_end"] = [(places[max(-5, -len(places))][1], len(text.text) + 1)]
        if len(places) > 40:
            size = len(text.text)
            opening = _SENTENCE.search(text.text)
            found["first_sentence"] = [(0, opening.end() if opening else 0)]
            last = max((m.start() for m in _SENTENCE.finditer(text.text, max(0, size - 400))), default=size)
            found["last_sentence"] = [(last, size + 1)]


def _shape(text: Units, found: dict[str, Spans]) -> None:
    words = [w for w in text.lower if w[0].isalnum()]
    whole: Spans = [(0, len(text.text) + 1)]
    if not words:
        return
    if len(words) <= 25:
        found["very_short"] = whole
    if len(words) >= 250:
        found["long_text"] = whole
    letters = sum(map(str.isalpha, text.text))
    if letters >= 20 and not any(map(str.isupper, text.text)) and any(map(str.islower, text.text)):
        found["no_capitals"] = whole
    if len(words) >= 8 and not re.search(r"[.,;:!?。，]", text.text):
        found["no_punctuation"] = whole
    lines = text.text.count("\n") + 1
    if lines >= 6 and len(words) / lines < 8:
        found["many_lines"] = whole
    if len(words) >= 60:
        runs = list(zip(words, words[1:], words[2:], words[3:], strict=False))
        if len(set(runs)) < 0.6 * len(runs):
            found["repetition"] = whole


def slug(name: str) -> str:
    """A test's name from a language's: letters and single underscores."""
    return re.sub(r"\W+", "_", name.lower()).strip("_")
