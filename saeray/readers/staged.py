"""A reader over packs whose blocks lie on several devices, all of them at work at once.

51 blocks of Llama-3.3-70B in bfloat16 are 83 GiB, more than one card of 80 GB. The blocks are cut into stages, stage i
on device i, and packs follow each other through them: while the last stage reads pack k, the one before it reads pack
k + 1. With device maps as accelerate has them one device works and the others wait.

    reader = StagedReader(model, [26, 51])     # blocks 0-25 lie on cuda:0 and 26-50 on cuda:1
    for x in reader.stream(batches): ...       # as PackedReader's

The schedule is `inflight`'s, in one thread, for on CUDA a stage only enqueues kernels. With S stages and M packs the
share (S - 1) / (M + S - 1) of each device's time is lost, once a stream, which is once a shard: 1.1% of 92 packs of
16,384 tokens in two stages, 3.2% in four. A pack waits on the device that made it until the next stage takes it up,
and that device begins no other before, so that none holds more at a time than it would without stages. Blocks that ask
their device for a number (mixtures of experts do) make the host wait, and then stages work in turn.

What goes from device to device is copied on the two devices' own streams, which wait for each other and not the host:
256 MiB for 16,384 tokens of width 8,192, some 11 ms over PCIe at 25 GB/s, 0.6 ms over NVLink at 450, beside 1.2 s of
products at 600 TFLOP/s (arithmetic). Streams of their own for copies could win no more than that.

The model's forward is run as transformers has it, on the first device. It reaches the blocks of later stages too, which
then only note how they are called and are run later, on their own device, with what they noted brought there: rotary
tables, masks and positions are made once and by the model itself, whatever its architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from saeray.readers.packed import CannotPack, Kernel, Pack, PackedReader

Call = tuple[tuple[Any, ...], dict[str, Any]]  # positional and named arguments
_PLAIN = (bool, int, float, str, type(None), torch.dtype)


@dataclass
class Parcel:
    """A pack between two stages.

    hidden: [1, tokens, d_in], what the next block reads. calls: how every block still to come is called beside that.
    chosen: places of the tokens that are asked for, on the last device.
    """

    hidden: Tensor
    calls: list[Call]
    chosen: Tensor | None = None


class StagedReader(PackedReader):
    """A truncated decoder over packs in stages; the model given belongs to it from then on.

    model: its blocks lie on their stages' devices, everything else on the first one's. stops: where each stage ends, as
    `memory.Plan.stages` has it; the last is the number of blocks. device: the last stage's, where the residual stream
    comes out. Raises CannotPack for an architecture that cannot be packed or staged, some only at the first token.
    """

    def __init__(self, model: Any, stops: Sequence[int], kernel: Kernel | None = None) -> None:
        super().__init__(model, kernel)
        self.cuts = tuple(pairwise((0, *stops)))
        if stops[-1] != len(self.blocks) or any(first >= stop for first, stop in self.cuts):
            raise ValueError(f"{len(self.blocks)} blocks cannot be cut at {list(stops)}")
        self.devices = tuple(_device_of(self.blocks[first:stop]) for first, stop in self.cuts)
        if self.devices[0] != self._entry:
            raise ValueError(f"the embedding is on {self._entry}, the first blocks are on {self.devices[0]}")
        self.device = self.devices[-1]
        self._hook.remove()
        self._noted: list[Call] | None = None
        self._output: Any = None  # of the first stage's last block while the model's own forward runs
        self._handed: Any = None  # the residual stream in it
        self.blocks[stops[0] - 1].register_forward_hook(self._keep_output)
        for block in self.blocks[stops[0] :]:
            block.forward = partial(self._note_or_run, block.forward)

    def _keep_output(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self._handed = self._residual_of(output)
        self._output = output

    def _note_or_run(self, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Forward of a later stage's block: while the model's own forward runs the call is noted, and what comes back
        is what the first stage gave, in whatever form this architecture's blocks give it.
        """
        if self._noted is None:
            return run(*args, **kwargs)
        self._noted.append((args, kwargs))
        return self._output

    @torch.inference_mode()
    def read(self, pack: Pack) -> Tensor:
        """Residual stream after the hook layer, [tokens, d_in] on the last device: the stages one after the other."""
        parcel = self._first(pack)
        for number in range(1, len(self.cuts)):
            self._stage(number, parcel)
        return parcel.hidden[0]

    def _steps(self) -> list[Callable[[Any], Any]]:
        later = [partial(self._stage, number) for number in range(1, len(self.cuts) - 1)]
        return [self._begin, self._first_chosen, *later, self._last_chosen]

    @torch.inference_mode()
    def _first_chosen(self, begun: tuple[Pack, Tensor]) -> Parcel:
        parcel = self._first(begun[0])
        parcel.chosen = begun[1]
        return parcel

    def _last_chosen(self, parcel: Parcel) -> Tensor:
        with torch.inference_mode():
            hidden = self._stage(len(self.cuts) - 1, parcel).hidden[0]
            return hidden.index_select(0, cast(Tensor, parcel.chosen))

    def _first(self, pack: Pack) -> Parcel:
        """The model's own forward, whose blocks of later stages only note how they are called."""
        self._noted = []
        try:
            with _on(self._entry):
                self.model(input_ids=pack.ids, position_ids=pack.positions, use_cache=False, saeray_pack=pack)
            hidden = self._handed
            if len(self._noted) != len(self.blocks) - self.cuts[0][1]:
                raise self._cannot("it does not run its blocks once each")
            return Parcel(hidden, [self._without(hidden, *call) for call in self._noted])
        finally:
            self._noted = self._output = self._handed = None

    @torch.inference_mode()
    def _stage(self, number: int, parcel: Parcel) -> Parcel:
        """The blocks of stage `number` on a parcel, which is taken from the device before."""
        first, stop = self.cuts[number]
        device = self.devices[number]
        _move(parcel, device)
        with _on(device):
            for block in self.blocks[first:stop]:
                args, kwargs = parcel.calls.pop(0)
                parcel.hidden = self._residual_of(block(parcel.hidden, *args, **kwargs))
        return parcel

    def _without(self, hidden: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """A block's arguments but for the residual stream, which is its first."""
        if args and args[0] is hidden:
            args = args[1:]
        elif not args and any(value is hidden for value in kwargs.values()):
            kwargs = {name: value for name, value in kwargs.items() if value is not hidden}
        else:
            raise self._cannot("it changes the residual stream between its blocks")
        for value in (*args, *kwargs.values()):
            parts = value if isinstance(value, tuple) else (value,)
            if not all(isinstance(part, (Tensor, Pack, *_PLAIN)) for part in parts):
                raise self._cannot(f"its blocks are given a {type(value).__name__}")
        return args, kwargs

    def _residual_of(self, output: Any) -> Tensor:
        """What a block hands on, which must be the residual stream alone."""
        if not isinstance(output, tuple):
            return cast(Tensor, output)
        if any(more is not None for more in output[1:]):
            raise self._cannot("its blocks hand on more than the residual stream")
        return cast(Tensor, output[0])

    def _cannot(self, reason: str) -> CannotPack:
        return CannotPack(f"a {self.model.config.model_type} model cannot be read in stages: {reason}")


def _move(parcel: Parcel, device: torch.device) -> None:
    """Brings a parcel to `device`, each tensor once; the host does not wait."""
    there: dict[int, Any] = {}  # by identity, which holds while `parcel.calls` is not replaced

    def moved(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(moved(part) for part in value)
        if isinstance(value, _PLAIN):
            return value
        if id(value) not in there:
            there[id(value)] = value.to(device) if isinstance(value, Pack) else value.to(device, non_blocking=True)
        return there[id(value)]

    parcel.hidden = parcel.hidden.to(device, non_blocking=True)
    parcel.calls = [
        (moved(args), {key: moved(value) for key, value in kwargs.items()}) for args, kwargs in parcel.calls
    ]


def _device_of(blocks: Iterable[nn.Module]) -> torch.device:
    devices = {parameter.device for block in blocks for parameter in block.parameters()}
    if len(devices) != 1:
        raise ValueError(f"the blocks of one stage lie on {len(devices)} devices")
    return devices.pop()


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Makes it the current device where kernels are launched by the current one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
