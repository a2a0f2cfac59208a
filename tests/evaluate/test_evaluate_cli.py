"""Promise: the commands print one table, write three files, say the cost first, and fail in one line."""

import json

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner
from word_sets import WORDS, encode_words, write_set

from saeray.evaluate import encoded
from saeray.evaluate.cli import evaluate_app
from saeray.labels import embedding
from saeray.labels.store import LabelStore
from saeray.store import Store


class Words:
    """An embedder without a model."""

    def __init__(self, model):
        self.name, self.digest, self.dimension = model, "words", len(WORDS) + 1
        self.texts = 0

    def embed(self, texts):
        Words.asked = getattr(Words, "asked", 0) + len(texts)
        rows = np.array([[w in t.split() for w in WORDS] + [1] for t in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command on a small set with labels in its store; returns (exit code, stdout, stderr)."""
    write_set(tmp_path / "data")
    monkeypatch.setattr(encoded, "_pipeline", lambda: encode_words)
    monkeypatch.setattr(embedding, "Embedder", Words)

    def command(*arguments):
        done = CliRunner().invoke(evaluate_app, [*arguments, "--store", str(tmp_path / "store")])
        return done.exit_code, done.stdout, done.stderr

    return command


def test_pooling_end_to_end(run, tmp_path):
    """From a tasks file to a table, and the same again without encoding."""
    out = str(tmp_path / "out")
    code, stdout, stderr = run("pooling", str(tmp_path / "data" / "tasks.json"), "--out", out, "--json")
    assert code == 0, stderr
    assert "240 documents of 1 sets" in stderr
    assert "encoded now" in stderr
    found = json.loads(stdout)
    assert found["analysis"] == "evaluate pooling"
    assert {row["way"] for row in found["compared"]} >= {"max", "count", "words"}
    assert all((tmp_path / "out" / name).exists() for name in ("result.parquet", "summary.json", "report.html"))
    code, stdout, stderr = run("pooling", str(tmp_path / "data" / "tasks.json"), "--out", out)
    assert code == 0
    assert "all encoded" in stderr
    assert "presence" in stdout


def test_labels_end_to_end(run, tmp_path):
    """Every source of the store, its shuffled labels beside it, and texts embedded once."""
    tasks, out = str(tmp_path / "data" / "tasks.json"), str(tmp_path / "out")
    assert run("pooling", tasks, "--out", out)[0] == 0
    code, _, stderr = run("labels", tasks, "--out", out)
    assert code == 1
    assert "holds no labels" in stderr
    store = LabelStore.of(Store.open(str(tmp_path / "store")))
    evidence = [json.dumps({"tokens": [[word, 1.0]]}) for word in WORDS]
    texts = [f"says {word}" for word in WORDS]
    table = pa.table({"latent": range(len(WORDS)), "text": texts, "score": [0.9] * len(WORDS), "evidence": evidence})
    worse = table.set_column(1, "text", [["worse"] * len(WORDS)]).set_column(2, "score", [[0.1] * len(WORDS)])
    store.add(pa.concat_tables([worse, table]), "auto")
    code, stdout, stderr = run("labels", tasks, "--out", out, "--json")
    assert code == 0, stderr
    found = json.loads(stdout)
    assert list(found["labels"]) == ["auto", "top-tokens", "random"]
    ranks = {row["way"]: row["rank"] for row in found["compared"] if row["kind"] == "all"}
    assert ranks["labels: auto"] == ranks["labels: top-tokens"] == 1, (
        "the label with the best score stands for a latent"
    )
    asked = Words.asked
    assert run("labels", tasks, "--out", out, "--source", "auto")[0] == 0
    assert Words.asked - asked < 100, "the 240 texts are not embedded again"


def test_what_is_wrong_is_one_line(run, tmp_path):
    """Exit 2 for wrong usage, and nothing left behind."""
    code, stdout, stderr = run("pooling", str(tmp_path / "none.json"))
    assert (code, stdout) == (2, "")
    assert "no tasks file" in stderr
    assert run("pooling", str(tmp_path / "data" / "tasks.json"), "--only", "x")[0] == 2
    assert not (tmp_path / "store").exists()
