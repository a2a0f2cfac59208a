"""Guards `saeray labels llm`: what it says before it spends, what it leaves in the store, and what a rerun costs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from llm_clients import MODEL
from stand_in import GeminiStandIn
from test_labels_llm import labeller
from toy_words import D_SAE, WORDS, row, texts_of
from typer.testing import CliRunner, Result

from saeray.labels import LabelStore
from saeray.labels.cli import labels_app
from saeray.store import PlanSettings, Store, commit_shard, list_inputs, read_shard

FEW = ("--candidates", "2", "--examples", "3", "--json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 300 documents, dataset `toy`, whose latents are words, labelled `the word table` by `mine`."""
    home = tmp_path_factory.mktemp("words")
    pq.write_table(pa.table({"doc_id": [f"d{i}" for i in range(300)], "text": texts_of(300)}), home / "in.parquet")
    store = Store.open(str(home / "store"), create=True)
    store.claim_encoder({"sae": {"d_sae": D_SAE, "sha256": "0" * 64}, "reader": "words"})
    for name, kept in (("toy", True), ("bare", False)):
        dataset = store.dataset(name, create=True)
        settings = PlanSettings(id_column="doc_id", shard_tokens=2000, store_text=kept)
        dataset.add_plan(list_inputs([str(home / "in.parquet")]), settings)
        for shard in dataset.shards():
            read = read_shard(dataset.plan_of(shard), shard)
            rows = [row(d["doc_id"], d["text"]) for d in read.documents.to_pylist()]
            schema = dataset.schema()
            table = pa.table({f.name: pa.array([r[f.name] for r in rows], f.type) for f in schema}, schema)
            commit_shard(dataset, shard, table, read.rejects, seconds=0.1)
    there = [{"latent": latent, "text": "the word table", "score": 0.9} for latent in range(8)]
    LabelStore.of(store).add(pa.Table.from_pylist(there), "mine")
    return home / "store"


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Store:
    """A copy of its own."""
    shutil.copytree(made, tmp_path / "store")
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[GeminiStandIn]:
    """A stand-in that proposes `the word river` and `the word table`, named by the environment."""
    with GeminiStandIn(labeller("the word river", "the word table")) as running:
        monkeypatch.setenv("GEMINI_API_KEY", running.key)
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", running.url)
        yield running


@pytest.fixture
def invoke(store: Store) -> Callable[..., Result]:
    """`saeray labels llm toy` with what else is given."""

    def run(*arguments: str, dataset: str = "toy") -> Result:
        given = ["llm", dataset, "--store", store.uri, "--llm", f"gemini:{MODEL}", *FEW, *arguments]
        return CliRunner().invoke(labels_app, given)

    return run


def told(result: Result) -> dict[str, Any]:
    """The JSON object of a command that went well."""
    assert result.exit_code == 0, (result.stderr, result.exception)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_better_labels_are_written_and_a_rerun_is_free(
    store: Store, server: GeminiStandIn, invoke: Callable[..., Result]
) -> None:
    """Latent 0 is `river`, so its label is replaced; 2 is `table` and keeps the one it had. The cost is said first."""
    result = invoke("--latents", "0,2")
    found = told(result)
    assert result.stderr.startswith("2 latents, at most 26 calls each (2 propose")
    assert [one["label"] for one in found["results"]] == ["the word river", "the word table"]
    assert (found["written"], found["replaced"], found["kept"]) == (1, 1, 2)
    assert found["cost"]["calls"] == server.calls["generateContent"] <= 52
    table = LabelStore.of(store).table("llm")
    (kept,) = table.to_pylist()
    assert (kept["latent"], kept["text"], kept["model"], kept["score"]) == (0, "the word river", f"gemini:{MODEL}", 1.0)
    assert kept["date"]
    assert kept["kind"] is None
    evidence = json.loads(kept["evidence"])
    assert (evidence["before"], evidence["documents"], evidence["selection"]) == ("the word table", [3, 3], "toy")
    assert evidence["score_before"] < 1

    calls = server.calls["generateContent"]
    again = told(invoke("--latents", "0,2"))
    assert server.calls["generateContent"] == calls
    assert again["cost"]["calls"] == 0
    assert LabelStore.of(store).table("llm").equals(table)
    assert [one["label"] for one in again["results"]] == [one["label"] for one in found["results"]]


def test_a_rerun_is_free_where_there_was_no_label(
    store: Store, server: GeminiStandIn, invoke: Callable[..., Result]
) -> None:
    """What the first run wrote is no part of the second's questions, even where it is of little use."""
    (store.root / "labels" / "mine.parquet").delete()
    assert told(invoke("--latents", "0,1"))["written"] == 2
    table, calls = LabelStore.of(store).table("llm"), server.calls["generateContent"]
    again = told(invoke("--latents", "0,1"))
    assert (again["written"], again["cost"]["calls"], server.calls["generateContent"]) == (0, 0, calls)
    assert LabelStore.of(store).table("llm").equals(table)


def test_other_latents_keep_their_labels_and_a_beaten_one_goes(
    store: Store, server: GeminiStandIn, invoke: Callable[..., Result]
) -> None:
    """The source is one file; a run over some latents changes those alone."""
    labels = LabelStore.of(store)
    there = [{"latent": 5, "text": "left alone", "score": 0.8}, {"latent": 2, "text": "the word seven", "score": 0.8}]
    labels.add(pa.Table.from_pylist(there), "llm")
    told(invoke("--latents", "0,2"))
    rows = {one["latent"]: one["text"] for one in labels.table("llm").to_pylist()}
    assert rows == {0: "the word river", 5: "left alone"}


def test_at_the_cap_what_is_done_is_written(
    store: Store, server: GeminiStandIn, invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cap stops before the call; labels finished so far stay, and a higher cap goes on from there."""
    monkeypatch.setattr("saeray.labels.llm.relabel.CHUNK", 1)
    each = told(invoke("--latents", "0"))["cost"]
    (store.root / "labels" / "llm.parquet").delete()
    for name in (store.root / "llm" / "cache").names():
        (store.root / "llm" / "cache" / name).delete()
    before = server.total
    spent = each["tokens_in"] + each["tokens_out"]
    result = invoke("--latents", "0,1,3,4", "--cap-tokens", str(spent * 3 // 2), "--concurrency", "1")
    assert result.exit_code == 1
    line = json.loads(result.stdout)["error"]
    assert "cap" in line
    assert "1 of 4 latents are done: 1 new labels" in line
    assert server.total - before <= spent * 3 // 2
    assert LabelStore.of(store).table("llm").column("latent").to_pylist() == [0]
    calls = server.calls["generateContent"]
    told(invoke("--latents", "0,1,3,4"))
    assert server.calls["generateContent"] - calls < 3 * 26


@pytest.mark.parametrize(
    ("arguments", "line", "code"),
    [
        (["--latents", "0", "--top", "2"], "one of --latents 1,2,3, --top N", 2),
        ([], "one of --latents 1,2,3, --top N", 2),
        (["--latents", "one"], "numbers with commas", 2),
        (["--latents", "16"], "there is no latent 16: the encoder has 16", 2),
        (["--latents", "12"], "latent 12 is active in no document of toy", 2),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    arguments: list[str], line: str, code: int, server: GeminiStandIn, invoke: Callable[..., Result]
) -> None:
    """Nothing is sent."""
    result = invoke(*arguments)
    assert result.exit_code == code
    assert line in json.loads(result.stdout)["error"]
    assert not server.calls


def test_without_a_key_or_texts_it_says_so(
    server: GeminiStandIn, invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is named by its variable; a dataset without texts is sent back to `encode`."""
    result = invoke("--latents", "0", dataset="bare")
    assert result.exit_code == 2
    assert "without its texts" in json.loads(result.stdout)["error"]
    monkeypatch.delenv("GEMINI_API_KEY")
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    result = invoke("--latents", "0")
    assert result.exit_code != 0
    assert "GEMINI_API_KEY" in json.loads(result.stdout)["error"]


def test_latents_are_chosen_by_frequency_or_drawn(
    invoke: Callable[..., Result], server: GeminiStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commonest, or a draw that is the same every time."""
    asked: list[list[int]] = []
    monkeypatch.setattr(
        "saeray.labels.llm.command.each_relabelled", lambda sides, latents, *rest: asked.append(latents) or iter(())
    )
    for given in (["--top", "2"], ["--sample", "3"], ["--sample", "3"]):
        told(invoke(*given))
    counts = {latent: sum(WORDS[latent] in text.split() for text in texts_of(300)) for latent in range(8)}
    assert asked[0] == sorted(sorted(counts, key=lambda latent: (-counts[latent], latent))[:2])
    assert asked[1] == asked[2]
    assert len(asked[1]) == 3


def test_a_latent_that_is_silent_is_told_among_others(server: GeminiStandIn, invoke: Callable[..., Result]) -> None:
    """It is not dropped, and the others are labelled."""
    silent, other = told(invoke("--latents", "12,0"))["results"]
    assert (silent["latent"], silent["label"], silent["why"]) == (12, "", "active in none of the documents")
    assert other["label"] == "the word river"
