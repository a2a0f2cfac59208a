"""What the GPU bench runs: a reader and an SAE of the 70B's shape with random weights, documents of real lengths."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saeray.readers.fp8 import Fp8Linear, use_fp8
from saeray.readers.model import decoder_blocks
from saeray.readers.packed import PackedReader
from saeray.readers.staged import StagedReader
from saeray.readers.streamed import empty_model
from saeray.readers.tokens import TokenizedDocument
from saeray.saes.relu import ReLU

# Content tokens of 400 answers of two chat models to open questions, in steps of 5%, and the template's frame.
PROFILE = [1, 70, 103, 132, 172, 220, 244, 267, 292, 311, 342, 398, 437, 473, 520, 551, 594, 628, 703, 784, 1075]
FRAME = 30
BLOCKS = 51
LLAMA_70B = {
    "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "num_key_value_heads": 8,
    "vocab_size": 128256, "max_position_embeddings": 131072, "num_hidden_layers": 80,
}  # fmt: skip
TINY = {
    "hidden_size": 64, "intermediate_size": 160, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 500, "max_position_embeddings": 4096, "num_hidden_layers": 4,
}  # fmt: skip
# Active latents a token of the 70B's SAE as published: the bias is set for as many.
L0 = 121


def lengths_of(documents: int, seed: int = 0) -> list[int]:
    """Token counts drawn from the profile, straight lines between its steps."""
    at = np.random.default_rng(seed).uniform(0, len(PROFILE) - 1, documents)
    return (np.interp(at, range(len(PROFILE)), PROFILE).astype(int) + FRAME).tolist()


def as_documents(lengths: Sequence[int], vocabulary: int) -> list[TokenizedDocument]:
    """Random tokens; all but the first, the attention sink, are pooled."""
    random = np.random.default_rng(0)
    found = []
    for n in lengths:
        channel = np.zeros(n, np.int32)
        channel[0] = -1
        ids = random.integers(0, vocabulary, n).astype(np.int32)
        found.append(TokenizedDocument(ids, channel, np.zeros(n, np.int32), ("text",), ("",), 1))
    return found


@torch.inference_mode()
def random_reader(
    config: Any, stops: Sequence[int], dtype: torch.dtype, devices: Sequence[str], fp8: bool
) -> PackedReader:
    """The truncated decoder with random weights made on its stages' devices, converted there one by one for fp8."""
    model = empty_model(config, stops[-1] - 1, dtype)
    if fp8:
        use_fp8(model)
    homes = dict.fromkeys(model.modules(), devices[0])
    for device, (first, stop) in zip(devices, pairwise([0, *stops]), strict=True):
        homes |= dict.fromkeys(decoder_blocks(model)[first:stop].modules(), device)
    generators = {device: torch.Generator(device).manual_seed(i) for i, device in enumerate(sorted(set(devices)))}
    for module in model.modules():
        device = homes[module]
        for name, parameter in module.named_parameters(recurse=False):
            value = torch.ones(parameter.shape, dtype=dtype, device=device)
            if parameter.dim() > 1:
                value.normal_(std=0.02, generator=generators[device])
            if isinstance(module, Fp8Linear) and name == "weight":
                module.set_weight(value)
            else:
                module._parameters[name] = torch.nn.Parameter(value, requires_grad=False)
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(device)
    return PackedReader(model) if len(stops) == 1 else StagedReader(model, stops)


@torch.inference_mode()
def random_sae(reader: PackedReader, d_sae: int, sample: Tensor) -> ReLU:
    """A ReLU SAE, stored as published ones are, whose bias lets L0 in 65,536 latents through on `sample` [n, d_in]."""
    generator = torch.Generator(reader.device).manual_seed(1)
    W = torch.randn(d_sae, reader.d_in, dtype=reader.dtype, device=reader.device, generator=generator)
    W /= reader.d_in**0.5
    z = (sample @ W.T).float().flatten()
    share = L0 / 65_536
    cut = torch.sort(z)[0][int(len(z) * (1 - share))]
    return ReLU(W.T, torch.full((d_sae,), -float(cut), device=reader.device))
