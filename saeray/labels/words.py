"""Words as a label shows them: one of each stem, marks by their names, in quotation marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from saeray.labels.units import BREAK

#: What people call a mark; others are shown as they are.
MARKS = {
    BREAK: "line breaks",
    ",": "commas",
    ".": "full stops",
    ":": "colons",
    ";": "semicolons",
    "?": "question marks",
    "!": "exclamation marks",
    "(": "opening parentheses",
    ")": "closing parentheses",
    "[": "opening square brackets",
    "]": "closing square brackets",
    "{": "opening braces",
    "}": "closing braces",
    '"': "quotation marks",
    "“": "opening quotation marks",
    "”": "closing quotation marks",
    "'": "apostrophes or single quotes",
    "’": "apostrophes",
    "‘": "opening single quotes",
    "-": "hyphens",
    "--": "double hyphens, dashes",
    "–": "dashes",
    "—": "dashes",
    "...": "ellipsis dots",
    "…": "ellipsis dots",
    "*": "asterisks",
    "**": "bold marks **",
    "#": "hash marks",
    "##": "heading marks ##",
    "###": "heading marks ###",
    "|": "table bars |",
    "/": "slashes",
    "//": "double slashes",
    "\\": "backslashes",
    "$": "dollar signs",
    "%": "percent signs",
    "&": "ampersands",
    "@": "at signs @",
    "=": "equals signs",
    "==": "double equals signs",
    "+": "plus signs",
    "<": "less-than signs <",
    ">": "greater-than signs >",
    "`": "backticks",
    "``": "double backticks",
    "```": "code fences",
    "_": "underscores",
    "~": "tildes",
    "^": "carets",
    "•": "bullets",
    "€": "euro signs",
    "£": "pound signs",
    "°": "degree signs",
}
_ENDINGS = ("'s", "ingly", "edly", "ing", "ies", "ied", "ed", "es", "ly", "s", "e", "y")


@lru_cache(1 << 16)
def stem(word: str) -> str:
    """What the inflections of a word share, roughly: 'apologizes', 'apologizing' and 'apologize' are one."""
    for ending in _ENDINGS:
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= 3:
            if ending in ("ing", "ed") and len(rest) > 3 and rest[-1] == rest[-2] and rest[-1] not in "sl":
                return rest[:-1]
            return rest.removesuffix("e") if len(rest) > 3 else rest
    return word


def grouped(words: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """Words with shares, those of one stem added up under their commonest form; most share first, then first come."""
    groups: dict[str, list[tuple[str, float]]] = {}
    for word, share in words:
        groups.setdefault(stem(word), []).append((word, share))
    added = [(max(forms, key=lambda f: f[1])[0], sum(s for _, s in forms)) for forms in groups.values()]
    return sorted(added, key=lambda pair: -pair[1])


def quoted(words: Sequence[str]) -> str:
    """‘a’, ‘b’: words in single quotation marks, marks by their names, what does not print as U+FFFD."""
    return ", ".join(named(word) for word in words)


def named(word: str) -> str:
    """A word in quotation marks, or a mark's name."""
    return MARKS.get(word) or f"‘{printable(word)}’"


def printable(word: str) -> str:
    """At most 30 characters; escape sequences and the like would act in a terminal."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in word)
    return shown if len(shown) <= 30 else shown[:29] + "…"
