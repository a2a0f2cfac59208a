"""What every sparse autoencoder here is: residual in, non-negative latents out.

A checkpoint's conventions (b_dec subtracted from the input, activation scales, decoder norms) are folded into W_enc
and b_enc when it is loaded, so that encoding is the same two steps for all: one matrix product with its bias, then
the architecture's activation in place. The decoder takes no part in encoding and is kept only when asked for.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from saeray.errors import SaerayError

InputNorm = Literal["none", "layer_norm", "constant_norm_rescale"]

# Kept in float32 whatever the working dtype: bf16 has 8 bits, and a threshold of 1.003 rounded to 1.0 lets through
# every pre-activation in between.
FLOAT32_BUFFERS = ("threshold", "presence", "r_mag", "b_mag")

# Elements of scratch an activation may use at a time. On a CPU 2^18 floats stay in cache: gating 512 x 65536 takes
# 31 ms on one core, against 94 with a mask of the whole. On an accelerator fewer, larger launches win.
SCRATCH = {"cpu": 2**18}
SCRATCH_ACCELERATOR = 2**26


class SAE(nn.Module, ABC):
    """Encoder half of a sparse autoencoder, with the decoder when it was asked for.

    W_enc [d_in, d_sae] and b_enc [d_sae] share one dtype; W_dec is [d_sae, d_in] and b_dec [d_in], or both None;
    presence is float32 [d_sae], the value above which a latent counts as present in a document, or None for 0.
    W_enc keeps the memory order of its checkpoint, a [d_sae, d_in] file through a transposed view: x @ W takes either
    at the same speed. For 576 x 8192 and 1024 x 16384 on one core, [d_in, d_sae] over [d_sae, d_in] is 0.95 to 1.05 of
    the time at 256 and 512 tokens, fp32 and bf16; at 64 tokens 0.82 (fp32, the small one) to 1.09 (bf16, the large).
    """

    architecture: str
    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor | None
    b_dec: Tensor | None
    presence: Tensor | None

    def __init__(
        self,
        W_enc: Tensor,
        b_enc: Tensor,
        *,
        W_dec: Tensor | None = None,
        b_dec: Tensor | None = None,
        presence: Tensor | None = None,
        input_norm: InputNorm = "none",
    ) -> None:
        super().__init__()
        self.d_in, self.d_sae = W_enc.shape
        self.input_norm = input_norm
        dtype = W_enc.dtype
        self.register_buffer("W_enc", W_enc)
        self.register_buffer("b_enc", self._per_latent("b_enc", b_enc).to(dtype))
        if W_dec is not None and W_dec.shape != (self.d_sae, self.d_in):
            raise SaerayError(f"W_dec must be [{self.d_sae}, {self.d_in}], got {list(W_dec.shape)}")
        self.register_buffer("W_dec", None if W_dec is None else W_dec.to(dtype))
        self.register_buffer("b_dec", None if b_dec is None else b_dec.to(dtype))
        self.register_buffer("presence", None if presence is None else self._per_latent("presence", presence).float())

    def _per_latent(self, name: str, values: Tensor) -> Tensor:
        if values.shape != (self.d_sae,):
            raise SaerayError(f"{name} must be [{self.d_sae}], got {list(values.shape)}")
        return values

    @abstractmethod
    def activate_(self, z: Tensor) -> Tensor:
        """Pre-activations [n, d_sae] to latents, in place: 0 where inactive, positive elsewhere."""

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Residual x [n, d_in] of any float dtype to latents [n, d_sae] in W_enc's dtype.

        Peak memory is the result and one scratch block. Raises SaerayError when x has another width. n * d_sae may
        pass 2^31: nothing here indexes with 32 bits.
        """
        if x.ndim != 2 or x.shape[1] != self.d_in:
            raise SaerayError(
                f"the SAE reads residuals [n, {self.d_in}], got {list(x.shape)}: use the SAE of this reader and layer"
            )
        return self.activate_(torch.addmm(self.b_enc, self.prepare(x), self.W_enc))

    def prepare(self, x: Tensor) -> Tensor:
        """x [n, d_in] as the encoder sees it: W_enc's dtype, normalised per token when the SAE was trained so."""
        if self.input_norm == "layer_norm":
            x = x.float()
            x = x - x.mean(dim=1, keepdim=True)
            x = x / (x.std(dim=1, keepdim=True) + 1e-5)
        elif self.input_norm == "constant_norm_rescale":
            x = x.float()
            x = x * (self.d_in**0.5 / x.norm(dim=1, keepdim=True).clamp(min=1e-12))
        return x.to(self.W_enc.dtype)

    @torch.no_grad()
    def decode(self, f: Tensor) -> Tensor:
        """Latents f [n, d_sae] to the reconstruction of `prepare(x)` [n, d_in].

        Raises SaerayError when the SAE was loaded without its decoder.
        """
        if self.W_dec is None or self.b_dec is None:
            raise SaerayError("this SAE was loaded without its decoder: load it with decoder=True")
        return torch.addmm(self.b_dec, f.to(self.W_dec.dtype), self.W_dec)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SAE":
        kept: dict[str, Any] = {name: self._buffers.get(name) for name in FLOAT32_BUFFERS}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in kept.items():
            if value is not None:
                self._buffers[name] = value.to(self.W_enc.device)
        return self


def blocks(z: Tensor) -> Iterator[Tensor]:
    """Views of z [n, d_sae] by rows, each small enough to have scratch of its own size."""
    rows = max(1, SCRATCH.get(z.device.type, SCRATCH_ACCELERATOR) // z.shape[1])
    return iter(torch.split(z, rows))


def gate_(z: Tensor, threshold: Tensor) -> Tensor:
    """Zero, in place, every entry of z [n, d_sae] that is not strictly above its float32 threshold ([d_sae] or []).

    A negative threshold gates at 0. Comparing with the threshold rounded *down* to z's dtype decides as float32
    would, since no value of that dtype lies between the two; NaN stays NaN.
    """
    floor = round_down(threshold.clamp(min=0), z.dtype)
    if floor.ndim == 0 and z.device.type == "cpu":  # elsewhere .item() would wait for the device
        torch.threshold_(z, floor.item(), 0.0)
        return z
    for block in blocks(z):
        # A 0/1 mask in z's own dtype: 1.3 ms for 256 x 8192 on one core, against 5.7 with a bool mask. The relu is for
        # float16, where a strongly negative z overflows and -inf * 0 would be NaN.
        block.relu_().mul_(torch.gt(block, floor, out=torch.empty_like(block)))
    return z


def round_down(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Non-negative float32 values to the largest values of `dtype` that are no greater."""
    rounded = values.to(dtype)
    if dtype.itemsize != 2:
        return rounded
    # The bit patterns of non-negative halves are ordered as the numbers are, so one less is the next value down.
    return (rounded.view(torch.int16) - (rounded.float() > values).to(torch.int16)).view(dtype)
