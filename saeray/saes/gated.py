"""Gated autoencoders: one path decides whether a latent fires, another how strongly, with shared directions."""

from typing import Any

import torch
from torch import Tensor

from saeray.saes.base import SAE, blocks


class Gated(SAE):
    """f = [x W_enc + b_gate > 0] * relu(x (W_enc e^r_mag) + b_mag).

    b_gate is held as b_enc. Both paths come from one product g = x W_enc + b_gate: the magnitude is
    relu((g - b_gate) e^r_mag + b_mag), half the work of the formula as written. r_mag and b_mag [d_sae] stay float32.
    """

    architecture = "gated"
    r_mag: Tensor
    b_mag: Tensor

    def __init__(self, W_enc: Tensor, b_gate: Tensor, r_mag: Tensor, b_mag: Tensor, **kept: Any) -> None:
        super().__init__(W_enc, b_gate, **kept)
        self.register_buffer("r_mag", self._per_latent("r_mag", r_mag).float())
        self.register_buffer("b_mag", self._per_latent("b_mag", b_mag).float())

    def activate_(self, z: Tensor) -> Tensor:
        gain = self.r_mag.exp()
        shift = (self.b_mag - self.b_enc.float() * gain).to(z.dtype)
        gain = gain.to(z.dtype)
        for block in blocks(z):
            open_ = torch.gt(block, 0, out=torch.empty_like(block))
            block.mul_(gain).add_(shift).relu_().mul_(open_)
        return z
