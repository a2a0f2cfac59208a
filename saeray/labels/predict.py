"""A label's own test applied to texts that the labeller never saw: does the latent's reason stand in the text?

A label that cannot tell active documents from silent ones is a story. Each automatic label carries a test in its
evidence; this is what the test says of a text, the same for scoring as for choosing among candidates.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saeray.errors import SaerayError
from saeray.labels.surface import index, measure
from saeray.labels.surface import tests as surface_tests
from saeray.labels.units import Units, units

Float64 = NDArray[np.float64]
Spans = list[tuple[int, int]]

#: Surface tests of these families hold of a whole text and are at no place in it.
OF_WHOLE_TEXTS = frozenset(["language", "shape"])


def test_in(evidence: str | None) -> dict[str, Any] | None:
    """The test that a label's evidence holds, or None."""
    found = json.loads(evidence) if evidence else None
    test = found.get("test") if isinstance(found, dict) else None
    return test if isinstance(test, dict) else None


def predict(test: dict[str, Any], texts: Sequence[str]) -> Float64:
    """float64[texts] in [0, 1]: how much `test` says that the latent is active; 0.5 and more means it does.

    {"kind": "words", "words": [...]}: 0.5 for one occurrence of any of the words or phrases (words with spaces between
    them), 0.75 for two, and so on. {"kind": "terms", "terms": [...], "least": k}: 0.5 for k different terms, 1 for 2k.
    {"kind": "surface", "name": ...}: 0.5 from where the surface test holds. {"kind": "all", "of": [tests]}: the least
    of their scores. {"kind": "none"}: 0. Raises SaerayError for another kind or an unknown surface test.
    """
    return predict_units(test, [units(text) for text in texts])


def predict_units(test: dict[str, Any], texts: Sequence[Units]) -> Float64:
    """`predict` for texts that are cut into units already, so that many tests share the cutting."""
    kind = test.get("kind")
    if kind == "words":
        found = [tuple(word.split(" ")) for word in test["words"]]
        return 1 - 0.5 ** np.array([_occurrences(found, text) for text in texts], float)
    if kind == "terms":
        terms, least = set(test["terms"]), max(int(test.get("least", 1)), 1)
        different = np.array([sum(term in text.counts for term in terms) for text in texts], float)
        return np.asarray(np.minimum(1.0, different / (2 * least)))
    if kind == "surface":
        return _surface(str(test["name"]), texts)
    if kind == "all" and test["of"]:
        return np.asarray(np.min([predict_units(one, texts) for one in test["of"]], axis=0))
    if kind == "none":
        return np.zeros(len(texts))
    raise SaerayError(
        f"a label's test is of an unknown kind: {kind!r}; make the labels again with `saeray labels auto`"
    )


def places(tests: Sequence[dict[str, Any]], text: Units) -> list[Spans]:
    """Of each test the characters (start, end) of what it finds in a text, in order, none inside another; [] where it
    finds nothing or is of the whole text. See `predict` for the tests."""
    wanted = frozenset(name for test in tests for name in _surfaces(test))
    spans = measure(text, wanted).spans if wanted else {}
    return [_outermost(_places(test, text, spans)) for test in tests]


def _places(test: dict[str, Any], text: Units, spans: dict[int, Spans]) -> Spans:
    kind = test.get("kind")
    found: Spans = []
    if kind == "words":
        for phrase in test["words"]:
            wanted = phrase.split(" ")
            found += [_span(text, at, len(wanted)) for at in _starts(wanted, text)]
    elif kind == "terms":
        terms = set(test["terms"])
        found = [_span(text, at, 1) for at, word in enumerate(text.lower) if word in terms]
    elif kind == "surface":
        found = [span for name in _surfaces(test) for span in spans.get(index()[name], [])]
    elif kind == "all":
        found = [span for one in test["of"] for span in _places(one, text, spans)]
    return found


def _surfaces(test: dict[str, Any]) -> list[str]:
    """The surface tests within a test that have places."""
    parts = test["of"] if test.get("kind") == "all" else [test]
    names = [str(part["name"]) for part in parts if part.get("kind") == "surface"]
    return [name for name in names if name in index() and surface_tests()[index()[name]].family not in OF_WHOLE_TEXTS]


def _surface(name: str, texts: Sequence[Units]) -> Float64:
    if name not in index():
        raise SaerayError(f"no surface test is called {name!r}; make the labels again with `saeray labels auto`")
    only = frozenset([name])
    amounts = np.array([measure(text, only).amount[index()[name]] for text in texts], float)
    return np.asarray(np.minimum(1.0, amounts / 2))


def _occurrences(phrases: Sequence[tuple[str, ...]], text: Units) -> int:
    return sum(text.counts[one[0]] if len(one) == 1 else len(_starts(one, text)) for one in phrases)


def _starts(phrase: Sequence[str], text: Units) -> list[int]:
    """The units at which the words of a phrase follow each other."""
    if not all(word in text.counts for word in phrase):
        return []
    words, wanted, found, at = text.lower, list(phrase), [], -1
    for _ in range(text.counts[phrase[0]]):
        at = words.index(phrase[0], at + 1)
        if words[at : at + len(wanted)] == wanted:
            found.append(at)
    return found


def _span(text: Units, at: int, size: int) -> tuple[int, int]:
    return int(text.starts[at]), int(text.ends[at + size - 1])


def _outermost(spans: Spans) -> Spans:
    """Spans in order, without empty ones and those inside another."""
    kept: Spans = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if end > start and (not kept or end > kept[-1][1]):
            kept.append((start, end))
    return kept
