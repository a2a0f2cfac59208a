"""A reader's weights from safetensors shards to the device: only what is needed, the next while this is copied.

transformers reads whole shards on the host, makes the model there and moves it: for 51 of 80 blocks twice 90 GB through
memory. Here the model is made without storage, the byte ranges of the kept blocks are read in file order into a few
large buffers, and each tensor goes to the device from there. The bytes come from this node's disk, where `source` and
`storage` have put the files that are needed, because the fingerprint is made of their digests.

    source = prepare("/models/Llama-3.3-70B-Instruct", 50)
    model, timing = load_streamed(source, 50, dtype=torch.bfloat16, device="cuda")
    print(timing.line())
"""

from __future__ import annotations

import copy
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from saeray.errors import SaerayError
from saeray.readers.fp8 import Fp8Linear, use_fp8
from saeray.readers.model import check_whole, decoder_blocks, load_config, quiet_transformers
from saeray.readers.quantised import check_plain, in_eight_bits
from saeray.readers.shards import Piece, read_pieces, read_range
from saeray.readers.source import ReaderSource

# Bytes in one buffer: large enough for any disk's or store's full rate, small enough that three take 1.5 GiB; more
# where one tensor alone is larger (a 70B's embedding: 2 GiB).
SPAN = 2**29
GAP = 2**20  # a hole of unneeded tensors that is read over rather than asked around
AHEAD = 2  # spans being read while one is copied


class CannotStream(SaerayError):
    """The checkpoint lacks a tensor, or keeps it under a name or in a form that only transformers knows."""


@dataclass(frozen=True)
class Span:
    """Tensors of one file that are read in one go."""

    path: Path
    pieces: tuple[Piece, ...]

    @property
    def begin(self) -> int:
        return self.pieces[0].begin

    @property
    def end(self) -> int:
        return self.pieces[-1].end


@dataclass
class Timing:
    """Seconds by stage. open: headers. read: summed over threads. copy: to the device. total: by the clock."""

    open: float = 0.0
    read: float = 0.0
    copy: float = 0.0
    total: float = 0.0
    bytes: int = 0
    files: set[Path] = field(default_factory=set)

    def line(self) -> str:
        """One line to print after loading."""
        rate = self.bytes / 1e9 / max(self.total, 1e-9)
        return (
            f"weights: {self.bytes / 1e9:.2f} GB from {len(self.files)} file(s) in {self.total:.1f} s "
            f"({rate:.2f} GB/s); open {self.open:.1f} s, read {self.read:.1f} s in {AHEAD} threads, "
            f"copy {self.copy:.1f} s"
        )


def truncated(config: Any, layer: int) -> Any:
    """A copy of a reader's configuration that ends after block `layer`."""
    config = copy.deepcopy(config)
    text = config.get_text_config()
    if layer >= text.num_hidden_layers:
        raise SaerayError(f"the reader has {text.num_hidden_layers} blocks; there is no hook layer {layer}")
    text.num_hidden_layers = layer + 1
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[: layer + 1]
    return config


def empty_model(config: Any, layer: int, dtype: torch.dtype = torch.float32) -> Any:
    """The decoder cut after block `layer` whose parameters have shapes and no storage; buffers are real."""
    from accelerate import init_empty_weights

    model_class = transformers.MODEL_MAPPING.get(type(config), None)
    if model_class is None:
        raise SaerayError(f"transformers knows no model class for {config.model_type!r}")
    with quiet_transformers(), init_empty_weights(include_buffers=False):
        return model_class._from_config(truncated(config, layer), dtype=dtype).eval()


def load_streamed(
    source: ReaderSource,
    layer: int,
    *,
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device | Sequence[str | torch.device] = "cpu",
    fp8: bool = False,
) -> tuple[Any, Timing]:
    """The decoder cut after block `layer` on `device`, its weights in `dtype`, and where the time went.

    device: one for all, or one for each block, of which the first has everything else too (see `staged`).
    fp8: the blocks' matrices are converted as they arrive (see `fp8`), or taken as they are from a checkpoint that has
    them so; otherwise the model has the same parameters and buffers as `Reader`'s. Raises SaerayError in one line for a
    truncated shard, a missing tensor, one of another shape, or a file that is not safetensors.
    """
    began = time.perf_counter()
    timing = Timing()
    config = load_config(source, layer)
    ready = in_eight_bits(config, fp8)
    model = empty_model(config, layer, dtype)
    if fp8:
        use_fp8(model)
    wanted = _places(model, source.tensors, ready)
    spans = _spans(source.tensors, set(wanted))
    timing.open = time.perf_counter() - began
    homes = _homes(model, device)
    on_gpus = {home for home in homes.values() if home.type == "cuda"}
    for span, buffer in _read_ahead(spans, timing, pin=bool(on_gpus)):
        begin = time.perf_counter()
        for piece in span.pieces:
            if piece.name in wanted:
                module, name = wanted.pop(piece.name)
                value = _view(buffer, piece, span.begin).to(homes[module], non_blocking=True)
                if ready and isinstance(module, Fp8Linear) and name in module.READY:
                    module.set_ready(name, value, piece.name)
                else:
                    _set(module, name, piece, value.to(dtype))
        timing.copy += time.perf_counter() - begin
    _finish(homes)
    del buffer
    _settle(on_gpus)
    timing.total = time.perf_counter() - began
    return model, timing


def _settle(gpus: set[torch.device]) -> None:
    """Waits for the copies to the GPUs and gives the pinned buffers back, which torch would keep for the process."""
    for gpu in gpus:
        torch.cuda.synchronize(gpu)
    if gpus:
        torch.accelerator.empty_host_cache()


def _places(model: Any, names: Iterable[str], ready: bool) -> dict[str, tuple[nn.Module, str]]:
    """Name in the checkpoint -> (module, parameter name), for every tensor that has a place in the model.

    ready: the checkpoint has its matrices in eight bits, so each has its scales beside it.
    """
    places: dict[str, tuple[nn.Module, str]] = {}
    owners = dict(model.named_modules())
    own = {name for name, _ in model.named_parameters()}
    if ready:
        own |= {f"{name}.weight_scale" for name, module in owners.items() if isinstance(module, Fp8Linear)}
    prefix = model.base_model_prefix + "."
    for name in names:
        inside = name if name in own else name.removeprefix(prefix)
        if inside in own:
            owner, _, last = inside.rpartition(".")
            places[name] = owners[owner], last
    found = {name if name in own else name.removeprefix(prefix) for name in places}
    try:
        check_whole(model, own - found)
    except SaerayError as error:
        raise CannotStream(f"{error}, or has it under a name that streaming does not know") from error
    return places


def _spans(tensors: Mapping[str, Path], wanted: set[str]) -> list[Span]:
    """What to read, file by file in file order. Headers are read eight at a time."""
    by_file: dict[Path, set[str]] = defaultdict(set)
    for name in wanted:
        by_file[tensors[name]].add(name)
    files = sorted(by_file)
    with ThreadPoolExecutor(8) as pool:
        headers = list(pool.map(read_pieces, files))
    spans: list[Span] = []
    for path, pieces in zip(files, headers, strict=True):
        lacks = by_file[path] - {piece.name for piece in pieces}
        if lacks:
            raise SaerayError(f"the weights at {path} lack {min(lacks)}, which the checkpoint's index promises")
        spans += _grouped(path, [piece for piece in pieces if piece.name in by_file[path]])
    return spans


def _grouped(path: Path, pieces: Sequence[Piece]) -> Iterator[Span]:
    group: list[Piece] = []
    for piece in pieces:
        if group and (piece.begin - group[-1].end > GAP or piece.end - group[0].begin > SPAN):
            yield Span(path, tuple(group))
            group = []
        group.append(piece)
    if group:
        yield Span(path, tuple(group))


def _read_ahead(spans: Sequence[Span], timing: Timing, *, pin: bool) -> Iterator[tuple[Span, Tensor]]:
    """Each span with its bytes, while AHEAD more are being read."""
    with ThreadPoolExecutor(AHEAD) as pool:
        waiting: deque[Future[tuple[Tensor, float]]] = deque()
        try:
            for i, span in enumerate(spans):
                while len(waiting) <= AHEAD and i + len(waiting) < len(spans):
                    waiting.append(pool.submit(_read, spans[i + len(waiting)], pin))
                buffer, seconds = waiting.popleft().result()
                timing.read += seconds
                timing.bytes += len(buffer)
                timing.files.add(span.path)
                yield span, buffer
        finally:  # an error, or a caller who stops: nothing more is read
            for one in waiting:
                one.cancel()


def _read(span: Span, pin: bool) -> tuple[Tensor, float]:
    began = time.perf_counter()
    buffer = torch.empty(span.end - span.begin, dtype=torch.uint8, pin_memory=pin)
    read_range(span.path, span.begin, buffer.numpy().data)
    return buffer, time.perf_counter() - began


def _view(buffer: Tensor, piece: Piece, begin: int) -> Tensor:
    """A tensor over the buffer's own memory, or a copy where its bytes do not lie on the dtype's boundary."""
    raw = buffer[piece.begin - begin : piece.end - begin]
    if raw.storage_offset() % piece.dtype.itemsize:
        raw = raw.clone()
    return raw.view(piece.dtype).view(piece.shape)


def _set(module: nn.Module, name: str, piece: Piece, value: Tensor) -> None:
    check_plain(piece.name, piece.dtype)
    expected = module.get_parameter(name).shape
    if value.shape != expected:
        raise SaerayError(
            f"the reader's weights do not fit its config.json: {piece.name} is {list(value.shape)} in the "
            f"checkpoint and {list(expected)} by the configuration"
        )
    if isinstance(module, Fp8Linear) and name == "weight":
        module.set_weight(value)
    else:
        module._parameters[name] = nn.Parameter(value, requires_grad=False)


def _homes(model: Any, device: str | torch.device | Sequence[str | torch.device]) -> dict[nn.Module, torch.device]:
    """The device of every module."""
    blocks = decoder_blocks(model)
    each = [device] * len(blocks) if isinstance(device, str | torch.device) else list(device)
    homes = dict.fromkeys(model.modules(), torch.device(each[0]))
    for block, home in zip(blocks, each, strict=True):
        homes |= dict.fromkeys(block.modules(), torch.device(home))
    return homes


def _finish(homes: Mapping[nn.Module, torch.device]) -> None:
    """Storage for what comes after the last block and is in no checkpoint's needed part; buffers on their devices."""
    for module, home in homes.items():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.is_meta:
                zeros = torch.zeros(parameter.shape, dtype=parameter.dtype, device=home)
                module._parameters[name] = nn.Parameter(zeros, requires_grad=False)
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(home)
