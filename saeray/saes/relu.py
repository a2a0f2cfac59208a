"""ReLU autoencoders ("standard"): what Goodfire published and what SAELens trains by default."""

from torch import Tensor

from saeray.saes.base import SAE


class ReLU(SAE):
    """f = relu(x W_enc + b_enc)."""

    architecture = "relu"

    def activate_(self, z: Tensor) -> Tensor:
        return z.relu_()
