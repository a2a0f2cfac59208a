"""From what was seen to the phrase: each sort of evidence gives the label a person would expect."""

import pytest

from saeray.labels.phrase import FEWEST, Held, Seen, chosen_words, forms_of, name
from saeray.labels.surface import index
from saeray.labels.surface import tests as surface_tests
from saeray.labels.words import grouped, quoted, stem


def held(test, ba=0.9, active=0.9, silent=0.05, sure=0.8, spot=0.9, base=0.1):
    return Held(surface_tests()[index()[test]], ba, active, silent, sure, spot, base)


WORD = [("sorry", 0.8, 3.0)]


def test_a_word_is_told_with_its_setting():
    """One word at nearly all peaks, all of them in Python code: the word and where it stands."""
    found = name(Seen(40, [("return", 0.9, 4.0)], held=[held("code_python", ba=0.7)], ba={"words": 0.95}))
    assert found.text == "the word ‘return’ in Python code"
    assert found.kind == "word"
    assert found.test == {"kind": "words", "words": ["return"]}


def test_form_beats_scattered_words():
    """Peaks on many words, all inside French: the language is the name, by its test."""
    found = name(Seen(40, [("le", 0.15, 0.5), ("de", 0.12, 0.4)], held=[held("language_french")], ba={"words": 0.7}))
    assert found.text.startswith("French text")
    assert (found.kind, found.test) == ("form", {"kind": "surface", "name": "language_french"})


def test_words_of_one_list_are_told_by_its_meaning():
    """Several words that are apologies are called so."""
    seen = Seen(
        40, [("sorry", 0.5, 3.0), ("apologize", 0.4, 3.0)], held=[held("apologies", ba=0.6)], ba={"words": 0.95}
    )
    assert name(seen).text == "apologies: ‘sorry’, ‘apologize’"


def test_terms_name_a_topic():
    """Words vary, no form holds, documents share terms: a topic, told by them."""
    terms = [("planet", 0.5, 1.0), ("telescope", 0.4, 0.8), ("orbit", 0.3, 0.6)]
    found = name(Seen(40, [("a", 0.1, 0.1)], terms=terms, near=terms, ba={"terms": 0.9}))
    assert found.kind == "topic"
    assert found.text == "texts about planet, telescope, orbit"


def test_word_after_another():
    """Peaks on different words after one word are told by it."""
    before = [("such", 0.9, 3.0)]
    found = name(Seen(40, [("as", 0.2, 0.2), ("a", 0.1, 0.1)], before=before, ba={"words": 0.5}))
    assert found.text.startswith("the word after ‘such’")


def test_part_of_a_word():
    """Peaks on one token inside different words are told by the part."""
    words = [("whither", 0.1, 0.3), ("wharf", 0.1, 0.3)]
    found = name(Seen(40, words, tokens=[("wh", 0.9)], ba={"words": 0.6}))
    assert found.text == "word part ‘wh’ as in ‘whither’, ‘wharf’"


def test_no_support_no_claim():
    """Few documents say only what was seen; fewer still nothing at all."""
    assert name(Seen(FEWEST, WORD, ba={"words": 0.99})).kind == "unclear"
    assert name(Seen(FEWEST - 1, WORD, ba={"words": 0.99})) is None


def test_chance_form_is_not_told():
    """A document test that only its luck on choosing documents speaks for is not a label."""
    lucky = held("fraction_ratio", ba=0.7, active=0.12, silent=0.18, sure=0.4, spot=0.0)
    assert name(Seen(26, [("a", 0.1, 0.1)], held=[lucky], ba={"words": 0.5})).kind == "unclear"


@pytest.mark.parametrize(
    ("a", "b"),
    [("apologize", "apologizes"), ("run", "running"), ("study", "studies"), ("stop", "stopped"), ("bake", "baking")],
)
def test_inflections_share_a_stem(a, b):
    """Forms of one word are one word in a label."""
    assert stem(a) == stem(b)


def test_other_words_keep_their_stems():
    """Words that merely begin alike stay apart."""
    assert len({stem(w) for w in ("the", "then", "this", "thing", "sing", "red", "reed")}) == 7


def test_groups_add_up_under_the_commonest_form():
    """The shares of inflections are added, the commonest form is shown, and all forms are in the test."""
    listed = [("leaf", 0.3, 1.0), ("apologies", 0.2, 1.0), ("apology", 0.3, 1.0)]
    assert grouped([(w, s) for w, s, _ in listed]) == [("apology", pytest.approx(0.5)), ("leaf", 0.3)]
    assert forms_of(listed, chosen_words(listed)) == ["leaf", "apologies", "apology"]


def test_nothing_unprintable_is_shown():
    """Words from documents are shown in terminals: escape sequences do not reach them."""
    assert "\x1b" not in quoted(["a\x1b[31m", "b"])
    assert quoted(["↵", ","]) == "line breaks, commas"
