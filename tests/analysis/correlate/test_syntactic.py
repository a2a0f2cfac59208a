"""Promise: labels of marks, function words and grammar are told from labels of what texts say or are."""

import pytest

from saeray.analysis.correlate.syntactic import is_syntactic, syntactic
from saeray.labels.meanings import Meanings


@pytest.mark.parametrize(
    ("text", "kind", "evidence"),
    [
        ("full stops, commas", "word", {"test": {"kind": "words", "words": [".", ","]}}),
        ("the word ‘of’ near house", "word", {"test": {"kind": "words", "words": ["of", "of the"]}}),
        ("texts with past-tense narration", "form", {"test": {"kind": "surface", "name": "past_tense"}}),
        ("the first sentence of the text", "position", {"test": {"kind": "surface", "name": "first_sentence"}}),
        ("commas and other punctuation", None, {}),
        ("Prepositions of place", None, {}),
        ("the word 'the'", None, {}),
        ("words", "word", {"tokens": [["the", 0.6], [",", 0.3]]}),
    ],
)
def test_syntax(text, kind, evidence):
    assert is_syntactic(text, kind, evidence)


@pytest.mark.parametrize(
    ("text", "kind", "evidence"),
    [
        ("numbered lists: full stops", "form", {"test": {"kind": "surface", "name": "numbered_list"}}),
        ("the word ‘lava’", "word", {"test": {"kind": "words", "words": ["lava", "the"]}}),
        ("sport: game, season", "topic", {"test": {"kind": "terms", "terms": ["game", "the"], "least": 2}}),
        ("wine and vineyards", None, {}),
        ("numbers at the start of list items", "position", {"test": {"kind": "surface", "name": "number_mark"}}),
        ("emoji in tweets", None, {"tokens": [["❤", 0.3], ["the", 0.1]]}),
        ("the word 'harbour'", None, {}),
    ],
)
def test_content(text, kind, evidence):
    assert not is_syntactic(text, kind, evidence)


def test_latents_without_labels_are_none():
    assert syntactic(Meanings({1: "commas", 2: "wine"}), [0, 1, 2]) == {1}
