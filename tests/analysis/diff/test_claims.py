"""Promise: a finding claims what its name's test asks and no more; what texts do is read before words as frequent."""

from dataclasses import replace

import pytest

from saeray.analysis.diff.claims import by_kind, claim_of, claimed
from saeray.analysis.diff.names import COMMON_FORMS, GRAMMAR, HERE, THINGS, Name
from saeray.labels.groups import LatentGroup
from saeray.labels.manner import MANNER
from saeray.labels.surface import index


def words(*them):
    return {"kind": "words", "words": list(them)}


def surface(name):
    return {"kind": "surface", "name": name}


@pytest.mark.parametrize(
    ("text", "test", "said", "seen"),
    [
        ("the word ‘if’ in conditions", words("if"), "the word ‘if’", "mostly in conditions"),
        ("the word ‘this’", words("this"), "the word ‘this’", ""),
        ("‘a’, ‘b’, ‘c’", words("a", "b", "c"), "‘a’, ‘b’ or ‘c’", ""),
        ("the word after ‘the’: ‘sea’", words("the"), "‘the’", "strongest on the word after ‘the’: ‘sea’"),
        ("word part ‘apol’ as in ‘apologize’, ‘apology’", words("apologize", "apology"), "‘apologize’ or ‘apology’",
         "strongest on word part ‘apol’ as in ‘apologize’, ‘apology’"),
        ("contrast: ‘but’, ‘yet’", words("but", "yet"), "contrast: ‘but’, ‘yet’", ""),
        ("second person, addressing you: ‘you’", surface("second_person"), "second person, addressing you",
         "strongest on ‘you’"),
        ("‘please’ in texts with questions", surface("question"), "questions", "strongest on ‘please’"),
        ("texts with questions", surface("question"), "questions", ""),
        ("exclamation marks: exclamation marks", surface("exclamation"), "exclamation marks", ""),
        ("bulleted lists in a quotation: hyphens", surface("bullet_list"), "bulleted lists",
         "strongest on hyphens, mostly in a quotation"),
        ("text in French or German", surface("language_not_english"), "text in French or German", ""),
        ("‘ensure’ in texts about ensure, help", {"kind": "terms", "terms": ["ensure", "help"]},
         "words that go together: ensure, help", "strongest on ‘ensure’"),
        ("texts about trade, prices", {"kind": "terms", "terms": ["trade"]},
         "words that go together: trade, prices", ""),
        ("named by a person", {}, "named by a person", ""),
    ],
)  # fmt: skip
def test_what_was_not_tested_is_no_claim(text, test, said, seen):
    """The setting of a word and the words of a form are what a label saw, not what its test asks."""
    assert claimed(text, test) == (said, seen)


@pytest.mark.parametrize(
    ("test", "kind"),
    [
        (words("sure"), "words"), (words("(", ")"), "words"), (words("**", "sure"), "words"),
        (words("**", "###"), "form"),
        (surface("bullet_list"), "form"), (surface("refusal"), "form"), (surface("hedging"), "form"),
        (surface("language_french"), "form"), (surface("topic_food"), "topic"), (surface("places"), "topic"),
        (surface("articles"), "words"), (surface("colon"), "words"),
        ({"kind": "terms", "terms": ["a"]}, "topic"), ({"kind": "all", "of": [words("a"), surface("hedging")]}, "form"),
        ({"kind": "all", "of": [words("a")]}, "words"),
    ],
)  # fmt: skip
def test_a_name_is_of_the_kind_of_its_test(test, kind):
    """Punctuation is a token like a word; marks that lay a text out are form."""
    if test.get("name", "").startswith("topic_"):
        test = surface(next(name for name in index() if name.startswith("topic_")))
    assert named(0.1, test).kind == kind


def test_lists_that_are_no_way_of_writing_are_lists_that_there_are():
    """A renamed list would fall back among the forms unseen."""
    assert {*THINGS, *GRAMMAR} < set(MANNER)
    assert not THINGS & GRAMMAR
    assert set(index()) > COMMON_FORMS


def named(gap, test):
    return Name("x", HERE, 0.9, (0.5 + gap, 0.5), gap, True, test=test)


def order(**gaps):
    tests = {"form": surface("hedging"), "topic": {"kind": "terms", "terms": ["a"]}, "words": words("a")}
    names = {
        LatentGroup(f"{kind}{i}", (100 * len(kind) + i,), ""): named(gap, tests[kind])
        for kind, of in gaps.items()
        for i, gap in enumerate(of)
    }
    return [(kind, [group.name for group in groups]) for kind, groups in by_kind(names)]


def test_words_come_first_only_where_they_differ_twice_as_much():
    """Alike or less, what texts do leads; within a kind the largest leads, whatever its sign."""
    assert order(words=[0.3, 0.19], form=[0.1, 0.2]) == [("form", ["form1", "form0"]), ("words", ["words0", "words1"])]
    assert order(words=[0.45], form=[0.2]) == [("words", ["words0"]), ("form", ["form0"])]
    assert order(form=[0.1], topic=[-0.4], words=[0.3])[0] == ("topic", ["topic0"])
    assert order() == []


def test_what_length_explains_does_not_lead():
    """Of thirty points ten are left at equal length, so it comes after twenty that all are; one that turns round is
    last. A function word counts half."""
    test = surface("hedging")
    long = named(0.3, test)
    assert (long.size, replace(long, level=0.1).size, replace(long, level=-0.1).size) == (pytest.approx(0.3), 0.1, 0)
    assert replace(named(-0.3, test), level=-0.1).size == 0.1
    names = {
        LatentGroup("partly", (1,), ""): replace(long, level=0.1),
        LatentGroup("wholly", (2,), ""): replace(named(0.2, test), level=0.25),
        LatentGroup("plain", (3,), ""): replace(named(0.3, test), plain=True),
        LatentGroup("turned", (4,), ""): replace(long, level=-0.2),
    }
    [(_, groups)] = by_kind(names)
    assert [group.name for group in groups] == ["wholly", "plain", "partly", "turned"]


def test_a_form_is_claimed_by_what_its_search_finds_here():
    """The label's own examples may be none of what these texts have; a topic's words are its test."""
    so = replace(named(0.2, surface("reasoning")), text="texts with reasoning and inference: because, therefore")
    assert claim_of(so) == "reasoning and inference: because, therefore"
    assert claim_of(replace(so, finds=("so", "since"))) == "reasoning and inference: so, since"
    old = replace(so, text="texts with an older name", finds=("so\x1b",))
    assert claim_of(old) == "reasoning and inference: so\ufffd"
    assert claim_of(replace(so, text="quotes", test=surface("quotation"), finds=("a",))) == "text in quotation marks"
    food = surface(next(name for name in index() if name.startswith("topic_")))
    assert claim_of(replace(so, text="food: pie, tea", test=food, finds=("cake",))) == "food: pie, tea"


def test_the_side_that_has_it_most_is_known():
    assert [Name("x", HERE, 0.9, holds, 0.1, True).side for holds in ((0.5, 0.4), (0.1, 0.2, 0.4), (0.3, 0.3))] == [
        0,
        2,
        0,
    ]


def test_a_name_leans_where_its_interval_lies():
    """Wholly above 0 for more, wholly below for less, which has no upper end against several; without an interval the
    difference says it where other documents proposed the name."""
    up, down, open_ = (replace(named(0.1, {}), limits=limits) for limits in ((0.01, 0.2), (-0.2, -0.01), (-0.2, None)))
    assert (up.leans(1, True), up.leans(-1, True), down.leans(-1, True), down.leans(1, True)) == (True, False) * 2
    assert not open_.leans(-1, True)
    assert (named(0.1, {}).leans(1, True), named(0.1, {}).leans(-1, True)) == (True, False)
    assert named(0.1, {}).leans(-1, False)
