"""Promise: the page of a diff says what differs in sentences, and gives each finding its numbers and evidence."""

import re
from dataclasses import replace

import pyarrow as pa
import pytest
from diff_results import halved, many, result, with_hypotheses

from saeray.analysis.evidence import Example
from saeray.analysis.excerpt import Excerpt
from saeray.labels.groups import LatentGroup
from saeray.report.diff_latents import MOST
from saeray.report.diff_sides import shortened
from saeray.report.page import document


def words(html: str) -> str:
    body = html.split("</style>")[1].split("<script>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", body))


@pytest.mark.parametrize("several", [False, True])
def test_every_finding_has_its_numbers_and_its_sentence(several):
    """The card of a finding holds everything that a sceptic would ask for."""
    html = result(several).page()
    text = words(html)
    assert "Here is a <mark>table</mark> of &lt;b&gt;tables&lt;/b&gt;." in html
    numbers = ["25.0 points more", "75.0%", "50.0%", "&lt; 1e-300", "+1.0, not separable from length", "7 tables +25.0"]
    for shown in (*numbers, "strongest on table 90%", "length may explain it", "3 without a label +1.0"):
        assert shown in text
    assert "rare" not in text, "a token of one document in a thousand is no evidence"
    assert "By a plain test of the texts for it: 72.0% of A, 40.0% of B" in text
    assert ("95% intervalat least +20.0" in text) is several
    assert ("95% interval+20.0 to +30.0" in text) is not several
    assert ("12.5 points more" in text) is not several, "more in the other side is shown against one alone"
    assert ("C2.0%" in text) is several, "every side has its bar"
    assert "One finding because of: same documents." in text
    for source in ("s3://b/s", "f" * 64, "plans 0, 1, commits 0-4", "at most 200 a direction"):
        assert source in text


def test_the_first_screen_is_sentences():
    """A newcomer reads what differs, in shares of texts, before any word of statistics."""
    text = words(result().page())
    opening = text[: text.index("The evidence")]
    assert "1,000 texts of A were compared with 1,000 of B." in opening
    assert "More often in A than in Btables: 72% of texts, against 40%" in opening
    assert "Texts of A are longer than B in 70% of pairs (median 8 against 8 tokens)" in opening
    assert "The same texts proposed the differences and measured them" in opening
    several = words(result(several=True).page())
    assert "tables: 72% of texts, against at most 40% (B)" in several


def test_findings_without_names_are_in_the_opening_too():
    """A store without labels and texts that name nothing: the words that a latent is strongest on stand for it."""
    nameless = result(found=False).names
    text = words(result(names=nameless).page())
    opening = text[: text.index("The evidence")]
    assert "latent 7, a feature without a name, strongest on table 90%: in 75.0% of texts, against 50.0%" in opening
    assert "More often in B than in Alatent 9, a feature without a name: in 12.5% of texts, against 0.0%" in opening
    assert "plain test" not in opening


def test_intervals_of_the_shares_are_wilsons():
    """Wilson's interval of 750 of 1,000 is 0.7222 to 0.7758 (by its closed form); bars run to 1 here."""
    n, p, z = 1000, 0.75, 1.959964
    half = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    low, high = ((p + z * z / (2 * n) + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    assert f'<u style="left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"></u>' in result().page()


def test_counts_of_other_documents_draw_no_interval():
    """Where the counts are not those of the sizes that are known, there is a bar and no interval."""
    made = result()
    rows = made.rows.set_column(made.rows.schema.get_field_index("documents"), "documents", pa.array([[40, 20]] * 3))
    html = result(rows=rows).page()
    assert "<u style" not in html
    assert "75.0%" in words(html)


def test_halves_are_said_in_words():
    """Which half proposed and which measured, and whether the other half bears the finding out."""
    text = words(halved(result()).page())
    assert "Differences were looked for in one half of the texts and measured in the other, 1,000 of A" in text
    assert "confirmed on fresh texts" in text
    assert "in the proposing half+28.0" in text
    assert "by hash of text: 1,000 and 1,000 documents propose" in text
    assert "flatters" not in text
    rows = halved(result()).rows
    at = rows.schema.get_field_index("confirmed")
    weak = halved(result(rows=rows.set_column(at, "confirmed", pa.array([False] * 3))))
    assert "not confirmed on fresh texts" in words(weak.page())


def test_examples_stand_beside_the_other_sides():
    """Paired, the same key's answer without the finding; unpaired, the other side's own; nothing is said of nothing."""
    answer = Example("y", 0.0, Excerpt("A list of things", "", "", cut_right=True))
    made = result()
    made = replace(made, beside={7: (answer,)})
    assert "A list of things …" in words(made.page())
    paired = halved(result(), "prompt_id")
    paired = replace(paired, beside={7: (answer, None)})
    text = words(paired.page())
    assert "B same prompt_idA list of things …" in text
    assert "B same prompt_idhas it too" in text
    assert "2,000 pairs" in text
    paired = replace(paired, beside={7: (None,)})
    assert "The answers of B with the same prompt_id have it too." in words(paired.page())
    none = result()
    none = replace(none, beside={7: ()})
    assert "no text here has it" in words(none.page())


def test_a_difference_that_stays_at_equal_length_is_not_called_length():
    """The badge and the figure agree."""
    made = result()
    at = made.rows.schema.get_field_index("separable_from_length")
    text = words(result(rows=made.rows.set_column(at, "separable_from_length", pa.array([True] * 3))).page())
    assert "not explained by length" in text
    assert "length may explain it" not in text
    assert "not separable" not in text


def test_what_length_explains_is_folded_and_counted():
    """Such differences are no findings, but they are not hidden either."""
    aside = {"by_length": 12, "by_given": 0}
    html = result(by_length=(LatentGroup("long ones", (3,), ""),), set_aside=aside).page()
    assert "12 more latents differ, but no more than the texts’ lengths explain" in words(html)
    assert "<summary>1 difference that is not separable from length</summary>" in html
    assert "3 long ones+1.0" in words(html)


def test_missing_evidence_is_said():
    """A store without texts has findings too."""
    text = words(result().page())
    assert "no lengths that all sides have" in text
    assert "the texts are not stored" in text


def test_nothing_found_is_said_with_what_came_nearest():
    """An empty result is a result."""
    text = words(result(found=False).page())
    assert "None of 3 tested latents (features of text) differs by more than 3 points" in text
    assert "largest difference is +25.0 points" in text
    assert "More often in" not in text


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
