"""Promise: however a long document is cut, every pooled token is pooled exactly once, with context before it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_reader_dir

from saeray.readers.model import Reader
from saeray.readers.source import prepare
from saeray.readers.stream import reader_inputs, residuals
from saeray.readers.tokens import DocumentError, TokenizedDocument, windows


def document_of(n, head, owners):
    """A document whose token at position p has id 1000 + p."""
    channel = np.full(n, -1, np.int32)
    channel[max(head, 1) :] = np.resize(np.array(owners, np.int32), n - max(head, 1))
    return TokenizedDocument(
        np.arange(1000, 1000 + n, dtype=np.int32), channel, np.zeros(n, np.int32), ("a", "b"), ("", ""), head
    )


shapes = st.tuples(
    st.integers(2, 400),
    st.integers(0, 30),
    st.lists(st.integers(-1, 1), min_size=1, max_size=9),
    st.integers(8, 120),
    st.integers(1, 60),
).filter(lambda shape: shape[1] < shape[0])


@settings(deadline=None, max_examples=300)
@given(shapes)
def test_every_pooled_token_once(shape):
    """Any length, head, window and overlap: each pooled token is taken once, under its own channel and rank, from a
    sequence no longer than the window that begins with the head and gives it `overlap` tokens of context or all.
    """
    n, head, owners, window, overlap = shape
    document = document_of(n, head, owners)
    if n > window and window - head - overlap < 1:
        with pytest.raises(DocumentError, match="too long for windows"):
            reader_inputs("x", document, window, overlap)
        return
    taken = []
    inputs = reader_inputs("x", document, window, overlap)
    cuts = windows(document, window, overlap)
    assert len(inputs) == len(cuts)
    for i, (item, cut) in enumerate(zip(inputs, cuts, strict=True)):
        assert item.owner == "x"
        assert len(item.ids) == len(cut) <= window
        np.testing.assert_array_equal(item.ids[: cut.head], document.ids[: cut.head])
        assert cut.head == (head if i else 0)
        body = item.ids[cut.head :] - 1000
        np.testing.assert_array_equal(body, np.arange(cut.start, cut.stop))  # no gap in what the reader sees
        for place, channel, rank in zip(item.take, item.channel, item.token, strict=True):
            taken.append((int(channel), int(rank), int(item.ids[place]) - 1000))
            assert place >= cut.head
            assert place >= min(overlap, n) or i == 0
        assert sorted(zip(item.channel, item.token, strict=True)) == list(zip(item.channel, item.token, strict=True))
    expected = [(c, r, int(p)) for c in (0, 1) for r, p in enumerate(np.flatnonzero(document.channel == c))]
    assert sorted(taken) == expected


def test_number_of_windows():
    """A window of 100 with a head of 10 and an overlap of 20 brings 100 tokens and then 70 at a time."""
    counts = [len(windows(document_of(n, 10, [0]), 100, 20)) for n in (100, 101, 170, 171, 240, 241)]
    assert counts == [1, 2, 2, 3, 3, 4]


@pytest.mark.parametrize("channels", [1, 2])
def test_residuals_are_those_of_the_pooled_tokens(tmp_path, channels):
    """The stream gives, in its batches' order, the residual vector of every pooled token and of no other: the one that
    the reader gives for its window alone.
    """
    reader = Reader(prepare(str(make_reader_dir(tmp_path)), 2), 2)
    random = np.random.default_rng(0)
    inputs = []
    for owner, n in enumerate([7, 90, 33, 34, 200, 8]):
        document = document_of(n, 5, [0, 1, 0, -1] if channels == 2 else [0])
        ids = random.integers(0, 400, n).astype(np.int32)
        document = TokenizedDocument(ids, document.channel, document.starts, document.channels, document.texts, 5)
        inputs += reader_inputs(owner, document, 64, 8)
    seen = 0
    for batch, x in residuals(reader, inputs, 256):
        assert len(x) == sum(len(item.take) for item in batch)
        at = 0
        for item in batch:
            alone = reader.residual([item.ids])[0, torch.from_numpy(item.take)]
            torch.testing.assert_close(x[at : at + len(item.take)], alone, rtol=1e-4, atol=1e-4)
            at += len(item.take)
        seen += len(batch)
    assert seen == len([item for item in inputs if len(item.take)])
