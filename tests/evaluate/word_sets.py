"""Labelled sets whose latents are words, encoded by counting: every figure can be made again by hand."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from saeray.config import EncodeConfig
from saeray.store import PlanSettings, Store, commit_shard, list_inputs, read_shard

#: Latent i is word i; "alpha" stands in the relevant documents of the first query, "beta" of the second.
WORDS = ["alpha", "beta", "gamma", "delta", "the", "of", "and", "to", "in", "it"]
D_SAE = 16


def encode_words(config: EncodeConfig, on_progress: Callable[[Any], None] | None = None) -> None:
    """What the pipeline does, without a model."""
    store = Store.open(config.store, create=True)
    store.claim_encoder({"sae": {"d_sae": D_SAE, "digest": "words"}, "reader": "words"})
    dataset = store.dataset(config.dataset, create=True)
    settings = PlanSettings(
        text_column=config.text_column, keep=tuple(config.keep), store_sum=config.store_sum, shard_tokens=1500
    )
    dataset.add_plan(list_inputs(config.inputs), settings)
    for shard in dataset.missing():
        read = read_shard(dataset.plan_of(shard), shard)
        rows = [row | _encoded(row["text"]) for row in read.documents.drop_columns("row").to_pylist()]
        table = pa.Table.from_pylist(rows, dataset.schema())
        commit_shard(dataset, shard, table, read.rejects, seconds=0.1)


def _encoded(text: str) -> dict[str, Any]:
    found = [(m.start(), m.group()) for m in re.finditer(r"\w+", text)]
    places = {i: [k for k, (_, word) in enumerate(found) if word == own] for i, own in enumerate(WORDS)}
    latents = [i for i, at in places.items() if at]
    return {
        "channel": "text",
        "n_tokens": len(found),
        "n_windows": 1,
        "truncated": False,
        "token_starts": [start for start, _ in found],
        "latents": latents,
        # Earlier is stronger, so that max and count tell different things.
        "max": [8.0 / (1 + places[i][0]) for i in latents],
        "count": [len(places[i]) for i in latents],
        "peak": [places[i][0] for i in latents],
        "sum": [float(np.float16(sum(8.0 / (1 + at) for at in places[i]))) for i in latents],
    }


def write_set(folder: Path, name: str = "notes", n: int = 300, seed: int = 0) -> Path:
    """`NAME.parquet` and tasks on it: whether "alpha" is there, and whether the label says b (mostly with "beta")."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        first, second = rng.random() < 0.15, rng.random() < 0.2
        words = [WORDS[int(w)] for w in rng.integers(4, 10, int(rng.integers(4, 20)))]
        words += ["alpha"] * first + ["beta"] * (rng.random() < (0.8 if second else 0.1))
        text = " ".join([*rng.permutation(words), f"n{i}"])
        rows.append({"body": text, "has_alpha": first, "label": "b" if second else "a", "tags": ["x"] * first})
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    common = {"file": f"{name}.parquet", "text_column": "body", "n_rows": n}
    alpha, b = (sum(row[key] == value for row in rows) for key, value in (("has_alpha", True), ("label", "b")))
    tasks = [
        common | {"query": "about alpha", "relevant_when": ["has_alpha", "==", True], "n_relevant": alpha},
        common | {"query": "has beta", "relevant_when": ["label", "==", "b"], "n_relevant": b, "kind": "topic"},
    ]
    place = folder / "tasks.json"
    before = json.loads(place.read_text())["retrieval"] if place.exists() else []
    place.write_text(json.dumps({"retrieval": before + tasks}))
    return place
