"""Promise: the half that proposes and the half that verifies share no key and no text, whatever the order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saeray.stats.halves import proposing

documents = st.lists(st.tuples(st.integers(0, 30).map(str), st.integers(0, 30).map(str)), min_size=1, max_size=60)


def groups(pairs: list[tuple[str, str]]) -> list[set[int]]:
    """Documents that share a key or a text, also by way of others: merged one at a time."""
    found: list[set[int]] = []
    for i, (key, text) in enumerate(pairs):
        near = [g for g in found if any(key == pairs[j][0] or text == pairs[j][1] for j in g)]
        found = [g for g in found if g not in near] + [{i}.union(*near)]
    return found


@settings(max_examples=200, deadline=None)
@given(documents, st.randoms(use_true_random=False))
def test_groups_stay_together_in_any_order(pairs, random):
    half = proposing(*zip(*pairs, strict=True))
    for group in groups(pairs):
        assert len({bool(half[i]) for i in group}) == 1
    order = list(range(len(pairs)))
    random.shuffle(order)
    again = proposing([pairs[i][0] for i in order], [pairs[i][1] for i in order])
    np.testing.assert_array_equal(again, half[order])


def test_a_group_hangs_on_its_own_keys_only():
    """What else there is, the side and the text itself move nothing; and the halves of today are those of tomorrow."""
    keys = [f"prompt-{i}" for i in range(200)]
    half = proposing(keys, [f"text {i}" for i in range(200)])
    np.testing.assert_array_equal(proposing(keys[:50], [f"other {i}" for i in range(50)]), half[:50])
    np.testing.assert_array_equal(proposing(keys * 2, [f"{i}" for i in range(400)]), np.tile(half, 2))
    assert half[:8].tolist() == [False, False, False, True, False, True, True, True]


def test_halves_are_even_and_do_not_follow_the_data():
    half = proposing([str(i) for i in range(20_000)], [str(i // 2) for i in range(20_000)])
    assert abs(half.mean() - 0.5) < 0.015
    assert abs(np.corrcoef(half[:-1:2], np.arange(10_000))[0, 1]) < 0.04
    copies = proposing([str(i) for i in range(100)], ["the same"] * 100)
    assert len(set(copies.tolist())) == 1


def test_keys_and_texts_are_not_one_name_space():
    """A text that reads like a key joins nothing; lone surrogates have a hash too."""
    pairs = [(f"k{i}", f"k{i + 1}") for i in range(64)]
    assert len(set(proposing(*zip(*pairs, strict=True)).tolist())) == 2
    assert proposing(["\ud800"], [""]).shape == (1,)
    assert proposing([], []).shape == (0,)
    with pytest.raises(ValueError, match="2 keys of 1 texts"):
        proposing(["a", "b"], ["x"])
