"""Promise: a finding's sentences show what it claims, and beside each stands what the other side has."""

from dataclasses import replace

import numpy as np
import pytest
from corpus_words import WORDS

from saeray.analysis.diff.design import Design
from saeray.analysis.diff.examples import CANDIDATES, EXAMPLES, WIDTH, Held, examples
from saeray.analysis.evidence import collect

TABLE = WORDS.index("table")
LAMP = {"kind": "words", "words": ["lamp"]}


def rows(side: str, *texts: str) -> list[dict]:
    return [{"doc_id": f"{side}{i:02d}", "text": text} for i, text in enumerate(texts)]


def sides(side_of):
    """Three keys; the other side's answers to the second both have the word, to the third one of two has."""
    own = rows("a", *(f"{'long ' * i}table {i}" for i in range(3)))
    other = rows("b", "a lamp " * 60, "table", "a table", "one table", "the lamp")
    keys = np.array([0, 1, 2]), np.array([0, 1, 1, 2, 2])
    return (side_of(own, "a"), side_of(other, "b")), keys


def test_a_paired_example_stands_beside_an_answer_without_it(side_of):
    """In step with the examples; long answers are cut at a word; where every answer has it, that is said by None, and
    comes last."""
    both, keys = sides(side_of)
    evidence, beside = examples(Design(both, "max", keys, 3), {TABLE: Held(0, 1)})
    ids = [example.doc_id for example in evidence[TABLE].examples]
    assert set(ids[:2]) == {"a00", "a02"}
    assert ids[2:] == ["a01"]
    found = dict(zip(ids, beside[TABLE], strict=True))
    assert found["a01"] is None
    assert (found["a02"].doc_id, found["a02"].excerpt.before, found["a02"].excerpt.peak) == ("b04", "the lamp", "")
    long = found["a00"].excerpt
    assert long.cut_right
    assert 0.9 * WIDTH < len(long.before) <= WIDTH
    assert ("a lamp " * 60).startswith(long.before + " ")


def test_an_unpaired_example_stands_beside_the_other_sides_own(side_of):
    """Their peaks are marked as those of the finding's own side are; none where there are none."""
    both, _ = sides(side_of)
    evidence, beside = examples(Design(both), {TABLE: Held(0, 1)})
    assert evidence[TABLE] == collect(both[0], [TABLE])[TABLE]
    assert beside[TABLE] == collect(both[1], [TABLE])[TABLE].examples
    assert {example.excerpt.peak for example in beside[TABLE]} == {"table"}
    bare = side_of(rows("b", "a lamp"), "b")
    assert examples(Design((both[0], bare)), {TABLE: Held(0, 1)})[1] == {TABLE: ()}


def test_an_answer_that_begins_with_blanks_is_no_end(side_of):
    """A long answer without a word in its first characters is shown as nothing, not as an error after all counting."""
    own, other = side_of(rows("a", "table"), "a"), side_of(rows("b", " " * 300), "b")
    design = Design((own, other), "max", (np.array([0]), np.array([0])), 1)
    [answer] = examples(design, {TABLE: Held(0, 1)})[1][TABLE]
    assert (answer.doc_id, answer.excerpt.before) == ("b00", "")


@pytest.mark.parametrize("step", [2, 1000])
def test_sentences_of_a_name_are_those_that_its_search_finds(side_of, step):
    """The strongest texts lack the word that the name asks for: they are passed over, and the word is marked, not the
    peak. Every further place in the sentence is marked as well."""
    texts = ["table a b c d e f", "table lamp a b lamp c", "a table b lamp", "a b table", "no such thing, a lamp"]
    side = side_of(rows("a", *texts), "a", step=step)
    [shown] = [examples(Design((side, side)), {TABLE: Held(0, 1, test)})[0][TABLE].examples for test in (LAMP,)]
    assert [example.doc_id for example in shown] == ["a01", "a02"]
    first = shown[0].excerpt
    whole = first.before + first.peak + first.after
    assert [whole[a:b] for a, b in [(len(first.before), len(first.before) + len(first.peak)), *first.also]] == [
        "lamp",
        "lamp",
    ]


def test_the_other_sides_answer_lacks_what_the_search_finds(side_of):
    """Its answer may have the latent: what the name says is what it must lack. Those beside an answer come first, of
    more than are shown."""
    n = CANDIDATES - 2
    own = side_of(rows("a", *(f"table lamp {'x ' * i}" for i in range(n))), "a")
    other = side_of(rows("b", *("table" if i == n - 1 else "table lamp" for i in range(n))), "b")
    keys = np.arange(n), np.arange(n)
    evidence, beside = examples(Design((own, other), "max", keys, n), {TABLE: Held(0, 1, LAMP)})
    assert len(evidence[TABLE].examples) == len(beside[TABLE]) == EXAMPLES
    assert evidence[TABLE].examples[0].doc_id == f"a{n - 1:02d}"
    assert beside[TABLE][0].excerpt.before == "table"
    assert beside[TABLE][1:] == (None, None)


def test_where_no_strong_text_passes_the_strongest_are_shown(side_of):
    """A search that finds none of them leaves what the latent peaks on."""
    side = side_of(rows("a", "table one", "a table"), "a")
    evidence, _ = examples(Design((side, side)), {TABLE: Held(0, 1, LAMP)})
    assert evidence[TABLE] == collect(side, [TABLE])[TABLE]


def test_a_side_is_read_once_whoever_it_is_held_against(side_of):
    """Of eight models each finding is held against whoever has it most: no pass of a million texts for each of them."""
    own, *others = (side_of(rows(name, f"{' '.join(WORDS)} lamp", "a lamp"), name) for name in "abcd")
    passes = []

    def scan(columns):
        passes.append(columns)
        return own.scan(columns)

    held = {TABLE: Held(0, 1), TABLE + 1: Held(0, 2, LAMP), TABLE + 2: Held(0, 3)}
    evidence, beside = examples(Design((replace(own, scan=scan), *others)), held)
    assert len(passes) == 1
    alone = [examples(Design((own, *others)), {latent: one}) for latent, one in held.items()]
    assert evidence == {latent: found for one, _ in alone for latent, found in one.items()}
    assert beside == {latent: found for _, one in alone for latent, found in one.items()}


def test_a_search_of_the_whole_text_marks_the_peak(side_of):
    """A text all in lower case is so at no place: where the latent is strongest is marked."""
    side = side_of(rows("a", "A Table of Contents that people read", "a table of contents that people read"), "a")
    test = {"kind": "surface", "name": "no_capitals"}
    [shown] = examples(Design((side, side)), {TABLE: Held(0, 1, test)})[0][TABLE].examples
    assert (shown.doc_id, shown.excerpt.peak.strip(), shown.excerpt.also) == ("a01", "table", ())
