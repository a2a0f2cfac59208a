"""Promise: the shares that a finding is shown with are counted on the documents that measure, with an interval that
knows what pairs them."""

import numpy as np
import pytest
from scipy import sparse

from saeray.analysis.diff.names import HERE, Name, Names
from saeray.analysis.diff.plain_tests import SHORT, Texts, difference_limits, with_shares
from saeray.labels.units import units
from saeray.stats.intervals import newcombe
from saeray.stats.paired import tango

WORD = {"kind": "words", "words": ["table"]}


def names(borne_out=True):
    one = Name("tables", HERE, 0.9, (0.5, 0.4), 0.1, borne_out, test=WORD)
    return Names({7: one}, sparse.csr_matrix((0, 1), dtype=bool), 10)


def side(side_of, name, has):
    return side_of(
        [{"doc_id": f"{name}{i}", "text": f"{'table' if one else 'chair'} {name}{i}"} for i, one in enumerate(has)],
        name,
    )


@pytest.fixture
def has():
    rng = np.random.default_rng(3)
    base = rng.random(90)
    return base < 0.6, (base + rng.normal(0, 0.1, 90)) < 0.4


def test_shares_are_counted_and_their_interval_is_newcombes(side_of, has):
    own, other = has
    found = with_shares(names(), [side(side_of, "a", own), side(side_of, "b", other)], 1000).of[7]
    assert found.holds == pytest.approx((own.mean(), other.mean()))
    assert found.read == (90, 90)
    lower, upper = newcombe(own.sum(), 90, other.sum(), 90)
    assert found.limits == pytest.approx((float(lower), float(upper)))
    assert found.gap == pytest.approx(own.mean() - other.mean())


def test_pairs_have_the_interval_of_pairs(side_of, has):
    """Tango's, from the discordant pairs, however the sides are ordered."""
    own, other = has
    order = np.random.default_rng(0).permutation(90)
    sides = [side(side_of, "a", own), side(side_of, "b", other[order])]
    found = with_shares(names(), sides, 1000, (np.arange(90), order)).of[7]
    lower, upper = tango((own & ~other).sum(), (other & ~own).sum(), 90)
    assert found.limits == pytest.approx((float(lower), float(upper)))
    unpaired = with_shares(names(), sides, 1000).of[7].limits
    assert found.limits[1] - found.limits[0] < unpaired[1] - unpaired[0], "alike prompts say more"


def test_copies_of_an_answer_are_no_further_witnesses(has):
    """Two rows a key that say the same leave the interval as wide as one, but for Student's quantile."""
    own, other = (one[:, None] for one in has)
    key = np.arange(90)
    once = difference_limits([own, other], (key, key))[0]
    twice = difference_limits([np.repeat(own, 2, axis=0), np.repeat(other, 2, axis=0)], (np.repeat(key, 2),) * 2)[0]
    assert twice == pytest.approx(once, abs=0.01)


def test_against_the_union_the_interval_is_of_keys_that_any_other_has():
    """Two others that have it for different keys: against either alone the target leads, against both it does not."""
    target, first, second = (np.zeros((100, 1), bool) for _ in range(3))
    target[:40] = first[20:50] = second[60:90] = True
    keys = (np.arange(100),) * 3
    [(against_each, _)] = difference_limits([target, first, second], keys)
    [(lower, upper)] = difference_limits([target, first, second], keys, union=True)
    every = (first | second)[:, 0]
    b, c = (target[:, 0] & ~every).sum(), (every & ~target[:, 0]).sum()
    assert (lower, upper) == pytest.approx([float(one) for one in tango(b, c, 100)])
    assert lower < upper < against_each + 0.2
    assert (lower + upper) / 2 == pytest.approx(-0.2, abs=0.02)


def test_what_is_left_at_equal_length_is_of_the_same_texts(side_of):
    """Long texts have the word, short ones not, and the target has more long ones: nothing is left."""
    long, short = ("table " * 30, "chair")
    sides = [
        side_of([{"doc_id": f"{name}{i}", "text": long if i < n else short} for i in range(60)], name)
        for name, n in (("a", 40), ("b", 20))
    ]
    found = with_shares(names(), sides, 1000, inner=[10]).of[7]
    assert found.gap == pytest.approx(20 / 60)
    assert found.level == pytest.approx(0.0)
    assert with_shares(names(), sides, 1000).of[7].level == pytest.approx(found.gap), "one class of length"


def test_whole_keys_are_drawn_when_there_are_many(side_of, has, monkeypatch):
    """Of 90 prompts 20 are read, the same ones on both sides: else no pair would be left."""
    monkeypatch.setattr("saeray.analysis.diff.plain_tests.LEAST", 5)
    own, _ = has
    sides = [side(side_of, "a", own), side(side_of, "b", own)]
    found = with_shares(names(), sides, 40, (np.arange(90), np.arange(90))).of[7]
    assert found.read == (20, 20)
    assert found.gap == 0.0
    assert found.limits[0] == pytest.approx(-found.limits[1])


def test_against_several_there_is_a_lower_end_only(side_of, has):
    """The smallest of the pairwise ones, as for latents."""
    own, other = has
    few = np.arange(90) < 9
    sides = [side(side_of, "a", own), side(side_of, "b", few), side(side_of, "c", other)]
    found = with_shares(names(), sides, 1000).of[7]
    lowest = min(float(newcombe(own.sum(), 90, one.sum(), 90)[0]) for one in (few, other))
    assert found.limits == (pytest.approx(lowest), None)


def test_what_does_not_hold_is_not_counted_again(side_of, has):
    own, other = has
    kept = names(borne_out=False)
    assert with_shares(kept, [side(side_of, "a", own), side(side_of, "b", other)], 1000) is kept


def test_a_side_without_documents_has_no_interval():
    assert difference_limits([np.zeros((0, 2), bool), np.ones((3, 2), bool)]) == [None, None]


def test_what_a_form_finds_is_counted_by_texts_on_the_side_that_has_it(side_of):
    """‘so’ in six texts of the richer side, twice in one; ‘since’ in two, ‘thus’ in one of ten, which is too few; what
    the poorer side says more often is not told. Words need no examples."""
    many = [["so so", "so", "So", "so", "so", "so since", "since", "thus", "hence"][i % 9] for i in range(9)]
    rich = side_of([{"doc_id": f"a{i}", "text": text} for i, text in enumerate(many)], "a")
    poor = side_of([{"doc_id": f"b{i}", "text": ["therefore", "x"][i % 2]} for i in range(8)], "b")
    form = Name("reasoning", HERE, 0.9, (0.5, 0.4), 0.1, True, test={"kind": "surface", "name": "reasoning"})
    found = with_shares(Names({7: form}, sparse.csr_matrix((0, 1), dtype=bool), 10), [rich, poor], 1000).of[7]
    assert found.finds == ("so", "since")
    assert with_shares(names(), [rich, poor], 1000).of[7].finds == ()


def test_long_strings_are_no_examples():
    long = Texts([units(f'He said "{"a" * SHORT} {i}".') for i in range(9)])
    assert long.finds([{"kind": "surface", "name": "quotation"}]) == [()]
    assert Texts([]).finds([{"kind": "surface", "name": "quotation"}]) == [()]
