"""Which statements are of no use: those that name what is compared, or cannot be checked on one text alone.

A judge who reads "written by GPT-4" or "longer than the others" beside one text can only guess. The prompts ask for
statements without names; what a model does all the same is found here, by rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

#: Why a statement is refused.
EMPTY, NAMES, COMPARES = "empty", "names a data set, a model or a side", "compares with other texts"

_GROUPS = r"(?:groups?|sets?|sides?|data\s?sets?|corpus|corpora|collections?)"
_THINGS = rf"(?:models?|{_GROUPS}|texts?|answers?|responses?|outputs?|documents?|prompts?|replies)"
_SIDES = re.compile(
    rf"\b(?:first|second|other)\s+{_GROUPS}\b(?!\s+of)|\b{_GROUPS}\s+[AB12]\b"
    r"|\btarget\s+(?:sets?|sides?|data\s?sets?|corpus|texts?|model|answers?|responses?|documents?)\b"
    r"|\b(?:unlike|in|from|of|compared\s+(?:to|with))\s+the\s+others\b|\b(?:detectors?|latents?)\s+\d+",
    re.IGNORECASE,
)
_THAN = re.compile(
    rf"\bthan\s+(?:the\s+others\b|(?:the\s+|those\s+(?:in|of)\s+(?:the\s+)?)?other\s+{_THINGS}\b)", re.IGNORECASE
)
_WORD = re.compile(r"[^\W\d_]+")


def refuser(sides: Sequence[str]) -> Callable[[str], str | None]:
    """What says why a statement is refused, None when it is not. sides: their names, which are selectors.

    A selector, or one of its values, is a name wherever it stands, unless the value is a word of the language or a
    number ("French", "2024"): such a one is a name only where it is said of a source ("from the French set",
    "written by Claude"), since the text may well be in French.
    """
    names, words = _names(sides)
    patterns = [_anywhere(name) for name in names] + [_as_source(word) for word in words]

    def refused(statement: str) -> str | None:
        if not _WORD.search(statement):
            return EMPTY
        if _SIDES.search(statement) or any(pattern.search(statement) for pattern in patterns):
            return NAMES
        return COMPARES if _THAN.search(statement) else None

    return refused


def _names(sides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names that mean nothing else, and those that are words or numbers too."""
    names: set[str] = set()
    words: set[str] = set()
    for side in (one for whole in sides for one in re.split(r", | and ", whole)):
        dataset, _, conditions = side.removeprefix("the rest of ").partition(":")
        values = [value for one in conditions.split(",") for value in re.split(r"[=<>!^*|]+", one)[1:]]
        if conditions:
            names.add(side)
        for name in (dataset, *values):
            plain = name.strip()
            if plain:
                (words if _WORD.fullmatch(plain) or plain.isdigit() else names).add(plain)
    return sorted(names), sorted(words)


def _anywhere(name: str) -> re.Pattern[str]:
    """`name` with whatever stands between its parts."""
    parts = r"[\s_-]*".join(re.escape(part) for part in re.split(r"[\s_-]+", name) if part)
    return re.compile(rf"(?<!\w){parts}(?!\w)", re.IGNORECASE)


def _as_source(word: str) -> re.Pattern[str]:
    name = re.escape(word)
    made = r"(?:written|made|given|produced|generated|authored|taken|drawn)\s+(?:by|from)|typical\s+(?:of|for)"
    return re.compile(
        rf"\b(?:{made})\s+(?:the\s+)?{name}\b|\b{name}(?:'s)?\s+(?:models?|{_GROUPS})\b"
        rf"|\b(?:models?|{_GROUPS})\s+(?:called\s+|named\s+)?[\"'‘“]?{name}\b",
        re.IGNORECASE,
    )
