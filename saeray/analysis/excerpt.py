"""The sentence around a token: what a person needs to see to judge a latent, and no more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

#: Longer than any token of the tokenizers in use; a longer span is the unread rest of a truncated text.
LONGEST_TOKEN = 64
#: A sentence's end with the space after it (the stop of "14. Stay in touch" is none), or a line's end.
_END = re.compile(r"(?:(?<!\d)\.|[!?…])[\"'”’)\]]*\s+|[。！？]|\n+")
_SPACE = re.compile(r"\s")


@dataclass(frozen=True)
class Excerpt:
    """`before + peak + after` is a piece of the text; `cut_left`, `cut_right`: its sentence goes on there. `also`:
    further marked places, characters (start, end) of that piece, in order and outside the peak."""

    before: str
    peak: str
    after: str
    cut_left: bool = False
    cut_right: bool = False
    also: tuple[tuple[int, int], ...] = ()


def token_span(token_starts: NDArray[np.int32], peak: int, text: str) -> tuple[int, int]:
    """Characters (start, end) of the peak token in `text`: up to the next start that is further on, or the text's end.

    Tokens that split one character (an emoji of several byte tokens) share its start and all span the whole character.
    """
    start = int(token_starts[peak])
    later = int(np.searchsorted(token_starts, start, side="right"))
    end = int(token_starts[later]) if later < len(token_starts) else len(text)
    if end - start > LONGEST_TOKEN:
        space = _SPACE.search(text, start + 1, start + LONGEST_TOKEN)
        end = space.start() if space else start + LONGEST_TOKEN
    return start, end


def excerpt(text: str, start: int, end: int, width: int = 200) -> Excerpt:
    """The sentence or line that holds text[start:end], with its neighbours while all fits in `width` characters.

    A longer sentence is cut at words, the token about in its middle.
    """
    near, far = max(0, start - 2 * width), min(len(text), end + 2 * width)
    ends = [near, *(m.end() for m in _END.finditer(text, near, far)), far]
    left = max((e for e in ends if e <= start), default=near)
    right = min((e for e in ends if e >= end), default=far)
    if right - left <= width:
        for e in (e for e in ends if e > right):
            if e - left > width:
                break
            right = e
        for e in reversed([e for e in ends if e < left]):
            if right - e > width:
                break
            left = e
        return Excerpt(text[left:start].lstrip(), text[start:end], text[end:right].rstrip())
    room = max(0, width - (end - start))
    low, high = max(left, start - room // 2), min(right, end + room // 2)
    unused = room - (start - low) - (high - end)
    low, high = max(left, low - unused), min(right, high + unused)
    if cut_left := low > left:
        low = _word_start(text, low, start)
    if cut_right := high < right:
        high = _word_end(text, end, high)
    return Excerpt(text[low:start].lstrip(), text[start:end], text[end:high].rstrip(), cut_left, cut_right)


def around(text: str, places: Sequence[tuple[int, int]], near: int) -> Excerpt:
    """The excerpt about the place that is nearest to character `near`, with all `places` in it marked; a long place by
    its beginning. `places`: (start, end), in order, at least one."""
    short = [(start, _beginning(text, start, end)) for start, end in places]
    chosen = min(short, key=lambda place: max(place[0] - near, near - place[1], 0))
    found = excerpt(text, *chosen)
    first = chosen[0] - len(found.before)
    last = chosen[1] + len(found.after)
    inside = (place for place in short if place != chosen and first <= place[0] and place[1] <= last)
    return replace(found, also=tuple((start - first, end - first) for start, end in inside))


def _beginning(text: str, start: int, end: int) -> int:
    """Where a long place is cut: after a word."""
    return end if end - start <= LONGEST_TOKEN else _word_end(text, start + 1, start + LONGEST_TOKEN)


def normalised(token: str) -> str:
    """A token as it is counted: no surrounding space, no case; a mark for one that is only space.

    It is printed in terminals, where an escape sequence would act: what does not print becomes U+FFFD.
    """
    word = "".join(c if c.isprintable() else "\ufffd" for c in token.strip().casefold())
    return word or ("↵" if "\n" in token else "␣")


def _word_start(text: str, at: int, limit: int) -> int:
    space = _SPACE.search(text, at, limit)
    return space.end() if space and space.end() - at < 30 else at


def _word_end(text: str, limit: int, at: int) -> int:
    for i in range(at, max(limit, at - 30), -1):
        if text[i - 1].isspace():
            return i
    return at
