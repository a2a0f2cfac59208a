"""JumpReLU autoencoders: a latent is let through, whole, above a threshold of its own (Gemma Scope)."""

from typing import Any

from torch import Tensor

from saeray.saes.base import SAE, gate_


class JumpReLU(SAE):
    """f = z where z > max(threshold, 0), else 0, with z = x W_enc + b_enc. The comparison is strict.

    threshold is float32 in every working dtype: [d_sae], or [] when one value serves all latents (quicker).
    """

    architecture = "jumprelu"
    threshold: Tensor

    def __init__(self, W_enc: Tensor, b_enc: Tensor, threshold: Tensor, **kept: Any) -> None:
        super().__init__(W_enc, b_enc, **kept)
        if threshold.ndim > 0:
            self._per_latent("threshold", threshold)
        self.register_buffer("threshold", threshold.float())

    def activate_(self, z: Tensor) -> Tensor:
        return gate_(z, self.threshold)
