"""Promise: known differences are judged by keywords alone, on the same documents as what the diff is held against."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner
from word_sets import D_SAE, WORDS, encode_words

from saeray.errors import SaerayError, UsageError
from saeray.evaluate import encoded
from saeray.evaluate.cli import evaluate_app
from saeray.evaluate.differences import ways
from saeray.evaluate.differences.documents import PAIR, frequencies, read_units
from saeray.evaluate.differences.keywords import read_keywords
from saeray.evaluate.differences.sets import chosen_tasks, draw_sets, encode_units
from saeray.evaluate.differences.ways import NAMES, RANDOM, RAW, by_difference
from saeray.evaluate.tasks import Condition, Tasks, read_tasks
from saeray.labels import embedding
from saeray.labels.store import LabelStore
from saeray.store import Store


def write_tasks(folder, **more) -> str:
    """Three tasks on one file: side a says "alpha" more; `plain` unpaired, `paired` by prompt, `tagged` against the
    rest of the rows."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(160):
        target = i % 2 == 0
        words = [WORDS[int(w)] for w in rng.integers(4, 10, int(rng.integers(6, 12)))]
        words += ["alpha"] * (rng.random() < (0.9 if target else 0.1))
        text = " ".join([*rng.permutation(words), f"n{i}"])
        side = "a" if target else "b"
        rows.append({"body": text, "side": side, "prompt": i // 2 % 60, "year": i, "tags": ["x"] * target})
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "notes.parquet")
    common = {"file": "notes.parquet", "text_column": "body", "known_difference": "says alpha", "pair_by": None}
    sides = {"A": ["side", "==", "a"], "B": ["side", "==", "b"]}
    diff = [
        common | sides | {"name": "plain", "keywords": [r"\balpha"]} | more,
        common | sides | {"name": "paired", "pair_by": "prompt", "keywords": ["alpha"]},
        common | {"name": "tagged", "A": ["tags", "has", "x"], "B": "all other rows"},
    ]
    (folder / "tasks.json").write_text(json.dumps({"diff": diff}))
    return str(folder / "tasks.json")


@pytest.fixture
def tasks(tmp_path) -> Tasks:
    return read_tasks(write_tasks(tmp_path / "data"))


def test_sizes_are_nested_and_rows_are_encoded_once(tasks):
    """A larger size adds to a smaller one, a row is in one unit, and units do not depend on which sets are wanted."""
    sets, units = draw_sets(tasks, tasks.diff, [60, 20], 10_000, {})
    assert [one.sizes for one in sets] == [(20, 60)] * 3
    rows = [row for unit in units for row in unit.table.column("source_row").to_pylist()]
    assert len(rows) == len(set(rows)) == len({row for one in sets for row in (*one.a, *one.b)})
    smaller, _ = draw_sets(tasks, tasks.diff, [20], 10_000, {})
    assert [one.a for one in smaller] == [one.rows(20)[0] for one in sets]
    tagged, own = draw_sets(tasks, chosen_tasks(tasks, ["tagged"]), [20, 60], 10_000, {})
    assert tagged == sets[2:]
    assert {unit.name for unit in own} <= {unit.name for unit in units}
    held = {row for unit in own for row in unit.table.column("source_row").to_pylist()}
    assert {*tagged[0].a, *tagged[0].b} <= held
    assert all(row % 2 == 0 for row in sets[0].a)
    assert all(row % 2 == 1 for row in sets[0].b)


def test_pairs_stand_at_one_place_each_key_once_before_any_twice(tasks):
    """60 prompts have a document on each side, 20 of them two: sides of 80 with every key first once."""
    (one,), _ = draw_sets(tasks, chosen_tasks(tasks, ["paired"]), [80], 10_000, {})
    keys = [row // 2 % 60 for row in one.a]
    assert keys == [row // 2 % 60 for row in one.b] == list(map(int, one.keys))
    assert len(set(keys[:60])) == 60
    assert len(set(one.a)) == len(set(one.b)) == 80


def test_budget_and_condition_narrow_a_set(tasks):
    """No text is cut: a set that is too long has fewer documents, and sizes out of reach are left out."""
    texts = tasks.table("notes.parquet").column("body").to_pylist()
    (one, *_), _ = draw_sets(tasks, tasks.diff[:1], [20, 60], 300, {})
    assert 10 <= len(one.a) == len(one.b) == one.sizes[0] < 60
    assert len(one.sizes) == 1
    assert max(sum(len(texts[row]) for row in side) for side in (one.a, one.b)) <= 1200
    (one,), _ = draw_sets(tasks, tasks.diff[:1], [20], 10_000, {"plain": Condition("year", ">=", 100)})
    assert min(*one.a, *one.b) >= 100
    with pytest.raises(UsageError, match="plain has 0 documents a side within the budget"):
        draw_sets(tasks, tasks.diff[:1], [20], 1, {})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"B": ["side", "in", ["a", "b"]]}, "plain: 80 rows are on both sides"),
        ({"pair_by": "none"}, "plain: notes.parquet has no column 'none'"),
        ({"A": ["none", "==", 1]}, "plain on notes.parquet: there is no column 'none'"),
        ({"name": "paired"}, "two diff tasks named paired"),
    ],
)
def test_what_is_wrong_with_a_set_is_said_before_anything_is_encoded(tmp_path, more, message):
    """One line that names the set."""
    found = read_tasks(write_tasks(tmp_path / "data", **more))
    with pytest.raises(UsageError, match=message):
        draw_sets(found, chosen_tasks(found), [20], 10_000, {})


def test_keywords_of_a_file_go_before_those_of_the_task(tasks, tmp_path):
    """Names are searched in lower case; a missing, broken or foreign keyword is one line."""
    place = tmp_path / "keywords.json"
    place.write_text(json.dumps({"keywords": {"plain": [r"\bbeta\b"]}, "where": {"tagged": ["year", ">=", 9]}}))
    own = read_keywords(tasks, tasks.diff[:2])
    assert own.name("plain", "The word ‘ALPHA’")
    assert not own.name("plain", "xalpha")
    assert not own.name("plain", None)
    assert own.first("plain", [None, "beta", "alpha", "alpha"]) == 3
    given_ = read_keywords(tasks, tasks.diff[:2], str(place))
    assert given_.name("plain", "beta")
    assert not given_.name("plain", "alpha")
    assert given_.name("paired", "alpha")
    assert given_.where == {"tagged": Condition("year", ">=", 9)}
    with pytest.raises(UsageError, match="tagged has no keywords"):
        read_keywords(tasks, tasks.diff)
    for content, message in (
        ({"keywords": {"plain": ["("]}}, "no regular expression"),
        ({"keywords": {"other": ["a"]}}, "is about other"),
        ({"keywords": []}, "must be an object"),
        ({"where": {"plain": ["year"]}}, "where of plain must be"),
    ):
        place.write_text(json.dumps(content))
        with pytest.raises(UsageError, match=message):
            read_keywords(tasks, tasks.diff[:2], str(place))


def absent():
    """A machine without the embedder, which takes seconds to load."""
    raise SaerayError("no embedder")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The command on a small store with labels; returns (exit code, stdout, stderr)."""
    path = write_tasks(tmp_path / "data")
    calls = []
    monkeypatch.setattr(encoded, "_pipeline", lambda: lambda *given: (calls.append(1), encode_words(*given)))
    monkeypatch.setattr(embedding, "Embedder", absent)
    store, out = str(tmp_path / "store"), str(tmp_path / "out")
    Store.open(store, create=True).claim_encoder({"sae": {"d_sae": D_SAE, "digest": "words"}, "reader": "words"})
    texts = [f"says {word}" for word in WORDS]
    LabelStore.of(Store.open(store)).add(pa.table({"latent": range(len(WORDS)), "text": texts}), "auto")

    def command(*more):
        arguments = ["diff", path, "--store", store, "--out", out, "--sizes", "20,60", *more]
        done = CliRunner().invoke(evaluate_app, arguments)
        return done.exit_code, done.stdout, done.stderr

    command.calls = calls
    return command


def test_from_tasks_to_figures_and_again_without_encoding(run, tmp_path):
    """The known difference is named, by every way but chance, and a rerun writes the same bytes."""
    code, stdout, stderr = run("--only", "plain,paired", "--json")
    assert code == 0, stderr
    assert "documents of 2 sets" in stderr
    assert "encoded now" in stderr
    found = json.loads(stdout)
    assert found["analysis"] == "evaluate diff"
    largest = {row["way"]: row for row in found["compared"] if row["size"] == "largest"}
    assert largest[NAMES]["in_first"] == largest[RAW]["in_first"] == largest[ways.WORDS]["in_first"] == 1
    assert 0 < largest[RANDOM]["in_first"] < 1
    rows = pq.read_table(tmp_path / "out" / "result.parquet").to_pylist()
    assert {(row["task"], row["size"], row["paired"]) for row in rows} == {
        (task, size, task == "paired") for task in ("plain", "paired") for size in (20, 60)
    }
    assert all(row["lost_to"] is not None for row in rows if row["way"] == NAMES)
    files = [tmp_path / "out" / name for name in ("result.parquet", "summary.json", "report.html")]
    before = [file.read_bytes() for file in files]
    code, stdout, stderr = run("--only", "plain,paired")
    assert code == 0
    assert "all encoded" in stderr
    assert NAMES in stdout
    assert [file.read_bytes() for file in files] == before
    assert len(run.calls) == 1


def test_nothing_is_spent_on_a_set_without_keywords(run, tmp_path):
    """Exit 2 and one line; keywords are read before anything is encoded."""
    code, stdout, stderr = run()
    assert (code, stdout) == (2, "")
    assert "tagged has no keywords" in stderr
    assert not run.calls
    assert not (tmp_path / "out").exists()
    assert run("--only", "none")[0] == 2
    assert run("--sizes", "none")[0] == 2


def test_sides_are_the_documents_drawn(tasks, tmp_path):
    """Texts and keys at each size, and frequencies as counted by hand."""
    sets, units = draw_sets(tasks, tasks.diff, [20, 60], 10_000, {})
    encode_units(units, str(tmp_path / "store"), str(tmp_path / "out"), encode=encode_words)
    documents = read_units(Store.open(str(tmp_path / "store")), units)
    table = tasks.table("notes.parquet")
    texts, prompts = table.column("body").to_pylist(), table.column("prompt").to_pylist()
    for one in sets:
        for size in one.sizes:
            sides = documents.sides(one, size)
            for side, rows in zip(sides, one.rows(size), strict=True):
                (scanned,) = side.scan(["text", *([PAIR] if one.keys else [])])
                assert scanned.column("text").to_pylist() == [texts[row] for row in rows]
                if one.keys:
                    assert scanned.column(PAIR).to_pylist() == [str(prompts[row]) for row in rows]
                shares = [np.mean([word in texts[row].split() for row in rows]) for word in WORDS]
                assert frequencies(side, D_SAE)[: len(WORDS)] == pytest.approx(shares)
    named = by_difference(documents.sides(sets[0], 60), {0: "alpha", 5: "of", 12: "never"}, D_SAE)
    assert named[0] == "alpha"
    assert "never" not in named
