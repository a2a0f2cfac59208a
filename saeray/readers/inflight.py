"""Many batches under way at one time, each in another step: a production line in one thread.

On CUDA a step only enqueues kernels, so one thread keeps every device at work as long as nothing makes it wait. At each
tick the oldest batch takes its next step first and a new one is taken in last, so that between two ticks every device
has been given one batch and what is done with an outcome comes before the next batch's last step.

With S steps and M batches there are M + S - 1 ticks; each step rests in S - 1 of them, the share (S - 1) / (M + S - 1),
once for each iterator: while the line fills and while it empties.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from saeray.readers.budget import caught

_END = object()


def in_flight(items: Iterable[Any], steps: Sequence[Callable[[Any], Any]]) -> Iterator[Any]:
    """What all of `steps`, one after the other, make of each item, in the items' order.

    An item for which a step raises RuntimeError or IndexError takes no further step and comes out as that error. At
    most len(steps) items are in the line; when one comes out, the len(steps) - 1 behind it have been taken in.
    """
    source = iter(items)
    line: deque[tuple[int, Any]] = deque()  # (next step, what it is given), oldest first
    drained = False
    while line or not drained:
        for _ in range(len(line)):
            step, value = line.popleft()
            line.append((step + 1, _next(steps[step], value)))
            del value  # before the next step asks for memory
        if not drained and (item := next(source, _END)) is not _END:
            line.append((1, _next(steps[0], item)))
        else:
            drained = True
        if line and line[0][0] == len(steps):
            yield line.popleft()[1]


def _next(step: Callable[[Any], Any], value: Any) -> Any:
    return value if isinstance(value, Exception) else caught(lambda: step(value))
