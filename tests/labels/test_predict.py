"""A label's own test on texts: 0.5 and more exactly where the property is, more with more of it, always in [0, 1]."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saeray.errors import SaerayError
from saeray.labels import surface
from saeray.labels.predict import places, predict
from saeray.labels.units import units

TEXTS = ["I am sorry, so sorry.", "I am glad", "on the other hand it is", "the hand of the other on", ""]


def test_words_count_occurrences():
    """One occurrence scores 0.5, two 0.75, none 0; case does not matter."""
    found = predict({"kind": "words", "words": ["sorry", "apologize"]}, [*TEXTS, "SORRY"])
    assert found.tolist() == [0.75, 0, 0, 0, 0, 0.5]


def test_phrases_are_runs():
    """A phrase is its words in order and together."""
    found = predict({"kind": "words", "words": ["on the other hand"]}, TEXTS)
    assert found.tolist() == [0, 0, 0.5, 0, 0]


def test_words_are_whole():
    """A word inside another is not that word."""
    assert predict({"kind": "words", "words": ["art"]}, ["start parts", "art"]).tolist() == [0, 0.5]


def test_terms_count_different_ones():
    """`least` different terms score 0.5; one term many times is one term."""
    test = {"kind": "terms", "terms": ["space", "planet", "orbit", "star"], "least": 2}
    assert predict(test, ["space space space", "space and planet", "space planet orbit star"]).tolist() == [
        0.25,
        0.5,
        1,
    ]


def test_surface_is_the_surface_test():
    """A surface test scores 0.5 from where it holds."""
    found = predict({"kind": "surface", "name": "numbered_list"}, ["1. one\n2. two", "1. one", "none"])
    assert found[0] >= 0.5
    assert found[1] < 0.5
    assert found[2] == 0


def test_all_is_the_least():
    """A test of two parts holds where both do."""
    parts = [{"kind": "words", "words": ["sorry"]}, {"kind": "surface", "name": "question"}]
    found = predict({"kind": "all", "of": parts}, ["sorry?", "sorry", "what?"])
    assert (found >= 0.5).tolist() == [True, False, False]


def test_none_never_holds():
    """A label without a test predicts nothing."""
    assert predict({"kind": "none"}, TEXTS).tolist() == [0] * 5


@pytest.mark.parametrize("test", [{"kind": "magic"}, {"kind": "surface", "name": "no_such"}, {}])
def test_unknown_tests_are_named(test):
    """A test of another version is an error that says what to do, not a silent 0."""
    with pytest.raises(SaerayError, match="saeray labels auto"):
        predict(test, TEXTS)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text(max_size=80), max_size=4),
    st.sampled_from([t.name for t in surface.tests()]),
    st.lists(st.text(min_size=1, max_size=8), max_size=3),
)
def test_scores_are_shares(texts, name, words):
    """Whatever the text, one score a text in [0, 1]."""
    for test in (
        {"kind": "surface", "name": name},
        {"kind": "words", "words": words},
        {"kind": "terms", "terms": words},
    ):
        found = predict(test, texts)
        assert found.shape == (len(texts),)
        assert found.dtype == np.float64
        assert ((found >= 0) & (found <= 1)).all()


def test_places_are_what_a_test_finds():
    """Words, runs of words, terms and patterns by their characters, in order, none inside another."""
    text = units("Sorry! On the other hand, the sea - cold - and SEA ships; sorry.")
    found = places(
        [
            {"kind": "words", "words": ["sorry", "on the other hand", "hand"]},
            {"kind": "terms", "terms": ["sea", "ships"], "least": 2},
            {"kind": "surface", "name": "dash"},
            {"kind": "all", "of": [{"kind": "words", "words": ["cold"]}, {"kind": "surface", "name": "semicolon"}]},
            {"kind": "none"},
        ],
        text,
    )
    shown = [[text.text[start:end].strip() for start, end in spans] for spans in found]
    assert shown == [["Sorry", "On the other hand", "sorry"], ["sea", "SEA", "ships"], ["-", "-"], ["cold", ";"], []]


def test_what_is_of_a_whole_text_is_at_no_place():
    """A language, a shape and an unknown test mark nothing, though the first two hold."""
    tests = [{"kind": "surface", "name": name} for name in ("language_french", "very_short", "no such test")]
    text = "Je ne sais pas ce que vous voulez dire avec cela, mais nous sommes tous dans le jardin."
    assert predict(tests[0], [text])[0] >= 0.5
    assert places(tests, units(text)) == [[], [], []]


@settings(max_examples=50, deadline=None)
@given(
    st.text(alphabet="ab -.*\n", max_size=60),
    st.sampled_from(["dash", "markdown_bold", "sentence_start", "numbered_list"]),
)
def test_a_text_passes_only_where_places_are(text, name):
    """Places and the test itself never contradict each other."""
    test = {"kind": "surface", "name": name}
    [found] = places([test], units(text))
    assert not (predict(test, [text])[0] >= 0.5 and not found)
    assert all(0 <= start < end <= len(text) + 1 for start, end in found)
