"""TopK autoencoders: the k largest latents of each token, and a rule for ties so that a rerun gives the same bytes."""

from typing import Any

import torch
from torch import Tensor

from saeray.errors import SaerayError
from saeray.saes.base import SAE, blocks


class TopK(SAE):
    """The k largest of z = x W_enc + b_enc per token, of those the positive ones; ties go to the lowest index.

    k >= d_sae keeps every positive latent.
    """

    architecture = "topk"

    def __init__(self, W_enc: Tensor, b_enc: Tensor, k: int, **kept: Any) -> None:
        super().__init__(W_enc, b_enc, **kept)
        if k < 1:
            raise SaerayError(f"k of a TopK SAE must be at least 1, got {k}")
        self.k = k

    def activate_(self, z: Tensor) -> Tensor:
        if self.k >= self.d_sae:
            return z.relu_()
        for block in blocks(z):
            # One more than k: a tie matters only when it straddles the cut.
            values, latents = block.topk(self.k + 1, dim=1)
            tied = (values[:, -1] == values[:, -2]) & (values[:, -1] > 0)
            values, latents = values[:, :-1], latents[:, :-1]
            if tied.any():  # rare in fp32, common in bf16
                latents[tied] = lowest_of_ties(block[tied], values[tied], latents[tied])
            block.zero_().scatter_(1, latents, values.relu())
        return z


def lowest_of_ties(z: Tensor, values: Tensor, latents: Tensor) -> Tensor:
    """Rewrite `latents` [n, k] so that those equal to the k-th value are the lowest of all entries of z that equal it.

    values [n, k] are descending, so what lies above the cut comes first and stays.
    """
    cut = values[:, -1:]
    above = (values > cut).sum(dim=1)
    row, latent = (z == cut).nonzero(as_tuple=True)  # row-major: latents ascend within a row
    ties = torch.bincount(row, minlength=len(z))
    rank = torch.arange(len(row), device=z.device) - (ties.cumsum(0) - ties)[row]
    place = above[row] + rank
    kept = place < values.shape[1]
    latents = latents.clone()
    latents[row[kept], place[kept]] = latent[kept]
    return latents
