"""A reader over packs: many documents in one row of tokens, each seeing itself alone.

Every product of a block runs over the whole pack; attention alone looks at the edges between documents, and positions
start at 0 in each. Two ways to attend, registered with transformers under one name so that every architecture that
speaks its attention interface runs unchanged:

- `varlen`: PyTorch's variable-length flash attention, on CUDA in half precision. It takes the edges from the device, so
  the host never waits. Keys are not split, which makes a document's attention independent of its neighbours.
- `exact`: transformers' own attention of each document by itself, on any device in any precision: the reference.

What cannot be packed is refused by name when the reader is made: soft caps, chunked or linear attention, positions
that are not counted from the ids it is given, frequencies that depend on the longest sequence in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import signature
from itertools import pairwise
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from saeray.errors import SaerayError
from saeray.readers.inflight import in_flight
from saeray.readers.model import decoder_blocks
from saeray.readers.packing import layout

Kernel = Literal["varlen", "exact"]
# Token ids of each sequence, and of each the places of the tokens whose vectors are asked for.
Batch = tuple[Sequence[npt.NDArray[Any]], Sequence[npt.NDArray[np.intp]]]
NAME = "saeray_packed"
# Of `layer_types`, those whose mask is what the attention function is told.
_KNOWN_LAYERS = {"full_attention", "sliding_attention"}
# Frequencies of these are made anew from the longest position in the batch: a neighbour would change them.
_BATCH_ROPE = {"dynamic", "longrope"}
_NOT_PACKED = ("s_aux", "position_bias", "alibi", "head_mask")


class CannotPack(SaerayError):
    """This architecture cannot be packed; it can be read in rectangles."""


@dataclass(frozen=True)
class Pack:
    """Sequences end to end on the device.

    ids, positions: int64[1, tokens]. offsets: int32[n + 1], where each sequence begins. edges: the same on the host.
    """

    ids: Tensor
    positions: Tensor
    offsets: Tensor
    edges: tuple[int, ...]
    kernel: Kernel

    @cached_property  # asked for in every block
    def longest(self) -> int:
        return max(stop - start for start, stop in pairwise(self.edges))

    def to(self, device: torch.device) -> Pack:
        """The same on another device; the host does not wait."""
        ids, positions, offsets = (x.to(device, non_blocking=True) for x in (self.ids, self.positions, self.offsets))
        return replace(self, ids=ids, positions=positions, offsets=offsets)


class PackedReader:
    """A truncated decoder over packs; the model given belongs to it from then on.

    model: a transformers decoder whose last kept block's output is read. kernel: None for `varlen` where it runs.
    Raises CannotPack for an architecture that cannot be packed, some only at the first token.
    """

    def __init__(self, model: Any, kernel: Kernel | None = None) -> None:
        first = next(model.parameters())
        # Where token ids go, and where the residual stream comes out: one and the same unless blocks are staged.
        self._entry, self.device, self.dtype = first.device, first.device, first.dtype
        self.kernel: Kernel = kernel or ("varlen" if _has_flash(self.device, self.dtype) else "exact")
        self.model = model.eval()
        self.blocks = decoder_blocks(model)
        self.d_in = int(model.config.get_text_config().hidden_size)
        self._vocabulary = int(model.get_input_embeddings().num_embeddings)
        refuse_what_cannot_be_packed(model.config)
        if self.kernel == "varlen":
            _refuse_what_the_kernel_cannot(model.config)
        model.set_attn_implementation(NAME)
        if model.config.get_text_config()._attn_implementation != NAME:
            raise CannotPack(f"{_name(model.config)} cannot be packed: it brings its own attention")
        self._residual: Tensor | None = None
        self._hook = self.blocks[-1].register_forward_hook(self._keep_residual)

    def _keep_residual(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self._residual = output[0] if isinstance(output, tuple) else output

    def pack(self, ids: Sequence[npt.NDArray[Any]]) -> Pack:
        """Int arrays of token ids, one a sequence, on their way to the device; the host does not wait.

        Raises IndexError for an id without an embedding, which on a GPU would end the process's use of it.
        """
        edges, positions = layout([len(row) for row in ids])
        flat = np.concatenate(ids).astype(np.int64)
        for worst in (int(flat.min()), int(flat.max())):
            if not 0 <= worst < self._vocabulary:
                raise IndexError(f"token id {worst}: the reader has {self._vocabulary}")
        return Pack(
            _upload(flat, self._entry)[None],
            _upload(positions, self._entry)[None],
            _upload(edges, self._entry),
            tuple(edges.tolist()),
            self.kernel,
        )

    @torch.inference_mode()
    def read(self, pack: Pack) -> Tensor:
        """Residual stream after the hook layer, [tokens, d_in] on the device, sequence after sequence."""
        try:
            self.model(input_ids=pack.ids, position_ids=pack.positions, use_cache=False, saeray_pack=pack)
            assert self._residual is not None
            return self._residual[0]
        finally:
            self._residual = None

    def take(self, ids: Sequence[npt.NDArray[Any]], places: Sequence[npt.NDArray[np.intp]]) -> Tensor:
        """As `Reader.take`."""
        return self._read_chosen(self._begin((ids, places)))

    def stream(self, batches: Iterable[Batch]) -> Iterator[Tensor | Exception]:
        """What `take` gives of every batch, in order, or the RuntimeError or IndexError that it alone met.

        The host waits for nothing. When an outcome comes out the next batch is on its way up (with stages as many as
        there are stages are begun). Work enqueued on an outcome before the next is asked for runs before the next
        batch's last blocks; what makes the host wait belongs after that.
        """
        return in_flight(batches, self._steps())

    def _steps(self) -> list[Callable[[Any], Any]]:
        return [self._begin, self._read_chosen]

    def _begin(self, batch: Batch) -> tuple[Pack, Tensor]:
        """The batch's pack and the chosen tokens' places in it, on their way up."""
        ids, places = batch
        pack = self.pack(ids)
        chosen = np.concatenate([at + start for at, start in zip(places, pack.edges, strict=False)])
        return pack, _upload(chosen, self.device)

    @torch.inference_mode()
    def _read_chosen(self, begun: tuple[Pack, Tensor]) -> Tensor:
        return self.read(begun[0]).index_select(0, begun[1])

    def residual(self, ids: Sequence[npt.NDArray[Any]]) -> Tensor:
        """As `Reader.residual`, the sequences read as one pack; zeros behind the shorter ones."""
        parts = torch.split(self.read(self.pack(ids)), [len(row) for row in ids])
        return nn.utils.rnn.pad_sequence(list(parts), batch_first=True)

    def flops_per_token(self) -> int:
        """Multiply-adds x 2 of the kept blocks' matrices for one token (attention scores left out)."""
        return 2 * sum(p.numel() for p in self.blocks.parameters() if p.dim() == 2)

    def attention_flops(self, lengths: Sequence[int]) -> int:
        """Multiply-adds x 2 of the scores and their use, causal half only: 2 x width x n (n + 1) a block."""
        text = self.model.config.get_text_config()
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        width = int(head * text.num_attention_heads)
        return len(self.blocks) * sum(2 * width * n * (n + 1) for n in lengths)


def _upload(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(values)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    saeray_pack: Pack | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each sequence of a pack, as transformers calls it.

    query [1, heads, tokens, head size]; key and value with their own number of heads. Returns [1, tokens, heads, head
    size]. sliding_window: a token sees itself and the sliding_window - 1 before it.
    """
    if saeray_pack is None:
        raise CannotPack(f"{type(module).__name__} cannot be packed: its model does not hand on what a pack is")
    for name in _NOT_PACKED:
        if rest.get(name) is not None:
            raise CannotPack(f"{type(module).__name__} cannot be packed: its attention takes {name}")
    if sliding_window is None and _slides(module):
        raise CannotPack(f"{type(module).__name__} cannot be packed: its sliding window is hidden in a mask")
    return in_packs(module, query, key, value, saeray_pack, scaling, sliding_window), None


def in_packs(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, pack: Pack, scaling: float | None, window: int | None
) -> Tensor:
    """The attention itself, [1, tokens, heads, head size], in the way that the pack is made for."""
    if pack.kernel == "varlen":
        return _varlen(query, key, value, pack, scaling, window)
    parts = [
        _alone(module, query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], scaling, window)
        for a, b in pairwise(pack.edges)
    ]
    return torch.cat(parts, dim=1)


def _varlen(query: Tensor, key: Tensor, value: Tensor, pack: Pack, scaling: float | None, window: int | None) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    out = varlen_attn(
        q, k, v, pack.offsets, pack.offsets, pack.longest, pack.longest, scale=scaling, enable_gqa=True, num_splits=1,
        window_size=(-1 if window is None else window - 1, 0),
    )  # fmt: skip
    return cast(Tensor, out)[None]


def _alone(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
) -> Tensor:
    """One sequence by transformers' own scaled_dot_product_attention; a mask only where the window is shorter."""
    mask, n = None, query.shape[2]
    if window is not None and n > window:
        place = torch.arange(n, device=query.device)
        behind = place[:, None] - place
        mask = ((behind >= 0) & (behind < window))[None, None]
    out, _ = sdpa_attention_forward(module, query, key, value, mask, scaling=scaling, is_causal=True)
    return out  # type: ignore[no-any-return]


AttentionInterface.register(NAME, attend)


def _slides(module: nn.Module) -> bool:
    """Whether the configuration says that this attention has a sliding window."""
    config, index = getattr(module, "config", None), getattr(module, "layer_idx", None)
    types: list[str] = getattr(config, "layer_types", None) or []
    return index is not None and bool(types) and types[index] == "sliding_attention"


def refuse_what_cannot_be_packed(config: Any) -> None:
    """Raises CannotPack for what a configuration tells of itself, before any weight is read."""
    text = config.get_text_config()
    reasons = [f"{kind} blocks" for kind in sorted(set(getattr(text, "layer_types", None) or []) - _KNOWN_LAYERS)]
    if getattr(text, "attn_logit_softcapping", None):
        reasons.append("soft caps on attention scores, which no variable-length kernel of PyTorch has")
    if not getattr(text, "is_causal", True):
        reasons.append("attention that looks ahead")
    if getattr(text, "alibi", False) or getattr(text, "position_embedding_type", None) == "alibi":
        reasons.append("ALiBi positions")
    rope: dict[str, Any] = getattr(text, "rope_parameters", None) or {}
    kinds = {rope.get("rope_type")} | {part.get("rope_type") for part in rope.values() if isinstance(part, dict)}
    reasons += [f"{kind} rotary frequencies, which follow the batch" for kind in sorted(_BATCH_ROPE & kinds)]
    if reasons:
        raise CannotPack(f"{_name(config)} cannot be packed: it has {' and '.join(reasons)}; read it in rectangles")


def _has_flash(device: torch.device, dtype: torch.dtype) -> bool:
    """Flash attention is for half precision on cards since Ampere; elsewhere documents attend one by one."""
    half = dtype in (torch.bfloat16, torch.float16)
    return device.type == "cuda" and half and torch.cuda.get_device_capability(device) >= (8, 0)


def _refuse_what_the_kernel_cannot(config: Any) -> None:
    text = config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    if head % 8 or head > 256:
        raise CannotPack(f"{_name(config)} cannot be packed: flash attention takes heads of 8, 16, ... 256, not {head}")
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError as error:
        raise CannotPack(f"{_name(config)} cannot be packed: this torch has no variable-length attention") from error
    if "num_splits" not in signature(varlen_attn).parameters:
        raise CannotPack(f"{_name(config)} cannot be packed: torch {torch.__version__} is older than 2.13")


def _name(config: Any) -> str:
    return f"a {config.model_type} model"
