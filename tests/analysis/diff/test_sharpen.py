"""Promise: a name keeps the words alone that carry its difference, and a topic's words stand together."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saeray.analysis.diff.plain_tests import Texts
from saeray.analysis.diff.sharpen import ADDS, carried, keeps_company, repeats, sets_of
from saeray.labels.units import units

WHILE = {"kind": "words", "words": ["while", "you", "they", "whiles"]}


def words(*them):
    return {"kind": "words", "words": list(them)}


def gaps(sizes):
    """The difference of any of some words, each in texts of its own."""
    return lambda test: sum(sizes.get(word, 0.0) for word in test["words"])


def test_a_word_that_adds_nothing_is_no_part_of_the_name():
    """‘you’ and ‘they’ are as frequent on both sides; the other form of ‘while’ goes with it."""
    text, test = carried("‘while’, ‘you’, ‘they’", WHILE, gaps({"while": 0.2, "they": ADDS / 2, "you": -0.3}))
    assert text == "the word ‘while’"
    assert test == {"kind": "words", "words": ["while", "whiles"]}


def test_a_function_word_must_add_more():
    """Three points more are a subject's word, and chance for one that half of all texts have."""
    sizes = {"dog": 0.2, "cat": 0.03, "you": 0.03}
    text, test = carried("‘dog’, ‘cat’, ‘you’", words("dog", "cat", "you"), gaps(sizes))
    assert (text, test["words"]) == ("‘dog’, ‘cat’", ["dog", "cat"])


def test_words_of_a_subject_add_up_in_small_steps():
    """A point each is much beside two, and nothing beside thirty."""
    rare, frequent = {"evil": 0.02, "demon": 0.01}, {"evil": 0.3, "demon": 0.01}
    label = "‘evil’, ‘demon’", words("evil", "demon")
    assert carried(*label, gaps(rare)) == label
    assert carried(*label, gaps(frequent)) == ("the word ‘evil’", words("evil"))


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


def test_where_no_text_is_left_to_judge_by_a_list_of_terms_stays():
    """Of a handful of texts all may have proposed the words."""
    assert keeps_company({"kind": "terms", "terms": ["sea", "ship"], "least": 2}, [], np.zeros(0, np.int64))


def test_terms_of_long_texts_are_no_topic():
    """In long texts every word is more frequent: together by length alone is not together."""
    rng = np.random.default_rng(0)
    long = [" ".join(["x", *(w for w in ("sea", "ship") if rng.random() < 0.8)]) for _ in range(200)]
    texts = [units(text) for text in (*long, *["x"] * 200)]
    test = {"kind": "terms", "terms": ["sea", "ship"], "least": 2}
    assert keeps_company(test, texts, np.zeros(400, np.int64))
    assert not keeps_company(test, texts, np.repeat([0, 1], 200))


@pytest.mark.parametrize(("share", "rate"), [(0.2, 0.5), (0.2, 0.9), (0.5, 0.3)])
def test_a_clear_topic_is_a_topic(share, rate):
    """The clearer the topic the more of its words a text on it has: no reason to refuse it."""
    rng, terms = np.random.default_rng(0), ["add", "cup", "oil", "salt", "stir", "pan", "flour", "oven"]
    on_topic = [" ".join(["x", *(w for w in terms if rng.random() < rate)]) for _ in range(int(400 * share))]
    texts = [units(text) for text in (*on_topic, *["x"] * (400 - len(on_topic)))]
    assert keeps_company({"kind": "terms", "terms": terms, "least": 2}, texts, np.zeros(400, np.int64))


def test_words_that_come_alone_are_no_topic():
    """Drawn by themselves, however frequent."""
    rng, terms = np.random.default_rng(1), ["vary", "around", "methods", "order"]
    texts = [units(" ".join(["x", *(w for w in terms if rng.random() < 0.2)])) for _ in range(1_000)]
    assert not keeps_company({"kind": "terms", "terms": terms, "least": 2}, texts, np.zeros(1_000, np.int64))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=6), st.integers(0, 7))
def test_sets_of_is_the_sum_over_all_sets(chances, k):
    """Against every set written out."""
    expected = sum(np.prod(one) for one in itertools.combinations(chances, k))
    assert sets_of(np.array(chances), k) == pytest.approx(float(expected), abs=1e-12)


def test_a_search_that_differs_only_where_another_does_repeats_it():
    """‘sure’ is as frequent everywhere but in openings; ‘list’ stands elsewhere; what finds nothing repeats nothing."""
    ours = ["Sure, a list of towns", "Sure! Make sure", "Sure: one", "Certainly, a list"]
    theirs = ["A list of towns", "Make sure", "One", "Two"]
    texts = Texts([units(text) for text in (*ours, *theirs)])
    tests = [words("sure"), {"kind": "surface", "name": "open_affirm"}, words("list"), words("absent")]

    def difference(there):
        return there[:4].mean() - there[4:].mean()

    found = repeats(texts.starts(tests), texts.ends, [texts.passes(test) for test in tests], difference)
    assert found[1].tolist() == [True, False, False, False]
    assert found[0].tolist() == [False, True, False, False], "of the openings a quarter is left without ‘sure’"
    assert found[2:, :2].sum() == 0


def test_what_differs_is_what_passes_not_where_there_is_a_place():
    """Two words in capitals make a text shout. Theirs have one a little more often than ours, so by places alone there
    would be less than nothing to keep, and any search that shares a place would take the name."""
    ours = ["UNO DOS OK flew", *["UNO DOS flew"] * 11, *["they flew"] * 8]
    theirs = ["OK flew", *["the TRE flew"] * 13, *["they flew home"] * 6]
    texts = Texts([units(text) for text in (*ours, *theirs)])
    tests = [{"kind": "surface", "name": "all_caps"}, words("ok"), words("uno")]
    passes = [texts.passes(test) for test in tests]

    def difference(there):
        return there[:20].mean() - there[20:].mean()

    found = repeats(texts.starts(tests), texts.ends, passes, difference)
    assert difference(passes[0]) == 0.6
    assert not found[:, 0].any()
    assert found[0, 2], "every ‘uno’ is a capital"


def test_places_are_numbered_over_all_texts():
    """In order, and each knows its text, also where a text is empty or ends in a match."""
    texts = Texts([units("a sea"), units(""), units("sea sea")])
    [starts] = texts.starts([words("sea")])
    assert starts.tolist() == [2, 7, 11]
    assert texts.ends.tolist() == [6, 7, 15]
    assert np.searchsorted(texts.ends, starts, side="right").tolist() == [0, 2, 2]
