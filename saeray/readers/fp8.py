"""The blocks' matrices in eight bits: one 80 GB card holds the 70B reader, and its products have twice the peak rate.

Weights are scaled by output row and activations by token, each to the largest number that e4m3 holds, and PyTorch's
scaled product undoes both in its epilogue. Embedding, norms, residual stream, attention and the SAE stay in bfloat16. A
matrix is converted as it arrives on the device, so the reader never exists there in 16 bits.

Eight bits change activations: an encoder in fp8 is another encoder, with another fingerprint, and so is one in another
scheme of eight bits, whose name is SCHEME.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from saeray.errors import SaerayError
from saeray.readers.model import decoder_blocks

# Part of an encoder's fingerprint: a change in what is rounded, or how, takes another name.
SCHEME = "e4m3-rows-1"
DTYPE = torch.float8_e4m3fn
LARGEST = 448.0
MULTIPLE = 16  # both sides of a matrix, by the kernels' alignment


class Fp8Linear(nn.Module):
    """x [..., in] @ weight^T + bias with weight float8 [out, in] and scale float32 [1, out]; out in x's dtype."""

    READY = ("weight", "weight_scale")  # what a checkpoint that is in eight bits already has of a layer

    weight: nn.Parameter
    scale: Tensor
    bias: Tensor | None

    def __init__(self, out_features: int, in_features: int, bias: nn.Parameter | None, device: torch.device) -> None:
        super().__init__()
        if out_features % MULTIPLE or in_features % MULTIPLE:
            raise SaerayError(
                f"fp8 needs matrices whose sides are multiples of {MULTIPLE}; this reader has one of "
                f"{out_features} x {in_features}: use bfloat16"
            )
        empty = torch.empty(out_features, in_features, dtype=DTYPE, device=device)
        self.weight = nn.Parameter(empty, requires_grad=False)
        self.register_buffer("scale", torch.ones(1, out_features, device=device))
        self.bias = bias

    def set_weight(self, weight: Tensor) -> None:
        """Takes weight [out, in] of any float dtype, on the device where it is to stay."""
        quantised, scale = quantise(weight)
        self.weight = nn.Parameter(quantised, requires_grad=False)
        self.scale = scale.T.contiguous()

    def set_ready(self, name: str, value: Tensor, of: str) -> None:
        """Takes a checkpoint's own float8 `weight` or `weight_scale`; `of` is what it is called there.

        Raises SaerayError for one of another shape or type.
        """
        shape = self.weight.shape if name == "weight" else torch.Size((self.weight.shape[0], 1))
        if value.shape != shape or (value.dtype == DTYPE) != (name == "weight"):
            kind = str(value.dtype).removeprefix("torch.")
            raise SaerayError(f"the reader's weights do not fit its config.json: {of} is {kind} {list(value.shape)}")
        if name == "weight":
            self.weight = nn.Parameter(value, requires_grad=False)
        else:
            self.scale = value.float().T.contiguous()

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        quantised, scale = quantise(rows)
        y = torch._scaled_mm(quantised, self.weight.T, scale_a=scale, scale_b=self.scale, out_dtype=x.dtype)
        if self.bias is not None:
            y = y + self.bias
        return y.view(*x.shape[:-1], -1)


def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
    """(q float8 [n, k], scale float32 [n, 1]) with x = q x scale to within 2^-4 of each entry; rows of zeros stay zero.

    e4m3 has three bits behind the point: half a step is 1/16 of a number, and entries below 2^-15 of their row's
    largest are lost.
    """
    low, high = torch.aminmax(x, dim=1, keepdim=True)
    scale = (torch.maximum(-low, high).float() / LARGEST).clamp_(min=1e-30)
    return (x / scale).to(DTYPE), scale


def use_fp8(model: Any) -> Any:
    """Puts an Fp8Linear in the place of every linear layer of the blocks; weights that are there are converted.

    Raises SaerayError for blocks that have other matrices too (experts in one tensor, GPT-2's turned ones).
    """
    blocks = decoder_blocks(model)
    linear = {id(m.weight) for m in blocks.modules() if isinstance(m, nn.Linear)}
    for name, parameter in blocks.named_parameters():
        if parameter.dim() > 1 and id(parameter) not in linear:
            raise SaerayError(f"fp8 needs blocks of linear layers, and this reader has a {name} in none: use bfloat16")
    for block in blocks:
        for name, layer in [(n, m) for n, m in block.named_modules() if isinstance(m, nn.Linear)]:
            owner, _, last = name.rpartition(".")
            made = Fp8Linear(layer.out_features, layer.in_features, layer.bias, layer.weight.device)
            if not layer.weight.is_meta:
                made.set_weight(layer.weight.detach())
            setattr(block.get_submodule(owner) if owner else block, last, made)
    return model
