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
from saeray.labels.units import Units, units

Float64 = NDArray[np.float64]


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


def _surface(name: str, texts: Sequence[Units]) -> Float64:
    if name not in index():
        raise SaerayError(f"no surface test is called {name!r}; make the labels again with `saeray labels auto`")
    only = frozenset([name])
    amounts = np.array([measure(text, only).amount[index()[name]] for text in texts], float)
    return np.asarray(np.minimum(1.0, amounts / 2))


def _occurrences(phrases: Sequence[tuple[str, ...]], text: Units) -> int:
    return sum(text.counts[one[0]] if len(one) == 1 else _runs(one, text) for one in phrases)


def _runs(phrase: tuple[str, ...], text: Units) -> int:
    """How often the words of a phrase follow each other."""
    if not all(word in text.counts for word in phrase):
        return 0
    words, wanted, count, at = text.lower, list(phrase), 0, -1
    for _ in range(text.counts[phrase[0]]):
        at = words.index(phrase[0], at + 1)
        count += words[at : at + len(wanted)] == wanted
    return count
