"""A tiny corpus whose latents are words, so that every number of an analysis can be counted by hand.

Latent i is word i of `WORDS`: present where the word stands, its maximum 1 + the word's place from the end, its peak
the first such place.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_words import WORDS

from saeray.analysis.sides import Side
from saeray.store import Dataset, PlanSettings, Store, commit_shard, list_inputs, read_shard

D_SAE = 32

Rows = list[dict[str, Any]]


def encode(text: str) -> dict[str, Any]:
    """What the encoder would say of `text`, were its latents words."""
    found = [(m.start(), m.group().lower()) for m in re.finditer(r"\w+|[^\w\s]", text)]
    places: dict[int, list[int]] = {}
    for place, (_, word) in enumerate(found):
        if word in WORDS:
            places.setdefault(WORDS.index(word), []).append(place)
    latents = sorted(places)
    return {
        "n_tokens": len(found),
        "n_windows": 1,
        "truncated": False,
        "token_starts": [start for start, _ in found],
        "latents": latents,
        "max": [1.0 + len(found) - places[i][0] for i in latents],
        "count": [len(places[i]) for i in latents],
        "peak": [places[i][0] for i in latents],
    }


def documents(rows: Rows, schema: pa.Schema | None = None) -> pa.Table:
    """`documents` rows of texts; each of `rows` has doc_id, text and perhaps channel and kept columns."""
    full = [{"channel": "text"} | row | encode(row["text"]) for row in rows]
    if schema is None:
        kept = [name for name in full[0] if name not in {"doc_id", "channel", "text", *encode("")}]
        types = {"n_tokens": pa.int32(), "max": pa.list_(pa.float16()), "latents": pa.list_(pa.uint32())}
        types |= {name: pa.list_(pa.int32()) for name in ("token_starts", "count", "peak")}
        columns = ["doc_id", "channel", "text", *kept, *encode("")]
        return pa.table({name: pa.array(_cast(name, [row[name] for row in full]), types.get(name)) for name in columns})
    return pa.table({f.name: pa.array(_cast(f.name, [row[f.name] for row in full]), f.type) for f in schema}, schema)


def _cast(name: str, column: list[Any]) -> list[Any]:
    return [np.array(value, np.float16) for value in column] if name == "max" else column


@pytest.fixture
def corpus_table() -> Callable[[Rows], pa.Table]:
    return documents


@pytest.fixture
def side_of() -> Callable[..., Side]:
    """A side of rows in memory, in tables of `step` rows."""

    def make(rows: Rows, name: str = "a", step: int = 1000) -> Side:
        table = documents(rows)

        def scan(columns: Sequence[str]) -> Iterator[pa.Table]:
            for at in range(0, table.num_rows, step):
                yield table.slice(at, step).select(list(columns))

        lengths = table.column("n_tokens").to_numpy().astype(np.int64)
        source = {"dataset": "d", "plans": [0], "commits": "0"}
        return Side(name, "d", "text", table.column("doc_id"), lengths, frozenset(table.schema.names), source, scan)

    return make


@pytest.fixture
def store_of(tmp_path) -> Callable[..., Store]:
    """A real store on disk with `rows` as dataset `d`, some a shard; the last `missing` shards stay uncommitted."""

    def make(rows: Rows, keep: tuple[str, ...] = (), missing: int = 0, **settings: Any) -> Store:
        text = "messages" if "messages" in rows[0] else "text"
        pq.write_table(pa.table({k: [r[k] for r in rows] for k in ("doc_id", text, *keep)}), tmp_path / "in.parquet")
        store = Store.open(str(tmp_path / "store"), create=True)
        store.claim_encoder({"sae": {"d_sae": D_SAE}, "reader": "words"})
        dataset = store.dataset("d", create=True)
        dataset.add_plan(
            list_inputs([str(tmp_path / "in.parquet")]),
            PlanSettings(
                **{"text_column": None, f"{text}_column": text},
                id_column="doc_id",
                keep=keep,
                shard_tokens=200,
                **settings,
            ),
        )
        shards = dataset.shards()
        assert len(shards) > 2, "one shard would test nothing"
        for shard in shards[: len(shards) - missing]:
            _commit(dataset, shard)
        return store

    def _commit(dataset: Dataset, shard: Any) -> None:
        read = read_shard(dataset.plan_of(shard), shard)
        rows = read.documents.drop_columns("row").to_pylist()
        if "messages" in rows[0]:
            rows = [r | {"channel": m["role"], "text": m["content"]} for r in rows for m in r["messages"]]
        table = documents(rows, dataset.schema())
        commit_shard(dataset, shard, table, read.rejects, seconds=0.1)

    return make
