"""Promise: `stats` counts a selection, whole or by a column's values, and the groups add up to the whole."""

import numpy as np
import pytest

from saeray.analysis.frequencies import stats
from saeray.analysis.write import write
from saeray.errors import UsageError

TABLE, THE = 0, 5


def rows(n: int = 90) -> list[dict]:
    return [
        {
            "doc_id": f"{i:03d}",
            "text": "the cat sat on the mat" + (" table" if i % 3 == 0 else ""),
            "model": "AB"[i % 2] if i % 5 else None,
            "year": 2000 + i,
            "tags": ["x"],
        }
        for i in range(n)
    ]


def test_counts_of_a_selection(store_of, tmp_path):
    result = stats(store_of(rows(), keep=("model",)), "d")
    at = result.rows.slice(TABLE, 1).to_pylist()[0]
    assert (at["latent"], at["documents"], at["document_frequency"], at["tokens"]) == (
        TABLE,
        30,
        pytest.approx(1 / 3),
        30,
    )
    the = result.rows.slice(THE, 1).to_pylist()[0]
    assert (the["documents"], the["tokens"], the["max"]) == (90, 180, 8)
    assert the["token_frequency"] == pytest.approx(180 / (60 * 6 + 30 * 7))
    assert result.rows.num_rows == 32
    assert result.summary()["latents_present"] == 6
    assert result.table(1)[0]["latent"] == THE
    files = write(result, str(tmp_path / "out"))
    assert "How often each latent is present" in (tmp_path / "out" / "report.html").read_text()
    assert len(files) == 3


def test_groups_add_up_to_the_whole_and_null_is_a_group(store_of):
    store = store_of(rows(), keep=("model",))
    whole, grouped = stats(store, "d"), stats(store, "d", by="model")
    assert list(grouped.groups) == ["(none)", "A", "B"]
    assert [g.n_documents for g in grouped.groups.values()] == [18, 36, 36]
    np.testing.assert_array_equal(grouped.total.documents, whole.total.documents)
    np.testing.assert_array_equal(grouped.total.tokens, whole.total.tokens)
    assert grouped.rows.num_rows == 3 * 32
    of_a = grouped.rows.slice(32 + TABLE, 1).to_pylist()[0]
    wanted = sum(r["model"] == "A" and "table" in r["text"] for r in rows())
    assert (of_a["group"], of_a["documents"]) == ("A", wanted)
    assert stats(store, "d:model=A").total.documents[TABLE] == wanted
    assert "(none)" in grouped.page()


@pytest.mark.parametrize(
    ("by", "message"), [("colour", "no column 'colour'"), ("year", "more than 50"), ("tags", "lists")]
)
def test_columns_that_cannot_group_are_refused(store_of, by, message):
    with pytest.raises(UsageError, match=message):
        stats(store_of(rows(), keep=("year", "tags")), "d", by=by)
