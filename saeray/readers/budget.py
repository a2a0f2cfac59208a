"""Packs under a token budget that gives way when memory comes short.

The memory plan chooses a budget that fits; other processes on the card and the allocator's holes are not in it. So an
allocation that fails in the middle costs half the budget and one line, not the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, cast

import torch

from saeray.errors import SaerayError
from saeray.readers.packing import MOST_SEQUENCES, packs

log = logging.getLogger(__name__)
Result = TypeVar("Result")


def each_pack(
    lengths: Sequence[int],
    budget: int,
    work: Callable[[list[int]], Result],
    *,
    most_sequences: int = MOST_SEQUENCES,
    on_budget: Callable[[int], None] = lambda budget: None,
) -> Iterator[tuple[list[int], Result]]:
    """(pack, work(pack)) of every pack; a pack for which memory is short is cut at half the budget, and so is the rest.

    on_budget is told the new budget, which a caller keeps for its next shard: it never grows again. One line is logged
    each time. Raises SaerayError when one sequence alone does not fit.
    """
    left = packs(lengths, budget, most_sequences)
    while left:
        pack = left[0]
        fitted, result = _tried(work, pack)
        if fitted:
            yield pack, cast(Result, result)
            left = left[1:]
            continue
        budget = _halved(budget, [lengths[i] for i in pack])
        on_budget(budget)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        rest = sorted(i for one in left for i in one)
        left = [[rest[i] for i in one] for one in packs([lengths[i] for i in rest], budget, most_sequences)]


def _tried(work: Callable[[list[int]], Result], pack: list[int]) -> tuple[bool, Result | None]:
    """(True, result), or (False, None) when memory is short. The error goes: its traceback holds the failed tensors."""
    try:
        return True, work(pack)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    return False, None


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
    """Whether torch ran out of memory, on a device or on the host."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
