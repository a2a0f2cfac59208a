"""Which labels are of syntax alone: marks, function words, bare grammatical forms, places in a text.

"Full stops" travels with everything. Labels with evidence are judged by the test they rest on; others by their words
and by the tokens that the latent peaks on, where those are known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pyarrow.compute as pc

from saeray.labels.facts import STOP
from saeray.labels.meanings import Meanings

#: Surface tests that say how a sentence is built, and nothing of what it says or what kind of text it is in.
GRAMMAR = frozenset(
    """articles prepositions be_have conjunctions pronouns possessive_pronouns demonstratives relatives degree_words
    third_person modals negation contrast_words addition comparison
    quantities number_words question_words number big_number decimal ordinal question_mark ellipsis
    parenthesis bracket semicolon colon before_colon before_comma before_stop dash hyphenated slash quotation
    possessive contraction spaced_marks initials conditional purpose passive past_tense progressive adverb
    superlative very_short long_text many_lines short_label line_start line_break paragraph_break text_start text_end
    first_sentence last_sentence sentence_start sentence_end item_first_word capitalised mixed_case""".split()  # noqa: SIM905
)
#: Share of the peak tokens with a letter outside the function words below which a label of words is of syntax.
LEAST_CONTENT = 0.34
_WORDS = re.compile(
    r"\b(?:punctuation|commas?|full stops?|periods?|semicolons?|colons?|apostrophes?|parenthes[ei]s|brackets?|hyphens?"
    r"|dashes|quotation marks?|line breaks?|newlines?|white ?space|function words?|articles?|prepositions?"
    r"|conjunctions?|pronouns?|determiners?|auxiliar(?:y|ies)|copulas?|suffix(?:es)?|prefix(?:es)?|plural|verb tense"
    r"|past tense|grammatical|capitali[sz]ation|(?:end|start) of (?:a |the )?sentence|stop ?words?)\b",
    re.I,
)
_QUOTED = re.compile(r"[‘'\"“]([^’'\"”]+)[’'\"”]")


def syntactic(meanings: Meanings, latents: Sequence[int]) -> set[int]:
    """Those of `latents` whose best label is of syntax. A latent without a label is none."""
    evidence = _evidence(meanings, latents)
    found = set()
    for latent in latents:
        text = meanings.labels.get(latent)
        if text is not None and is_syntactic(text, *evidence.get(latent, (None, {}))):
            found.add(latent)
    return found


def is_syntactic(text: str, kind: str | None, evidence: dict[str, Any]) -> bool:
    """Whether a label is of syntax: by its kind and test where it has them, else by its words."""
    test = evidence.get("test") or {}
    if test.get("kind") == "surface":
        return test.get("name") in GRAMMAR
    if kind == "position":
        return True
    if test.get("kind") == "words":
        return all(_plain(word) for word in test["words"])
    if test.get("kind") in ("terms", "all"):
        return False
    tokens = evidence.get("tokens") or []
    seen = sum(share for _, share in tokens)
    if seen >= 0.5 and sum(share for token, share in tokens if not _plain(token)) < LEAST_CONTENT * seen:
        return True
    quoted = _QUOTED.findall(text)
    return bool(_WORDS.search(_QUOTED.sub("", text))) or bool(quoted and all(_plain(word) for word in quoted))


def _plain(words: str) -> bool:
    """Only function words, marks and digits."""
    return all(word in STOP or not any(c.isalpha() for c in word) for word in words.casefold().split())


def _evidence(meanings: Meanings, latents: Sequence[int]) -> dict[int, tuple[str | None, dict[str, Any]]]:
    """Kind and evidence of each latent's best label, where the store says more than its text."""
    if meanings.store is None:
        return {}
    table = meanings.store.table()
    found: dict[int, tuple[str | None, dict[str, Any]]] = {}
    wanted = set(latents)
    names = ("latent", "text", "kind", "evidence")
    rows = table.filter(pc.is_valid(table.column("text"))).select(names)
    for latent, text, kind, evidence in zip(*(rows.column(name).to_pylist() for name in names), strict=True):
        if latent in wanted and text == meanings.labels.get(latent):
            found.setdefault(latent, (kind, json.loads(evidence) if evidence else {}))
    return found
