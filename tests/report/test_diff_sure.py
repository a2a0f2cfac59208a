"""Promise: a diff's page says how sure it is in numbers that agree with each other, and what length may explain."""

import re
from dataclasses import replace

import pyarrow as pa
import pytest
from diff_results import halved, many, result, with_plain_statement, words

from saeray.analysis.diff.result import DiffResult
from saeray.labels.groups import LatentGroup


def changed(made: DiffResult, **columns: list) -> DiffResult:
    """The result with other values in some columns."""
    rows = made.rows
    for name, values in columns.items():
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, name, pa.array(values, rows.schema.field(name).type))
    return replace(made, rows=rows)


def opening(text: str) -> str:
    return text[: text.index("How sure is this?")]


def test_halves_are_said_in_words():
    """Which half proposed and which measured, and whether the other half bears the finding out."""
    text = words(halved(result()).page())
    assert "are of the other half, 1,000 of A and 1,000 of B: fresh texts" in text
    assert "confirmed on fresh texts" in text
    assert "in the half that chose it+28.0" in text
    assert "by hash of text: 1,000 and 1,000 documents propose" in text
    assert "look a little larger" not in text
    weak = changed(halved(result()), confirmed=[False] * 3)
    text = words(weak.page())
    assert "not confirmed on fresh texts" in text
    assert "1 difference that fresh texts do not confirm" in text
    assert "tables:" not in text[: text.index("The evidence")], "what does not hold is not in the opening"


def test_the_opening_says_of_which_texts_its_percentages_are():
    """Those that were searched: of the half that chose nothing, and only some of it where the search drew some."""
    named = "in which a program’s search finds what is named"
    half = "About half of them suggested what differs; the rest measured it. Each percentage is the share of"
    made = halved(result())
    assert f"compared with 2,000 of B. {half} the rest, 1,000 a side, {named}" in opening(words(made.page()))
    name = made.names.of[7]
    few = replace(made, names=replace(made.names, of={7: replace(name, read=(400, 500))}))
    assert f"{half} texts drawn from the rest, 400 of A and 500 of B, {named}" in opening(words(few.page()))
    odd = replace(made, names=replace(made.names, of={7: replace(name, read=(4000, 500))}))
    assert f"{half} the rest {named}" in opening(words(odd.page())), "no number that does not fit"
    whole = opening(words(result().page()))
    assert f"Each percentage is the share of texts {named}" in whole
    assert "suggested" not in whole
    drawn = with_plain_statement(result())
    assert f"the share of texts drawn from them, 100 a side, {named}" in opening(words(drawn.page()))
    nameless = words(halved(result(names=result(found=False).names)).page())
    assert "the rest measured it. Each percentage is a share of the rest, 1,000 a side." in opening(nameless)
    assert "suggested" not in opening(words(halved(result(found=False)).page()))


@pytest.mark.parametrize("halves", [True, False])
def test_what_was_proposed_adds_up(halves):
    """Confirmed with a name and without one, and not confirmed: together all that was proposed, and what is folded."""
    made = many(40, result())
    groups = [LatentGroup(f"word {latent}", (latent,), "") for latent in (7, *range(11, 30, 2))]
    strong = [i not in (11, 13, 15) for i in range(40)]
    made = changed(replace(made, more=tuple(groups), less=(), passing=(11, 0)), confirmed=strong)
    made = halved(made) if halves else made
    html = made.page()
    text = words(html)
    if halves:
        assert "The fresh texts confirm 8 of the 11 that were proposed: 1 with a name that holds, 7 without" in text
        assert "The other 3 they do not confirm, or not as named; these are folded away." in text
        assert "3 differences that fresh texts do not confirm" in text
        assert "7 differences without a name that holds" in text
    else:
        assert "Of 11, 1 with a name that holds, 10 without one." in text
        assert "proposed" not in text[text.index("How sure") : text.index("What the words")]
    assert "taken together" not in text, "11 features are 11 differences"
    merged = words(replace(made, passing=(600, 12)).page())
    assert "The strongest 11 of them make 11 differences, those that mean the same taken together." in merged


def test_where_length_explains_everything_the_page_does_not_say_nothing_differs():
    """They differ more clearly than chance; that it is length is said, and chance is not blamed."""
    text = words(replace(result(found=False), set_aside={"by_length": 7, "by_given": 0}).page())
    assert "They differ, but in nothing that is separable from the length of the texts" in text
    assert "7 differ more clearly than chance" in text
    assert "No difference was found" not in text
    assert "chance alone" not in text


def test_what_length_may_explain_is_folded_and_counted():
    """Such differences are no findings, but they are not hidden either; the table says which of them it has."""
    found = (LatentGroup("long ones", (3,), ""),)
    html = result(by_length=found, set_aside={"by_length": 12, "by_given": 0}).page()
    text = words(html)
    assert "12 more features differ, but the texts’ lengths may be all of it" in text
    assert "find the strongest of them below, as 1 difference." in text
    assert '<details id="aside-length"><summary>1 difference that length may explain</summary>' in html
    assert html.count('href="#aside-length"') == 1
    assert "12 features may be so; here stand the strongest of them" in text
    assert "latentpointsat equal length 3+1.0" in text
    every = words(result(by_length=found, set_aside={"by_length": 1, "by_given": 0}).page())
    assert "1 feature may be so; here stand all of them" in every
    assert "find all of them below, as 1 difference." in every


def test_a_few_that_differ_at_equal_length_are_named_beside_the_length():
    """A reader learns of the clearest of what is set aside: at most three, with a label, of 10 points or more at equal
    length on the same side, in the texts that measure."""
    made = changed(
        replace(many(8, result()), more=(), less=(), evidence={}),
        difference=[0.4, 0.4, 0.4, -0.4, 0.4, 0.4, 0.4, 0.4],
        difference_at_equal_length=[0.11, 0.3, 0.09, -0.2, -0.5, 0.15, None, 0.2],
        label=["a", "b", "c", "d", "e", None, "g", "h"],
        confirmed=[True] * 7 + [False],
        frequency_target=[0.445] * 8,
        frequency_other=[0.021] * 8,
    )
    groups = tuple(LatentGroup("x", (i,), "") for i in range(7))
    other = LatentGroup("x", (7,), "")
    made = replace(made, by_length=groups, set_aside={"by_length": 7, "by_given": 0})
    text = words(made.page())
    said = "Some of it differs by at least 10 points at equal length too, but too few texts are of like length"
    first = (("b", "+30"), ("d", "−20"), ("a", "+11"))
    b, d, a = (
        f"a feature, perhaps {label} (active in 44% against 2%; {level} at equal length)" for label, level in first
    )
    assert f"{said} to be sure: {b}; {d}; {a}. More of what is left out." in opening(text)
    fresh = replace(halved(made), by_length=(other,))
    assert said not in words(fresh.page()), "what fresh texts do not confirm is not named"
    assert said in words(replace(fresh, parameters=made.parameters).page())
    hostile = changed(made, label=["<b>&", *[None] * 7])
    assert "perhaps <bdi>&lt;b&gt;&amp;</bdi>" in hostile.page()


def test_a_difference_that_stays_at_equal_length_is_not_called_length():
    """The badge and the figure agree."""
    made = result()
    at = made.rows.schema.get_field_index("separable_from_length")
    rows = made.rows.set_column(at, "separable_from_length", pa.array([True] * 3))
    text = words(result(rows=rows).page())
    assert "not explained by length" in text
    assert "length may explain it" not in text
    assert "not separable" not in text
    at = rows.schema.get_field_index("difference_at_equal_length")
    rows = rows.set_column(at, "difference_at_equal_length", pa.array([-0.01, None, None]))
    gone = {latent: replace(one, level=-0.01) for latent, one in made.names.of.items()}
    text = words(result(rows=rows, names=replace(made.names, of=gone)).page())
    assert "length may explain it" in text, "the texts that measure show nothing of it at equal length"


def test_nothing_found_is_said_with_what_came_nearest():
    """An empty result is a result."""
    text = words(result(found=False).page())
    assert "No difference was found that is clearer than chance" in text
    assert "3 features of text (latents) were tested. None differs by more than 3 points" in text
    assert "largest difference is 25 points" in text
    assert "left out of the lists" not in text
    assert "More often in" not in text


def test_what_has_no_sentences_is_no_link_and_says_so():
    """A line of the opening leads to a card or says that there is none; those beyond the first are folded there."""
    made = many(20, result())
    names = replace(made.names, of=dict.fromkeys(range(1, 17, 2), made.names.of[7]))
    groups = tuple(LatentGroup("x", (i,), "") for i in range(1, 17, 2))
    html = replace(made, names=names, more=groups, less=(), evidence={7: made.evidence[7]}).page()
    lines = re.findall(r"<li><span>(.*?)</span>", html[: html.index("How sure")])
    assert sum('href="#latent-7"' in line for line in lines) == 1
    assert sum("(no sentences here)" in line and "href" not in line for line in lines) == 7
    assert "<summary>and 2 more</summary>" in html
    assert '7 more without sentences here: <a href="#all-latents">' in html
    assert 'id="all-latents"' in html
