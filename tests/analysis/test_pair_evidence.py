"""Promise: the documents that show a pair are its strongest, each once, with both peaks marked where they are."""

import pytest
from conftest import WORDS

from saeray.analysis.indexed import parts_of
from saeray.analysis.pair_evidence import BOTH, FIRST, PLAIN, SECOND, PairExample, Piece, examples_of, excerpts
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
    texts = [
        "table river",
        "table river" + " on" * 30,
        "table river" + " on" * 30,
        "table" + " on" * 30 + " river",
        "table",
    ]
    rows = [{"doc_id": f"d{k}", "text": text, "model": "A"} for k, text in enumerate(texts)]
    (found,) = examples_of(chosen(store_of(rows, keep=("model",))), [(TABLE, RIVER)], 3)
    ids = [one.doc_id.rsplit("/", 1)[-1] for one in found]
    assert len(found) == 3
    assert [len(one.excerpts[0]) > 2 for one in found] == [True] * 3
    assert marks(found[0]) == [[(FIRST, "table "), (SECOND, "river ")]]
    assert len(set(ids)) == 3


def test_only_chosen_documents_are_shown(store_of):
    rows = [{"doc_id": f"d{k}", "text": f"table river {k}", "model": "AB"[k % 2]} for k in range(6)]
    store = store_of(rows, keep=("model",))
    (found,) = examples_of(chosen(store, "d:model=A"), [(TABLE, RIVER)], 9)
    assert {one.excerpts[0][-1].text.strip() for one in found} <= {"0", "2", "4"}
    assert len(found) == 3
    assert parts_of(chosen(store, "d:model=A"))[0].kept.sum() == 3


def test_texts_that_were_not_stored_show_nothing(store_of):
    rows = [{"doc_id": "a", "text": "table river", "model": "A"}]
    assert examples_of(chosen(store_of(rows, keep=("model",), store_text=False)), [(TABLE, RIVER)]) == [[]]


def test_between_channels_both_are_shown(store_of):
    rows = [
        {
            "doc_id": f"d{k}",
            "model": "A",
            "messages": [{"role": "user", "content": f"the river {k}"}, {"role": "assistant", "content": "my table"}],
        }
        for k in range(3)
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
