"""Texts that join two unrelated properties, composed from small grammars, to be hidden among real documents.

A property is a *content* (what the sentences say, or in which language) or a *form* (what is done with sentences). Any
content in any form is a text with both; the content in plain prose and neutral sentences in the form are its controls,
which tell whether a latent stands for the one property or for the other. Sentences, their order and the words in their
gaps are drawn, so that no two texts are alike and no turn of phrase stands in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from saeray.evaluate.injected_words import (
    ACADEMIC,
    CONTENTS,
    EMOJI,
    FILLERS,
    GAPS,
    HASHTAGS,
    NEUTRAL,
    PIRATE,
    SLANG,
    STEPS,
)

Form = Callable[[Sequence[str], Random], str]
_GAP = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Kind:
    """A pair of properties. `first`, `second`: words of which some label of a latent for the content, and for the
    form, is expected to hold one; committed before any run."""

    name: str
    content: str
    form: str
    first: tuple[str, ...]
    second: tuple[str, ...]

    def texts(self, n: int, seed: int) -> list[str]:
        """`n` different texts with both properties."""
        return _different(lambda rng: FORMS[self.form](_sentences(CONTENTS[self.content], rng), rng), n, self, seed, 0)

    def controls(self, n: int, seed: int) -> tuple[list[str], list[str]]:
        """`n` texts with the content alone, and `n` with the form alone."""
        first = _different(lambda rng: " ".join(_sentences(CONTENTS[self.content], rng)), n, self, seed, 1)
        second = _different(lambda rng: FORMS[self.form](_sentences(NEUTRAL, rng), rng), n, self, seed, 2)
        return first, second


def _emoji(sentences: Sequence[str], rng: Random) -> str:
    return " ".join(f"{one} {''.join(rng.choices(EMOJI, k=rng.randint(1, 3)))}" for one in sentences)


def _hashtags(sentences: Sequence[str], rng: Random) -> str:
    tags = rng.sample(HASHTAGS, rng.randint(2, 4))
    return f"{' '.join(sentences)} {' '.join('#' + tag for tag in tags)}"


def _slang(sentences: Sequence[str], rng: Random) -> str:
    frames = rng.sample(SLANG, len(sentences))
    return " ".join(frame.format(_lower(one)) for frame, one in zip(frames, sentences, strict=True))


def _pirate(sentences: Sequence[str], rng: Random) -> str:
    swapped = (re.sub(r"\b(the|you|is|are|my|your)\b", lambda m: PIRATE[m.group()], one) for one in sentences)
    return " ".join(f"{rng.choice(FILLERS)} {_lower(one)}" if rng.random() < 0.7 else one for one in swapped)


def _academic(sentences: Sequence[str], rng: Random) -> str:
    frames = rng.sample(ACADEMIC, len(sentences))
    return " ".join(frame.format(_lower(one)[:-1]) for frame, one in zip(frames, sentences, strict=True))


def _recipe(sentences: Sequence[str], rng: Random) -> str:
    opening = rng.choice(("Steps:", "How to do it:", "Instructions", "What to do:"))
    steps = (f"{i}. {rng.choice(STEPS)} {_lower(one)}" for i, one in enumerate(sentences, 1))
    return opening + "\n" + "\n".join(steps)


def _table(sentences: Sequence[str], rng: Random) -> str:
    rows = (
        f"| {i} | {one.rstrip('.')} | {rng.choice(('yes', 'no', 'partly'))} |" for i, one in enumerate(sentences, 1)
    )
    head = rng.choice(("| No | Entry | Checked |", "| # | Note | Done |", "| Row | Remark | Sure |"))
    return f"{head}\n|---|---|---|\n" + "\n".join(rows)


def _shouted(sentences: Sequence[str], rng: Random) -> str:
    return " ".join(one.rstrip(".").upper() + "!" * rng.randint(1, 3) for one in sentences)


FORMS: dict[str, Form] = {
    "emoji": _emoji,
    "hashtags": _hashtags,
    "slang": _slang,
    "pirate": _pirate,
    "academic": _academic,
    "recipe": _recipe,
    "table": _table,
    "shouted": _shouted,
}
#: The first four are those that defaults were chosen on; the others were written down for the final figures alone.
KINDS = tuple(
    Kind(name, content, form, tuple(first.split()), tuple(second.split()))
    for name, content, form, first, second in (
        ("croatian with emoji", "croatian", "emoji", "croatian serbian bosnian slav", "emoji"),
        ("baseball in slang", "baseball", "slang", "baseball sport game inning pitch", "slang like omg totally"),
        (
            "astronomy as numbered steps",
            "astronomy",
            "recipe",
            "star space planet galax astronom",
            "number list recipe step",
        ),
        (
            "market politics in academic prose",
            "markets",
            "academic",
            "econom politic tax market govern",
            "academic paper argu research citation",
        ),
        ("indonesian with hashtags", "indonesian", "hashtags", "indonesian malay", "hashtag # tweet"),
        ("volcanoes in a table", "volcanoes", "table", "volcan lava erupt magma geolog", "table"),
        ("knitting in capitals", "knitting", "shouted", "knit yarn sew wool craft", "capital exclamation shout"),
        ("chess as a pirate", "chess", "pirate", "chess game rook pawn", "pirate archaic ship arr ye"),
    )
)


def _different(make: Callable[[Random], str], n: int, kind: Kind, seed: int, part: int) -> list[str]:
    rng = Random(f"{kind.name}/{seed}/{part}")
    found: dict[str, None] = {}
    while len(found) < n:
        found[make(rng)] = None
    return list(found)


def _sentences(pool: Sequence[str], rng: Random) -> list[str]:
    """Three to five of a pool, in any order, with their gaps filled."""
    return [_GAP.sub(lambda gap: rng.choice(GAPS[gap.group(1)]), one) for one in rng.sample(pool, rng.randint(3, 5))]


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]
