"""Seconds and rates on a device: what a GPU bench measures with, the same on a CPU."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from saeray.readers.fp8 import quantise


def rates(device: str, dtype: torch.dtype, rows: int, shape: tuple[int, int], seconds: float) -> tuple[float, float]:
    """(FLOP/s of [rows, a] x [a, b], bytes/s of a copy, read and written)."""
    a = torch.randn(rows, shape[0], device=device).to(dtype)
    b = torch.randn(shape[1], shape[0], device=device).to(dtype)
    out = torch.empty(rows, shape[1], device=device, dtype=dtype)
    products = _repeat(device, lambda: torch.mm(a, b.T, out=out), seconds)
    other = torch.empty_like(out)
    copies = _repeat(device, lambda: other.copy_(out), seconds / 3)
    return products * 2.0 * rows * shape[0] * shape[1], copies * 2.0 * out.numel() * out.element_size()


def fp8_rate(device: str, rows: int, shape: tuple[int, int], seconds: float) -> float:
    """FLOP/s of the same product in eight bits, its operands already converted."""
    a, scale_a = quantise(torch.randn(rows, shape[0], device=device))
    b, scale_b = quantise(torch.randn(shape[1], shape[0], device=device))
    scale_b = scale_b.T.contiguous()
    calls = _repeat(
        device,
        lambda: torch._scaled_mm(a, b.T, scale_a=scale_a, scale_b=scale_b, out_dtype=torch.bfloat16),
        seconds,
    )
    return calls * 2.0 * rows * shape[0] * shape[1]


def _repeat(device: str, work: Callable[[], Any], seconds: float) -> float:
    """Calls a second, the device's queue kept full."""
    sync: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else _no_wait
    for _ in range(3):
        work()
    sync()
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(4):
            work()
        calls += 4
        sync()
    return calls / (time.perf_counter() - began)


def _no_wait() -> None:
    """A CPU has nothing to wait for."""


class Clock:
    """Seconds on the device between marks: CUDA events, which do not make the host wait, or the host's own clock."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self._marks: list[tuple[str, Any, Any]] = []

    def now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = self.now()
        yield
        self.add(name, begin)

    def add(self, name: str, begin: Any) -> None:
        self._marks.append((name, begin, self.now()))

    def between(self, begin: Any, end: Any) -> float:
        return float(begin.elapsed_time(end) / 1e3) if self._cuda else float(end - begin)

    def seconds(self) -> dict[str, float]:
        """Sum by stage; waits for the device."""
        if self._cuda:
            torch.cuda.synchronize()
        found: dict[str, float] = defaultdict(float)
        for name, begin, end in self._marks:
            found[name] += self.between(begin, end)
        return dict(found)

    def span(self) -> float:
        """From the first mark's begin to the last one's end."""
        return self.between(self._marks[0][1], self._marks[-1][2])
