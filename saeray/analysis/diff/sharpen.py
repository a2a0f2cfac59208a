"""Names cut down to what tells: the words of a name that carry its difference, and topics whose words keep company.

A name of several words is found where any of them stands, so "‘while’, ‘you’ or ‘they’" may differ by ‘while’ alone.
And a list of words is a topic only if texts that have one of them tend to have the others: "vary, around, methods"
stand together hardly more often than chance has it, and tell nobody anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from saeray.analysis.diff.names import Test
from saeray.labels.predict import places
from saeray.labels.units import Units
from saeray.labels.words import quoted, stem

Bool = NDArray[np.bool_]

#: What a further word must add to the difference of a name to stay in it: less is within the noise of 100 texts a side.
ADDS = 0.05
#: How many times as often as by chance several words of a topic must stand in one text.
TOGETHER = 1.5
#: Texts in which it is looked up whether two searches find the same places, and how much they must share.
LOOKED_AT, SAME = 200, 0.5


def carried(text: str, test: Test, difference: Callable[[Test], float]) -> tuple[str, Test]:
    """A name and its test with the words alone that its difference rests on. `difference`: by how much a test holds
    more often on the side that has the latent more often."""
    stems = list(dict.fromkeys(map(stem, test["words"]))) if test.get("kind") == "words" else []
    if len(stems) < 2:
        return text, test

    def of(kept: Sequence[str]) -> Test:
        return test | {"words": [word for word in test["words"] if stem(word) in kept]}

    first, *others = sorted(stems, key=lambda one: -difference(of([one])))
    kept, size = [first], difference(of([first]))
    for one in others:
        more = difference(of([*kept, one]))
        if more >= size + ADDS:
            kept, size = [*kept, one], more
    if len(kept) == len(stems):
        return text, test
    shown = quoted([next(word for word in test["words"] if stem(word) == one) for one in stems if one in kept])
    return f"the word {shown}" if len(kept) == 1 and kept[0][0].isalpha() else shown, of(kept)


def keeps_company(test: Test, texts: Sequence[Units], stratum: NDArray[np.int64]) -> bool:
    """Whether a test of terms is of a topic: texts hold as many different ones as it asks `TOGETHER` times as often as
    if each term came alone, among texts of like length. Tests of another kind are."""
    if test.get("kind") != "terms":
        return True
    has = np.array([[term in text.counts for term in test["terms"]] for text in texts], np.float64)
    least = max(int(test.get("least", 1)), 1)
    expected = sum(
        float((stratum == j).sum()) * at_least(has[stratum == j].mean(axis=0), least) for j in np.unique(stratum)
    )
    return bool((has.sum(axis=1) >= least).sum() >= TOGETHER * expected)


def at_least(chances: NDArray[np.float64], k: int) -> float:
    """The chance that k or more of independent events happen: the tail of the Poisson binomial distribution."""
    tally = np.zeros(len(chances) + 1)
    tally[0] = 1.0
    for chance in chances:
        tally[1:] = tally[1:] * (1 - chance) + tally[:-1] * chance
        tally[0] *= 1 - chance
    return float(tally[k:].sum())


def same_places(tests: Sequence[Test], texts: Sequence[Units]) -> Bool:
    """bool[tests, tests]: which searches begin at the same characters, `SAME` of all that either of the two finds. Ends
    tell nothing: an opening "Sure" is found with the words after it."""
    both = np.zeros((len(tests), len(tests)))
    for text in texts:
        begins = np.zeros((len(tests), len(text.text)), np.float32)
        for row, spans in zip(begins, places(tests, text), strict=True):
            row[[start for start, _ in spans]] = 1
        both += begins @ begins.T
    found = np.diag(both)
    return np.asarray((both > 0) & (both >= SAME * (found[:, None] + found[None, :] - both)))
