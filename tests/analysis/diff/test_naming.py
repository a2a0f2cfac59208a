"""Promise: a finding is called by a name only where a plain test of the compared texts bears the name out."""

import numpy as np
import pytest

from saeray.analysis.diff.design import Design
from saeray.analysis.diff.names import HERE, LABEL, NO_NAMES
from saeray.analysis.diff.naming import AGREES, name_latents
from saeray.analysis.diff.options import Options
from saeray.analysis.diff.run import compare
from saeray.labels.meanings import Meanings

TABLE, SORRY, GREAT, RIVER, SEVEN = range(5)
INNER = np.array([8, 10])
MADE = {"saeray": "0", "store": "s", "fingerprint": "f", "d_sae": 32}
USED = Options()


def words(*them: str) -> dict:
    return {"kind": "words", "words": list(them)}


def texts(name: str, n: int, share: dict[str, float], seed: int = 0) -> list[dict]:
    """`n` documents that hold each word of `share` as often as it says, beside words of no latent."""
    rng = np.random.default_rng([seed, n, ord(name)])
    made = []
    for i in range(n):
        held = [word for word, p in share.items() if rng.random() < p]
        filler = " ".join(["green", "paper"] * int(rng.integers(1, 4)))
        made.append({"doc_id": f"{name}{i}", "text": f"{filler} {' '.join(held)} {name}{i}"})
    return made


@pytest.fixture
def sides(side_of):
    a = texts("a", 150, {"table": 0.7, "river": 0.3, "seven": 0.3})
    b = texts("b", 130, {"table": 0.2, "river": 0.3, "seven": 0.5})
    return [side_of(a, "a", step=40), side_of(b, "b", step=40)], [a, b]


class Labelled(Meanings):
    """Labels with tests, without a store."""

    def tests(self, latents):
        return {latent: (text, TESTS[text]) for latent, text in self.labels.items() if latent in latents}


TESTS = {"tables": words("table"), "things made of paper": words("paper"), "the sea": words("sea")}


def test_a_right_label_is_borne_out_with_the_figures_of_its_test(sides):
    opened, found = sides
    names = name_latents(opened, {TABLE: 0.5}, {TABLE: ("tables", words("table"))}, INNER)
    name = names.of[TABLE]
    shares = tuple(float(np.mean(["table" in row["text"].split() for row in side])) for side in found)
    assert (name.text, name.source, name.borne_out) == ("tables", LABEL, True)
    assert name.holds == pytest.approx(shares)
    assert name.agreement == 1.0
    assert name.difference == pytest.approx(shares[0] - shares[1], abs=0.1), "standardised, so not quite the same"
    assert names.columns([TABLE]).toarray().ravel().tolist() == [
        "table" in row["text"].split() for side in found for row in side
    ]


@pytest.mark.parametrize("label", ["things made of paper", "the sea"])
def test_a_label_that_says_nothing_here_is_not_used(sides, label):
    """One stands in every text, the other in none; what these documents say of the latent is used instead."""
    name = name_latents(sides[0], {TABLE: 0.5}, {TABLE: (label, TESTS[label])}, INNER, [RIVER, SEVEN]).of[TABLE]
    assert name.source == HERE
    assert "table" in name.text
    assert name.borne_out


def test_a_name_must_differ_between_the_sides_as_the_latent_does(sides):
    """A word that tells the latent but is as frequent on both sides explains no difference."""
    labels = {RIVER: ("rivers", words("river")), SEVEN: ("the number seven", words("seven"))}
    names = name_latents(sides[0], {RIVER: 0.4, SEVEN: 0.4}, labels, INNER)
    assert names.of[RIVER].agreement > AGREES
    assert not names.of[RIVER].borne_out
    assert not names.of[SEVEN].borne_out, "it differs the other way"
    assert name_latents(sides[0], {SEVEN: -0.4}, labels, INNER).of[SEVEN].borne_out


def test_documents_without_texts_have_no_names(side_of, sides):
    from dataclasses import replace

    bare = [replace(side, stored=side.stored - {"text"}) for side in sides[0]]
    assert name_latents(bare, {TABLE: 0.5}, {}, INNER) is NO_NAMES
    assert name_latents(sides[0], {}, {}, INNER) is NO_NAMES


def test_many_documents_are_sampled_from_every_side(side_of, monkeypatch):
    monkeypatch.setattr("saeray.analysis.diff.naming.DOCUMENTS", 100)
    big = [side_of(texts(name, n, {"table": p}), name, step=70) for name, n, p in (("a", 900, 0.7), ("b", 60, 0.2))]
    names = name_latents(big, {TABLE: 0.5}, {TABLE: ("tables", words("table"))}, INNER)
    assert names.documents == 50 + 50
    assert names.of[TABLE].holds == pytest.approx((0.7, 0.2), abs=0.15)


def test_findings_whose_name_holds_come_first_and_say_so(sides):
    """A stronger latent whose label explains nothing comes after, with what it is called elsewhere."""
    labels = {TABLE: "tables", SEVEN: "the sea"}
    opened = sides[0]
    result = compare(Design(tuple(opened)), MADE, USED, Labelled(labels))
    assert [group.latents[0] for group in result.more] == [TABLE]
    assert result.named(result.more[0])
    line = result.table()[0]
    assert line["finding"] == "tables"
    page = result.page()
    holds = result.called(result.more[0]).holds
    assert f"tables</bdi></a>: {holds[0]:.0%} of texts, against {holds[1]:.0%}" in page
    assert (line["target"], line["other"]) == (f"{holds[0]:.0%}", f"{holds[1]:.0%}"), "the terminal's are the page's"
    [top] = result.summary()["top"]["more_in_target"]
    assert (top["name"], top["name_from"], top["name_borne_out"]) == ("tables", LABEL, True)


def test_names_that_hold_in_the_same_documents_are_one_finding(side_of):
    """Two latents, two names, one thing: "table" and "great" always stand together."""
    together = [
        side_of(
            [row | {"text": row["text"].replace("table", "table great")} for row in texts(name, 150, {"table": p})],
            name,
        )
        for name, p in (("a", 0.7), ("b", 0.2))
    ]
    result = compare(Design(tuple(together)), MADE, USED, Labelled({TABLE: "tables", GREAT: "things made of paper"}))
    [group] = result.more
    assert set(group.latents) == {TABLE, GREAT}
    assert "same documents" in group.why


def test_a_mere_place_is_no_name(side_of):
    """Full stops stand here with tables alone, so "end of a sentence" tells the latent as well as ‘table’ does."""
    stops = [
        side_of(
            [row | {"text": row["text"].replace("table", "table .")} for row in texts(name, 150, {"table": p})], name
        )
        for name, p in (("a", 0.7), ("b", 0.2))
    ]
    place = {"kind": "surface", "name": "sentence_end"}
    names = name_latents(stops, {TABLE: 0.5}, {TABLE: ("end of a sentence", place)}, INNER, [RIVER, SEVEN])
    assert place not in [name.test for name in names.of.values()]
    word = name_latents(stops, {TABLE: 0.5}, {TABLE: ("tables", words("table"))}, INNER, [RIVER, SEVEN])
    assert word.of[TABLE].borne_out


def test_terms_that_only_meet_are_no_name(sides):
    """Paper is in every text, so that it stands beside a table says nothing of a topic, though the two differ."""
    label = "texts about paper, table", {"kind": "terms", "terms": ["paper", "table"], "least": 2}
    assert name_latents(sides[0], {TABLE: 0.5}, {TABLE: label}, INNER, [RIVER, SEVEN]).of[TABLE].source == HERE


def test_a_function_word_takes_no_behaviour(side_of):
    """Where both stand at the same places the article is part of the table, and not the table of the article."""
    opened = [side_of(texts(name, 150, {"the table": p}), name) for name, p in (("a", 0.7), ("b", 0.2))]
    labels = {TABLE: ("tables", words("the table")), 5: ("the word ‘the’", words("the"))}
    names = name_latents(opened, {TABLE: 0.5, 5: 0.5}, labels, INNER)
    assert [names.of[latent].plain for latent in (TABLE, 5)] == [False, True]
    assert names.same == {(TABLE, 5)}
    less = name_latents(opened[::-1], {TABLE: -0.5, 5: -0.5}, labels, INNER)
    assert less.same == {(TABLE, 5)}, "whichever way they differ"


def test_a_label_is_cut_to_the_words_that_carry_it(sides):
    """A search for either would find every text."""
    label = "‘paper’, ‘table’", words("paper", "table")
    name = name_latents(sides[0], {TABLE: 0.5}, {TABLE: label}, INNER).of[TABLE]
    assert (name.text, name.source, name.test, name.borne_out) == ("the word ‘table’", LABEL, words("table"), True)
