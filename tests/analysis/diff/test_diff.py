"""Promise: a diff over a real store counts what was committed, tests it as stated, and says what it cannot do."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from saeray.analysis.diff.confounders import tail
from saeray.analysis.diff.design import Design
from saeray.analysis.diff.options import Options
from saeray.analysis.diff.run import compare, diff
from saeray.analysis.write import write
from saeray.errors import UsageError
from saeray.labels.groups import LatentGroup
from saeray.labels.meanings import Meanings
from saeray.stats.intervals import newcombe
from saeray.stats.significance import benjamini_hochberg, fisher_midp

TABLE, SORRY, GREAT, RIVER, SEVEN = range(5)
#: How often each model uses each word.
RATES = {"A": (0.8, 0.1, 0.5, 0.3), "B": (0.2, 0.6, 0.5, 0.3), "C": (0.5, 0.1, 0.5, 0.3)}


def rows(n: int = 120, models: str = "AB", seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        for model in models:
            use = rng.random(4) < RATES[model]
            words = [w for w, used in zip(("table", "sorry", "great", "river"), use, strict=True) if used]
            text = " ".join(["the cat", *words, *["on"] * int(rng.integers(1, 6))]) + f" {model}{i}."
            found.append({"doc_id": f"{model}{i:03d}", "text": text, "model": model, "year": None if i % 9 else 2024})
    return found


def holding(found: list[dict], model: str, word: str) -> int:
    return sum(word in row["text"].split() for row in found if row["model"] == model)


def latents(groups: tuple[LatentGroup, ...]) -> tuple[int, ...]:
    """Every latent of some findings, in order."""
    return tuple(latent for group in groups for latent in group.latents)


def test_latents_with_one_label_are_one_finding_led_by_the_stronger(store_of):
    """A list of findings says a thing once."""
    found = rows(n=200)
    for row in found:  # "seven" goes where "table" goes, not always
        if "table" in row["text"].split() and int(row["doc_id"][1:]) % 3:
            row["text"] += " seven"
    labels = {TABLE: "Tables.", SEVEN: "tables"}
    store = store_of(found, keep=("model",))
    result = diff(store, "d:model=A", ["d:model=B"], meanings=Meanings(labels))
    (group,) = result.more
    assert group.latents == (TABLE, SEVEN)
    assert "same label" in group.why
    assert result.passing[0] == 2
    assert result.row(SEVEN)["finding"] == TABLE
    apart = diff(store, "d:model=A", ["d:model=B"], meanings=Meanings({TABLE: "tables", SEVEN: "the number seven"}))
    assert [group.latents for group in apart.more] == [(TABLE,), (SEVEN,)]


def test_two_sides_end_to_end(store_of, tmp_path):
    found = rows()
    store = store_of(found, keep=("model",))
    result = diff(store, "d:model=A", ["d:model=B"], meanings=Meanings({TABLE: "tables"}), halves=False)
    assert latents(result.more) == (TABLE,)
    assert latents(result.less) == (SORRY,)
    row = result.row(TABLE)
    a, b = holding(found, "A", "table"), holding(found, "B", "table")
    assert row["documents"] == [a, b]
    assert row["difference"] == pytest.approx((a - b) / 120)
    assert (row["lower"], row["upper"]) == pytest.approx(newcombe(a, 120, b, 120))
    assert row["p"] == pytest.approx(float(fisher_midp(a, 120, b, 120)))
    assert row["label"] == "tables"
    # Every word is in some documents and not in others, or is left out: "the" is in all.
    tested = result.rows.column("latent").to_pylist()
    assert sorted(tested) == [TABLE, SORRY, GREAT, RIVER]
    difference = result.rows.column("difference").to_numpy()
    assert (np.diff(difference) <= 0).all()
    np.testing.assert_allclose(result.rows.column("q"), benjamini_hochberg(result.rows.column("p")))
    assert result.evidence[SORRY].examples[0].doc_id.startswith("B"), "evidence of less comes from the other side"
    assert result.evidence[TABLE].peak_tokens == (("table", 1.0),)
    assert [row["latent"] for row in result.table(5)] == [str(TABLE), str(SORRY)]
    summary = result.summary()
    assert summary["findings"] == {"more_in_target": 1, "more_in_other": 1}
    assert (summary["target"]["documents"], summary["others"][0]["documents"]) == (120, 120)
    assert summary["made_with"]["d_sae"] == 32

    files = write(result, str(tmp_path / "out"))
    again = write(
        diff(store_of_again(tmp_path), "d:model=A", ["d:model=B"], meanings=Meanings({TABLE: "tables"}), halves=False),
        str(tmp_path / "2"),
    )
    assert sorted(files) == ["report.html", "result.parquet", "summary.json"]
    for name in files:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), "a rerun writes the same"
    assert again.keys() == files.keys()
    assert pq.read_table(tmp_path / "out" / "result.parquet").equals(result.rows)


def store_of_again(tmp_path):
    from saeray.store import Store

    return Store.open(str(tmp_path / "store"))


def test_rest_is_what_the_target_leaves_out(store_of):
    store = store_of(rows(60, "ABC"), keep=("model", "year"))
    result = diff(store, "d:model=A", ["rest"])
    both = diff(store, "d:model=A", ["d:model=B|C"])
    assert result.sides[1]["documents"] == 120
    at = both.rows.schema.get_field_index("other")
    assert result.rows.equals(both.rows.set_column(at, "other", [["the rest of d"] * both.rows.num_rows]))
    # A null meets no condition, so those rows belong to the rest too.
    by_year = diff(store, "d:year=2024", ["rest"])
    assert by_year.sides[0]["documents"] + by_year.sides[1]["documents"] == 180


def test_against_several_the_weakest_comparison_counts(store_of):
    found = rows(120, "ABC")
    result = diff(store_of(found, keep=("model",)), "d:model=A", ["d:model=B", "d:model=C"], halves=False)
    a, b, c = (holding(found, model, "table") for model in "ABC")
    row = result.row(TABLE)
    assert row["difference"] == pytest.approx((a - max(b, c)) / 120)
    assert row["other"] == "d:model=C"
    one_sided = [float(fisher_midp(a, 120, n, 120, "greater")) for n in (b, c)]
    assert row["p"] == pytest.approx(max(one_sided))
    assert row["lower"] == pytest.approx(min(float(newcombe(a, 120, n, 120)[0]) for n in (b, c)))
    assert row["upper"] is None
    assert result.less == ()


@pytest.mark.parametrize(
    ("target", "others", "channel", "message"),
    [
        ("d:model=A", ["d:model=A|B"], None, r"share 40 documents \(40 and 80\)"),
        ("d", ["rest"], None, "leaves no rest"),
        ("d:model=Z", ["d:model=B"], None, "model=Z"),
        ("d:model=A", [], None, "another side"),
        ("d:model=A", ["d:model=B"], "user", "it has text"),
        ("d:colour=A", ["d:model=B"], None, "colour"),
        ("e:model=A", ["d:model=B"], None, "e"),
    ],
)
def test_wrong_usage_gets_one_clear_line(store_of, target, others, channel, message):
    with pytest.raises(UsageError, match=message) as raised:
        diff(store_of(rows(40), keep=("model",)), target, others, channel=channel)
    assert "\n" not in str(raised.value)


def test_channels_are_compared_one_at_a_time_or_with_each_other(store_of):
    found = [
        {
            "doc_id": row["doc_id"],
            "model": row["model"],
            "messages": [{"role": "user", "content": "the mat"}, {"role": "assistant", "content": row["text"]}],
        }
        for row in rows()
    ]
    store = store_of(found, keep=("model",))
    with pytest.raises(UsageError, match="several channels; choose one with --channel: assistant, user"):
        diff(store, "d:model=A", ["rest"])
    answers = diff(store, "d:model=A", ["rest"], channel="assistant")
    assert (latents(answers.more), latents(answers.less)) == ((TABLE,), (SORRY,))
    assert (answers.sides[0]["documents"], answers.sides[1]["channel"]) == (120, "assistant")
    prompts = diff(store, "d:model=A", ["rest"], channel="user")
    assert prompts.rows.num_rows == 0, "every prompt is alike, so there is nothing to test"
    # The same documents on both sides, but different rows of them.
    across = diff(store, "d:channel=assistant", ["d:channel=user"])
    assert across.row(TABLE)["frequency_other"] == 0


def test_only_what_is_committed_counts(store_of):
    store = store_of(rows(), keep=("model",), missing=1)
    result = diff(store, "d:model=A", ["d:model=B"])
    there = store.dataset("d").count()
    assert there < 240
    assert sum(side["documents"] for side in result.sides) == there
    assert result.sides[0]["commits"] == f"0-{len(store.dataset('d').committed()) - 1}"


def test_texts_that_were_not_stored_cost_the_evidence_alone(store_of):
    result = diff(store_of(rows(), keep=("model",), store_text=False), "d:model=A", ["d:model=B"])
    assert (latents(result.more), latents(result.less)) == ((TABLE,), (SORRY,))
    assert result.evidence[TABLE].examples == ()
    assert "texts are not stored" in result.page()


MADE = {"saeray": "0", "store": "s", "fingerprint": "f", "d_sae": 32}
USED = Options()


def test_a_difference_of_length_alone_vanishes_at_equal_length(side_of):
    """Both sides have 'river' in each long document and in no short one; the target has more long ones."""

    def texts(name: str, long: int, short: int) -> list[dict]:
        made = ["river " + "on " * 40] * long + ["on " * 4] * short
        return [{"doc_id": f"{name}{i}", "text": f"{text} {name}{i}"} for i, text in enumerate(made)]

    sides = [side_of(texts("a", 90, 30), "a"), side_of(texts("b", 30, 90), "b")]
    result = compare(Design(tuple(sides)), MADE, USED, Meanings())
    row = result.row(RIVER)
    assert row["difference"] == pytest.approx(0.5)
    assert row["difference_at_equal_length"] == pytest.approx(0, abs=1e-12)
    assert result.length["probability_target_longer"] == [pytest.approx(0.75)]
    assert "a is longer than b" in result.length["differs"][0]
    assert (result.more, result.less) == ((), ()), "a difference of length is no finding"
    assert [group.latents for group in result.by_length] == [(RIVER,)]
    assert result.set_aside == {"by_length": 1, "by_given": 0}


def test_null_data_report_nothing(side_of):
    """Both sides write alike: at q 0.05, 20 splits report next to nothing."""
    reporting = 0
    for seed in range(20):
        found = rows(60, "AA", seed)
        sides = [side_of(found[0::2], "a"), side_of(found[1::2], "b")]
        result = compare(Design(tuple(sides)), MADE, USED, Meanings())
        reporting += bool(result.more or result.less)
    assert reporting <= 4, "1 expected; 5 of 20 would happen twice in a thousand"


def test_findings_are_cut_by_q_and_not_by_p(side_of):
    found = rows(120)
    sides = [side_of([r for r in found if r["model"] == m], m) for m in "AB"]
    weaker = max(
        (compare(Design(tuple(sides)), MADE, USED, Meanings()).row(latent) for latent in (TABLE, SORRY)),
        key=lambda row: row["p"],
    )
    assert weaker["p"] < weaker["q"]
    between = compare(Design(tuple(sides)), MADE, replace(USED, q=(weaker["p"] + weaker["q"]) / 2), Meanings())
    assert weaker["latent"] not in latents((*between.more, *between.less))
    assert sum(between.passing) == 1


def test_the_support_filter_leaves_out_what_could_never_be_kept(side_of):
    found = rows(120)
    sides = [side_of([r for r in found if r["model"] == m], m) for m in "AB"]
    assert compare(Design(tuple(sides)), MADE, USED, Meanings()).parameters["min_support"] == 5
    wide = compare(Design(tuple(sides)), MADE, replace(USED, keep=0.1), Meanings())
    assert wide.parameters["min_support"] == 12
    strict = compare(Design(tuple(sides)), MADE, replace(USED, min_support=90), Meanings()).rows
    pooled = [sum(row["documents"]) for row in strict.to_pylist()]
    assert all(90 <= n <= 150 for n in pooled)
    assert 0 < strict.num_rows < 4


def test_rounding_makes_no_finding_and_no_order(side_of):
    """Both words differ by exactly 3 points, 33 - 30 and 13 - 10 in 100; as doubles the first is more than 0.03."""

    def texts(name: str, tables: int, rivers: int) -> list[dict]:
        words = ["table" * (i < tables) + " " + "river" * (i >= 100 - rivers) + f" {name}{i}" for i in range(100)]
        return [{"doc_id": f"{name}{i}", "text": text} for i, text in enumerate(words)]

    sides = [side_of(texts("a", 13, 33), "a"), side_of(texts("b", 10, 30), "b")]
    result = compare(Design(tuple(sides)), MADE, replace(USED, q=1.0), Meanings())
    assert result.more == ()
    assert result.rows.column("latent").to_pylist() == [TABLE, RIVER]


def test_top_cuts_after_the_correction(side_of):
    found = rows(120)
    sides = [side_of([r for r in found if r["model"] == m], m) for m in "AB"]
    whole, cut = (
        compare(Design(tuple(sides)), MADE, USED, Meanings()),
        compare(Design(tuple(sides)), MADE, replace(USED, top=0), Meanings()),
    )
    assert cut.rows.drop_columns("finding").equals(whole.rows.drop_columns("finding"))
    assert (cut.more, cut.less, cut.passing) == ((), (), (1, 1))
    assert not any(cut.rows.column("finding").to_pylist())


def test_sides_of_unequal_size_are_tested_by_a_skewed_tail(side_of, monkeypatch):
    """A normal tail calls rare latents of a small target clearer than they are; equal sides have no skew."""
    from saeray.analysis.diff import tests

    skewed: list[float] = []

    def spied(z, skew=0.0):
        skewed.append(float(np.abs(skew).max()))
        return tail(z, skew)

    monkeypatch.setattr(tests, "tail", spied)

    def side(name: str, n: int):
        texts = ["a river" if i % 10 == 0 else "a house" for i in range(n)]
        return side_of([{"doc_id": f"{name}{i}", "text": f"{text} {name}{i}"} for i, text in enumerate(texts)], name)

    compare(Design((side("a", 60), side("b", 60))), MADE, USED, Meanings())
    assert skewed
    assert max(skewed) == pytest.approx(0, abs=1e-9)
    compare(Design((side("a", 40), side("b", 400))), MADE, USED, Meanings())
    assert max(skewed) > 0.2
