"""Promise: `stats` counts a selection, whole or by a column's values, and the groups add up to the whole."""

import numpy as np
import pytest

from saeray.analysis.frequencies import stats
from saeray.analysis.write import write
from saeray.errors import UsageError
from saeray.stats.quantiles import ERROR

TABLE, SORRY, THE = 0, 1, 5


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


def test_percentiles_and_length_strata_are_those_of_the_rows(store_of):
    """`the` has maxima 7 and 8; a document is of 6 or of 7 tokens, one stratum."""
    result = stats(store_of(rows(), keep=("model",)), "d", percentiles=(50, 90, 99.9))
    the, table = (result.rows.slice(i, 1).to_pylist()[0] for i in (THE, TABLE))
    assert [the[name] for name in ("p50", "p90", "p99.9")] == pytest.approx([7, 8, 8], rel=ERROR)
    assert (table["p50"], table["max_sum"]) == (pytest.approx(1 + 7 - 6, rel=ERROR), 30 * 2)
    assert the["max_sum"] == 60 * 7 + 30 * 8
    assert result.lengths() == [{"from": 6, "to": 7, "documents": 90, "mean_latents": pytest.approx(5.3, abs=0.05)}]
    assert the["documents_by_length"] == [90]
    assert (result.side["median_tokens"], result.sampled) == (6, 90)
    assert "6 to 7 tokens" in result.page()
    assert "p99.9" in result.page()


def test_groups_give_their_documents_in_the_strata_of_the_whole(store_of):
    """One list of strata for all groups, with 0 where a group has no document of such a length."""
    made = [r | {"text": "the " * (20 if r["model"] == "A" else 2)} for r in rows()]
    result = stats(store_of(made, keep=("model",)), "d", by="model")
    assert [(one["from"], one["documents"]) for one in result.lengths()] == [(2, 54), (16, 36)]
    groups = {row["group"]: row["documents_by_length"] for row in result.rows.to_pylist() if row["latent"] == THE}
    assert groups == {"(none)": [18, 0], "A": [0, 36], "B": [36, 0]}


def test_channels_that_only_come_later_are_found_and_one_can_be_chosen(store_of):
    """The first shards hold prompts alone; counting a mixture as if it were one channel would go unnoticed."""
    made = [
        {
            "doc_id": f"{i:03d}",
            "messages": [
                {"role": "user", "content": "the cat sat on the mat"},
                *([{"role": "assistant", "content": "sorry ."}] if i > 60 else []),
            ],
        }
        for i in range(90)
    ]
    store = store_of(made)
    with pytest.raises(UsageError, match=r"several channels.*assistant, user"):
        stats(store, "d")
    assert stats(store, "d", channel="user").total.n_documents == 90
    assert stats(store, "d", channel="assistant").total.documents[SORRY] == 29
    with pytest.raises(UsageError, match="no rows of channel 'system'"):
        stats(store, "d", channel="system")


def test_examples_come_from_a_sample_of_a_large_dataset(store_of, monkeypatch):
    """Reading every text would cost more than all that is counted."""
    monkeypatch.setattr("saeray.analysis.frequencies.SAMPLED", 20)
    result = stats(store_of(rows(), keep=("model",)), "d")
    assert 20 <= result.sampled < 90
    assert result.total.n_documents == 90
    assert result.evidence[THE].examples
    assert f"from {result.sampled} of the documents" in result.page()
