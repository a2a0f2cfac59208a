"""Promise: a product in eight bits is the product of the rounded numbers, and no more than their rounding is lost."""

import numpy as np
import pytest
import torch
import transformers
from alive import Alive
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_reader_dir
from torch import nn

from saeray.errors import SaerayError
from saeray.readers.fp8 import Fp8Linear, quantise, use_fp8
from saeray.readers.memory import shape_of
from saeray.readers.model import decoder_blocks
from saeray.readers.packed import PackedReader
from saeray.readers.source import prepare
from saeray.readers.streamed import empty_model, load_streamed

LAYER = 2


@settings(max_examples=60)
@given(st.integers(1, 20), st.integers(1, 8), st.floats(1e-6, 1e6), st.integers(0, 2**32 - 1))
def test_rounding_is_a_sixteenth(n, sixteens, size, seed):
    """Each entry is within 1/16 of itself, or 2^-10 / 448 of its row's largest where it is tiny; a row of zeros is."""
    x = torch.from_numpy(np.random.default_rng(seed).normal(0, size, (n, 16 * sixteens))).float()
    x[0] = 0
    q, scale = quantise(x)
    assert (q.dtype, scale.dtype, scale.shape) == (torch.float8_e4m3fn, torch.float32, (n, 1))
    back = q.double() * scale.double()
    smallest = x.abs().amax(dim=1, keepdim=True).double() * 2**-10 / 448
    assert ((back - x).abs() <= x.abs().double() / 16 * (1 + 1e-5) + smallest * (1 + 1e-5)).all()
    assert (back[0] == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("bias", [False, True])
def test_the_product_of_the_rounded_numbers(dtype, bias):
    """What float64 gives for the rounded rows and the rounded weights, to the output's own rounding."""
    torch.manual_seed(0)
    linear = nn.Linear(64, 48, bias=bias, dtype=dtype)
    made = Fp8Linear(48, 64, linear.bias, torch.device("cpu"))
    made.set_weight(linear.weight.detach())
    x = 5 * torch.randn(3, 7, 64, dtype=dtype)
    with torch.inference_mode():
        found = made(x)
    assert (found.shape, found.dtype) == ((3, 7, 48), dtype)
    q, scale = quantise(x.flatten(0, 1))
    weight = made.weight.double() * made.scale.double().T
    expected = (q.double() * scale.double()) @ weight.T
    if bias:
        expected = expected + linear.bias.double()
    bound = 2**-7 if dtype == torch.bfloat16 else 1e-5
    size = expected.abs().amax()
    assert ((found.flatten(0, 1).double() - expected).abs() <= bound * (expected.abs() + 0.05 * size)).all()


def test_a_reader_in_eight_bits_is_near_one_in_sixteen(tmp_path):
    """Streamed and converted on the way: every linear layer of the blocks, nothing else; residual vectors of a tiny
    random reader, which exaggerates every change, keep a cosine of 0.98 on average.
    """
    checkpoint = prepare(str(make_reader_dir(tmp_path / "reader")), LAYER)
    half, _ = load_streamed(checkpoint, LAYER)
    eight, _ = load_streamed(checkpoint, LAYER, fp8=True)
    layers = [module for module in decoder_blocks(eight).modules() if isinstance(module, Fp8Linear)]
    assert len(layers) == 3 * 7
    assert not any(isinstance(module, nn.Linear) for module in decoder_blocks(eight).modules())
    converted = use_fp8(load_streamed(checkpoint, LAYER)[0])
    for (name, a), (_, b) in zip(eight.named_parameters(), converted.named_parameters(), strict=True):
        assert a.dtype == b.dtype, name
        assert torch.equal(a.float(), b.float()), name
    ids = [np.random.default_rng(i).integers(0, 400, n) for i, n in enumerate((1, 30, 200))]
    a, b = (PackedReader(model) for model in (half, eight))
    x, y = a.read(a.pack(ids)).float(), b.read(b.pack(ids)).float()
    assert not torch.equal(x, y)
    assert torch.cosine_similarity(x, y, dim=1).mean() > 0.98
    assert a.flops_per_token() == b.flops_per_token()


def test_bytes_are_those_of_the_plan():
    """Weights and the activations alive at one time are no more than the memory plan has for them."""
    config = transformers.LlamaConfig(
        hidden_size=8192, intermediate_size=28672, num_attention_heads=64, num_key_value_heads=8, vocab_size=1000
    )
    model = use_fp8(empty_model(config, 1, torch.bfloat16)).to("meta")
    shape = shape_of(config, 1)
    blocks = decoder_blocks(model)
    held = sum(t.numel() * t.element_size() for t in [*blocks.parameters(), *blocks.buffers()])
    assert held == shape.weights("fp8")
    reader = PackedReader(model, kernel="varlen")
    pack = reader.pack([np.zeros(n) for n in (3000, 1096)])
    alive = Alive()
    with alive:
        reader.read(pack)
    assert alive.peak <= shape.activations("fp8") * 4096 <= 1.1 * alive.peak


def test_odd_sides_are_refused():
    """A matrix that the kernels cannot take is one line, before anything runs."""
    with pytest.raises(SaerayError, match=r"one of 40 x 64: use bfloat16"):
        Fp8Linear(40, 64, None, torch.device("cpu"))
