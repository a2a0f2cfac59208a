"""Promise: the marked token is the token, in its sentence, in about 200 characters, whatever the text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saeray.analysis.excerpt import LONGEST_TOKEN, Excerpt, around, excerpt, normalised, token_span


def shown(text: str, word: str, width: int = 200) -> str:
    found = excerpt(text, text.index(word), text.index(word) + len(word), width)
    return (
        ("… " if found.cut_left else "")
        + f"{found.before}[{found.peak}]{found.after}"
        + (" …" if found.cut_right else "")
    )


def test_the_sentence_alone_when_its_neighbours_do_not_fit():
    text = "First one. The cat sat here. Last one."
    assert shown(text, "cat", 20) == "The [cat] sat here."
    assert shown(text, "cat", 30) == "The [cat] sat here. Last one."
    assert shown(text, "cat") == "First one. The [cat] sat here. Last one."


def test_lines_end_sentences_and_list_numbers_do_not():
    text = "Title line\n14. Keep a table ready\nNext line"
    assert shown(text, "table", 26) == "14. Keep a [table] ready"


def test_a_long_sentence_is_cut_at_words_on_both_sides():
    text = "word " * 100 + "peak " + "more " * 100
    found = excerpt(text, 500, 504)
    assert found.cut_left
    assert found.cut_right
    assert set(found.before.split()) == {"word"}
    assert set(found.after.split()) == {"more"}
    assert 150 <= len(found.before + found.peak + found.after) <= 200


def test_room_that_one_end_does_not_use_goes_to_the_other():
    text = "peak " + "more " * 100
    found = excerpt(text, 0, 4)
    assert (found.before, found.cut_left, found.cut_right) == ("", False, True)
    assert len(found.after) > 180


@given(st.text(st.sampled_from("ab .!\n1e\u0301😀"), max_size=900), st.data(), st.integers(20, 200))
def test_an_excerpt_is_a_piece_of_its_text_round_the_token(text, data, width):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 12)))
    found = excerpt(text, start, end, width)
    assert found.peak == text[start:end]
    assert text[:start].endswith(found.before)
    assert text[end:].startswith(found.after)
    assert len(found.before + found.peak + found.after) <= width


@given(
    st.text(alphabet="ab .\n", min_size=1, max_size=700),
    st.lists(st.tuples(st.integers(0, 699), st.integers(1, 90)), min_size=1, max_size=6),
    st.integers(0, 700),
)
def test_every_marked_place_is_a_place(text, sizes, near):
    """The nearest place is the peak, a long one by its beginning; all others that are marked are places too."""
    places = sorted({(start % len(text), min(len(text), start % len(text) + size)) for start, size in sizes})
    found = around(text, places, near)
    whole = found.before + found.peak + found.after
    short = [(start, min(end, start + LONGEST_TOKEN)) for start, end in places]
    shown = {text[start:end] for start, end in short}
    assert found.peak in shown
    assert {whole[start:end] for start, end in found.also} <= shown
    away = min(max(start - near, near - end, 0) for start, end in short)
    assert any(text[s:e] == found.peak and max(s - near, near - e, 0) == away for s, e in short)


def test_all_places_of_a_sentence_are_marked_and_no_other():
    text = "A cat and a cat. " + "Some words stand between. " * 20 + "One more cat."
    places = [(at, at + 3) for at in (2, 12, text.rindex("cat"))]
    found = around(text, places, 14)
    whole = found.before + found.peak + found.after
    assert (found.before, found.peak) == ("A cat and a ", "cat")
    assert [whole[start:end] for start, end in found.also] == ["cat"]


def test_token_span_reads_starts_as_characters():
    text = "Hi 😀😀 end"
    starts = np.array([0, 2, 4, 4, 5])  # " 😀" and the two byte tokens of the second emoji share what they span
    assert [text[slice(*token_span(starts, peak, text))] for peak in range(5)] == ["Hi", " 😀", "😀", "😀", " end"]


def test_the_unread_rest_of_a_truncated_text_is_no_token():
    text = "last words " + "x" * 500
    assert token_span(np.array([0]), 0, text) == (0, 4)
    assert token_span(np.array([0, 11]), 1, text) == (11, 11 + LONGEST_TOKEN)


@pytest.mark.parametrize(
    ("token", "counted"),
    [(" The", "the"), ("\n\n", "↵"), ("  ", "␣"), ("ß", "ss"), ("", "␣"), ("\x1b[2J", "\ufffd[2j")],
)
def test_normalised_tokens(token, counted):
    assert normalised(token) == counted


def test_an_empty_text_has_an_empty_excerpt():
    assert excerpt("", 0, 0) == Excerpt("", "", "")
