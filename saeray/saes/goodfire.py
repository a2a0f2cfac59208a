"""Goodfire's published SAEs: one torch state dict of a linear encoder and a linear decoder, with no configuration.

f = relu(x encoder_linear.weight^T + encoder_linear.bias): no b_dec subtraction, no top-k, no threshold, whatever the
paper says of training. The 70B file is 4.3 GB, half of it decoder: it is memory-mapped, and the half that is not asked
for is never read. The file is a pickle. torch's weights-only unpickler rebuilds tensors and plain containers and calls
nothing else, and anything but a flat dict of tensors is refused.
"""

import re
import warnings
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from saeray.errors import SaerayError
from saeray.saes.base import SAE
from saeray.saes.relu import ReLU
from saeray.saes.weights import broken, describe, files_of, refuse, take

SUFFIXES = (".pt", ".pth")
ENCODER = ("encoder_linear.weight", "encoder_linear.bias")
DECODER = ("decoder_linear.weight", "decoder_linear.bias")

# Mean active latents a token as published with the two SAEs, by file name.
PUBLISHED_L0 = {"Llama-3.3-70B-Instruct-SAE-l50": 121, "Llama-3.1-8B-Instruct-SAE-l19": 91}


def root(path: Path) -> Path:
    """The state dict: the file itself, or the only one in a directory."""
    return path if path.is_file() else next(iter(states(path)))


def states(path: Path) -> list[Path]:
    return sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)


def detect(path: Path) -> bool:
    return path.suffix in SUFFIXES if path.is_file() else len(states(path)) == 1


def files(path: Path) -> list[Path]:
    return [root(path)]


def inspect(path: Path) -> dict[str, Any]:
    """Shapes and names from the pickle; the tensors' bytes stay on disk. The file name tells the reader and layer."""
    file = root(path)
    tensors = read_state(file)
    d_sae, d_in = tensors[ENCODER[0]].shape
    metadata: dict[str, Any] = {}
    if named := re.fullmatch(r"(.+)-SAE-l(\d+)", file.stem):
        metadata = {"model_name": named[1], "hook_layer": int(named[2])}
    return describe(
        file,
        format="goodfire",
        architecture="relu",
        d_in=d_in,
        d_sae=d_sae,
        dtype=str(tensors[ENCODER[0]].dtype).removeprefix("torch."),
        l0=PUBLISHED_L0.get(file.stem),
        decoder=DECODER[0] in tensors,
        presence=False,
        files=files_of([file]),
        metadata=metadata,
    )


def load(path: Path, *, dtype: torch.dtype, decoder: bool) -> SAE:
    """The SAE in `dtype` on the CPU; a float32 file loaded as float32 stays memory-mapped."""
    file = root(path)
    tensors = read_state(file)
    d_sae, d_in = tensors[ENCODER[0]].shape
    W_enc = take(file, tensors, ENCODER[0], (d_sae, d_in)).to(dtype).T
    kept: dict[str, Any] = {}
    if decoder:
        W_dec = take(file, tensors, DECODER[0], (d_in, d_sae)).to(dtype).T
        kept = {"W_dec": W_dec, "b_dec": take(file, tensors, DECODER[1], (d_in,))}
    return ReLU(W_enc, take(file, tensors, ENCODER[1], (d_sae,)), **kept)


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict, lazily where the file is a zip (all that torch has written since 1.6).

    Raises SaerayError for a pickle that is more than tensors, of which nothing is executed, and for other SAEs.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on the pickle's protocol; what is wrong is raised
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise SaerayError(
            f"{path} is a pickle that is more than tensors ({named[1] if named else 'not a state dict'}): "
            "refused, and nothing in it was executed; ask its author for safetensors"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise broken(path, error) from error
    if not isinstance(state, dict):
        refuse(path, f"a pickled {type(state).__name__}")
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
            raise SaerayError(
                f"{path} is a pickle that is more than tensors ({name!s:.60} is a {type(value).__name__}): refused"
            )
    if ENCODER[0] not in state or state[ENCODER[0]].ndim != 2:
        refuse(path, f"a state dict of {', '.join(map(str, list(state)[:8])) or 'nothing'}")
    return state
