"""Promise: a reader too large for one device is read on several, and its rows are those of one."""

import logging

import pytest
import torch
from tiny import make_encoder_yaml, make_reader_dir, make_sae_dir

from saeray import loading
from saeray.config import encoder_config
from saeray.encoder import EncodedDocument
from saeray.errors import SaerayError
from saeray.loading import encoder_of, source_of, tokenizer_of
from saeray.readers.memory import make_plan
from saeray.readers.packed import PackedReader
from saeray.readers.staged import StagedReader
from saeray.readers.streamed import load_streamed

TEXTS = ["The quick brown fox. " * n for n in (1, 40, 3, 120, 7, 90, 2, 12)]


def on_cpus(monkeypatch, *, short):
    """Two CPU devices for a replica, each by `short` bytes too small for what a reader and one batch need."""
    monkeypatch.setattr(loading, "_devices", lambda device, gpus: ["cpu"] * gpus)
    sizes = []

    def plan(shape, *, memory, **rest):
        if not sizes:
            sizes.append(make_plan(shape, memory=memory, **rest | {"most_tokens": rest["window"]}).stages[0].total())
        return make_plan(shape, memory=sizes[0] - short, **rest)

    monkeypatch.setattr(loading, "make_plan", plan)


def test_two_devices_give_the_rows_of_one(tmp_path, monkeypatch, caplog):
    """Planned, streamed to their stages and read in stages: the same bytes as on one device."""
    config = encoder_config(str(make_encoder_yaml(tmp_path)))
    source = source_of(config)
    tokenizer = tokenizer_of(config, source)
    documents = [tokenizer.text(text) for text in TEXTS]
    one = encoder_of(config, source, "cpu", packed=True)
    on_cpus(monkeypatch, short=1)
    with caplog.at_level(logging.INFO):
        two = encoder_of(config, source, "cpu", packed=True, gpus=2)
    assert isinstance(two.reader, StagedReader)
    assert two.reader.cuts == ((0, 2), (2, 3))
    assert "2 stages at work at once" in caplog.text
    one.batch_tokens = two.batch_tokens = 400
    for found, expected in zip(two.encode(documents), one.encode(documents), strict=True):
        assert isinstance(found, EncodedDocument)
        assert len(found.rows) == len(expected.rows) == 1
        for name in ("latents", "max", "count", "peak", "sum"):
            a, b = (getattr(each.rows[0], name) for each in (found, expected))
            assert len(a)
            assert a.tobytes() == b.tobytes()


def test_no_more_devices_than_do(tmp_path, monkeypatch, caplog):
    """A reader that one device holds is read on one, and a line says what to ask for."""
    config = encoder_config(str(make_encoder_yaml(tmp_path)))
    on_cpus(monkeypatch, short=0)
    encoder = encoder_of(config, source_of(config), "cpu", packed=True, gpus=2)
    assert type(encoder.reader) is PackedReader
    assert "1 of 2 GPUs have nothing to do: give --num-gpus 1" in caplog.text


def test_the_refusal_names_the_gpus_that_would_do(tmp_path, monkeypatch):
    """One device was given and two would do."""
    config = encoder_config(str(make_encoder_yaml(tmp_path)))
    on_cpus(monkeypatch, short=1)
    with pytest.raises(SaerayError, match=r"use 2 GPUs a replica \(--num-gpus 2\)"):
        encoder_of(config, source_of(config), "cpu", packed=True)


def test_what_cannot_be_packed_takes_one_gpu(tmp_path):
    """Rectangles are read on one device: a second would stand idle."""
    reader = make_reader_dir(tmp_path / "reader", arch="gemma2")
    sae = make_sae_dir(tmp_path / "sae", d_in=32)
    yaml = tmp_path / "encoder.yaml"
    yaml.write_text(f"reader: {{model: {reader}, layer: 2}}\nsae: {{path: {sae}}}\n")
    config = encoder_config(str(yaml))
    with pytest.raises(SaerayError, match=r"soft caps.*give --num-gpus 1$"):
        encoder_of(config, source_of(config), "cpu", packed=True, gpus=2)


@pytest.mark.parametrize("fp8", [False, True])
def test_weights_go_to_their_stages(tmp_path, fp8):
    """Each block to its own device, everything else to the first block's; what is loaded is what one device gets."""
    config = encoder_config(str(make_encoder_yaml(tmp_path)))
    source = source_of(config)
    whole, _ = load_streamed(source, 2, fp8=fp8)
    model, timing = load_streamed(source, 2, device=["cpu", "cpu", "meta"], fp8=fp8)
    assert timing.bytes > 0
    for name, tensor in model.state_dict(keep_vars=True).items():
        assert tensor.device.type == ("meta" if name.startswith("layers.2.") else "cpu")
        if not tensor.is_meta:
            assert torch.equal(tensor.view(torch.uint8), whole.state_dict()[name].view(torch.uint8))
    assert all(not buffer.is_meta for name, buffer in model.named_buffers() if not name.startswith("layers.2."))


def test_fewer_gpus_than_were_asked_for(monkeypatch):
    """A process that sees one GPU and was given two says so."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert loading._devices("cuda", 2) == ["cuda:0", "cuda:1"]
    assert loading._devices("cuda", 1) == ["cuda"]
    assert loading._devices("cpu", 2) == ["cpu"]
    with pytest.raises(SaerayError, match="4 GPUs a replica were asked for and this process sees 3; give --num-gpus 3"):
        loading._devices("cuda", 4)
