"""Promise: a checkpoint that is in eight bits already is read as it is, one in any other form is refused by name."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny import encoder_yaml, make_reader_dir, make_sae_dir

from saeray.config import encoder_config
from saeray.description import describe
from saeray.errors import SaerayError
from saeray.loading import encoder_of, source_of
from saeray.readers.fp8 import Fp8Linear
from saeray.readers.model import Reader
from saeray.readers.packed import PackedReader
from saeray.readers.quantised import in_eight_bits
from saeray.readers.source import prepare
from saeray.readers.streamed import load_streamed

LAYER = 2
GROUP = {
    "targets": ["Linear"],
    "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False},
    "input_activations": {"num_bits": 8, "type": "float", "strategy": "token", "symmetric": True, "dynamic": True},
    "output_activations": None,
}
FORM = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {"group_0": GROUP},
}


def compress(directory, form=FORM, **change):
    """The checkpoint as `FP8-dynamic` ones are kept: float8 matrices of the blocks with a bfloat16 scale a row.

    change: name of a tensor -> what to put in its place, None to leave it out.
    """
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": form}))
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    for file in directory.glob("*.safetensors"):
        state = {name: tensor.bfloat16() for name, tensor in load_file(file).items()}
        for name in [name for name in state if ".layers." in name and "norm" not in name]:
            scale = (state[name].float().abs().amax(dim=1, keepdim=True) / 448).bfloat16()
            state[f"{name}_scale"] = scale
            state[name] = (state[name].float() / scale.float()).clamp(-448, 448).to(torch.float8_e4m3fn)
        state = {name: change.get(name, tensor) for name, tensor in state.items()}
        state = {name: tensor for name, tensor in state.items() if tensor is not None}
        index["weight_map"] |= dict.fromkeys(state, file.name)
        save_file(state, file, metadata={"format": "pt"})
    index["weight_map"] = {key: value for key, value in index["weight_map"].items() if change.get(key, 0) is not None}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory


def stored(directory):
    return {name: tensor for file in directory.glob("*.safetensors") for name, tensor in load_file(file).items()}


def test_taken_to_the_last_bit(tmp_path):
    """Matrices and scales are the checkpoint's own, everything else is in bfloat16; a layer's product is that of the
    numbers they stand for.
    """
    directory = compress(make_reader_dir(tmp_path / "reader"))
    tensors = stored(directory)
    model, _ = load_streamed(prepare(str(directory), LAYER), LAYER, fp8=True)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Fp8Linear)}
    assert len(layers) == (LAYER + 1) * 7
    for name, layer in layers.items():
        weight, scale = tensors[f"model.{name}.weight"], tensors[f"model.{name}.weight_scale"]
        assert layer.weight.dtype == torch.float8_e4m3fn
        assert torch.equal(layer.weight.view(torch.uint8), weight.view(torch.uint8)), name
        assert torch.equal(layer.scale, scale.float().T), name
    wide = {name for name, p in model.named_parameters() if p.dim() > 1 and p.dtype != torch.float8_e4m3fn}
    assert wide == {"embed_tokens.weight"}
    assert model.embed_tokens.weight.dtype == torch.bfloat16
    name, layer = next(iter(layers.items()))
    x = torch.eye(32, dtype=torch.bfloat16)  # rows whose rounding to eight bits is exact
    expected = (tensors[f"model.{name}.weight"].double() * tensors[f"model.{name}.weight_scale"].double()).T
    with torch.inference_mode():
        assert torch.allclose(layer(x).double(), expected, rtol=2**-8, atol=0)


def test_what_the_weights_stand_for(tmp_path):
    """The residual stream is near that of the dequantised weights read in float32; with a lost scale it is far off."""
    directory = compress(make_reader_dir(tmp_path / "reader"))
    plain = make_reader_dir(tmp_path / "plain")
    tensors = stored(directory)
    for file in plain.glob("*.safetensors"):
        one = torch.ones(())
        state = {name: tensors[name].float() * tensors.get(f"{name}_scale", one).float() for name in load_file(file)}
        save_file(state, file, metadata={"format": "pt"})
    model, _ = load_streamed(prepare(str(directory), LAYER), LAYER, fp8=True)
    ids = [np.arange(3, 60)]
    x = Reader(prepare(str(plain), LAYER), LAYER).residual(ids)[0]
    y = PackedReader(model).take(ids, [np.arange(57)]).float()
    assert torch.cosine_similarity(x, y, dim=1).mean() > 0.985


@pytest.mark.parametrize("packed", [False, True])
def test_an_encoder_from_such_a_checkpoint(tmp_path, packed):
    """From a configuration with dtype fp8, in rectangles and in packs; with another dtype one line says what to set,
    before a store is claimed and by every way in.
    """
    directory = compress(make_reader_dir(tmp_path / "reader"))
    sae = make_sae_dir(tmp_path / "sae", d_in=32)
    config = encoder_config(str(encoder_yaml(tmp_path / "fp8.yaml", directory, sae, dtype="fp8")))
    assert describe(config)["reader"]["dtype"] == "fp8"
    reader = encoder_of(config, source_of(config), "cpu", packed=packed).reader
    assert isinstance(reader, PackedReader if packed else Reader)
    assert reader.residual([np.arange(3, 60)]).isfinite().all()
    half = encoder_config(str(encoder_yaml(tmp_path / "half.yaml", directory, sae, dtype="bfloat16")))
    for way in (describe, lambda config: encoder_of(config, source_of(config), "cpu", packed=packed)):
        with pytest.raises(SaerayError, match="checkpoint is in eight bits: set the reader's dtype to fp8"):
            way(half)


def but(**change):
    """FORM with something else about its group's weights or activations."""
    group = dict(GROUP)
    for name, facts in change.items():
        group[name] = facts and group[name] | facts
    return FORM | {"config_groups": {"group_0": group}}


OTHERS = {
    "gptq": {"quant_method": "gptq", "bits": 4},
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "fp8": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "compressed-tensors pack-quantized": FORM | {"format": "pack-quantized"},
    "compressed-tensors float-quantized": FORM | {"config_groups": {}},
}
STRANGE = {
    "a scale a tensor": but(weights={"strategy": "tensor"}),
    "activations scaled beforehand": but(input_activations={"dynamic": False, "strategy": "tensor"}),
    "weights alone": but(input_activations=None),
    "integers": but(weights={"type": "int"}),
    "some layers": FORM | {"config_groups": {"group_0": GROUP | {"targets": ["re:.*mlp.*"]}}},
}


@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize("case", [*OTHERS, *STRANGE])
def test_another_form_is_refused_by_name(case, fp8):
    """Four bits, integers, other scales: never read as if their numbers were the weights."""
    config = transformers.LlamaConfig(quantization_config=OTHERS.get(case) or STRANGE[case])
    name = case if case in OTHERS else "compressed-tensors float-quantized"
    with pytest.raises(SaerayError, match=rf"in a form that is not read \({name}\)") as caught:
        in_eight_bits(config, fp8)
    assert "\n" not in str(caught.value)


UP = "model.layers.1.mlp.up_proj.weight"
SPOILED = {
    "a scale that is missing": ({f"{UP}_scale": None}, r"lacks layers\.1\.mlp\.up_proj\.weight_scale"),
    "a scale of another shape": (
        {f"{UP}_scale": torch.ones(4, 1)},
        rf"do not fit its config\.json: {UP}_scale is float32 \[4, 1\]",
    ),
    "a matrix in sixteen bits": (
        {UP: torch.zeros(64, 32, dtype=torch.bfloat16)},
        rf"{UP} is bfloat16 \[64, 32\]",
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_checkpoint_that_is_not_what_it_says_is_one_line(tmp_path, case):
    """A matrix without its scales would be some hundred times too large; it is named."""
    change, message = SPOILED[case]
    directory = compress(make_reader_dir(tmp_path / "reader"), **change)
    with pytest.raises(SaerayError, match=message) as caught:
        load_streamed(prepare(str(directory), LAYER), LAYER, fp8=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8])
def test_eight_bits_without_a_word_are_refused(tmp_path, dtype):
    """A config.json that says nothing of scales: eight bits are not the weights, loaded whole or streamed."""
    directory = make_reader_dir(tmp_path / "reader")
    for file in directory.glob("*.safetensors"):
        state = load_file(file)
        save_file(state | ({UP: state[UP].to(dtype)} if UP in state else {}), file, metadata={"format": "pt"})
    message = rf"{UP} in {str(dtype).removeprefix('torch.')} and its config\.json does not say how it is quantised"
    with pytest.raises(SaerayError, match=message):
        Reader(prepare(str(directory), LAYER), LAYER)
    for fp8 in (False, True):
        with pytest.raises(SaerayError, match=message):
            load_streamed(prepare(str(directory), LAYER), LAYER, fp8=fp8)
