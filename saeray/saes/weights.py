"""What reading a checkpoint has in common whatever its format: refusals in one line, checks, and folding.

Tensors stay memory-mapped where the file allows, so that workers on one machine share one copy of the weights.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from saeray.errors import SaerayError

KNOWN = (
    "sae_lens (a directory with cfg.json and sae_weights.safetensors), "
    "goodfire (a .pt or .pth state dict with encoder_linear and decoder_linear), gemma_scope (params.npz)"
)

# Latents folded at a time: 4096 columns of an 8192-wide reader in float64 are 268 MB.
COLUMNS = 4096


def refuse(path: Path, found: str) -> NoReturn:
    """Raise for a checkpoint of a format that is not read."""
    raise SaerayError(f"{path} is not an SAE checkpoint that can be read: found {found}; known formats: {KNOWN}")


def broken(path: Path, error: Exception) -> SaerayError:
    """The error for a file that its own reader could not make sense of."""
    detail = " ".join(str(error).split()) or type(error).__name__
    return SaerayError(f"{path} is truncated or corrupt ({detail[:160]}): fetch it again")


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise broken(path, error) from error
    if not isinstance(value, dict):
        raise SaerayError(f"{path} must hold one JSON object, got {type(value).__name__}")
    return value


def read_tensors(path: Path, wanted: set[str]) -> dict[str, Tensor]:
    """The tensors of `wanted` that the file holds, memory-mapped; the others are not touched."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in sorted(wanted.intersection(file.keys()))}
    except (SafetensorError, OSError) as error:
        raise broken(path, error) from error


def read_header(path: Path) -> dict[str, tuple[list[int], str]]:
    """Tensor name to (shape, dtype) of a safetensors file; no tensor is read."""
    names = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I8": "int8"}
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in sorted(file.keys())}
            return {
                name: (part.get_shape(), names.get(part.get_dtype(), part.get_dtype())) for name, part in slices.items()
            }
    except (SafetensorError, OSError) as error:
        raise broken(path, error) from error


def take(path: Path, tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    """tensors[name], which must be there, have this shape, and be free of NaN; weights must be finite too.

    A threshold may be infinite: that latent is switched off.
    """
    if name not in tensors:
        raise SaerayError(f"{path} has no tensor {name}: found {', '.join(sorted(tensors))}")
    value = tensors[name]
    if tuple(value.shape) != shape:
        raise SaerayError(f"{path}: {name} must be {list(shape)}, got {list(value.shape)}")
    if not value.is_floating_point():
        raise SaerayError(f"{path}: {name} must hold floats, got {value.dtype}")
    if value.numel():
        low, high = (end.item() for end in torch.aminmax(value))  # propagates NaN, and takes no memory
        allowed = "threshold" in name and low == low
        if not allowed and not (abs(low) < float("inf") and abs(high) < float("inf")):
            raise SaerayError(f"{path}: {name} holds NaN or infinite values: fetch it again")
    return value


def fold_b_dec(W_enc: Tensor, bias: Tensor, b_dec: Tensor) -> Tensor:
    """The bias that makes x W + bias' equal (x - b_dec) W + bias: bias - b_dec W in float64, [d_sae].

    b_dec W is a sum over d_in of terms that nearly cancel against x W, so it is kept exact until the last cast.
    """
    columns = [b_dec.double() @ part.double() for part in W_enc.split(COLUMNS, dim=1)]  # type: ignore[no-untyped-call]
    return bias.double() - torch.cat(columns)


def files_of(paths: list[Path]) -> dict[str, int]:
    """File name to size in bytes."""
    return {path.name: path.stat().st_size for path in paths}


def describe(path: Path, **facts: Any) -> dict[str, Any]:
    """What `inspect_sae` returns, its keys in one order; facts that a format cannot know are None."""
    keys = ("format", "architecture", "d_in", "d_sae", "dtype", "k", "l0", "decoder", "presence", "files", "metadata")
    return {"path": str(path), **{key: facts.pop(key, None) for key in keys}, **facts}
