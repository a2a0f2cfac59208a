"""Promise: an encoder that reads packs gives the rows that one of rectangles gives, behind the same interface.

It is the way on a GPU; here it runs on the CPU, with the exact attention, and loaded as a GPU's would be.
"""

import logging
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import make_encoder_yaml, make_reader_dir, make_sae, make_sae_dir, make_tokenizer

from saeray import encoder as encoder_module
from saeray.config import encoder_config
from saeray.encoder import EncodedDocument, Encoder, FailedDocument
from saeray.errors import DeviceLost, SaerayError
from saeray.loading import encoder_of, self_check_of, source_of
from saeray.pooling import Pooling
from saeray.readers import packed as packed_module
from saeray.readers.model import Reader
from saeray.readers.packed import PackedReader
from saeray.readers.source import prepare
from saeray.readers.streamed import CannotStream
from saeray.readers.tokens import DocumentTokenizer, TokenizedDocument, Turn

TOKENIZER = DocumentTokenizer(make_tokenizer())
LAYER = 2
WORDS = ["the", "answer", "is", "more", "than", "question", "people", "lazy", "dog"]
TURNS = [Turn("user", "What is the answer?"), Turn("assistant", "There is more."), Turn("user", "And the people?")]


def text(n, seed=0):
    return TOKENIZER.text(" ".join(np.random.default_rng(seed).choice(WORDS, n)))


DOCUMENTS = [*(text(n, n) for n in (3, 40, 12, 1, 90, 130, 300)), TOKENIZER.messages(TURNS)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return prepare(str(make_reader_dir(tmp_path_factory.mktemp("reader"))), LAYER)


def pair(source, architecture="jumprelu", **settings):
    """(packed, rectangles) around the same weights."""
    sae = make_sae(d_in=32, architecture=architecture)
    packed = Encoder(PackedReader(Reader(source, LAYER)._model), sae, **settings)
    return packed, Encoder(Reader(source, LAYER), sae, **settings)


def check_same(found, expected):
    """The same latents, counts and peaks; maxima and sums to 1e-5. The tiny SAE has no latent that near its step."""
    assert isinstance(found, EncodedDocument)
    assert found.n_windows == expected.n_windows
    assert len(found.rows) == len(expected.rows)
    for a, b in zip(found.rows, expected.rows, strict=True):
        for name in ("latents", "count", "peak"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        for name in ("max", "sum"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-5)
            assert getattr(a, name).dtype == np.float32


@pytest.mark.parametrize("settings", [{}, {"window": 96, "overlap": 16, "batch_tokens": 200, "chunk_tokens": 11}])
@pytest.mark.parametrize("architecture", ["jumprelu", "topk"])
def test_rows_are_those_of_rectangles(source, architecture, settings):
    """Texts, a conversation's channels, windows of long documents, chunks that cut them."""
    packed, rectangles = pair(source, architecture, **settings)
    for found, expected in zip(packed.encode(DOCUMENTS), rectangles.encode(DOCUMENTS), strict=True):
        check_same(found, expected)


def test_alone_and_in_company_bit_for_bit(source):
    """In float32 on a CPU with MKL a document's row is the same bytes whatever it is packed with."""
    if not torch.backends.mkl.is_available():
        pytest.skip("torch here has no MKL, whose reproducible mode this rests on")
    packed, _ = pair(source)
    for document, together in zip(DOCUMENTS, packed.encode(DOCUMENTS), strict=True):
        (alone,) = packed.encode([document])
        for a, b in zip(alone.rows, together.rows, strict=True):
            for name in ("latents", "max", "count", "peak", "sum"):
                assert getattr(a, name).tobytes() == getattr(b, name).tobytes()


def spoilt(document, value):
    ids = document.ids.copy()
    ids[-1] = value
    return TokenizedDocument(ids, document.channel, document.starts, document.channels, document.texts, document.head)


def test_a_bad_document_fails_alone(source):
    """A token without an embedding, and activations that are not finite, reject their own document only."""
    packed, _ = pair(source)
    with torch.no_grad():
        packed.reader.model.embed_tokens.weight[399] = float("nan")
    documents = [DOCUMENTS[1], spoilt(DOCUMENTS[2], 100_000), spoilt(DOCUMENTS[4], 399), DOCUMENTS[5]]
    found = packed.encode(documents)
    assert found[1] == FailedDocument("the reader failed on it: token id 100000: the reader has 400")
    assert found[2] == FailedDocument("the reader's activations are not finite")
    for i in (0, 3):
        check_same(found[i], packed.encode([documents[i]])[0])


def test_out_of_memory_lowers_the_budget_for_good(source, monkeypatch, caplog):
    """A pack for which memory is short is read in smaller ones: the same rows, one line, and later shards fit."""
    packed, rectangles = pair(source, batch_tokens=2000)
    real, room = PackedReader.read, 700

    def read(reader, pack):
        if pack.ids.numel() > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(reader, pack)

    monkeypatch.setattr(PackedReader, "read", read)
    with caplog.at_level(logging.WARNING):
        found = packed.encode(DOCUMENTS)
    for one, expected in zip(found, rectangles.encode(DOCUMENTS), strict=True):
        check_same(one, expected)
    assert packed.batch_tokens <= room
    assert [r.message.split(":")[1] for r in caplog.records] == [
        f" the token budget is now {packed.batch_tokens}, was 2000"
    ]
    caplog.clear()
    packed.encode(DOCUMENTS)
    assert not caplog.records
    room = 100
    with pytest.raises(SaerayError, match="out of memory on one sequence"):
        packed.encode(DOCUMENTS)


def same_bits(found, expected):
    return all(
        getattr(a, name).tobytes() == getattr(b, name).tobytes()
        for one, other in zip(found, expected, strict=True)
        for a, b in zip(one.rows, other.rows, strict=True)
        for name in ("latents", "max", "count", "peak", "sum")
    )


def test_the_next_pack_is_given_to_the_device_before_rows_are_asked_for(source, monkeypatch):
    """So the host's wait for a pack, and its work on the rows, fall while the next one is read. The bytes and their
    order are those of one pack after the other, and one pack's pooling state is gone before the next one's is made.
    """
    packed, _ = pair(source, batch_tokens=150)
    events, states = [], []
    read, begin, rows = PackedReader.read, encoder_module.begin_pooling, Pooling.rows

    def begun(*args, **kwargs):
        assert all(state() is None for state in states)
        found = begin(*args, **kwargs)
        states.append(weakref.ref(found.last[0]))
        events.append("pool")
        return found

    monkeypatch.setattr(PackedReader, "read", lambda *args: (events.append("read"), read(*args))[1])
    monkeypatch.setattr(encoder_module, "begin_pooling", begun)
    monkeypatch.setattr(Pooling, "rows", lambda pooling: (events.append("rows"), rows(pooling))[1])
    found = packed.encode(DOCUMENTS)
    n = events.count("read")
    assert n > 3
    assert events == ["read", "pool", *["read", "rows", "pool"] * (n - 1), "rows"]

    monkeypatch.setattr(Encoder, "_streamed", one_after_the_other)
    events.clear()
    assert same_bits(found, packed.encode(DOCUMENTS))
    assert events == ["read", "pool", "rows"] * n


def one_after_the_other(encoder, _, inputs, packs):
    for pack in packs:
        yield encoder._batch([inputs[i] for i in pack])


def test_out_of_memory_in_pooling_with_a_pack_in_flight(source, monkeypatch, caplog):
    """The pack behind it is finished, the budget is halved with one line, and no row is missing or twice."""
    packed, rectangles = pair(source, batch_tokens=1000)
    real, calls = encoder_module.begin_pooling, []

    def begin_pooling(sae, x, *args, **kwargs):
        calls.append(len(x))
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(sae, x, *args, **kwargs)

    monkeypatch.setattr(encoder_module, "begin_pooling", begin_pooling)
    with caplog.at_level(logging.WARNING):
        found = packed.encode([text(150, 1), text(150, 2), *DOCUMENTS])
    assert len(caplog.records) == 1
    assert packed.batch_tokens <= 500
    for one, expected in zip(found[2:], rectangles.encode(DOCUMENTS), strict=True):
        check_same(one, expected)


@pytest.mark.parametrize("way", ["packs", "rectangles"])
def test_a_lost_device_is_not_asked_again(source, monkeypatch, way):
    """One line with torch's words, no reject, no document read alone to see who was to blame."""
    encoder = pair(source, batch_tokens=100)[way == "rectangles"]
    calls = []

    def fail(*_):
        calls.append(1)
        raise torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be")

    monkeypatch.setattr(encoder.reader, "read" if way == "packs" else "residual", fail)
    with pytest.raises(DeviceLost, match="the reader's device cpu was lost: CUDA error: uncorrectable ECC error"):
        encoder.encode(DOCUMENTS)
    assert 1 <= len(calls) <= 2  # with the pack in flight


def test_a_gpu_that_refuses_everything_is_lost(source, monkeypatch):
    """Words that need not mean a dead context are believed once a harmless sequence has met them too."""
    packed, _ = pair(source)
    monkeypatch.setattr(packed.reader, "device", torch.device("cuda"))

    def fail(*_):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`")

    monkeypatch.setattr(packed.reader, "pack", fail)
    with pytest.raises(DeviceLost, match="CUBLAS_STATUS_EXECUTION_FAILED"):
        packed.encode(DOCUMENTS)


def test_loaded_as_on_a_gpu(tmp_path, caplog):
    """The plan is logged before the weights' line, the weights are streamed, and the rows are those of `Reader`."""
    config = encoder_config(str(make_encoder_yaml(tmp_path)))
    source = source_of(config)
    with caplog.at_level(logging.INFO):
        packed = encoder_of(config, source, "cpu", packed=True)
    assert isinstance(packed.reader, PackedReader)
    messages = [record.message for record in caplog.records]
    assert messages[0].startswith("memory plan: blocks 0-2 in float32, SAE of 96 latents")
    assert messages[-1].startswith("weights: ")
    assert packed.batch_tokens == 16_384
    rectangles = encoder_of(config, source, "cpu")
    assert isinstance(rectangles.reader, Reader)
    for found, expected in zip(packed.encode(DOCUMENTS), rectangles.encode(DOCUMENTS), strict=True):
        check_same(found, expected)


def read_wrongly(monkeypatch, *kernels):
    """Neighbours are seen by these kernels; a CPU is taken for a card that has variable-length attention."""
    real = packed_module.in_packs

    def in_packs(module, query, key, value, pack, *rest):
        whole = replace(pack, edges=(0, pack.edges[-1])) if pack.kernel in kernels and len(pack.edges) > 2 else pack
        return real(module, query, key, value, replace(whole, kernel="exact"), *rest)

    monkeypatch.setattr(packed_module, "in_packs", in_packs)
    monkeypatch.setattr(packed_module, "_has_flash", lambda *_: True)


def test_a_device_whose_kernel_is_wrong_reads_packs_by_another(tmp_path, monkeypatch, caplog):
    """One warning with the numbers, which the self-check hands to whoever runs the command; the rows are right."""
    config = encoder_config(str(make_encoder_yaml(tmp_path)))
    source = source_of(config)
    rectangles = encoder_of(config, source, "cpu")
    read_wrongly(monkeypatch, "varlen")
    with caplog.at_level(logging.WARNING):
        packed = encoder_of(config, source, "cpu", packed=True)
    assert packed.reader.kernel == "exact"
    assert [record.message for record in caplog.records] == [packed.remark]
    assert "off by" in packed.remark
    for found, expected in zip(packed.encode(DOCUMENTS), rectangles.encode(DOCUMENTS), strict=True):
        check_same(found, expected)
    found = self_check_of(config, source, "cpu", DOCUMENTS, packed=True)
    assert found.warnings[-1] == packed.remark
    assert self_check_of(config, source, "cpu", DOCUMENTS).warnings == found.warnings[:-1]


def test_a_device_that_reads_no_pack_rightly_reads_rectangles(tmp_path, monkeypatch, caplog):
    """One warning, and the rows are right."""
    config = encoder_config(str(make_encoder_yaml(tmp_path)))
    source = source_of(config)
    read_wrongly(monkeypatch, "varlen", "exact")
    with caplog.at_level(logging.WARNING):
        encoder = encoder_of(config, source, "cpu", packed=True)
    assert isinstance(encoder.reader, Reader)
    assert [record.message for record in caplog.records] == [encoder.remark]
    assert encoder.remark.endswith("; documents are read in rectangles instead")
    rectangles = encoder_of(config, source, "cpu")
    assert rectangles.remark is None
    assert same_bits(encoder.encode(DOCUMENTS), rectangles.encode(DOCUMENTS))


def test_what_cannot_be_packed_is_read_in_rectangles(tmp_path, caplog):
    """An architecture with soft caps loads as before, with one line that says so."""
    reader = make_reader_dir(tmp_path / "reader", arch="gemma2")
    sae = make_sae_dir(tmp_path / "sae", d_in=32)
    yaml = tmp_path / "encoder.yaml"
    yaml.write_text(f"reader: {{model: {reader}, layer: 2}}\nsae: {{path: {sae}}}\n")
    config = encoder_config(str(yaml))
    with caplog.at_level(logging.INFO):
        encoder = encoder_of(config, source_of(config), "cpu", packed=True)
    assert isinstance(encoder.reader, Reader)
    assert "soft caps" in caplog.text
    assert isinstance(encoder.encode(DOCUMENTS[:1])[0], EncodedDocument)


def test_what_cannot_be_streamed_is_loaded_whole(tmp_path, monkeypatch, caplog):
    """A checkpoint whose names only transformers knows loads as before."""
    config = encoder_config(str(make_encoder_yaml(tmp_path)))

    def refuse(*_, **__):
        raise CannotStream("its names are its own")

    monkeypatch.setattr("saeray.loading.load_streamed", refuse)
    with caplog.at_level(logging.INFO):
        encoder = encoder_of(config, source_of(config), "cpu", packed=True)
    assert isinstance(encoder.reader, Reader)
    assert "its names are its own; it is loaded whole" in caplog.text


def test_a_device_that_is_too_small_is_refused_before_loading(tmp_path, monkeypatch):
    """The plan's one line; no weight was read."""
    config = encoder_config(str(make_encoder_yaml(tmp_path)))
    monkeypatch.setattr("saeray.loading._free_memory", lambda device: 2**31)
    monkeypatch.setattr("saeray.loading.load_streamed", lambda *_, **__: pytest.fail("weights were read"))
    with pytest.raises(SaerayError, match=r"does not fit: one batch of 2,048 tokens needs 2\.\d\d GiB"):
        encoder_of(config, source_of(config), "cpu", packed=True)
