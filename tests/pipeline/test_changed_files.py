"""Guards that a store's rows all come from the files that it was claimed with, whatever changes in the middle of a run:
a worker that finds others ends the run in one line, at once, and what is done stays.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from runs import contents, encode_config, random_texts, write_jsonl
from tiny import make_reader_dir

from saeray.config import encoder_config
from saeray.description import describe
from saeray.errors import SaerayError
from saeray.pipeline import encode as pipeline
from saeray.pipeline import stages
from saeray.pipeline.encode import encode
from saeray.readers.source import cache_directory
from saeray.store import PlanSettings, Store, list_inputs

WEIGHTS = "model-00001-of-00003.safetensors"


def copied(encoder: Path, to: Path) -> Path:
    """The encoder's YAML over copies of its reader and SAE."""
    shutil.copytree(encoder.parent / "reader", to / "reader")
    shutil.copytree(encoder.parent / "sae", to / "sae")
    config = yaml.safe_load(encoder.read_text())
    config["reader"]["model"], config["sae"]["path"] = str(to / "reader"), str(to / "sae")
    (to / "encoder.yaml").write_text(yaml.safe_dump(config))
    return to / "encoder.yaml"


@pytest.mark.usefixtures("ray_address")
def test_files_that_change_in_the_middle_of_a_run_end_it(
    encoder: Path, texts: Path, undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some shards are done when a worker dies and the next one finds another reader: no shard is tried again and none
    is encoded by it. What is done is what a run gives to which nothing happened.
    """
    mine = copied(encoder, tmp_path)
    other = make_reader_dir(tmp_path / "other", seed=1) / WEIGHTS
    file = tmp_path / "reader" / WEIGHTS
    pids = tmp_path / "pids"
    pids.mkdir()

    class Encode(stages.Encode):
        def _encode(self, row: dict[str, Any]) -> dict[str, Any]:
            (pids / str(os.getpid())).touch()
            result = super()._encode(row)
            if list((tmp_path / "store").glob("datasets/*/commits/*")):
                other.replace(file)
                os._exit(1)
            return result

    monkeypatch.setattr(pipeline, "Encode", Encode)
    config = encode_config(texts, tmp_path / "store", mine)
    with pytest.raises(SaerayError, match=f"claimed with: {WEIGHTS} is not what it was; put that back") as caught:
        encode(config)
    assert " (node " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(list(pids.iterdir())) == 2

    done = contents(tmp_path / "store")
    assert any(name.startswith("commits/") for name in done)
    assert done.items() < undisturbed.items()


def read_first(encoder: Path, tmp_path: Path, before: Any = None) -> dict[str, Any]:
    """The row that the read stage gives for the one shard of a small dataset, in this process and without Ray."""
    inputs = write_jsonl(tmp_path / "in.jsonl", random_texts(9, 3, (5, 9)))
    store = Store.open(str(tmp_path / "store"), create=True)
    store.claim_encoder(describe(encoder_config(str(encoder))))
    dataset = store.dataset("texts", create=True)
    assert dataset.add_plan(list_inputs([str(inputs)]), PlanSettings()) is not None
    if before is not None:
        before()
    text = stages.encoder_json(encoder_config(str(encoder)))
    rows = stages.read(
        pa.table({"shard": [0], "uri": [str(inputs)]}),
        store=store.uri,
        dataset="texts",
        run=str(tmp_path),
        encoder=text,
    )
    [row] = rows.to_pylist()
    return dict(row)


def test_the_read_stage_needs_no_weights(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs where they are not, which is what a node does that only tokenizes."""
    monkeypatch.setenv("SAERAY_CACHE", str(tmp_path / "cache"))
    mine = copied(encoder, tmp_path)

    def lose_weights() -> None:
        shutil.rmtree(cache_directory() / "digests")
        for file in (tmp_path / "reader").glob("*.safetensors"):
            file.unlink()

    row = read_first(mine, tmp_path, lose_weights)
    assert row["error"] is None
    assert row["tokenized"]
    notes = [file for file in (cache_directory() / "digests").iterdir() if file.suffix != ".lock"]
    assert len(notes) == 4, "config.json and three files of the tokenizer"


def test_another_tokenizer_ends_the_run(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The read stage says so for the whole run, not shard by shard."""
    monkeypatch.setattr(stages, "_here", lambda: "node 10.0.0.1")
    mine = copied(encoder, tmp_path)
    tokenizer = tmp_path / "reader" / "tokenizer.json"
    row = read_first(mine, tmp_path, lambda: tokenizer.write_text(tokenizer.read_text() + "\n"))
    assert row["fatal"]
    assert "tokenizer.json is not what it was" in row["error"]
    assert row["error"].endswith("(node 10.0.0.1)")
