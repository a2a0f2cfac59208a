"""What every pattern is: a name, the words a person would use, and the expression that finds it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

Spans = list[tuple[int, int]]


@dataclass(frozen=True)
class Pattern:
    """`least` matches of `regex` make a text have the property; `needs`: one of these strings must be there (a cheap
    look before the expression is run). `joined`: the place from the first to the last match counts as inside.
    A group in `regex` is the place where the whole match is only what it is found by."""

    name: str
    label: str
    setting: str
    regex: str
    least: int = 1
    needs: tuple[str, ...] = ()
    spot: bool = False
    joined: bool = False
    flags: int = re.M

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        return re.compile(self.regex, self.flags)

    def find(self, text: str) -> Spans:
        """Characters (start, end) of the matches."""
        if self.needs and not any(need in text for need in self.needs):
            return []
        found = [match.span(match.lastindex or 0) for match in self.compiled.finditer(text)]
        if self.joined and len(found) > self.least:
            whole = (found[0][0], found[-1][1])
            return [whole, *([(whole[1], whole[1])] * (len(found) - 1))]
        return found


def code(name: str, label: str, regex: str, needs: tuple[str, ...], least: int = 3) -> Pattern:
    """A programming language, which takes some lines to know."""
    return Pattern(f"code_{name}", f"{label} code", f"in {label} code", regex, least, needs, joined=True)


def said(name: str, label: str, setting: str, regex: str, needs: tuple[str, ...] = (), least: int = 1) -> Pattern:
    """Something said, in any case."""
    return Pattern(name, label, setting, regex, least, needs, flags=re.M | re.I)
