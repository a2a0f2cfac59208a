"""Promise: packs hold every sequence once, never pad, and depend on the lengths alone."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from saeray.readers.packing import layout, packs, utilisation

lengths_of = st.lists(st.integers(1, 300), max_size=60)


@settings(max_examples=200)
@given(lengths_of, st.integers(1, 400), st.integers(1, 9))
def test_every_sequence_once_within_the_budget(lengths, budget, most):
    """A partition; a pack is over the budget only when it is one sequence that is; never too many sequences."""
    found = packs(lengths, budget, most)
    assert sorted(i for pack in found for i in pack) == list(range(len(lengths)))
    for pack in found:
        assert len(pack) <= most
        assert sum(lengths[i] for i in pack) <= budget or len(pack) == 1


@settings(max_examples=200)
@given(lengths_of, st.integers(1, 400), st.randoms())
def test_order_does_not_matter(lengths, budget, random):
    """The lengths that share a pack are the same in whatever order the sequences come, and twice the same call gives
    the same packs.
    """
    order = list(range(len(lengths)))
    random.shuffle(order)
    shuffled = [lengths[i] for i in order]
    assert packs(lengths, budget) == packs(lengths, budget)
    sizes = [[lengths[i] for i in pack] for pack in packs(lengths, budget)]
    assert [[shuffled[i] for i in pack] for pack in packs(shuffled, budget)] == sizes


@settings(max_examples=200)
@given(lengths_of, st.integers(300, 900))
def test_packs_are_near_the_fewest(lengths, budget):
    """At most 11/9 of the least that the tokens need, and one more; and no two packs would fit in one."""
    found = packs(lengths, budget)
    least = -(-sum(lengths) // budget)
    assert len(found) <= 11 / 9 * least + 1 or max(lengths) > budget / 3
    sizes = sorted(sum(lengths[i] for i in pack) for pack in found)
    assert len(sizes) < 2 or sizes[0] + sizes[1] > budget


def test_real_lengths_fill_the_packs():
    """Answers of some 300 tokens, a heavy tail among them, fill packs of 16,384 to over 98%."""
    random = np.random.default_rng(0)
    lengths = np.minimum(random.lognormal(5.5, 0.9, 2000).astype(int) + 30, 2048).tolist()
    found = packs(lengths, 16_384)
    assert utilisation(lengths, found, 16_384) > 0.98


def test_utilisation_by_hand():
    """Two packs of 10 with 9 and 7 tokens are 0.8 full; a sequence of 20 alone is a full pack."""
    assert utilisation([5, 4, 7], [[0, 1], [2]], 10) == 0.8
    assert utilisation([20], [[0]], 10) == 1.0
    assert utilisation([], [], 10) == 0.0


def test_layout_by_hand():
    """Edges are the running sum; positions start again in each sequence."""
    edges, positions = layout([3, 1, 2])
    assert (edges.dtype, positions.dtype) == (np.int32, np.int64)
    assert edges.tolist() == [0, 3, 4, 6]
    assert positions.tolist() == [0, 1, 2, 0, 0, 1]
