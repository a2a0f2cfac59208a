"""Promise: memory that comes short in the middle costs half the budget and one line, and no sequence is lost."""

import logging

import pytest
import torch

from saeray.errors import SaerayError
from saeray.readers.budget import caught, stream_packs
from saeray.readers.inflight import in_flight

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
]


def one_by_one(work):
    """Packs of which each is done before the next is begun."""
    return lambda packs: in_flight(packs, [work])


@pytest.mark.parametrize("error", ERRORS)
def test_out_of_memory_halves_the_budget_and_goes_on(caplog, error):
    """Every sequence is read once, from packs that fit; a line a halving says so, and the caller learns the budget."""
    lengths, budgets, room = [40, 5, 60, 33, 8, 21, 100, 2] * 3, [], 120

    def work(pack):
        if sum(lengths[i] for i in pack) > room:
            raise error
        return [lengths[i] for i in pack]

    with caplog.at_level(logging.WARNING):
        done = list(stream_packs(lengths, 500, one_by_one(work), on_budget=budgets.append))
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

    done = list(stream_packs(lengths, 40, one_by_one(work)))
    assert [len(pack) for pack, _ in done] == [4, 2, 2, 2, 2]
    assert sorted(i for pack, _ in done for i in pack) == list(range(12))


def test_one_sequence_that_does_not_fit_is_one_line():
    """There is nothing left to halve: the length and the mend."""

    def work(pack):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(SaerayError, match=r"one sequence of 900 tokens: use a shorter window"):
        list(stream_packs([900, 20], 1000, one_by_one(work)))


@pytest.mark.parametrize("ahead", [1, 2, 4])
def test_memory_that_comes_short_while_packs_are_under_way(caplog, ahead):
    """No further pack is begun, those that are under way are finished, the budget is halved once whatever fails of
    them, and every sequence comes out once.
    """
    lengths, room, begun, budgets = [40, 5, 60, 33, 8, 21, 100, 2] * 5, 120, [], []

    def first(pack):
        begun.append(pack)
        return pack

    def last(pack):
        if sum(lengths[i] for i in pack) > room:
            raise ERRORS[0]
        return [lengths[i] for i in pack]

    steps = [first, *[lambda pack: pack] * (ahead - 1), last]
    with caplog.at_level(logging.WARNING):
        done = list(stream_packs(lengths, 200, lambda packs: in_flight(packs, steps), on_budget=budgets.append))
    assert sorted(i for pack, _ in done for i in pack) == list(range(len(lengths)))
    assert all(result == [lengths[i] for i in pack] for pack, result in done)
    assert budgets == [100]
    assert len(caplog.records) == 1
    too_large = [sum(lengths[i] for i in pack) > room for pack in begun]
    assert sum(too_large) == ahead + 1  # the one that failed first and what was under way behind it
    assert not any(too_large[ahead + 1 :])


def test_what_was_read_before_and_beside_stays():
    """Of four packs under way the second fails: the others' results stand, and only it is cut."""
    failed = []

    def last(pack):
        if len(pack) == 4 and 4 in pack and not failed:
            failed.append(pack)
            raise ERRORS[0]
        return len(pack)

    steps = [lambda pack: pack] * 4 + [last]
    done = list(stream_packs([10] * 16, 40, lambda packs: in_flight(packs, steps)))
    assert [result for _, result in done] == [4, 4, 4, 2, 2]
    assert sorted(i for pack, _ in done for i in pack) == list(range(16))


def test_a_small_pack_beside_large_ones_does_not_decide():
    """A pack may fail because the others are there: the budget is half of the largest that was under way."""
    budgets, lengths = [], [50, 50, 50, 50, 7, 3]

    def work(pack):
        if not budgets:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return len(pack)

    list(
        stream_packs(
            lengths, 100, lambda packs: in_flight(packs, [lambda pack: pack] * 3 + [work]), on_budget=budgets.append
        )
    )
    assert budgets == [50]


@pytest.mark.parametrize("lengths", [[8000, 8000, 150, 150], [8000, 8000, 150]])
def test_a_small_pack_that_alone_fails_does_not_decide(lengths):
    """Memory was short because of the large pack before it, which is done by then: half of that one is enough."""
    budgets = []

    def work(pack):
        if 2 in pack and not budgets:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return len(pack)

    steps = [lambda pack: pack, work]
    done = list(stream_packs(lengths, 16_000, lambda packs: in_flight(packs, steps), on_budget=budgets.append))
    assert budgets == [8000]
    assert sorted(i for pack, _ in done for i in pack) == list(range(len(lengths)))


def test_another_error_is_an_outcome():
    """A caller of packs under way is handed it with its pack, and the rest goes on."""

    def run(packs):
        for pack in packs:
            yield caught(lambda pack=pack: {2: pack}[len(pack)] if len(pack) == 2 else [][1])

    done = list(stream_packs([10, 10, 10], 20, run))
    assert [type(outcome) for _, outcome in done] == [list, IndexError]


def test_only_what_a_sequence_can_cause_is_caught():
    """RuntimeError and IndexError, whose traceback is dropped; anything else is a bug and is raised."""

    def fail(error):
        raise error

    for error in (RuntimeError("x"), IndexError("x"), ERRORS[0]):
        outcome = caught(lambda error=error: fail(error))
        assert outcome is error
        assert outcome.__traceback__ is None
    with pytest.raises(KeyError):
        caught(lambda: fail(KeyError("x")))
