"""Where a model of one's own lies, and in which precision: on the CPU, on a GPU, or spread over several.

Several GPUs work one after another, each on its blocks, so a second GPU for one copy adds room and no speed: where a
model fits on one, more copies are the better use.
"""

from __future__ import annotations

from typing import Any

from saeray.errors import SaerayError, UsageError

# What one GPU's weights leave free, for a sequence's keys, values and activations: 70B models keep 0.3 MB a token (80
# blocks x 8 heads x 128 x 2 x 2 bytes), 2.7 GB at 8,192 tokens on all GPUs together.
FREE_SHARE = 0.1


def defaults(device: str | None, dtype: str | None, num_gpus: float) -> tuple[str, str]:
    """Device and dtype where they were not said. Raises UsageError for those that do not go together."""
    import torch

    device = device or ("cuda" if num_gpus else "cpu")
    dtype = dtype or ("float32" if device == "cpu" else "bfloat16")
    if not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise UsageError(f"no dtype {dtype!r}: give float32, bfloat16 or float16")
    if num_gpus > 1 and num_gpus != int(num_gpus):
        raise UsageError(f"{num_gpus:g} GPUs a copy: give a whole number, or a part of one")
    if num_gpus > 1 and device != "cuda":
        raise UsageError(f"{num_gpus:g} GPUs hold a model together: leave out device {device}")
    return device, dtype


def cache_name(model: str, dtype: str) -> str:
    """What tells the model apart in the cache, wherever it lies: its replies are the same."""
    return f"local:{model}:{dtype}"


def placed(where: str, device: str, dtype: str, num_gpus: float) -> dict[str, Any]:
    """Options of `from_pretrained` that put the model at `where` onto its device, or over so many GPUs.

    Raises SaerayError, before any weight is read, when several GPUs have no room for it.
    """
    import torch

    options: dict[str, Any] = {"dtype": getattr(torch, dtype)}
    if num_gpus > 1:
        if torch.cuda.device_count() < num_gpus:
            raise SaerayError(f"{num_gpus:g} GPUs were asked for and there are {torch.cuda.device_count()}")
        room = {gpu: round((1 - FREE_SHARE) * torch.cuda.mem_get_info(gpu)[0]) for gpu in range(int(num_gpus))}
        return options | {"device_map": spread(where, dtype, room)}
    if device != "cpu":
        options["device_map"] = {
            "": device
        }  # straight there: 140 GB of a 70B need not pass through the machine's memory
    return options


def spread(where: str, dtype: str, room: dict[int, int]) -> dict[str, int]:
    """Part of the model -> GPU, balanced as accelerate's "auto" does it, but never onto the CPU or disk, where a
    sequence would take minutes. `room`: bytes that a GPU has for weights. Raises SaerayError where they are too few."""
    import accelerate
    import torch
    import transformers
    from accelerate.utils import get_balanced_memory

    config = transformers.AutoConfig.from_pretrained(where, trust_remote_code=False)
    kind = getattr(torch, dtype)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=kind, trust_remote_code=False)
    model.tie_weights()
    whole = {"no_split_module_classes": model._no_split_modules, "dtype": kind}
    balanced = get_balanced_memory(model, max_memory=dict(room), **whole)
    found: dict[str, int] = accelerate.infer_auto_device_map(model, max_memory=balanced, **whole)
    if set(found.values()) <= set(room):
        return found
    size = sum(one.numel() for one in model.parameters()) * kind.itemsize
    raise SaerayError(
        f"{where} has {size / 1e9:,.1f} GB of weights in {dtype} and {len(room)} GPUs have room for "
        f"{sum(room.values()) / 1e9:,.1f} GB, in whole blocks: give each copy more GPUs"
    )
