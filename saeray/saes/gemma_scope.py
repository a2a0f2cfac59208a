"""Gemma Scope 1: JumpReLU autoencoders, `layer_N/width_16k/average_l0_K/params.npz` in their repositories.

f = z where z > threshold, with z = x W_enc + b_enc: no b_dec subtraction. NumPy reads the members of an .npz one by
one and only when asked, so the decoder stays on disk; allow_pickle=False, so an object array is refused unread.
"""

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from saeray.errors import SaerayError
from saeray.saes.base import SAE
from saeray.saes.jumprelu import JumpReLU
from saeray.saes.weights import broken, describe, files_of, refuse, take

PARAMS = "params.npz"


def root(path: Path) -> Path:
    return path / PARAMS if path.is_dir() else path


def detect(path: Path) -> bool:
    return root(path).suffix == ".npz" and root(path).is_file()


def files(path: Path) -> list[Path]:
    return [root(path)]


def inspect(path: Path) -> dict[str, Any]:
    """Shapes from the members' headers; layer, width and L0 from the directories' names."""
    file = root(path)
    shapes: dict[str, tuple[int, ...]] = {}
    dtype = None
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                with archive.open(member) as stream:
                    npy.read_magic(stream)
                    shape, _, kind = npy.read_array_header_1_0(stream)
                shapes[canonical(member.removesuffix(".npy"))] = shape
                dtype = str(kind) if canonical(member).startswith("w_enc") else dtype
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise broken(file, error) from error
    if len(shapes.get("w_enc", ())) != 2:
        refuse(file, f"arrays {', '.join(shapes)}")
    whole = file.resolve().as_posix()
    found = {key: re.search(rf"/{key}_([^/]+)/", whole) for key in ("layer", "width", "average_l0")}
    metadata = {key: match[1] for key, match in found.items() if match}
    l0 = metadata.pop("average_l0", None)
    return describe(
        file,
        format="gemma_scope",
        architecture="jumprelu",
        d_in=shapes["w_enc"][0],
        d_sae=shapes["w_enc"][1],
        dtype=dtype,
        l0=int(l0) if l0 and l0.isdigit() else None,
        decoder="w_dec" in shapes,
        presence=False,
        files=files_of([file]),
        metadata=metadata,
    )


def canonical(name: str) -> str:
    return name.lower()


def load(path: Path, *, dtype: torch.dtype, decoder: bool) -> SAE:
    """The SAE in `dtype` on the CPU. Raises SaerayError for the embedding SAEs, which read no layer's output."""
    file = root(path)
    if "embedding" in file.resolve().parts:
        raise SaerayError(f"{file} reads token embeddings, not a layer's residual stream: choose a layer_N directory")
    wanted = {"w_enc", "b_enc", "threshold"} | ({"w_dec", "b_dec"} if decoder else set())
    tensors = read_arrays(file, wanted)
    if "w_enc" not in tensors or tensors["w_enc"].ndim != 2:
        refuse(file, f"no matrix W_enc among the arrays {', '.join(tensors) or '(none known)'}")
    d_in, d_sae = tensors["w_enc"].shape
    W_enc = take(file, tensors, "w_enc", (d_in, d_sae)).to(dtype)
    kept = {}
    if decoder:
        kept = {"W_dec": take(file, tensors, "w_dec", (d_sae, d_in)), "b_dec": take(file, tensors, "b_dec", (d_in,))}
    b_enc, threshold = (take(file, tensors, name, (d_sae,)) for name in ("b_enc", "threshold"))
    return JumpReLU(W_enc, b_enc, threshold, **kept)


def read_arrays(path: Path, wanted: set[str]) -> dict[str, Tensor]:
    """The wanted arrays, named in lower case (releases differ in W_enc and w_enc)."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {
                canonical(name): torch.from_numpy(archive[name]) for name in archive.files if canonical(name) in wanted
            }
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, TypeError) as error:
        if "pickle" in str(error):
            raise SaerayError(f"{path} holds pickled objects: refused, and nothing in it was executed") from error
        raise broken(path, error) from error
