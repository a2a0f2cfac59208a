"""Promise: examples are the strongest of different texts in a fixed order; peak tokens are counted, not chosen."""

import numpy as np
import pytest

from saeray.analysis import evidence as module
from saeray.analysis.evidence import Evidence, collect
from saeray.analysis.sides import spread

TABLE, SORRY = 0, 1


def rows(*texts: str) -> list[dict]:
    return [{"doc_id": f"d{i:02d}", "text": text} for i, text in enumerate(texts)]


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_strongest_first_then_doc_id_and_no_text_twice(side_of, step):
    """The value falls with the place of the word: 'table' first of six words is 7. Ties go by doc_id, not by row."""
    texts = rows(
        "a table here",
        "table a b c d e",
        "table a b c d e",
        "a table b c d",
        "no such word",
        "x table b c d",
        "a b table",
    )
    side = side_of([row | {"doc_id": f"d{99 - i}"} for i, row in enumerate(texts)], step=step)
    found = collect(side, [TABLE, SORRY], examples=4)
    assert [(e.doc_id, e.value) for e in found[TABLE].examples] == [("d97", 7), ("d94", 5), ("d96", 5), ("d99", 3)]
    assert found[TABLE].examples[1].excerpt.before == "x "
    assert found[TABLE].examples[1].excerpt.peak == "table "
    assert found[SORRY] == Evidence()


@pytest.mark.parametrize("step", [1, 1000])
def test_peak_tokens_are_shares_of_the_documents_with_the_latent(side_of, step):
    side = side_of(rows("Table one", "table two", "TABLE three", "a  table", "nothing"), step=step)
    assert collect(side, [TABLE])[TABLE].peak_tokens == (("table", 1.0),)


def test_peak_tokens_come_from_drawn_documents(side_of, monkeypatch):
    """Where two models take turns in a file, every k-th document is of one of them alone; a drawn sample has both."""
    monkeypatch.setattr(module, "PEAK_DOCUMENTS", 10)
    found = collect(side_of(rows(*(["table a", "sorry b"] * 20)), step=3), [TABLE, SORRY])
    assert found[TABLE].peak_tokens == (("table", 1.0),)
    assert found[SORRY].peak_tokens == (("sorry", 1.0),)


def test_examples_come_from_every_document_and_peak_tokens_from_the_drawn_ones(side_of, monkeypatch):
    monkeypatch.setattr(module, "PEAK_DOCUMENTS", 10)
    left_out = int(np.flatnonzero(~spread(40, 10))[0])
    texts = ["nothing"] * 40
    texts[left_out] = "table a"
    found = collect(side_of(rows(*texts), step=3), [TABLE])[TABLE]
    assert (len(found.examples), found.peak_tokens) == (1, ())
