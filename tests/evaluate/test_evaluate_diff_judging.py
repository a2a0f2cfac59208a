"""Promise: shares, chances, words, reasons for misses and an LLM's scores are what they are said to be."""

import math
from collections import Counter
from types import SimpleNamespace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from saeray.evaluate.differences import ways
from saeray.evaluate.differences.run import SCHEMA, DifferencesResult, compare_ways
from saeray.evaluate.differences.similarity import with_similarity
from saeray.evaluate.differences.ways import NAMES, RANDOM, RAW, Said, any_of, lost_to
from saeray.evaluate.differences.words import PRIOR, TOKEN, log_odds
from saeray.stats.intervals import wilson

TEXTS = st.lists(st.lists(st.sampled_from(["war", "love", "**", "the"]), max_size=8).map(" ".join), max_size=6)


@given(TEXTS, TEXTS)
def test_log_odds_are_those_of_the_formula(target, other):
    """Monroe's z, word by word, by a loop of its own."""
    sides = [Counter(word for text in side for word in text.split()) for side in (target, other)]
    n = [side.total() for side in sides]
    expected = {}
    for word in sides[0] | sides[1]:
        alpha = PRIOR * (sides[0][word] + sides[1][word]) / sum(n)
        odds = [
            math.log((side[word] + alpha) / max(total + PRIOR - side[word] - alpha, 1e-9))
            for side, total in zip(sides, n, strict=True)
        ]
        variance = sum(1 / (side[word] + alpha) for side in sides)
        expected[word] = (odds[0] - odds[1]) / math.sqrt(variance)
    found = log_odds(target, other)
    assert dict(found) == pytest.approx(expected, abs=1e-8)
    assert found == sorted(found, key=lambda one: (-round(one[1], 9), one[0]))
    assert TOKEN.findall("don't **stop**!!") == ["don't", "**", "stop", "**!!"]


@given(st.integers(1, 60), st.data(), st.integers(1, 12))
def test_chance_of_a_random_label(n, data, drawn):
    """The hypergeometric's, from SciPy."""
    hits = data.draw(st.integers(0, n))
    assert any_of(n, hits, drawn) == pytest.approx(1 - hypergeom(n, hits, min(n, drawn)).pmf(0), abs=1e-9)


ROW = {"task": "t", "size": 100, "way": NAMES, "in_first": 0.0, "in_top": 1.0, "as_length": False}


def test_shares_are_of_the_sets_of_a_size_and_last_of_each_at_its_largest():
    """Wilson's interval, none for chance, and no set twice among the largest."""
    rows = [ROW, ROW | {"task": "u", "in_first": 1.0}, ROW | {"size": 300, "in_top": 0.0, "as_length": True}]
    rows += [ROW | {"way": RANDOM, "in_first": 0.1, "in_top": 0.3, "as_length": None}]
    found = {(row["size"], row["way"]): row for row in compare_ways(rows)}
    at_100, largest, chance = found[100, NAMES], found["largest", NAMES], found[100, RANDOM]
    assert (at_100["sets"], at_100["in_first"], at_100["in_top"]) == (2, 0.5, 1.0)
    lower, upper = wilson(1, 2)
    assert (at_100["in_first_from"], at_100["in_first_to"]) == (pytest.approx(lower, 1e-3), pytest.approx(upper, 1e-3))
    assert (largest["sets"], largest["in_first"], largest["in_top"]) == (2, 0.5, 0.5)
    assert (chance["in_top"], chance["in_top_from"], chance["in_top_or_as_length"]) == (0.3, None, None)
    assert [row["in_top_or_as_length"] for row in (at_100, largest)] == [1.0, 1.0]
    assert ("largest", RANDOM) not in found, "the only set with random latents has a larger size without"


def test_a_miss_is_put_down_to_the_first_thing_that_left_nothing(monkeypatch):
    """From no label at all to a name too far down."""
    keywords = SimpleNamespace(name=lambda task, text: "war" in (text or ""))
    row = {"latent": 1, "q": 0.01, "proposed_difference": 0.2, "separable_from_length": True}

    def lost(labels, change=None, names=None, shown=None, called="peace"):
        monkeypatch.setattr(ways, "names_of", lambda result: [called])
        rows = [] if change is None else [row | change]
        result = SimpleNamespace(
            rows=pa.Table.from_pylist(rows, pa.schema({"latent": pa.int64()}) if not rows else None),
            parameters={"q": 0.05, "keep": 0.03},
        )
        said = [Said("", (), names, 0.0, float(bool(names and names <= 10))), Said("", (), shown, 0.0, 0.0)]
        return lost_to(result, labels, said, keywords, "t")

    assert lost({1: "war"}, {}, names=3) == ""
    assert lost({1: "war"}, {}, names=12) == ways.BELOW
    assert lost({1: "peace"}, {}) == ways.NO_LABEL
    assert lost({1: "war"}) == ways.TOO_RARE
    assert lost({1: "war"}, {"q": 0.06}) == ways.NO_DIFFERENCE
    assert lost({1: "war"}, {"proposed_difference": -0.2}) == ways.NO_DIFFERENCE
    assert lost({1: "war"}, {"separable_from_length": False}) == ways.LENGTH
    assert lost({1: "war"}, {}) == ways.GROUPED
    assert lost({1: "war"}, {}, shown=1) == ways.RENAMED
    assert lost({1: "war"}, {}, shown=1, called=None) == ways.UNNAMED


class Judge:
    """An LLM that says the same of every list with "war", and fails on "fail"."""

    def __init__(self):
        self.asked = []
        self.ledger = SimpleNamespace(summary=lambda: {"calls": len(self.asked)})

    def complete_many(self, requests, stage):
        self.asked = requests
        return [SimpleNamespace(value=self.answer(one.prompt)) for one in requests]

    def answer(self, prompt):
        verdict = "same" if "war" in prompt else "related" if "army" in prompt else "none"
        return None if "fail" in prompt else {"reason": "so", "verdict": verdict}


def test_similarity_is_the_mean_of_the_answers_and_a_failed_call_is_no_answer():
    """Five questions a list of names, none on an empty one, none on random latents."""
    rows = [
        {"task": "t", "known_difference": "k", "size": 100, "in_first": 0.0, "in_top": 0.0, "way": way, "names": names}
        | {"documents_target": 100, "documents_other": 99, "paired": False, "findings": 2, "lost_to": ""}
        | {"length": "", "as_length": way == NAMES}
        for way, names in (
            (NAMES, ["", "war", "love"]),
            (ways.LABELS, ["army"]),
            (RAW, ["fail"]),
            (ways.WORDS, []),
            (RANDOM, []),
        )
    ]
    rows[0]["names"] += ["a", "b", "c", "the sixth"]
    made = {"saeray": "0", "store": "s", "fingerprint": "f", "d_sae": 16}
    judge = Judge()
    scored = with_similarity(DifferencesResult(pa.Table.from_pylist(rows, SCHEMA), {}, made), judge, "m")
    assert scored.rows.column("similarity").to_pylist() == [1.0, 0.5, None, 0.0, None]
    assert len(judge.asked) == 3 * 5 == len({one.key("b") for one in judge.asked})
    assert "the sixth" not in judge.asked[0].prompt
    assert scored.parameters["similarity_missing"] == 5
    assert scored.summary()["cost"] == {"calls": 15}
    assert "1.00" in scored.page()
