"""The sentences of a finding: texts where what it is called by is found, beside what the other side has.

What a card claims, its sentences must show. So where a search stands behind a name, the texts are those in which the
search finds something and the latent is strongest, and the marked places are what the search finds; where no name
holds, they are the strongest texts, marked where the latent peaks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saeray.analysis.diff.design import Design
from saeray.analysis.diff.names import Test
from saeray.analysis.evidence import Evidence, Example, WholeExample, collect_whole
from saeray.analysis.excerpt import Excerpt, around
from saeray.analysis.sides import Side
from saeray.labels.predict import places, predict_units
from saeray.labels.units import units

#: Examples of a finding, and the strongest texts that they are chosen from.
EXAMPLES, CANDIDATES = 3, 12
#: Characters of an answer that is shown for contrast, as many as an excerpt has.
WIDTH = 200

Beside = dict[int, tuple[Example | None, ...]]
#: Of each latent its examples, strongest first, and the tokens that it peaks on.
Searched = dict[int, tuple[list[WholeExample], tuple[tuple[str, float], ...]]]


@dataclass(frozen=True)
class Held:
    """A finding to show: the side that its examples are of, the side that it is held against, and the test of its name,
    None where no name holds."""

    own: int
    other: int
    test: Test | None = None


def examples(design: Design, held: Mapping[int, Held]) -> tuple[dict[int, Evidence], Beside]:
    """Evidence of each latent of `held`, and what the other side has.

    Paired: in step with the examples, the beginning of the other side's answer to the same key that has not what the
    example has, None where every such answer has it; examples that have such an answer are preferred. Unpaired: the
    other side's own examples. Nothing stands beside where no texts are stored.
    """
    beside: Beside = {}
    searched: Searched = {}
    for own in sorted({one.own for one in held.values()}):
        searched |= _searched(design.sides[own], {latent: one.test for latent, one in held.items() if one.own == own})
    for own, other in sorted({(one.own, one.other) for one in held.values()}):
        tests = {latent: one.test for latent, one in held.items() if (one.own, one.other) == (own, other)}
        if "text" not in design.sides[other].stored:
            there: Beside = {}
        elif design.keys is None:
            there = {
                latent: _plain(one[:EXAMPLES]) for latent, (one, _) in _searched(design.sides[other], tests).items()
            }
        else:
            own_examples = {latent: searched[latent][0] for latent in tests}
            there = _answers(design, own, other, own_examples, tests)
            for latent, answers in there.items():
                order = sorted(range(len(answers)), key=lambda i: (answers[i] is None, i))[:EXAMPLES]
                there[latent] = tuple(answers[i] for i in order)
                searched[latent] = [own_examples[latent][i] for i in order], searched[latent][1]
        beside |= there
    return {latent: Evidence(_plain(one[:EXAMPLES]), peaks) for latent, (one, peaks) in searched.items()}, beside


def _searched(side: Side, tests: Mapping[int, Test | None]) -> Searched:
    """The strongest texts of each latent and its peak tokens; of one with a test those that pass it, if any does."""
    strongest = collect_whole(side, tests, CANDIDATES)
    return {
        latent: ([shown for one in found if (shown := _showing(one, tests[latent]))] or found, peaks)
        for latent, (found, peaks) in strongest.items()
    }


def _showing(example: WholeExample, test: Test | None) -> WholeExample | None:
    """The example with what `test` finds marked, None where it does not pass."""
    if test is None:
        return example
    text = units(example.text)
    if predict_units(test, [text])[0] < 0.5:
        return None
    [found] = places([test], text)
    if not found:  # of the whole text: where the latent peaks is as good a place as any
        return example
    excerpt = around(example.text, found, example.peak)
    return WholeExample(example.doc_id, example.value, excerpt, example.text, example.peak)


def _plain(found: Sequence[WholeExample]) -> tuple[Example, ...]:
    return tuple(Example(one.doc_id, one.value, one.excerpt) for one in found)


def _answers(
    design: Design,
    own: int,
    other: int,
    found: Mapping[int, Sequence[Example]],
    tests: Mapping[int, Test | None],
) -> Beside:
    assert design.keys is not None
    shown = {example.doc_id for of in found.values() for example in of}
    ids = zip(design.sides[own].doc_ids.to_pylist(), design.keys[own].tolist(), strict=True)
    keys = {doc_id: key for doc_id, key in ids if doc_id in shown}
    answers = _texts(design.sides[other], design.keys[other], list(keys.values()))
    return {
        latent: tuple(_without(answers.get(keys[one.doc_id], []), latent, tests[latent]) for one in of)
        for latent, of in found.items()
    }


def _texts(side: Side, keys: NDArray[np.int64], wanted: Sequence[int]) -> dict[int, list[tuple[str, str, set[int]]]]:
    """(doc_id, text, latents) of the documents of the wanted keys, by doc_id."""
    there = np.isin(keys, np.array(wanted, np.int64))
    rows = (row for table in side.where(there).scan(["doc_id", "text", "latents"]) for row in table.to_pylist())
    found: dict[int, list[tuple[str, str, set[int]]]] = {}
    for key, row in zip(keys[there].tolist(), rows, strict=True):
        found.setdefault(key, []).append((row["doc_id"], row["text"] or "", set(row["latents"])))
    return {key: sorted(answers, key=lambda one: one[0]) for key, answers in found.items()}


def _without(answers: Sequence[tuple[str, str, set[int]]], latent: int, test: Test | None) -> Example | None:
    for doc_id, text, latents in answers:
        has = latent in latents if test is None else predict_units(test, [units(text)])[0] >= 0.5
        if not has:
            start = text if len(text) <= WIDTH else (text[:WIDTH].rsplit(maxsplit=1) or [""])[0]
            return Example(doc_id, 0.0, Excerpt(start, "", "", cut_right=len(start) < len(text)))
    return None
