"""Guards what `saeray labels` says and leaves behind: exit codes, one line, one JSON object, labels kept whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runs import files_below
from toy_words import D_SAE, WORDS, WordEmbedder, row, texts_of
from typer.testing import CliRunner, Result

from saeray.labels import LABEL_SCHEMA, LabelStore
from saeray.labels.cli import labels_app
from saeray.store import PlanSettings, Store, commit_shard, list_inputs, read_shard


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(labels_app, list(arguments))


def told(result: Result) -> dict[str, Any]:
    """The JSON object of a command that went well."""
    assert result.exit_code == 0, (result.stderr, result.exception)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Store]:
    """A store of 400 documents, dataset `toy`, whose latents are words; made once and copied."""
    home = tmp_path_factory.mktemp("words")
    texts = texts_of(400)
    pq.write_table(pa.table({"doc_id": [f"d{i}" for i in range(400)], "text": texts}), home / "in.parquet")
    store = Store.open(str(home / "store"), create=True)
    store.claim_encoder({"sae": {"d_sae": D_SAE, "sha256": "0" * 64}, "reader": "words"})
    dataset = store.dataset("toy", create=True)
    dataset.add_plan(list_inputs([str(home / "in.parquet")]), PlanSettings(id_column="doc_id", shard_tokens=2000))
    for shard in dataset.shards():
        read = read_shard(dataset.plan_of(shard), shard)
        rows = [row(d["doc_id"], d["text"]) for d in read.documents.to_pylist()]
        schema = dataset.schema()
        table = pa.table({f.name: pa.array([r[f.name] for r in rows], f.type) for f in schema}, schema)
        commit_shard(dataset, shard, table, read.rejects, seconds=0.1)
    return store


@pytest.fixture
def store(made: Store) -> Store:
    """The store without labels."""
    for name in (made.root / "labels").names():
        (made.root / "labels" / name).delete()
    return made


@pytest.fixture
def labelled(store: Store) -> Store:
    """Each latent is called what it is, but for two that share a label."""
    rows = [{"latent": i, "text": word, "kind": "word"} for i, word in enumerate(WORDS)]
    rows[3]["text"] = "River."
    LabelStore.of(store).add(pa.Table.from_pylist(rows), "mine")
    return store


@pytest.fixture
def word_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saeray.labels.embedding.Embedder", lambda model: WordEmbedder())


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["list", "--store", "{tmp}/none"], 2, "there is no store at"),
        (["list", "--store", "{store}", "--source", "nobody"], 2, "nobody"),
        (["list", "--store", "{store}", "--latent", "16"], 2, "no latent 16"),
        (["import", "{tmp}/none.json", "--store", "{store}"], 2, "none.json"),
        (["import", "{tmp}/big.json", "--store", "{store}"], 1, "16"),
        (["auto", "toy", "--store", "{store}", "--out", "labels.csv"], 2, ".parquet"),
        (["auto", "other", "--store", "{store}"], 2, "other"),
        (["score", "toy", "--store", "{store}", "--source", "nobody"], 2, "nobody"),
        (["groups", "other", "--no-near", "--store", "{store}"], 2, "other"),
    ],
)
def test_what_is_asked_for_wrongly_is_one_line(
    arguments: list[str], code: int, says: str, labelled: Store, word_embedder: None, tmp_path: Path
) -> None:
    """Also: nothing is written."""
    (tmp_path / "big.json").write_text('{"16": "of another SAE"}')
    before = files_below(Path(labelled.uri))
    result = invoke(*(word.format(tmp=tmp_path, store=labelled.uri) for word in arguments), "--json")
    assert result.exit_code == code, (result.stderr, result.exception)
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert json.loads(result.stdout) == {"error": line.removeprefix("error: ")}
    assert files_below(Path(labelled.uri)) == before


def test_labels_are_imported_listed_and_exported(store: Store, tmp_path: Path) -> None:
    """A file goes in under its source, its counts are listed, a latent's labels shown, and the whole comes out."""
    (tmp_path / "names.json").write_text(json.dumps({"0": "a river", "2": "furniture [bold]"}))
    there = ["--store", store.uri]
    assert told(invoke("import", str(tmp_path / "names.json"), *there, "--source", "ours", "--json"))["labels"] == 2
    [listed] = told(invoke("list", *there, "--json"))["sources"]
    assert (listed["name"], listed["labels"], listed["latents"]) == ("ours", 2, 2)
    [label] = told(invoke("list", *there, "--latent", "2", "--json"))["labels"]
    assert (label["text"], label["source"], label["score"]) == ("furniture [bold]", "ours", None)
    shown = invoke("list", *there, "--latent", "2")
    assert "furniture [bold]" in shown.stdout
    assert "no label" in invoke("list", *there, "--latent", "5").stderr
    out = tmp_path / "out"
    told(invoke("export", *there, "--out", str(out), "--model-id", "m", "--source-id", "3-res", "--json"))
    assert files_below(out)


def test_a_store_without_labels_says_so(store: Store) -> None:
    """No table and no traceback; for a script an empty list."""
    assert "no labels yet" in invoke("list", "--store", store.uri).stderr
    assert told(invoke("list", "--store", store.uri, "--json")) == {"sources": []}


def test_scores_are_kept_with_the_labels(labelled: Store, word_embedder: None) -> None:
    """The means come beside chance and shuffled labels, and each label that was scored keeps its score."""
    arguments = ["score", "toy", "--store", labelled.uri, "--source", "mine", "--all"]
    found = told(invoke(*arguments, "--json"))
    own = found["sources"]["mine"]
    assert own["scored"] == len(WORDS)
    table = LabelStore.of(labelled).table("mine")
    scores = dict(zip(table.column("latent").to_pylist(), table.column("score").to_pylist(), strict=True))
    assert own["balanced_accuracy_embedding"]["mean"] == pytest.approx(sum(scores.values()) / len(WORDS), abs=1e-3)
    assert scores[0] > 0.85 > scores[3]
    shown = invoke(*arguments)
    assert "balanced accuracy" in shown.stdout
    assert "shuffled" in shown.stdout
    assert "8 of 8 labels scored" in shown.stderr


def test_like_latents_are_listed_as_groups(labelled: Store, word_embedder: None) -> None:
    """The same label is one group; the rest stay alone."""
    for extra in (["--no-near"], ["--near", "0.99"]):
        found = told(invoke("groups", "toy", "--store", labelled.uri, *extra, "--json"))
        [one] = found["groups"]
        assert (sorted(one["latents"]), one["why"]) == ([0, 3], "same label")
        assert found["single"] == D_SAE - 2
    shown = invoke("groups", "toy", "--store", labelled.uri, "--no-near")
    assert "same label" in shown.stdout
    assert "1 groups" in shown.stderr


def test_auto_labels_go_into_the_store_or_into_a_file(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With --out the store is left as it was; without it the source is `auto`, dated today."""
    seen: list[Any] = []

    def stand_in(side: Any, d_sae: int, *, date: str) -> pa.Table:
        seen.append((side.n_documents, d_sae, date))
        rows = [{"latent": 0, "text": "river", "source": "auto", "kind": "word", "date": date}]
        return pa.Table.from_pylist([dict.fromkeys(LABEL_SCHEMA.names) | r for r in rows], LABEL_SCHEMA)

    monkeypatch.setattr("saeray.labels.auto.auto_labels", stand_in)
    before = files_below(Path(store.uri))
    out = tmp_path / "made.parquet"
    found = told(invoke("auto", "toy", "--store", store.uri, "--out", str(out), "--json"))
    assert (found["labels"], found["kinds"]) == (1, {"word": 1})
    assert pq.read_table(out).column("text").to_pylist() == ["river"]
    assert files_below(Path(store.uri)) == before
    told(invoke("auto", "toy", "--store", store.uri, "--json"))
    assert LabelStore.of(store).best() == {0: "river"}
    assert [entry[:2] for entry in seen] == [(400, D_SAE)] * 2
    assert LabelStore.of(store).table("auto").column("date").to_pylist() == [seen[1][2]]
