"""Promise: batches under way together come out in order, as each alone would, and never more than there are steps."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saeray.readers.inflight import in_flight


def recorded(steps, events, fails=lambda step, item: None):
    """Steps that append their number to an item's tuple, each noted as (step, item)."""

    def step(number, value):
        events.append((number, value[0]))
        if (error := fails(number, value[0])) is not None:
            raise error
        return (*value, number)

    return [lambda value, number=number: step(number, value) for number in range(steps)]


@given(st.integers(1, 5), st.integers(0, 9))
def test_the_schedule_is_as_stated(steps, items):
    """By an independent table: at tick t step s works on item t - s, the last step first; the outcome of an item comes
    before its successor's last step; M + S - 1 ticks, of which each step rests in S - 1.
    """
    events = []
    for outcome in in_flight(((i,) for i in range(items)), recorded(steps, events)):
        events.append(("out", outcome[0]))
        assert outcome == (outcome[0], *range(steps))
    expected = []
    ticks = range(items + steps - 1) if items else ()
    for tick in ticks:
        expected += [(step, tick - step) for step in reversed(range(steps)) if 0 <= tick - step < items]
        if tick >= steps - 1:
            expected.append(("out", tick - steps + 1))
    assert events == expected
    assert all(len(ticks) - sum(step == s for step, _ in events) == (steps - 1 if items else 0) for s in range(steps))


@given(st.integers(1, 5), st.integers(1, 12))
def test_never_more_in_flight_than_steps(steps, items):
    """Back-pressure: a caller who waits with an outcome keeps the source waiting too."""
    taken, out = itertools.count(), 0
    last = -1

    def source():
        nonlocal last
        for i in range(items):
            last = next(taken)
            yield (i,)

    for _ in in_flight(source(), recorded(steps, [])):
        assert last - out + 1 <= steps
        assert last == min(out + steps - 1, items - 1)
        out += 1
    assert out == items


@given(st.integers(1, 4), st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=9))
def test_an_error_is_its_own_items(steps, plan):
    """An item for which a step fails comes out as the error, takes no further step, and the others are as ever."""
    errors = {i: (step, IndexError(f"item {i}")) for i, (step, fails) in enumerate(plan) if fails and step < steps}
    events = []

    def fails(step, item):
        at, error = errors.get(item, (None, None))
        return error if at == step else None

    found = list(in_flight(((i,) for i in range(len(plan))), recorded(steps, events, fails)))
    for i, outcome in enumerate(found):
        if i in errors:
            assert outcome is errors[i][1]
            assert outcome.__traceback__ is None
            assert max(step for step, item in events if item == i) == errors[i][0]
        else:
            assert outcome == (i, *range(steps))


def test_what_is_nobodys_fault_ends_it():
    """Only what one item met is an outcome; anything else is raised, and so is what the source raises."""

    def broken():
        yield (0,)
        raise KeyError("source")

    with pytest.raises(KeyError, match="source"):
        list(in_flight(broken(), recorded(2, [])))
    with pytest.raises(ValueError, match="a bug"):
        list(in_flight([(0,)], recorded(2, [], lambda step, item: ValueError("a bug") if step else None)))


def test_a_failed_step_keeps_no_tensor():
    """The error of a step that ran out of memory does not hold the step's tensors."""
    import weakref

    held = []

    def step(value):
        big = torch.zeros(10)
        held.append(weakref.ref(big))
        raise torch.OutOfMemoryError("CUDA out of memory")

    (outcome,) = in_flight([0], [step])
    assert isinstance(outcome, torch.OutOfMemoryError)
    assert held[0]() is None
