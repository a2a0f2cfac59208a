"""Packs under a token budget that gives way when memory comes short.

The memory plan chooses a budget that fits; other processes on the card and the allocator's holes are not in it. So an
allocation that fails in the middle costs half the budget and one line, not the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from saeray.errors import SaerayError
from saeray.readers.packing import MOST_SEQUENCES, packs

log = logging.getLogger(__name__)
Result = TypeVar("Result")


def stream_packs(
    lengths: Sequence[int],
    budget: int,
    run: Callable[[Iterator[list[int]]], Iterator[Result | Exception]],
    *,
    most_sequences: int = MOST_SEQUENCES,
    on_budget: Callable[[int], None] = lambda budget: None,
) -> Iterator[tuple[list[int], Result | Exception]]:
    """(pack, outcome) of every pack; one for which memory is short is cut at half the budget, and so is the rest.

    `run` takes packs as it likes, ahead of what it yields, and yields one outcome each in their order. When one is out
    of memory no further pack is begun; those that were are finished, and the budget is halved once, from the largest
    of them, whichever failed. Any other exception is an outcome as good as a result.

    on_budget is told the new budget, which a caller keeps for its next shard: it never grows again. One line is logged
    each time. Raises SaerayError when one sequence alone does not fit.
    """
    left = packs(lengths, budget, most_sequences)
    while left:
        begun: list[list[int]] = []
        short: list[list[int]] = []
        beside: list[list[int]] = []  # the first that failed, what waited before it, and what was begun behind it
        for at, (outcome, pack) in enumerate(zip(run(_until(short, left, begun)), begun, strict=False)):
            if isinstance(outcome, Exception) and is_out_of_memory(outcome):
                beside = beside or begun[max(at - 1, 0) :]
                short.append(pack)
            else:
                yield pack, outcome
        if not short:
            return
        # A pack in flight may have failed because the others were there; the largest decides, if it can be cut.
        cut = max(beside, key=lambda pack: (len(pack) > 1, sum(lengths[i] for i in pack)))
        budget = _halved(budget, [lengths[i] for i in cut])
        on_budget(budget)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        rest = sorted(i for pack in (*short, *left[len(begun) :]) for i in pack)
        left = [[rest[i] for i in one] for one in packs([lengths[i] for i in rest], budget, most_sequences)]


def _until(short: list[list[int]], left: list[list[int]], begun: list[list[int]]) -> Iterator[list[int]]:
    """Packs from `left`, noted in `begun` as they are taken, until memory has come short."""
    for pack in left:
        if short:
            return
        begun.append(pack)
        yield pack


def caught(work: Callable[[], Result]) -> Result | Exception:
    """work(), or the RuntimeError or IndexError that it raised, without its traceback: failed tensors live there."""
    try:
        return work()
    except (RuntimeError, IndexError) as error:
        return error.with_traceback(None)


def _halved(budget: int, lengths: list[int]) -> int:
    if len(lengths) == 1:
        raise SaerayError(
            f"out of memory on one sequence of {lengths[0]:,} tokens: use a shorter window or a GPU with more memory"
        )
    smaller = min(budget, sum(lengths)) // 2
    log.warning(
        "out of memory on %d tokens in %d sequences: the token budget is now %d, was %d",
        sum(lengths), len(lengths), smaller, budget,
    )  # fmt: skip
    return smaller


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch ran out of memory, on a device or on the host; libraries beneath it say so in their own words."""
    words = ("allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)
