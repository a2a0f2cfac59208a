"""A text as people see it: whole words, marks and line breaks, each with its place.

A latent peaks on a token, and tokens cut words ("apolog" + "ize"), so words are counted by unit: a word with its
apostrophe, a run of one mark ("**", "..."), one character of Chinese, Japanese or Thai, a line break.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

#: A line break with the indent after it, as it stands among the words.
BREAK = "↵"
# Marks of Hebrew, Arabic and the Indian scripts are no \w for Python, though they stand inside words.
_WORD = r"[\w\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff]"
_UNIT = re.compile(
    r"\n\s*|[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]"
    rf"|(?:(?![\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]){_WORD})+(?:['’](?=[^\W\d_]){_WORD}+)*"
    r"|([^\w\s])\1*"
)


@dataclass(frozen=True)
class Units:
    """`words`: the units of `text` as written, a break as `BREAK`; `starts`, `ends`: int32, their characters."""

    text: str
    words: list[str]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]

    @cached_property
    def lower(self) -> list[str]:
        """Units without case, with the plain apostrophe."""
        return [word.lower().replace("’", "'") for word in self.words]

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each of `lower` stands in the text."""
        return Counter(self.lower)

    def at(self, places: NDArray[np.int32]) -> NDArray[np.int32]:
        """Index of the unit at each character, or of the next one where a space is there; the last one at the end."""
        found = np.searchsorted(self.ends, places, side="right")
        return np.minimum(found, max(len(self.words) - 1, 0)).astype(np.int32)


def units(text: str) -> Units:
    """The units of a text, in order."""
    words, starts, ends = [], [], []
    for match in _UNIT.finditer(text):
        word = match.group()
        words.append(BREAK if "\n" in word else word)
        starts.append(match.start())
        ends.append(match.end())
    return Units(text, words, np.array(starts, np.int32), np.array(ends, np.int32))
