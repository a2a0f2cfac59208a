"""Promise: the page of a diff says what differs in sentences, and gives each finding its numbers and evidence."""

import re
from dataclasses import replace

import pyarrow as pa
import pytest
from diff_results import halved, many, result, with_hypotheses, with_plain_statement, words

from saeray.analysis.evidence import Example
from saeray.analysis.excerpt import Excerpt
from saeray.labels.groups import LatentGroup
from saeray.report.diff_latents import MOST
from saeray.report.diff_sides import shortened
from saeray.report.page import document


@pytest.mark.parametrize("several", [False, True])
def test_every_finding_has_its_numbers_and_its_sentence(several):
    """The card of a finding holds everything that a sceptic would ask for."""
    html = result(several).page()
    text = words(html)
    assert "Here is a <mark>table</mark> of &lt;b&gt;tables&lt;/b&gt;." in html
    numbers = ["32.0 points more", "72.0%", "40.0%", "&lt; 1e-300", "+1.0, not separable from length", "7 tables +25.0"]
    for shown in (*numbers, "strongest on table 90%", "length may explain it", "3 without a label +1.0"):
        assert shown in text
    assert "rare" not in text, "a token of one document in a thousand is no evidence"
    less = "points (A less B), 95% interval"
    assert (f"found by search72.0% against 40.0%: +32.0 {less} at least +28.0" in text) is several
    assert (f"found by search72.0% against 40.0%: +32.0 {less} +28.0 to +36.0" in text) is not several
    assert (f"latent 775.0% against 50.0%: +25.0 {less} at least +20.0" in text) is several
    assert (f"latent 775.0% against 50.0%: +25.0 {less} +20.0 to +30.0" in text) is not several
    assert ("12.5 points more" in text) is not several, "more in the other side is shown against one alone"
    assert ("C10.0%" in text) is several, "every side has its bar"
    assert "One finding because of: same documents." in text
    for source in ("s3://b/s", "f" * 64, "plans 0, 1, commits 0-4", "at most 200 a direction"):
        assert source in text


def test_the_first_screen_is_sentences():
    """A newcomer reads what differs, in shares of texts, before any word of statistics."""
    text = words(result().page())
    opening = text[: text.index("The evidence")]
    assert "1,000 texts of A were compared with 1,000 of B." in opening
    assert "More often in A than in B Words and markstables: 72.0% of texts, against 40.0%" in opening
    assert "Texts of A are longer than those of B: half of them have 8 tokens (pieces of words) or more" in opening
    assert "The same texts said what to look at and were measured" in text
    several = words(result(several=True).page())
    assert "tables: 72.0% of texts, against at most 40.0% (B)" in several


def test_a_finding_has_one_pair_of_shares():
    """What the name claims leads everywhere; the latent's own shares stand in the folded statistics alone, by name."""
    html = result().page()
    card = html[html.index('id="latent-7"') :]
    shown, folded = card[: card.index("<details>")], card[card.index("<details>") :]
    assert "72.0%" in shown
    assert "40.0%" in shown
    for other in ("75.0%", "50.0%", "25.0"):
        assert other not in words(f"</style>{shown}")
        assert other in folded
    opening = words(html)
    assert "75.0%" not in opening[: opening.index("The evidence")]


def test_a_verified_statement_is_its_finding():
    """Without a model there is no section of statements: the finding has the statement's shares, and the page says how
    many were confirmed."""
    html = with_plain_statement(result()).page()
    text = words(html)
    assert "Hypotheses" not in text
    assert "The text has tables." not in text
    assert "tables: 81% of texts, against 20%" in text
    assert "61 points more" in text
    assert "72.0%" not in text, "the sample's share would be a second answer"
    assert "1 name was put as a statement on a text and searched for in 100 and 100 texts: 1 is confirmed" in text
    assert text.count("No language model took part.") == 1
    doubtful = with_plain_statement(result(), yes=(30, 28))
    weak = replace(doubtful.hypotheses.methods[0].verification.verified[0], lower=-0.1)
    done = replace(doubtful.hypotheses.methods[0].verification, verified=(weak,))
    method = replace(doubtful.hypotheses.methods[0], verification=done)
    page = words(replace(doubtful, hypotheses=replace(doubtful.hypotheses, methods=(method,))).page())
    assert "too small a difference to be sure of" in page
    assert "tables: 30% of texts" not in page[: page.index("The evidence")]


def test_findings_without_names_are_in_the_opening_too():
    """A label that no search bears out is a guess, and said to be one; without a label the words that a latent is
    strongest on stand for it. Both have the latent's own shares."""
    nameless = result(found=False).names
    text = words(result(names=nameless).page())
    opening = text[: text.index("The evidence")]
    assert "nothing that differs has a name that holds here" in opening
    assert "no search of these texts bears it out" in opening
    assert "a feature active in 75.0% of texts, against 50.0%; perhaps tables" in opening
    assert "More often in B than in A 1 differs, but no name for it holds" in opening
    assert "a feature active in 12.5% of texts, against 0.0%; latent 9" in opening
    assert "a feature; perhaps tables" in text[len(opening) :], "its card's shares are not those of its name either"
    failed = replace(result().names.of[7], borne_out=False, text="chairs", holds=(0.1, 0.09))
    text = words(result(names=replace(nameless, of={7: failed})).page())
    assert "a guess: no search of these texts bears it out" in text
    assert (
        "a search for “chairs” (10.0% against 9.0%) finds something the latent is stronger, in 90% of pairs of texts"
        in text
    )
    rows = result().rows
    at = rows.schema.get_field_index("label")
    bare = result(names=nameless, rows=rows.set_column(at, "label", pa.nulls(3, pa.string())))
    assert "a feature active in 75.0% of texts, against 50.0%; strongest on table" in words(bare.page())


def test_guesses_are_folded_behind_what_is_named():
    """They are listed where little else is, and behind a line where three findings have a name."""
    nine = result().rows.slice(2, 1).to_pylist()[0] | {"difference": 0.125, "frequency_target": 0.125}
    nine |= {"frequency_other": 0.0, "documents": [125, 0], "label": "clocks"}
    first = result().rows.to_pylist()[0]
    rows = [first, *(first | {"latent": latent} for latent in (11, 12)), nine]
    groups = [LatentGroup("tables", (latent,), "") for latent in (7, 11, 12)]
    clocks = LatentGroup("clocks", (9,), "")
    names = replace(result().names, of={latent: result().names.of[7] for latent in (7, 11, 12)})
    evidence = {latent: result().evidence[7] for latent in (7, 9, 11, 12)}
    made = result(rows=pa.Table.from_pylist(rows, result().rows.schema), names=names, evidence=evidence)
    html = replace(made, less=(), more=(*groups, clocks)).page()
    assert "<details><summary>1 more differs, but no name for it holds</summary>" in html
    opening = words(html)[: words(html).index("The evidence")]
    assert opening.index("tables") < opening.index("a feature active in 12.5% of texts, against 0.0%; perhaps clocks")
    few = replace(made, less=(), more=(groups[0], clocks)).page()
    assert "<details open><summary>1 more differs, but no name for it holds</summary>" in few
    assert "<details open><summary>1 differs" in result().page(), "nothing of B has a name"


@pytest.mark.parametrize("made", [result(), result(True), with_hypotheses(halved(result())), many(50, result())])
def test_every_link_leads_somewhere(made):
    """To a card of this page; a finding without a card is no link."""
    html = made.page()
    linked = set(re.findall(r'href="#([^"]+)"', html))
    assert linked
    assert linked <= set(re.findall(r'id="([^"]+)"', html))
    bare = replace(made, evidence={}).page()
    assert "href" not in bare


def test_intervals_of_the_shares_are_wilsons():
    """Wilson's interval of 720 of 1,000 is 0.6914 to 0.7469 (by its closed form); bars run to 1 here."""
    n, p, z = 1000, 0.72, 1.959964
    half = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    low, high = ((p + z * z / (2 * n) + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    assert f'<u style="left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"></u>' in result().page()


def test_counts_of_other_documents_draw_no_interval():
    """Where the counts are not those of the sizes that are known, there is a bar and no interval."""
    made = result()
    rows = made.rows.set_column(made.rows.schema.get_field_index("documents"), "documents", pa.array([[40, 20]] * 3))
    html = result(rows=rows, names=result(found=False).names).page()
    assert "<u style" not in html
    assert "75.0%" in words(html)


def test_examples_stand_beside_the_other_sides():
    """Paired, the same key's answer without the finding; unpaired, the other side's own; nothing is said of nothing."""
    answer = Example("y", 0.0, Excerpt("A list of things", "", "", cut_right=True))
    made = result()
    made = replace(made, beside={7: (answer,)})
    assert "A list of things …" in words(made.page())
    paired = halved(result(), "prompt_id")
    paired = replace(paired, beside={7: (answer, None)})
    text = words(paired.page())
    assert "B has none of it for the same prompt_id; it begins:A list of things …" in text
    assert "always for the same prompt_id (2,000 of them)" in text
    paired = replace(paired, beside={7: (None,)})
    assert "where B has it too, for the same prompt_id" in words(paired.page())
    none = result()
    none = replace(none, beside={7: ()})
    assert "no text here has it" in words(none.page())


def test_missing_evidence_is_said():
    """A store without texts has findings too."""
    text = words(result().page())
    assert "no lengths that all sides have" in text
    assert "the texts are not stored" in text


def test_the_table_has_the_strongest_latents_of_either_direction():
    """Cut to what a page carries, by size whatever the sign; said so."""
    n = MOST + 500
    html = many(n, result(found=False)).page()
    table = html[html.index("data-latents") :]
    table = table[: table.index("</table>")]
    assert [int(found) for found in re.findall(r"<tr class=[^>]+><td>(?:<a[^>]+>)?(\d+)[ <]", table)] == list(
        range(MOST)
    )
    assert f"The {MOST:,} of {n:,} tested latents that differ most, all findings among them" in html
    assert table.count('<tr class="more') == table.count('<tr class="less') == MOST // 2


def test_no_finding_is_missing_from_the_table():
    """One that the measuring half hardly shows is weaker than 2,000 others, and is there all the same."""
    n = MOST + 500
    made = many(n, result())
    at = made.rows.schema.get_field_index("finding")
    findings = pa.array([n - 1 if i == n - 1 else None for i in range(n)], pa.uint32())
    html = replace(made, rows=made.rows.set_column(at, "finding", findings)).page()
    shown = re.findall(r"<tr class=[^>]+><td>(?:<a[^>]+>)?(\d+)[ <]", html[html.index("data-latents") :])
    assert list(map(int, shown)) == [*range(MOST - 1), n - 1]


def test_hypotheses_come_before_findings_with_what_was_verified():
    """Every statement with its shares, missing answers, interval, verdict in words, and the latents behind it."""
    html = with_hypotheses(halved(result())).page()
    text = words(html)
    assert text.index("Hypotheses") < text.index("The evidence")
    for said in (
        "2 of 3 are valid", "1 confirmed", "none of which had proposed anything", "In 66% of 100 cases",
        "+60.7 points", "71.0%", "10.3%", "no answer for 3 of 100 in B", "between +58.7 and +62.7",
        "confirmed: more frequent there", "valid, not confirmed", "no larger than the judge’s own noise",
        "not borne out",
        "Claimed of B. 95% interval −10.0 to +23.0", "stopped 40 calls early", "differ by up to 25.0 points",
        "two properties: 1", "not clear: tables: 1 (3)", "3 of 39 answers changed (7.7%; 95% interval 3.0% to 20.0%)",
        "2 latents labelled on these documents, 1 well enough", "They peak on tables.",
    ):  # fmt: skip
        assert said in text, said
    assert '<a href="#latent-7">7 <bdi>tables</bdi></a>' in html
    assert 'id="latent-7"' in html
    assert "No language model took part" not in text


def test_statements_that_nobody_checked_are_called_so():
    """Without a verification no verdict is shown."""
    text = words(with_hypotheses(result(), checked=False).page())
    assert "Hypotheses, not verified" in text
    assert "Nobody has checked them" in text
    assert "confirmed:" not in text


def test_the_whole_cost_is_there_method_by_method_and_stage_by_stage():
    """Tokens, money and what the cache saved, the encoder's and the calls without an answer; the sums are theirs."""
    text = words(with_hypotheses(result()).page())
    assert "from latents32166%440114,822$0.5518,000 tokens, 61 s" in text, "proposed, valid, confirmed, coverage, cost"
    assert "differences summarised11140%22057,411$0.28not used" in text
    for said in ("102,000", "2,468", "154", "$0.50", "$0.05", "114,822 tokens, $0.55", "18,000 tokens in 61 seconds"):
        assert said in text, said
    assert "Without an answer: cut 4." in text
    assert "2 calls broke off" in text


def test_without_a_model_one_sentence_says_what_it_would_add():
    """No key is a first-class way."""
    text = words(result().page())
    assert text.count("No language model took part.") == 1
    assert "no language model was called" in text


def test_the_command_is_there_to_run_again():
    """Where the command is known it is the first line of how the page was made."""
    made = result()
    command = "saeray diff d:model=A d:model=B --store s3://b/s"
    text = words(result(made_with={**made.made_with, "command": command}).page())
    assert f"command{command}" in text


def test_the_same_result_is_the_same_page():
    """No date, no machine, no order of a set."""
    assert with_hypotheses(result()).page() == with_hypotheses(result()).page()


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["d:model=A", "d:model=B"], ("A", "B")),
        (["d:model=A", "the rest of d"], ("A", "the rest of d")),
        (["d:model=A,lang=en", "d:model=B,lang=en"], ("A", "B")),
        (["d:model=A,lang=en", "d:model=B,lang=de"], ("model=A, lang=en", "model=B, lang=de")),
        (["d:n>3", "d:n<4"], ("n>3", "n<4")),
        (["a:model=A", "b:model=A"], ("a:model=A", "b:model=A")),
        (["a", "b"], ("a", "b")),
        (["d:model=", "d:model=B"], ("model=", "B")),
    ],
)
def test_sides_go_by_what_tells_them_apart(names, short):
    """A phone shows a dozen letters; the full selectors stand where the page tells how it was made."""
    assert shortened(names) == short


def test_a_page_without_a_script_allows_none():
    """The hash is named by the page that carries the script, and by no other."""
    assert "script-src" not in document("x", ["<p>x</p>"])
    assert "script-src 'sha256-" in result().page()


def test_a_direction_without_findings_says_why():
    """It is there, and what of it length may explain or fresh texts do not confirm is said; no direction is missing."""
    made = replace(result(), less=())
    assert "More often in B than in ANothing that is clearer than chance." in opening_of(made)
    lost = result().less
    aside = replace(made, by_length=lost, set_aside={"by_length": 1, "by_given": 0})
    assert "clearer than chance. Length may explain 1 difference of this direction." in opening_of(aside)
    neither = replace(made, more=())
    assert "More often in" not in opening_of(neither)


def opening_of(made):
    text = words(made.page())
    return text[: text.index("How sure")]


def test_what_is_left_at_equal_length_stands_on_the_line():
    """Where less than most of the difference is left the line and the badge say how much; else neither does."""
    made = result()
    at = made.rows.schema.get_field_index("separable_from_length")
    made = replace(made, rows=made.rows.set_column(at, "separable_from_length", pa.array([True] * 3)))

    def page(level):
        return words(replace(made, names=replace(made.names, of={7: replace(made.names.of[7], level=level)})).page())

    assert page(0.04).count("4 of the 32.0 points at equal length") == 2
    assert "points at equal length" not in page(0.3)
    assert "points at equal length" not in page(None)
    assert "points at equal length" not in page(-0.1), "turned round it is no part"
