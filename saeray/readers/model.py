"""The reader: a causal LM cut after its hook layer, which turns token ids into one layer's residual stream.

Sequences go through as right-padded rectangles of like length (see `batches`). Attention is causal, so padding on the
right cannot reach a real token, and no attention mask is needed: every architecture that transformers knows runs
unchanged, and its fastest causal kernel is used.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from saeray.errors import SaerayError
from saeray.readers.source import ReaderSource


class Reader:
    """A truncated causal LM on one device.

    layer: 0-based hook layer; blocks 0..layer are kept and the output of the last one, before any final norm, is read.
    dtype: precision of weights and activations. d_in: width of the residual stream.
    """

    def __init__(
        self, source: ReaderSource, layer: int, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> None:
        self.layer, self.dtype, self.device = layer, dtype, torch.device(device)
        with quiet_transformers():
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(source.directory)
            self._model = _load(source, layer, dtype).to(self.device).eval()
        self.d_in = int(self._model.config.get_text_config().hidden_size)
        self._residual: Tensor | None = None
        _blocks(self._model)[-1].register_forward_hook(self._keep_residual)

    def _keep_residual(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self._residual = output[0] if isinstance(output, tuple) else output

    @torch.inference_mode()
    def residual(self, ids: list[np.ndarray[Any, Any]]) -> Tensor:
        """Residual stream after the hook layer: [sequences, longest, d_in] on the device; rows are padded on the right.

        ids: one int array a sequence.
        """
        batch = torch.zeros(len(ids), max(len(row) for row in ids), dtype=torch.int64)
        for i, row in enumerate(ids):
            batch[i, : len(row)] = torch.from_numpy(row.astype(np.int64))
        self._model(input_ids=batch.to(self.device), use_cache=False)
        residual, self._residual = self._residual, None
        assert residual is not None
        return residual

    def flops_per_token(self) -> int:
        """Multiply-adds x 2 of the kept blocks' matrices for one token (attention scores left out)."""
        blocks = _blocks(self._model)
        return 2 * sum(p.numel() for block in blocks for p in block.parameters() if p.dim() == 2)

    def matrix_shapes(self) -> list[tuple[int, int]]:
        """(rows, columns) of every matrix of the kept blocks, in order: what a speed limit is measured on."""
        return [(p.shape[0], p.shape[1]) for b in _blocks(self._model) for p in b.parameters() if p.dim() == 2]


def _load(source: ReaderSource, layer: int, dtype: torch.dtype) -> nn.Module:
    from safetensors import safe_open

    config = transformers.AutoConfig.from_pretrained(source.directory)
    text = config.get_text_config()
    if layer >= text.num_hidden_layers:
        raise SaerayError(f"the reader has {text.num_hidden_layers} blocks; there is no hook layer {layer}")
    text.num_hidden_layers = layer + 1
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[: layer + 1]
    model_class = transformers.MODEL_MAPPING.get(type(config), None)
    if model_class is None:
        raise SaerayError(f"transformers knows no model class for {config.model_type!r}")
    state: dict[str, Tensor] = {}
    for path in sorted(set(source.tensors.values())):
        with safe_open(path, framework="pt") as file:
            state |= {name: file.get_tensor(name) for name, where in source.tensors.items() if where == path}
    model: nn.Module = model_class.from_pretrained(None, config=config, state_dict=state, dtype=dtype)
    missing = [name for name, p in model.named_parameters() if p.is_meta]
    if missing:
        raise SaerayError(f"the reader's checkpoint lacks {missing[0]} and {len(missing) - 1} other tensors")
    return model


def _blocks(model: nn.Module) -> nn.ModuleList:
    """The decoder blocks, under any of the names that model families give them."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise SaerayError(f"{type(model).__name__} has no list of decoder blocks to hook")
    return max(lists, key=lambda module: sum(p.numel() for p in module.parameters()))


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silences the tables of unused weights and progress bars: a truncated reader is meant to lack the rest."""
    level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity(logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()
