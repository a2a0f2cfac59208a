"""Promise: the page of a diff gives each finding its numbers and evidence, for one other side or several."""

import re

import pyarrow as pa
import pytest

from saeray.analysis.diff.run import DiffResult
from saeray.analysis.evidence import Evidence, Example
from saeray.analysis.excerpt import Excerpt
from saeray.labels.groups import LatentGroup

ROWS = {
    "latent": pa.array([7, 3, 9], pa.uint32()),
    "difference": [0.25, 0.01, -0.125],
    "lower": [0.2, -0.01, -0.2],
    "upper": [0.3, 0.03, -0.05],
    "p": [0.0, 0.4, 0.001],
    "q": [0.0, 0.4, 0.002],
    "frequency_target": [0.75, 0.5, 0.0005],
    "frequency_other": [0.5, 0.49, 0.1255],
    "other": ["d:model=B", "d:model=B", "d:model=B"],
    "documents": [[75, 50], [50, 49], [0, 12]],
    "difference_at_equal_length": pa.array([0.01, None, None], pa.float64()),
    "separable_from_length": [False, False, False],
    "label": ["tables", None, None],
}


def side(name: str) -> dict:
    return {
        "name": name, "channel": "text", "documents": 1100, "tokens": 9000, "mean_tokens": 9.0, "median_tokens": 8.0,
        "dataset": "d", "plans": [0, 1], "commits": "0-4",
    }  # fmt: skip


def result(several: bool = False, found: bool = True) -> DiffResult:
    names = ["d:model=A", "d:model=B", "d:model=C"][: 3 if several else 2]
    rows = dict(ROWS) | ({"upper": pa.nulls(3, pa.float64())} if several else {})
    example = Example("x", 3.0, Excerpt("Here is a", " table", " of <b>things</b>."))
    return DiffResult(
        rows=pa.table(rows),
        more=(LatentGroup("tables", (7, 3), "same documents"),) if found else (),
        less=(LatentGroup("latent 9", (9,), ""),) if found and not several else (),
        passing=((300, 0 if several else 1) if found else (0, 0)),
        evidence={7: Evidence((example,), (("table", 0.9), ("rare", 0.001))), 9: Evidence()},
        sides=[side(name) for name in names],
        length={"differs": ["d:model=A is longer than d:model=B"], "stratum_edges": [3, 5],
                "share_in_common_strata": 0.8,
                "probability_target_longer": [0.7]},
        parameters={"q": 0.05, "keep": 0.03, "top": 200, "min_support": 5, "channel": None, "near_label": None},
        made_with={"saeray": "0.1", "store": "s3://b/s", "fingerprint": "f" * 64, "d_sae": 16384},
    )  # fmt: skip


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html.split("</style>")[1]))


@pytest.mark.parametrize("several", [False, True])
def test_every_finding_has_its_numbers_and_its_sentence(several):
    html = result(several).page()
    text = words(html)
    assert "Here is a <mark>table</mark> of &lt;b&gt;things&lt;/b&gt;." in html
    assert "1,100 documents against 1,100" in text
    numbers = ["+25.0", "75.0%", "50.0%", "q &lt; 1e-300", "+1.0, not separable from length"]
    for shown in (*numbers, "tables", "table 90%", "latent 7"):
        assert shown in text
    assert "rare" not in text, "a token of one document in a thousand is no evidence"
    assert ("at least +20.0" in text) is several
    assert ("95% interval +20.0 to +30.0" in text) is not several
    assert ("−12.5" in text) is not several, "more in the other side is shown against one alone"
    assert "1 finding." in text
    assert "and 1 latent like it (same documents)3 +1.0" in text
    assert "longer than" in text
    for source in ("s3://b/s", "f" * 64, "plans 0, 1, commits 0-4", "at most 200 a direction"):
        assert source in text


def test_a_difference_that_stays_at_equal_length_is_not_called_length():
    other_way = result()
    level = pa.array([0.2, None, -0.1], pa.float64())
    at = other_way.rows.schema.get_field_index("difference_at_equal_length")
    rows = other_way.rows.set_column(at, "difference_at_equal_length", level)
    at = rows.schema.get_field_index("separable_from_length")
    object.__setattr__(other_way, "rows", rows.set_column(at, "separable_from_length", pa.array([True, False, True])))
    text = words(other_way.page())
    assert "at equal length −10.0 · q" in text
    assert "separable" not in text


def test_small_shares_and_missing_evidence_are_said():
    text = words(result().page())
    assert "0.05%" in text
    assert "no common lengths" in text
    assert "the texts are not stored" in text


def test_nothing_found_is_said_with_what_came_nearest():
    text = words(result(found=False).page())
    assert "None of 3 tested latents differs by more than 3 points" in text
    assert "largest difference is +25.0 points" in text
    assert "More in" not in text
