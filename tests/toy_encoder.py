"""An encoder without a model, for tests of what lies around one: a document's row is a function of its text alone."""

from __future__ import annotations

import json
import multiprocessing
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from saeray.store import Commit, Dataset, PlanSettings, ShardInput, Store, commit_shard, list_inputs, read_shard

ENCODER = {"reader": {"name": "toy", "layer": 3}, "sae": {"d_sae": 512}}
D_SAE = 512


def encode(shard: ShardInput, dataset: Dataset) -> pa.Table:
    """The documents table of a shard."""
    rows = []
    for document in shard.documents.to_pylist():
        messages = document.get("messages") or [{"role": "text", "content": document.get("text")}]
        channels: dict[str, str] = {}
        for message in messages:
            channels[message["role"]] = channels.get(message["role"], "") + message["content"]
        rows += [_row(document, channel, text) for channel, text in channels.items()]
    return pa.Table.from_pylist(rows, dataset.schema())


def encode_missing(dataset: Dataset, seed: int = 0) -> list[Commit]:
    """Commits every missing shard, in an order of its own."""
    missing = dataset.missing()
    order = np.random.default_rng(seed).permutation(len(missing))
    commits = []
    for index in order:
        shard = missing[index]
        content = read_shard(dataset.plan_of(shard), shard)
        commits.append(commit_shard(dataset, shard, encode(content, dataset), content.rejects, 0.25))
    return commits


def processes() -> multiprocessing.context.ForkContext:
    """Where to take child processes from that write to a local store and may be killed: a fork costs 10 ms, where a
    fresh interpreter takes a second to import Arrow."""
    return multiprocessing.get_context("fork")


def write_inputs(directory: Path, documents: int = 120, bad: int = 5, name: str = "a.jsonl") -> Path:
    """A JSONL file of short documents with a kept column, and a few bad lines at its end."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"text": f"document {i} " + "word " * (i % 17), "model": "AB"[i % 2]}) for i in range(documents)
    ]
    (directory / name).write_text("\n".join(lines + ["not json"] * bad) + "\n")
    return directory


def new_dataset(uri: str, inputs: Path, name: str = "toy", shard_tokens: int = 200, **settings: object) -> Dataset:
    """A claimed store with one planned dataset."""
    store = Store.open(uri, create=True)
    store.claim_encoder(ENCODER)
    dataset = store.dataset(name, create=True)
    settings = {"keep": ("model",), "shard_tokens": shard_tokens, **settings}
    dataset.add_plan(list_inputs([str(inputs)]), PlanSettings(**settings))  # type: ignore[arg-type]
    return dataset


def _row(document: dict, channel: str, text: str) -> dict:
    rng = np.random.default_rng(zlib.crc32(text.encode()))
    words = text.split()
    active = int(rng.integers(0, 40))
    values = (rng.exponential(size=active) + 0.1).astype(np.float32)
    kept = {key: value for key, value in document.items() if key not in ("row", "messages")}
    return {
        **kept,
        "channel": channel,
        "text": text,
        "n_tokens": len(words),
        "n_windows": 1,
        "truncated": False,
        "token_starts": list(range(len(words))),
        "latents": np.sort(rng.choice(D_SAE, active, replace=False)).tolist(),
        "max": values.tolist(),
        "count": rng.integers(1, 5, active).tolist(),
        "peak": rng.integers(0, max(1, len(words)), active).tolist(),
        "sum": (values * 2).tolist(),
    }
