"""Promise: memory that comes short in the middle costs half the budget and one line, and no sequence is lost."""

import logging

import pytest
import torch

from saeray.errors import SaerayError
from saeray.readers.budget import each_pack

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize("error", ERRORS)
def test_out_of_memory_halves_the_budget_and_goes_on(caplog, error):
    """Every sequence is read once, from packs that fit; a line a halving says so, and the caller learns the budget."""
    lengths, budgets, room = [40, 5, 60, 33, 8, 21, 100, 2] * 3, [], 120

    def work(pack):
        if sum(lengths[i] for i in pack) > room:
            raise error
        return [lengths[i] for i in pack]

    with caplog.at_level(logging.WARNING):
        done = list(each_pack(lengths, 500, work, on_budget=budgets.append))
    assert sorted(i for pack, _ in done for i in pack) == list(range(len(lengths)))
    assert all(result == [lengths[i] for i in pack] for pack, result in done)
    assert len(caplog.records) == len(budgets) >= 2
    assert budgets == sorted(budgets, reverse=True)
    assert "the token budget is now" in caplog.records[0].message
    assert "\n" not in caplog.records[0].message


def test_memory_that_comes_short_in_the_middle():
    """What was read before stays; only the rest is packed anew."""
    lengths, calls = [10] * 12, []

    def work(pack):
        calls.append(pack)
        if len(calls) == 2:
            raise ERRORS[0]
        return len(pack)

    done = list(each_pack(lengths, 40, work))
    assert [len(pack) for pack, _ in done] == [4, 2, 2, 2, 2]
    assert sorted(i for pack, _ in done for i in pack) == list(range(12))


def test_one_sequence_that_does_not_fit_is_one_line():
    """There is nothing left to halve: the length and the mend."""

    def work(pack):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(SaerayError, match=r"one sequence of 900 tokens: use a shorter window"):
        list(each_pack([900, 20], 1000, work))


def test_other_errors_pass():
    """Only memory is mended by a smaller pack."""

    def work(pack):
        raise RuntimeError("the device is gone")

    with pytest.raises(RuntimeError, match="the device is gone"):
        list(each_pack([3, 4], 10, work))
