"""Guards that every kind of input goes through the whole pipeline to the same rows, and that counts add up."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runs import assert_whole, dataset_of, encode_config, random_texts
from tiny import encoder_yaml

from saeray.pipeline.encode import encode

pytestmark = pytest.mark.usefixtures("ray_address")
TEXTS = [*random_texts(9, 4, (5, 30)), "", "naïve 漢字 🙂"]


def test_the_same_texts_from_any_kind_of_file_are_the_same_rows(encoder: Path, tmp_path: Path) -> None:
    """One directory with every kind and one row of each kind's own name: six files, one run."""
    inputs = tmp_path / "in" / "deep"
    inputs.mkdir(parents=True)
    rows = [{"text": text, "n": i} for i, text in enumerate(TEXTS)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (inputs / "plain.jsonl").write_bytes(lines)
    (inputs / "zipped.jsonl.gz").write_bytes(gzip.compress(lines))
    (inputs / "packed.jsonl.zst").write_bytes(pa.compress(lines, "zstd", asbytes=True))
    pq.write_table(pa.Table.from_pylist(rows), inputs / "table.parquet")
    with (inputs / "sheet.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "n"])
        writer.writeheader()
        writer.writerows(rows)
    (inputs / "notes.txt").write_text("not an input")

    store = tmp_path / "store"
    result = encode(encode_config(tmp_path / "in", store, encoder))
    assert (result.documents, result.rejects) == (5 * 5, 5)
    assert_whole(store)
    table = pa.concat_tables(dataset_of(store).scan())
    assert table.schema.field("n").type == pa.int64()
    by_file: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        name, number = row.pop("doc_id").rsplit(":", 1)
        by_file.setdefault(name, []).append(row | {"row": number})
    names = ["packed.jsonl.zst", "plain.jsonl", "sheet.csv", "table.parquet", "zipped.jsonl.gz"]
    assert sorted(by_file) == [f"deep/{name}" for name in names]
    assert all(rows == by_file["deep/plain.jsonl"] for rows in by_file.values())
    assert [row["text"] for row in by_file["deep/plain.jsonl"]] == [text for text in TEXTS if text]

    # Another tool reads the parts as they are.
    parts = store / "datasets/texts/documents/*.parquet"
    counted = duckdb.sql(f"select count(*), sum(len(latents)) from '{parts}'").fetchall()
    assert counted == [(25, sum(len(row["latents"]) for row in table.to_pylist()))]


def test_messages_give_a_row_a_role(encoder: Path, tmp_path: Path) -> None:
    """From Parquet's lists of structs and from strings of JSON, with rejects for what is no conversation."""
    talks = [
        [{"role": "user", "content": "who is there"}, {"role": "assistant", "content": "nobody knows"}],
        [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "one"},
            {"role": "user", "content": "second"},
        ],
        [],
        [{"role": "user", "content": ""}],
    ]
    columns: dict[str, list[Any]] = {"strings": [json.dumps(talk) for talk in talks], "structs": talks}
    inputs, store = tmp_path / "in", tmp_path / "store"
    inputs.mkdir()
    for kind, column in columns.items():
        ids = [f"{kind} {name}" for name in "abcd"]
        pq.write_table(pa.table({"messages": column, "id": ids}), inputs / f"{kind}.parquet")
    result = encode(encode_config(inputs, store, encoder, id_column="id"))
    assert (result.documents, result.rejects) == (4, 4)
    assert_whole(store)
    rows = pa.concat_tables(dataset_of(store).scan()).to_pylist()
    assert [(row["doc_id"], row["channel"], row["text"]) for row in rows] == [
        (f"{kind} {name}", channel, text)
        for kind in columns
        for name, channel, text in [
            ("a", "user", "who is there"),
            ("a", "assistant", "nobody knows"),
            ("b", "system", "be brief"),
            ("b", "user", "first\n\nsecond"),
            ("b", "assistant", "one"),
        ]
    ]
    assert all(len(row["token_starts"]) == row["n_tokens"] > 0 for row in rows)
    rejected = {row["doc_id"] for row in dataset_of(store).rejects().to_pylist()}
    assert rejected == {f"{kind} {name}" for kind in columns for name in "cd"}


def test_a_line_of_a_megabyte_is_cut_to_the_window_when_that_is_asked(encoder: Path, tmp_path: Path) -> None:
    cutting = encoder_yaml(
        tmp_path / "cut.yaml", encoder.parent / "reader", encoder.parent / "sae", window=64, overlap=8, long="truncate"
    )
    inputs = tmp_path / "a.jsonl"
    inputs.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("this is " * 131_072, "short")))
    result = encode(encode_config(inputs, tmp_path / "store", cutting))
    assert (result.documents, result.rejects) == (2, 0)
    long, short = pa.concat_tables(dataset_of(tmp_path / "store").scan()).to_pylist()
    assert len(long["text"]) == 1 << 20
    assert (long["truncated"], short["truncated"]) == (True, False)
    assert 0 < long["n_tokens"] < 64
    assert_whole(tmp_path / "store")
