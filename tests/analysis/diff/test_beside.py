"""Promise: beside each example stands what the other side has: the same key's answer without it, or its own."""

import numpy as np
from corpus_words import WORDS

from saeray.analysis.diff.beside import WIDTH, beside
from saeray.analysis.diff.design import Design
from saeray.analysis.evidence import collect

TABLE = WORDS.index("table")


def sides(side_of):
    """Three keys; the other side's answers to the second both have the word, to the third one of two has."""
    own = [{"doc_id": f"a{i}", "text": f"{'long ' * i}table {i}"} for i in range(3)]
    texts = ["a lamp " * 60, "table", "a table", "one table", "the lamp"]
    other = [{"doc_id": f"b{i}", "text": text} for i, text in enumerate(texts)]
    keys = np.array([0, 1, 2]), np.array([0, 1, 1, 2, 2])
    return (side_of(own, "a"), side_of(other, "b")), keys


def test_a_paired_example_stands_beside_an_answer_without_it(side_of):
    """In step with the examples; long answers are cut at a word; where every answer has it, that is said by None."""
    both, keys = sides(side_of)
    design = Design(both, "max", keys, 3)
    evidence = collect(both[0], [TABLE])
    found = dict(
        zip(
            (example.doc_id for example in evidence[TABLE].examples),
            beside(design, evidence, {TABLE: (0, 1)})[TABLE],
            strict=True,
        )
    )
    assert found["a1"] is None
    assert (found["a2"].doc_id, found["a2"].excerpt.before, found["a2"].excerpt.peak) == ("b4", "the lamp", "")
    long = found["a0"].excerpt
    assert long.cut_right
    assert 0.9 * WIDTH < len(long.before) <= WIDTH
    assert ("a lamp " * 60).startswith(long.before + " ")


def test_an_unpaired_example_stands_beside_the_other_sides_own(side_of):
    """Their peaks are marked as those of the finding's own side are; none where there are none."""
    both, _ = sides(side_of)
    evidence = collect(both[0], [TABLE])
    found = beside(Design(both), evidence, {TABLE: (0, 1)})[TABLE]
    assert found == collect(both[1], [TABLE])[TABLE].examples
    assert {example.excerpt.peak for example in found} == {"table"}
    bare = side_of([{"doc_id": "b", "text": "a lamp"}], "b")
    assert beside(Design((both[0], bare)), evidence, {TABLE: (0, 1)}) == {TABLE: ()}


def test_an_answer_that_begins_with_blanks_is_no_end(side_of):
    """A long answer without a word in its first characters is shown as nothing, not as an error after all counting."""
    own, other = side_of([{"doc_id": "a", "text": "table"}], "a"), side_of([{"doc_id": "b", "text": " " * 300}], "b")
    design = Design((own, other), "max", (np.array([0]), np.array([0])), 1)
    (answer,) = beside(design, collect(own, [TABLE]), {TABLE: (0, 1)})[TABLE]
    assert (answer.doc_id, answer.excerpt.before) == ("b", "")
