"""Promise: the index of a diff by values says of each what it does more and less, of which texts, and leads there."""

import re
from dataclasses import replace

import pyarrow as pa
import pytest
from diff_results import halved, result, words

from saeray.analysis.diff.each import EachResult
from saeray.analysis.diff.result import DiffResult
from saeray.report.diff_sides import SideNames


def each(*results: DiffResult, **parameters: object) -> EachResult:
    """An index of results, each against all others as one side."""
    used = {**results[0].parameters, "against": "rest", "left_out_values": {}, **parameters}
    values = {f"v{i}": one for i, one in enumerate(results)}
    selection = {"documents": 9, "dataset": "d", "channel": "text", "shards_missing": 0}
    return EachResult("model", values, {value: f"f-{value}" for value in values}, selection, used, results[0].made_with)


def less(made: DiffResult) -> DiffResult:
    """The result as of a value that does the thing less often."""
    name = replace(made.names.of[7], holds=(0.4, 0.72), limits=(-0.36, -0.28), difference=-0.32)
    at = made.rows.schema.get_field_index("difference")
    rows = made.rows.set_column(at, "difference", [[-0.25, 0.01, -0.125]])
    return replace(made, rows=rows, more=(), less=made.more, names=replace(made.names, of={7: name}))


def test_the_other_values_are_called_the_others():
    """Eight models are one and the 7 others; a column's own words in a name stay."""
    names = ["d:model=A", "the 7 other values of model"]
    made = result()
    sides = [{**side, "name": name} for side, name in zip(made.sides, names, strict=True)]
    used = {**made.parameters, "by": "model"}
    assert SideNames.of(replace(made, sides=sides, parameters=used)).short == ("A", "the 7 others")
    assert SideNames.of(replace(made, sides=sides)).short == ("A", "the 7 other values of model")
    assert "How A and the 7 others differ" in words(replace(made, sides=sides, parameters=used).page())


@pytest.mark.parametrize(
    ("against", "said"),
    [
        ("rest", "the 2 others together, always for the same prompt_id"),
        ("max", "whichever of the 2 others has a thing most, always for the same prompt_id"),
        ("union", "whatever any of the 2 others has for the same prompt_id"),
    ],
)
def test_it_says_what_is_compared_and_of_which_texts(against, said):
    """With whom, for the same key, and of which half the percentages are; of halves nothing where there are none."""
    paired = halved(result(), "prompt_id")
    text = words(each(paired, paired, paired, against=against).page())
    assert f"Each of 3 values of model is compared with {said} (2,000 of them)." in text
    half = (
        "About half of the texts suggested what differs; the rest measured it. Each percentage is the share of the rest"
    )
    number = "1,000 of the model and 1,000 of the others" if against == "rest" else "1,000 of each model"
    assert f"{half} ({number}) in which a program’s search finds what is named." in text
    name = replace(paired.names.of[7], read=(50, 60))
    odd = replace(paired, names=replace(paired.names, of={7: name}))
    text = words(each(paired, odd, paired).page())
    assert f"{half} in which a program’s search" in text, "no number that is not that of all"
    all_odd = words(each(odd, odd, odd, against=against).page())
    assert f"{half}{' (50 of the model and 60 of the others)' if against == 'rest' else ''} in which" in all_odd
    whole = words(each(result(), result()).page())
    assert "compared with the other. Each percentage is the share of texts in which a program’s search" in whole
    assert "suggested" not in whole


def test_what_is_more_is_folded():
    """Six findings of a kind: four lines and two folded ones; a line without sentences is no link."""
    made = result()
    row, name = made.rows.slice(0, 1), made.names.of[7]
    latents = (7, *range(20, 25))
    rows = [row.set_column(0, row.schema.field(0), pa.array([latent], pa.uint32())) for latent in latents]
    groups = tuple(replace(made.more[0], latents=(latent,)) for latent in latents)
    names = replace(made.names, of=dict.fromkeys(latents, name))
    many = replace(made, rows=pa.concat_tables(rows), more=groups, less=(), names=names)
    html = each(many, less(result())).page()
    assert "<summary>and 2 more</summary>" in html
    assert html.count("(no sentences here)") == 5
    bare = each(replace(many, evidence={}), many).page()
    own = bare[bare.index('id="of-f-v0"') : bare.index('id="of-f-v1"')]
    assert re.findall(r'href="([^"]+)"', own) == ["f-v0/report.html"]
    assert "and 2 more" in own


def test_the_terminal_has_a_line_of_every_value():
    """What a value does more, or else less, or that nothing holds; the two that are first."""
    nothing = replace(result(), more=(), less=())
    lines = each(result(), less(result()), nothing).table()
    assert [(line["model"], line["finding"], line["points"]) for line in lines] == [
        ("v0", "tables", "+32"),
        ("v1", "tables", "-32"),
        ("v2", "nothing that has a name and holds", ""),
    ]
    assert len({tuple(line) for line in lines}) == 1, "one table's columns"
    assert "alike" not in lines[0]
