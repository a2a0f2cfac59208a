"""Promise: each value of a column against the others is the diff of it alone, corrected over all values together."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from saeray.analysis.diff.each import _folders, diff_each
from saeray.analysis.diff.options import Options
from saeray.analysis.diff.run import diff
from saeray.analysis.diff.values import sampled
from saeray.analysis.write import write
from saeray.errors import UsageError
from saeray.labels.meanings import Meanings
from saeray.stats.significance import benjamini_hochberg

WORDS = ("table", "sorry", "great")
RATES = {"A": (0.9, 0.1, 0.3), "B": (0.1, 0.8, 0.3), "C": (0.2, 0.1, 0.3)}


def rows(n: int = 60, models: str = "ABC") -> list[dict]:
    rng = np.random.default_rng(0)
    found = []
    for i in range(n):
        for model in models:
            words = [w for w, rate in zip(WORDS, RATES[model], strict=True) if rng.random() < rate]
            found.append({"doc_id": f"{model}{i}", "text": f"the cat {' '.join(words)} {model}{i}", "model": model,
                          "prompt": i})  # fmt: skip
    return found


@pytest.mark.parametrize(
    "options",
    [Options(), Options(against="rest"), Options(pair_on="prompt"), Options(pair_on="prompt", against="union"),
     Options(pair_on="prompt", against="rest"), Options(halves=True)],
)  # fmt: skip
def test_each_value_is_the_diff_of_it_alone(store_of, options):
    """Counted in one pass for all, every figure but q is that of a diff with this target and those others."""
    store = store_of(rows(130 if options.halves else 60), keep=("model", "prompt"))
    result = diff_each(store, "d", "model", options, Meanings())
    assert list(result.results) == ["A", "B", "C"]
    p = []
    for value, one in result.results.items():
        others = [f"d:model={other}" for other in "ABC" if other != value]
        alone = diff(store, f"d:model={value}", others, meanings=Meanings(), pair_on=options.pair_on,
                     against=options.against, halves=options.halves)  # fmt: skip
        for name in (
            "latent",
            "difference",
            "lower",
            "upper",
            "p",
            "proposed_difference",
            "frequency_other",
            "documents",
        ):
            assert one.rows.column(name).to_pylist() == alone.rows.column(name).to_pylist(), name
        if options.against == "max":
            assert one.rows.column("other").equals(alone.rows.column("other"))
        p.append(one.rows.column("p").to_numpy())
    together = np.split(benjamini_hochberg(np.concatenate(p)), len(p))
    for one, q in zip(result.results.values(), together, strict=True):
        np.testing.assert_allclose(one.rows.column("q").to_numpy(), q)
    assert result.results["A"].more[0].latents == (0,)
    assert result.results["B"].more[0].latents == (1,)
    assert result.results["C"].more == ()


def test_the_shards_are_counted_once_for_all_values(store_of, monkeypatch):
    """Eight values that each read every shard sixteen times would be the slowest thing in the package."""
    from saeray.analysis.diff import values

    store = store_of(rows(), keep=("model", "prompt"))
    calls = []
    real = values.count
    monkeypatch.setattr(values, "count", lambda *args: calls.append(args) or real(*args))
    diff_each(store, "d", "model", Options(), Meanings())
    assert len(calls) == 1
    assert calls[0][0].n_documents == 180


def test_what_is_written_leads_from_the_index_to_every_value(store_of, tmp_path):
    """A folder a value, linked; one table of all rows; the same bytes again."""
    store = store_of(rows(), keep=("model",))
    out = tmp_path / "out"
    runs = []
    for _ in range(2):
        result = diff_each(store, "d", "model", Options(), Meanings())
        result.write_each(str(out))
        write(result, str(out))
        runs.append({path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*.*"))})
    files, again = runs
    assert files == again
    names = {str(path) for path in files}
    assert names == {f"{folder}{name}" for folder in ("", "a/", "b/", "c/")
                     for name in ("report.html", "result.parquet", "summary.json")}  # fmt: skip
    index = (out / "report.html").read_text()
    assert all(f'href="{folder}/report.html"' in index for folder in "abc")
    assert all(f'<a href="#of-{folder}"><bdi>{folder.upper()}</bdi></a>' in index for folder in "abc"), "contents"
    [best, *_] = result.results["A"].order(0).best
    name = result.results["A"].called(best)
    own, other = (f"{share:.0%}" for share in (name.holds[0], max(name.holds[1:])))
    assert f"</bdi></a>: more often: <bdi>{name.text}</bdi>, {own} against {other}" in index
    link = f'<a href="a/report.html#latent-{best.latents[0]}"><bdi>{name.text}</bdi></a>'
    assert f"{link}: {own} of texts, against at most {other}" in index
    assert f'id="latent-{best.latents[0]}"' in (out / "a" / "report.html").read_text()
    table = pq.read_table(out / "result.parquet")
    assert table.column_names[0] == "value"
    assert set(table.column("value").to_pylist()) == {"A", "B", "C"}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["values"]["A"]["folder"] == "a"
    assert result.table(10)[0]["model"] == "A"


def test_nulls_and_small_values_are_left_out_and_counted(store_of):
    """Three documents of a model would settle every comparison against the highest of the others."""
    found = [*rows(), *({"doc_id": f"x{i}", "text": f"cat x{i}", "model": None if i < 5 else "D", "prompt": i}
                        for i in range(8))]  # fmt: skip
    result = diff_each(store_of(found, keep=("model", "prompt")), "d", "model", Options(), Meanings())
    assert list(result.results) == ["A", "B", "C"]
    assert result.parameters["left_out_values"] == {"None": 5, "D": 3}
    assert "no value (5 documents), D (3 documents)" in result.page().replace("<bdi>", "").replace("</bdi>", "")


@pytest.mark.parametrize(
    ("target", "column", "says"),
    [("d:model=A", "model", "only 'A'"), ("d", "prompt", "60 values"), ("d", "nothing", "no such column"),
     ("d", "latents", "holds lists")],
)  # fmt: skip
def test_what_cannot_be_grouped_by_is_said(store_of, target, column, says):
    with pytest.raises(UsageError, match=says):
        diff_each(store_of(rows(), keep=("model", "prompt")), target, column, Options(), Meanings())


def test_folders_are_safe_and_distinct():
    """A value is a stranger's string: it may not climb out of the folder, nor take another's place."""
    folders = _folders(["../../etc", "GPT-4", "gpt 4", "日本", "x" * 300])
    assert list(folders.values()) == ["etc", "gpt-4", "gpt-4-2", "value", "x" * 60]


def test_the_sample_for_names_is_of_every_value(side_of):
    """Rows of a prompt's models follow each other; the sample takes as many of each model."""
    side = side_of([{"doc_id": str(i), "text": f"text {i}"} for i in range(80)], "d")
    part, keep = sampled(side, 10, np.arange(80) % 8)
    assert part.n_documents == keep.sum() == 16
    assert (np.bincount(np.flatnonzero(keep) % 8) == 2).all()
