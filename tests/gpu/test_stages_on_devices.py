"""Promise: on GPUs, blocks in stages give what one GPU gives, on two cards and with two stages on one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from saeray.readers.packed import PackedReader
from saeray.readers.staged import StagedReader

TWO = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
PLACES = [
    pytest.param(["cpu", "cpu"], id="cpu"),
    pytest.param(["cuda:0", "cuda:0"], id="one card", marks=[pytest.mark.gpu, pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no GPU that torch can use")]),
    pytest.param(["cuda:0", "cuda:1"], id="two cards", marks=[pytest.mark.gpu, TWO]),
]  # fmt: skip


def decoder(device: str) -> torch.nn.Module:
    """A random Llama of four blocks with heads of 16, in the device's precision."""
    config = transformers.LlamaConfig(
        num_hidden_layers=4, hidden_size=64, intermediate_size=128, vocab_size=400, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config, dtype=torch.float32).eval()
    return model.to(device, torch.float32 if device == "cpu" else torch.bfloat16)  # type: ignore[no-any-return]


@pytest.mark.parametrize("devices", PLACES)
def test_stages_give_the_bits_of_one_device(devices: list[str]) -> None:
    """The same kernels on the same shapes: bit for bit, packs in flight together, and what is enqueued on an outcome
    before the next is asked for sees that outcome's numbers.
    """
    random = np.random.default_rng(0)
    batches = []
    for lengths in ([30, 5, 100], [1], [64, 64], [17, 300, 2], [128], [9, 9, 9, 9]):
        ids = [random.integers(0, 400, n).astype(np.int32) for n in lengths]
        batches.append((ids, [np.arange(0, n, 2) for n in lengths]))
    one = PackedReader(decoder(devices[0]))
    expected = [one.take(*batch).cpu() for batch in batches]
    model = decoder(devices[0])
    for block in list(model.layers)[2:]:  # type: ignore[call-overload]
        block.to(devices[1])
    staged = StagedReader(model, [2, 4])
    copies = []
    for x in staged.stream(batches * 3):
        assert isinstance(x, torch.Tensor)
        assert x.device == torch.device(devices[1])
        copies.append(x + 0)
    for found, right in zip(copies, expected * 3, strict=True):
        assert torch.equal(found.cpu(), right)
