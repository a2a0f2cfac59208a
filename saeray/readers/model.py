"""The reader: a causal LM cut after its hook layer, which turns token ids into one layer's residual stream.

Sequences go through as right-padded rectangles of like length (see `batches`). Attention is causal, so padding on the
right cannot reach a real token, and no attention mask is needed: every architecture that transformers knows runs
unchanged, and its fastest causal kernel is used.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
import transformers
from torch import Tensor, nn

from saeray.errors import SaerayError, first_line
from saeray.readers.quantised import check_plain, in_eight_bits
from saeray.readers.source import ReaderSource

# What model families call the parameters between the last block and the LM head.
_AFTER = re.compile(r"(?:final_\w*|norm\w*|ln_f|project_out)\.")


class Reader:
    """A truncated causal LM on one device.

    layer: 0-based hook layer; blocks 0..layer are kept and the output of the last one, before any final norm, is read.
    dtype: precision of weights and activations. d_in: width of the residual stream.
    """

    def __init__(
        self, source: ReaderSource, layer: int, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> None:
        with quiet_transformers():
            self._read_from(_load(source, layer, dtype).to(device).eval())

    @classmethod
    def of(cls, model: Any) -> Self:
        """A reader of a decoder that is cut and on its device already (`streamed`); it is the reader's from then on."""
        reader = cls.__new__(cls)
        reader._read_from(model)
        return reader

    def _read_from(self, model: Any) -> None:
        first = next(model.parameters())
        self._model, self.dtype, self.device = model, first.dtype, first.device
        self.d_in = int(model.config.get_text_config().hidden_size)
        self._residual: Tensor | None = None
        decoder_blocks(model)[-1].register_forward_hook(self._keep_residual)

    def _keep_residual(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self._residual = output[0] if isinstance(output, tuple) else output

    @torch.inference_mode()
    def residual(self, ids: list[np.ndarray[Any, Any]]) -> Tensor:
        """Residual stream after the hook layer: [sequences, longest, d_in] on the device.

        ids: one int array a sequence; shorter ones are padded on the right.
        """
        batch = torch.zeros(len(ids), max(len(row) for row in ids), dtype=torch.int64)
        for i, row in enumerate(ids):
            batch[i, : len(row)] = torch.from_numpy(row.astype(np.int64))
        try:
            self._model(input_ids=batch.to(self.device), use_cache=False)
            assert self._residual is not None
            return self._residual
        finally:
            self._residual = None

    def take(self, ids: Sequence[npt.NDArray[Any]], places: Sequence[npt.NDArray[np.intp]]) -> Tensor:
        """Residual vectors of chosen tokens, [sum of len(places), d_in]: of each sequence those at its `places`."""
        hidden = self.residual(list(ids))
        rows = np.repeat(np.arange(len(ids)), [len(at) for at in places])
        flat = torch.from_numpy(rows * hidden.shape[1] + np.concatenate(places)).to(hidden.device)
        return hidden.flatten(0, 1).index_select(0, flat)

    def flops_per_token(self) -> int:
        """Multiply-adds x 2 of the kept blocks' matrices for one token (attention scores left out)."""
        blocks = decoder_blocks(self._model)
        return 2 * sum(p.numel() for block in blocks for p in block.parameters() if p.dim() == 2)

    def matrix_shapes(self) -> list[tuple[int, int]]:
        """(rows, columns) of every matrix of the kept blocks, in order: what a speed limit is measured on."""
        return [(p.shape[0], p.shape[1]) for b in decoder_blocks(self._model) for p in b.parameters() if p.dim() == 2]


def load_tokenizer(source: ReaderSource) -> Any:
    """The reader's tokenizer, without its weights. Raises SaerayError when there is none."""
    try:
        with quiet_transformers():
            return transformers.AutoTokenizer.from_pretrained(source.directory, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise SaerayError(f"the reader at {source.directory} has no usable tokenizer: {first_line(error)}") from error


def load_config(source: ReaderSource, layer: int) -> Any:
    """The reader's configuration, before anything is cut. Raises SaerayError when it has no hook layer `layer`."""
    try:  # without trust_remote_code=False, transformers asks on the terminal whether to run a checkpoint's own code
        config = transformers.AutoConfig.from_pretrained(source.directory, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise SaerayError(
            f"cannot read config.json of the reader at {source.directory}: {first_line(error)}"
        ) from error
    blocks = config.get_text_config().num_hidden_layers
    if layer >= blocks:
        raise SaerayError(f"the reader has {blocks} blocks; there is no hook layer {layer}")
    return config


def _load(source: ReaderSource, layer: int, dtype: torch.dtype) -> Any:
    config = load_config(source, layer)
    in_eight_bits(config, fp8=False)
    text = config.get_text_config()
    text.num_hidden_layers = layer + 1
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[: layer + 1]
    model_class = transformers.MODEL_MAPPING.get(type(config), None)
    if model_class is None:
        raise SaerayError(f"transformers knows no model class for {config.model_type!r}")
    state = _read_tensors(source)
    for name, tensor in state.items():
        check_plain(name, tensor.dtype)
    try:
        model, report = model_class.from_pretrained(
            None, config=config, state_dict=state, dtype=dtype, output_loading_info=True
        )
    except (ValueError, RuntimeError) as error:
        raise SaerayError(f"the reader's weights do not fit its config.json: {first_line(error)}") from error
    check_whole(model, report["missing_keys"])
    return model


def _read_tensors(source: ReaderSource) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    state: dict[str, Tensor] = {}
    for path in sorted(set(source.tensors.values())):
        try:
            with safe_open(path, framework="pt") as file:
                state |= {name: file.get_tensor(name) for name, where in source.tensors.items() if where == path}
        except (SafetensorError, OSError) as error:
            raise SaerayError(f"cannot read the weights at {path}: {first_line(error)}") from error
    return state


def check_whole(model: nn.Module, missing: Iterable[str]) -> None:
    """Raises SaerayError when a parameter that the blocks' output depends on is among `missing`.

    Those are all of the module that holds the decoder blocks, but for what comes after them. transformers fills what a
    checkpoint lacks with random numbers.
    """
    blocks = decoder_blocks(model)
    name = next(name for name, module in model.named_modules() if module is blocks)
    decoder = name.rpartition(".")[0]
    prefix = f"{decoder}." if decoder else ""
    lacks = sorted(key for key in missing if key.startswith(prefix) and not _AFTER.match(key.removeprefix(prefix)))
    if lacks:
        others = f" and {len(lacks) - 1} other tensors" if len(lacks) > 1 else ""
        raise SaerayError(f"the reader's checkpoint lacks {lacks[0]}{others}")


def decoder_blocks(model: nn.Module) -> nn.ModuleList:
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
