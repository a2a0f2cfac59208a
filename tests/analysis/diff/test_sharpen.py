"""Promise: a name keeps the words alone that carry its difference, and a topic's words stand together."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saeray.analysis.diff.sharpen import ADDS, at_least, carried, keeps_company, same_places
from saeray.labels.units import units

WHILE = {"kind": "words", "words": ["while", "you", "they", "whiles"]}


def gaps(sizes):
    """The difference of any of some words, each in texts of its own."""
    return lambda test: sum(sizes.get(word, 0.0) for word in test["words"])


def test_a_word_that_adds_nothing_is_no_part_of_the_name():
    """‘you’ and ‘they’ are as frequent on both sides; the other form of ‘while’ goes with it."""
    text, test = carried("‘while’, ‘you’, ‘they’", WHILE, gaps({"while": 0.2, "they": ADDS / 2, "you": -0.3}))
    assert text == "the word ‘while’"
    assert test == {"kind": "words", "words": ["while", "whiles"]}


def test_words_that_add_stay_in_their_order():
    text, test = carried("‘while’, ‘you’, ‘they’ and the like", WHILE, gaps({"while": 0.1, "they": 0.3}))
    assert text == "‘while’, ‘they’"
    assert test["words"] == ["while", "they", "whiles"]


@pytest.mark.parametrize("sizes", [{"while": 0.2, "you": 0.2, "they": 0.2}, {"while": 0.06, "you": 0.3, "they": 0.06}])
def test_a_name_whose_words_all_carry_is_as_it_was(sizes):
    assert carried("hedging: ‘while’, ‘you’", WHILE, gaps(sizes)) == ("hedging: ‘while’, ‘you’", WHILE)


@pytest.mark.parametrize(
    "test", [{"kind": "words", "words": ["on the other hand"]}, {"kind": "surface", "name": "dash"}]
)
def test_other_names_are_as_they_were(test):
    assert carried("x", test, lambda test: 1 / 0) == ("x", test)


def test_terms_that_stand_together_are_a_topic():
    """Both words in the same texts against each in its own; at the same rates."""
    test = {"kind": "terms", "terms": ["sea", "ship"], "least": 2}
    together = [units("the sea and a ship" if i % 4 == 0 else "a road") for i in range(40)]
    apart = [units(["the sea", "a ship", "a road", "sea ship"][i % 4] if i % 8 else "a hill") for i in range(64)]
    strata = np.zeros(64, np.int64)
    assert keeps_company(test, together, strata[:40])
    assert not keeps_company(test, apart, strata)


def test_terms_of_long_texts_are_no_topic():
    """In long texts every word is more frequent: together by length alone is not together."""
    rng = np.random.default_rng(0)
    long = [" ".join(["x", *(w for w in ("sea", "ship") if rng.random() < 0.8)]) for _ in range(200)]
    texts = [units(text) for text in (*long, *["x"] * 200)]
    test = {"kind": "terms", "terms": ["sea", "ship"], "least": 2}
    assert keeps_company(test, texts, np.zeros(400, np.int64))
    assert not keeps_company(test, texts, np.repeat([0, 1], 200))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=6), st.integers(0, 7))
def test_at_least_is_the_sum_over_all_outcomes(chances, k):
    """Against every outcome written out."""
    expected = sum(
        np.prod([p if hit else 1 - p for p, hit in zip(chances, outcome, strict=True)])
        for outcome in itertools.product([0, 1], repeat=len(chances))
        if sum(outcome) >= k
    )
    assert at_least(np.array(chances), k) == pytest.approx(float(expected), abs=1e-12)


def test_searches_of_the_same_places_are_known():
    """The word at the start of answers and the pattern for such starts find the same; a word elsewhere does not."""
    texts = [
        units(text) for text in ("Sure, here is a list of towns", "Sure! A list", "A list of things", "surely a list")
    ]
    sure, opens = {"kind": "words", "words": ["sure"]}, {"kind": "surface", "name": "open_affirm"}
    listed = {"kind": "words", "words": ["list"]}
    found = same_places([sure, opens, listed, {"kind": "words", "words": ["absent"]}], texts)
    assert found[0, 1]
    assert found[1, 0]
    assert not found[2, :2].any()
    assert not found[3].any(), "what finds nothing is like nothing, itself included"
