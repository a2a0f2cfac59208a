"""Promise: the documents that show a pair are its strongest, each once, with both peaks marked where they are."""

import pytest
from corpus_words import WORDS

from saeray.analysis.correlate.evidence import BOTH, FIRST, PLAIN, SECOND, PairExample, Piece, examples_of, excerpts
from saeray.analysis.correlate.indexed import parts_of
from saeray.store.chosen import Chosen
from saeray.store.index import build_missing

TABLE, RIVER = WORDS.index("table"), WORDS.index("river")


def chosen(store, selection="d", channels=()):
    dataset, selector = store.select(selection)
    return Chosen(build_missing(store, dataset.name), selector, channels)


def marks(example: PairExample) -> list[list[tuple[str, str]]]:
    return [[(piece.mark, piece.text) for piece in one if piece.mark] for one in example.excerpts]


def test_the_strongest_documents_come_first_and_no_text_twice(store_of):
    """A word is the stronger the earlier it stands in a long text."""
    on = " on" * 60
    texts = [
        "river table",
        f"table river{on}",
        f"table river{on}",
        f"table {on} river",
        *(f"table {k}{on}" for k in range(9)),
    ]
    rows = [{"doc_id": f"d{k}", "text": text, "model": "A"} for k, text in enumerate(texts)]
    (found,) = examples_of(chosen(store_of(rows, keep=("model",))), [(TABLE, RIVER)], 3)
    # The weaker latent of d0 is at 2 of 63, that of d3 at 2 of 62 (each of the strongest it has in these documents).
    assert [one.doc_id for one in found] == ["d1", "d3", "d0"]
    assert marks(found[0]) == [[(FIRST, "table "), (SECOND, "river ")]]
    assert marks(found[2]) == [[(SECOND, "river "), (FIRST, "table")]]


def test_only_chosen_documents_are_shown(store_of):
    rows = [{"doc_id": f"d{k}", "text": f"table river {k}" + " on" * 60, "model": "AB"[k % 2]} for k in range(12)]
    store = store_of(rows, keep=("model",))
    (found,) = examples_of(chosen(store, "d:model=A"), [(TABLE, RIVER)], 9)
    assert [one.doc_id for one in found] == ["d0", "d2", "d4", "d6", "d8", "d10"]
    assert parts_of(chosen(store, "d:model=A"))[0].kept.sum() == 6


def test_texts_that_were_not_stored_show_nothing(store_of):
    rows = [{"doc_id": f"d{k}", "text": "table river" + " on" * 50, "model": "A"} for k in range(9)]
    assert examples_of(chosen(store_of(rows, keep=("model",), store_text=False)), [(TABLE, RIVER)]) == [[]]


def test_between_channels_both_are_shown(store_of):
    rows = [
        {
            "doc_id": f"d{k}",
            "model": "A",
            "messages": [
                {"role": "user", "content": f"the river {k}" + " on" * 60},
                {"role": "assistant", "content": "my table"},
            ],
        }
        for k in range(9)
    ]
    store = store_of(rows, keep=("model",))
    (found,) = examples_of(chosen(store, channels=("user", "assistant")), [(RIVER, TABLE)], 1)
    assert marks(found[0]) == [[(FIRST, "river ")], [(SECOND, "table")]]
    assert "my" in found[0].excerpts[1][0].text


@pytest.mark.parametrize(("first", "second"), [((4, 7), (8, 11)), ((8, 11), (4, 7))])
def test_near_peaks_share_an_excerpt(first, second):
    text = "The cat sat on a mat."
    (pieces,) = excerpts(text, first, second)
    assert "".join(piece.text for piece in pieces) == text
    own = {FIRST: text[slice(*first)], SECOND: text[slice(*second)]}
    assert {piece.mark: piece.text for piece in pieces if piece.mark} == own


def test_far_peaks_have_an_excerpt_each_and_one_token_one_mark():
    text = "The cat sat. " + "No one knew why it did so at all. " * 20 + "The mat lay."
    two = excerpts(text, (4, 7), (len(text) - 8, len(text) - 5))
    assert [[piece.text for piece in one if piece.mark] for one in two] == [["cat"], ["mat"]]
    (same,) = excerpts("The cat sat.", (4, 7), (4, 7))
    assert same == (Piece("The ", PLAIN), Piece("cat", BOTH), Piece(" sat.", PLAIN))
