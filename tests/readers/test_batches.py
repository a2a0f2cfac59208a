"""Promise: batches are a pure function of the lengths, waste at most 5% on padding, and leave nothing out."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from saeray.readers.batches import batches

lengths = st.lists(st.integers(1, 3000) | st.integers(1, 40), max_size=200)


@settings(deadline=None, max_examples=300)
@given(lengths, st.integers(1, 5000))
def test_batches_hold_everything_within_their_limits(lengths, budget):
    """Every index once; padded size within the budget unless a sequence is alone; padding at most 5% of every batch."""
    result = batches(lengths, budget)
    assert sorted(i for batch in result for i in batch) == list(range(len(lengths)))
    for batch in result:
        sizes = [lengths[i] for i in batch]
        area = max(sizes) * len(sizes)
        assert area <= budget or len(batch) == 1
        assert area - sum(sizes) <= 0.05 * area


@settings(deadline=None, max_examples=100)
@given(lengths, st.integers(1, 5000), st.randoms(use_true_random=False))
def test_batches_are_a_pure_function_of_the_lengths(lengths, budget, random):
    """The same lengths give the same batches, and their order of arrival changes only which of equals goes where."""
    assert batches(lengths, budget) == batches(tuple(lengths), budget)
    order = list(range(len(lengths)))
    random.shuffle(order)
    shuffled = [lengths[i] for i in order]
    before = [[lengths[i] for i in batch] for batch in batches(lengths, budget)]
    after = [[shuffled[i] for i in batch] for batch in batches(shuffled, budget)]
    assert before == after


def test_ties_go_by_index():
    """Sequences of one length are batched in the order they came in."""
    assert batches([5, 9, 5, 9, 5], 10) == [[1], [3], [0, 2], [4]]


def test_real_lengths_are_batched_well():
    """A shard of 200 model answers (lognormal, median 250 tokens): under 5% padding, in not much more batches than the
    budget demands. One sequence a batch would have no padding and no speed.
    """
    random = np.random.default_rng(0)
    real = np.clip(random.lognormal(np.log(250), 0.8, 200).astype(int), 5, 2048).tolist()
    result = batches(real, 4096)
    area = sum(max(real[i] for i in batch) * len(batch) for batch in result)
    assert 1 - sum(real) / area < 0.05
    assert len(result) < 2.5 * sum(real) / 4096
