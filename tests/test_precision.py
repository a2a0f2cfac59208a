"""Promise: a reader in fp8 is asked for in its configuration, known by its fingerprint, and had by every way in, or one
line says why not.
"""

import json

import numpy as np
import pytest
import torch
from tiny import encoder_yaml, make_reader_dir, make_sae_dir

from saeray.config import TrainSAEConfig, encoder_config
from saeray.description import describe
from saeray.encoder import EncodedDocument
from saeray.errors import SaerayError
from saeray.loading import encoder_of, source_of, tokenizer_of
from saeray.pipeline import train_sae
from saeray.readers.fp8 import Fp8Linear, use_fp8
from saeray.readers.model import Reader
from saeray.readers.packed import PackedReader
from saeray.readers.streamed import CannotStream
from saeray.saes.activations import collect


def config_of(directory, arch="llama", dtype="fp8", hidden=32):
    reader = make_reader_dir(directory / "reader", arch=arch, hidden=hidden)
    sae = make_sae_dir(directory / "sae", d_in=hidden)
    return encoder_config(str(encoder_yaml(directory / "encoder.yaml", reader, sae, dtype=dtype)))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return config_of(tmp_path_factory.mktemp("fp8"))


def in_dtype(config, dtype):
    return config.model_copy(update={"reader": config.reader.model_copy(update={"dtype": dtype})})


def test_eight_bits_have_a_fingerprint_of_their_own(config, monkeypatch):
    """fp8 is another encoder than bfloat16, and a later scheme of eight bits another than this one; the facts of the
    other precisions are as they were, so that their stores stay theirs.
    """
    fp8, half = describe(config), describe(in_dtype(config, "bfloat16"))
    assert fp8["reader"] == half["reader"] | {"dtype": "fp8", "scheme": "e4m3-rows-1"}
    assert set(half["reader"]) == {"files", "layer", "dtype", "role", "template"}
    monkeypatch.setattr("saeray.description.SCHEME", "e4m3-rows-2")
    assert describe(config) != fp8


@pytest.mark.parametrize("packed", [False, True])
def test_matrices_in_eight_bits_and_the_rest_in_sixteen(config, monkeypatch, packed):
    """The very reader that converting a bfloat16 one gives, without it ever being there whole; the SAE in bfloat16."""
    source = source_of(config)
    half = Reader(source, 2, dtype=torch.bfloat16)
    use_fp8(half._model)
    monkeypatch.setattr("saeray.readers.model._load", lambda *_: pytest.fail("the reader was loaded whole"))
    encoder = encoder_of(config, source, "cpu", packed=packed)
    reader = encoder.reader
    assert isinstance(reader, PackedReader if packed else Reader)
    assert (reader.dtype, encoder.sae.W_enc.dtype) == (torch.bfloat16, torch.bfloat16)
    ids = [np.arange(3, 60), np.arange(9, 12)]
    found, expected = reader.residual(ids).float(), half.residual(ids).float()
    if not packed:
        assert torch.equal(found, expected)
    # Attention is summed in another order in packs, by 2^-8 of a number, and eight bits may round the other way.
    assert torch.cosine_similarity(found[0], expected[0], dim=1).min() > 0.999
    document = tokenizer_of(config, source).text("What is the answer to this question?")
    assert isinstance(encoder.encode([document])[0], EncodedDocument)


def test_what_cannot_be_packed_is_in_eight_bits_too(tmp_path):
    """Soft caps keep a reader out of packs, not out of fp8."""
    config = config_of(tmp_path, arch="gemma2")
    reader = encoder_of(config, source_of(config), "cpu", packed=True).reader
    assert isinstance(reader, Reader)
    assert any(isinstance(module, Fp8Linear) for module in reader._model.modules())


REFUSED = {
    "gpt2": (
        {"arch": "gpt2"},
        r"fp8 needs blocks of linear layers, and this reader has a 0\.attn\.c_attn\.weight in none",
    ),
    "odd sides": ({"hidden": 40}, "multiples of 16; this reader has one of 40 x 40: use bfloat16"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_reader_that_cannot_be_in_eight_bits_is_refused(tmp_path, case):
    """Before a store is claimed, and by both ways of loading; the same reader is read in bfloat16."""
    shape, message = REFUSED[case]
    config = config_of(tmp_path, **shape)
    ways = [describe, *(lambda c, p=p: encoder_of(c, source_of(c), "cpu", packed=p) for p in (False, True))]
    for way in ways:
        with pytest.raises(SaerayError, match=message) as caught:
            way(config)
        assert "\n" not in str(caught.value)
    assert describe(in_dtype(config, "bfloat16"))


@pytest.mark.parametrize("packed", [False, True])
def test_what_cannot_be_streamed_is_not_in_eight_bits(config, monkeypatch, packed):
    """Names that only transformers knows: one line, and no reader in another precision than was asked for."""

    def refuse(*_, **__):
        raise CannotStream("its names are its own")

    monkeypatch.setattr("saeray.loading.load_streamed", refuse)
    with pytest.raises(SaerayError, match="its names are its own; fp8 is made of streamed weights alone: use bfloat16"):
        encoder_of(config, source_of(config), "cpu", packed=packed)


def test_a_card_without_eight_bit_products_is_refused(config, monkeypatch):
    """Before anything loads: an A100 would fail at the first product, in the middle of a shard."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with pytest.raises(SaerayError, match=r"8\.9 or later \(Ada, Hopper\) and cuda has 8\.0: use bfloat16"):
        encoder_of(config, source_of(config), "cuda")


def test_the_memory_plan_may_propose_eight_bits(config, monkeypatch):
    """Its refusal names fp8 where that would do, because a configuration can ask for it."""
    asked = {}

    def refuse(shape, **settings):
        asked.update(settings)
        raise SaerayError("too small")

    monkeypatch.setattr("saeray.loading.make_plan", refuse)
    for dtype in ("bfloat16", "fp8"):
        one = in_dtype(config, dtype)
        with pytest.raises(SaerayError, match="too small"):
            encoder_of(one, source_of(one), "cpu", packed=True)
        assert asked["dtype"] == dtype
        assert "fp8" in asked["mends"]


def test_an_sae_is_trained_on_a_reader_in_eight_bits(config, tmp_path, monkeypatch):
    """`train-sae` collects vectors of the reader in the precision asked for, and notes the scheme with them, so that
    those of another scheme are not gone on with.
    """
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": f"the answer to question {i}"}) + "\n" for i in range(3)))
    seen = {}

    def note(reader, *rest, **settings):
        seen["reader"] = reader
        return collect(reader, *rest, **settings)

    def finish(config, activations, key):
        return seen.update(train=activations.train, key=key) or {}

    monkeypatch.setattr(train_sae, "collect", note)
    monkeypatch.setattr(train_sae, "finish", finish)
    keys = {}
    for dtype in ("fp8", "bfloat16"):
        out = str(tmp_path / dtype)
        train_sae.make_sae(TrainSAEConfig(inputs=[str(texts)], out=out, encoder=in_dtype(config, dtype)))
        layers = [module for module in seen["reader"]._model.modules() if isinstance(module, Fp8Linear)]
        assert len(layers) == (21 if dtype == "fp8" else 0)
        assert len(seen["train"]) > 10
        assert np.isfinite(seen["train"]).all()
        keys[dtype] = seen["key"]
    assert keys["fp8"] == keys["bfloat16"] | {"dtype": "fp8", "scheme": "e4m3-rows-1"}
