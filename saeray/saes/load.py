"""One way in for every checkpoint: what is it, load it, describe it, name it by its bytes.

A checkpoint is a local file or directory. Each format is a module with `detect`, `files`, `inspect` and `load`.
"""

import hashlib
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from saeray.errors import SaerayError, UsageError
from saeray.saes import gemma_scope, goodfire, sae_lens
from saeray.saes.base import SAE
from saeray.saes.weights import refuse


class Format(Protocol):
    def detect(self, path: Path) -> bool: ...
    def files(self, path: Path) -> list[Path]: ...
    def inspect(self, path: Path) -> dict[str, Any]: ...
    def load(self, path: Path, *, dtype: torch.dtype, decoder: bool) -> SAE: ...


FORMATS: dict[str, Format] = {
    name: cast(Format, module)
    for name, module in (("sae_lens", sae_lens), ("goodfire", goodfire), ("gemma_scope", gemma_scope))
}

# Files by which a checkpoint of a format that is not read is called by its name rather than "unknown".
OTHERS = {
    "params.safetensors": "Gemma Scope 2 (params.safetensors)",
    "hyperparams.json": "Llama Scope (hyperparams.json)",
    "sae.safetensors": "EleutherAI sparsify (sae.safetensors)",
    "ae.pt": "dictionary_learning (ae.pt)",
}


def detect_format(path: str) -> str:
    """The name of the format at `path`. Raises SaerayError when nothing is there, or nothing that is read."""
    here = Path(path)
    if not here.exists():
        hint = "copy the SAE to a local directory first" if "://" in path else "check the path"
        raise SaerayError(f"no SAE checkpoint at {path}: {hint}")
    names = sorted(file.name for file in here.iterdir()) if here.is_dir() else [here.name]
    for name in names:
        if name in OTHERS:
            refuse(here, OTHERS[name])
    for name, format_ in FORMATS.items():
        if format_.detect(here):
            return name
    refuse(here, ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "an empty directory")


def resolve(path: str, format: str | None) -> Format:
    found = detect_format(path)
    if format is not None and format not in FORMATS:
        raise UsageError(f"no SAE format {format}: known are {', '.join(FORMATS)}")
    if format not in (None, found):
        raise SaerayError(f"{path} is of format {found}, not {format}")
    return FORMATS[found]


def load_sae(
    path: str,
    *,
    format: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    decoder: bool = False,
) -> SAE:
    """The SAE at `path`, encoding in `dtype` on `device`; thresholds stay float32.

    format: detected when None, insisted on otherwise. The decoder is read from disk only when asked for. Weights may
    stay memory-mapped: replace a checkpoint by renaming, not by writing over it. Raises SaerayError, in one line, for
    a missing, unknown, refused, truncated or malformed checkpoint, and for one that is more than tensors.
    """
    if not dtype.is_floating_point:
        raise UsageError(f"an SAE encodes in float32, bfloat16 or float16, not {dtype}")
    sae = resolve(path, format).load(Path(path), dtype=dtype, decoder=decoder)
    return sae.to(device)


def inspect_sae(path: str) -> dict[str, Any]:
    """What the checkpoint at `path` is, from its headers, JSON-ready.

    Keys: path, format, architecture, d_in, d_sae, dtype (as stored), k, l0 (published mean active latents a token, or
    None), decoder and presence (whether there), files (name to bytes), metadata (model_name, hook_name, ... as far as
    known). Raises SaerayError as `load_sae` does.
    """
    return resolve(path, None).inspect(Path(path))


def beside(name: str) -> tuple[str, ...]:
    """The files, itself among them, that one of this name is read together with; none where one file is all."""
    several = (sae_lens.CONFIG, sae_lens.WEIGHTS, sae_lens.PRESENCE, sae_lens.SCALER)
    return several if name in several else ()


def sae_files(path: str) -> list[Path]:
    """The files that decide what the SAE computes, sorted. Raises SaerayError as `load_sae` does."""
    return sorted(resolve(path, None).files(Path(path)))


def sae_digest(path: str) -> str:
    """SHA-256 over names, sizes and bytes of the files that decide what the SAE computes; not over where they lie."""
    digest = hashlib.sha256()
    for file in sae_files(path):
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(2**22):
                digest.update(chunk)
    return digest.hexdigest()
