"""Names cut down to what tells: the words of a name that carry its difference, and topics whose words keep company.

A name of several words is found where any of them stands, so "‘while’, ‘you’ or ‘they’" may differ by ‘while’ alone.
And a list of words is a topic only if texts that have one of them tend to have the others: "vary, around, methods"
stand together hardly more often than chance has it, and tell nobody anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb

from saeray.analysis.diff.names import Test
from saeray.labels.facts import STOP
from saeray.labels.units import Units
from saeray.labels.words import quoted, stem

Bool = NDArray[np.bool_]
Int64 = NDArray[np.int64]

#: What a further word must add to the difference of a name to stay in it, or what part of that: words of a subject add
#: up in small steps ("demon", "devil", "evil"). A function word that adds less than the noise of 100 texts a side is
#: there by chance.
ADDS, PART, SMALL_WORD_ADDS = 0.02, 0.1, 0.05
#: How many times as often as by chance several words of a topic must stand in one text. Of "vary, around, methods" and
#: its like 1.0 to 1.5, of "interviews, documentary, film" 2, of recipes and farmers more than 5.
TOGETHER = 1.7
#: A search that differs by less than this part of itself where another finds nothing repeats the other.
LEFT = 0.34


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
        small = all(word in STOP for word in of([one])["words"])
        if more >= size + (SMALL_WORD_ADDS if small else min(ADDS, PART * abs(size))):
            kept, size = [*kept, one], more
    if len(kept) == len(stems):
        return text, test
    shown = quoted([next(word for word in test["words"] if stem(word) == one) for one in stems if one in kept])
    return f"the word {shown}" if len(kept) == 1 and kept[0][0].isalpha() else shown, of(kept)


def keeps_company(test: Test, texts: Sequence[Units], stratum: Int64) -> bool:
    """Whether a test of terms is of a topic: as many of them as it asks stand in one text `TOGETHER` times as often as
    if each term came alone, among texts of like length. Tests of another kind are.

    Counted are sets of terms, not texts that have any set: of eight terms that stand in half of the texts on a topic,
    and in no other, alone as many texts would have two by chance, though each two stand together five times as often.
    """
    if test.get("kind") != "terms":
        return True
    held = [[term in text.counts for term in test["terms"]] for text in texts]
    has = np.array(held, np.float64).reshape(len(texts), -1 if held else 0)
    least = max(int(test.get("least", 1)), 1)
    expected = sum(
        float((stratum == j).sum()) * sets_of(has[stratum == j].mean(axis=0), least) for j in np.unique(stratum)
    )
    return bool(comb(has.sum(axis=1), least).sum() >= TOGETHER * expected)


def sets_of(chances: NDArray[np.float64], k: int) -> float:
    """How many sets of k independent events happen, on average: the elementary symmetric polynomial."""
    tally = np.zeros(k + 1)
    tally[0] = 1.0
    for chance in chances:
        tally[1:] += tally[:-1] * chance
    return float(tally[k])


def repeats(starts: Sequence[Int64], ends: Int64, passes: Sequence[Bool], difference: Callable[[Bool], float]) -> Bool:
    """bool[searches, searches], [i, j]: search j says nothing beside another one, i, for without the places that i
    finds too less than `LEFT` of its difference is left. Ends tell nothing: an opening "Sure" is found with what
    follows.

    `starts`: of each search the places it finds, numbered over all texts; `ends`: of each text the number after its
    last place; `passes`: of each search the texts that pass it, bool[documents] (two capitals or more, when it marks
    each); `difference`: by how much a search differs that is found in some texts alone, bool[documents].
    """
    n = len(starts)
    found = np.zeros((n, n), np.bool_)
    for j, own in enumerate(starts):
        whole = difference(passes[j])
        for i, other in enumerate(starts):
            left = np.setdiff1d(own, other, assume_unique=True)
            if i != j and left.size < own.size:
                found[i, j] = difference(passes[j] & _texts_of(left, ends)) < LEFT * whole
    return found


def _texts_of(places: Int64, ends: Int64) -> Bool:
    there = np.zeros(ends.size, np.bool_)
    there[np.searchsorted(ends, places, side="right")] = True
    return there
