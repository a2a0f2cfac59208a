"""What a checkpoint says of the form its weights are kept in, and whether that form is read.

One form is read as it is: eight-bit floats with a scale for every output row, activations scaled by token as they come
(compressed-tensors' `float-quantized`, what `FP8-dynamic` checkpoints are), because that is what `fp8` makes of any
other checkpoint. Every other form is refused by name: its weights read as plain numbers would be wrong without a word.
"""

from __future__ import annotations

from typing import Any

import torch

from saeray.errors import SaerayError

Facts = dict[str, Any]
_WEIGHTS = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False}
_ACTIVATIONS = {"num_bits": 8, "type": "float", "strategy": "token", "symmetric": True, "dynamic": True}


def in_eight_bits(config: Any, fp8: bool) -> bool:
    """Whether the checkpoint of a transformers configuration holds its blocks' matrices in eight bits already.

    fp8: whether it is to be read so. Raises SaerayError for a form that is not read, and for eight bits that are to be
    read as sixteen.
    """
    facts = getattr(config, "quantization_config", None)
    if not facts:
        return False
    facts = facts if isinstance(facts, dict) else facts.to_dict()
    if not _is_read(facts):
        form = " ".join(str(facts[name]) for name in ("quant_method", "format") if facts.get(name)) or "unnamed"
        raise SaerayError(
            f"the reader's checkpoint is quantised in a form that is not read ({form}): use its original weights, or "
            "one of float-quantized with a scale a row and activations by token (FP8-dynamic)"
        )
    if not fp8:
        raise SaerayError("the reader's checkpoint is in eight bits: set the reader's dtype to fp8")
    return True


def _is_read(facts: Facts) -> bool:
    groups = list((facts.get("config_groups") or {}).values())
    return (
        facts.get("quant_method") == "compressed-tensors"
        and facts.get("format") == "float-quantized"
        and len(groups) == 1
        and groups[0].get("targets") == ["Linear"]
        and _holds(groups[0].get("weights"), _WEIGHTS)
        and _holds(groups[0].get("input_activations"), _ACTIVATIONS)
        and not groups[0].get("output_activations")
    )


def _holds(facts: Facts | None, expected: Facts) -> bool:
    return facts is not None and all(facts.get(name) == value for name, value in expected.items())


def check_plain(name: str, dtype: torch.dtype) -> None:
    """Raises SaerayError for a tensor in eight bits of whose scales config.json says nothing."""
    if dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.int8):
        raise SaerayError(
            f"the reader's checkpoint has {name} in {str(dtype).removeprefix('torch.')} and its config.json does not "
            "say how it is quantised: use its original weights"
        )
