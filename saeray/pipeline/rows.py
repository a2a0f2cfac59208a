"""Tokenized and encoded documents as Arrow tables: what travels between the stages of a run, and what is stored.

Stages exchange one Ray Data row a shard with Arrow IPC bytes in it. A row is a shard, so that one row is one task, one
file and one commit, and nothing is ever pickled into the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from saeray.readers.template import TemplateError
from saeray.readers.tokens import (
    DocumentError,
    DocumentTokenizer,
    LongPolicy,
    TokenizedDocument,
    Turn,
    apply_long_policy,
)
from saeray.store import REJECTS_SCHEMA, ShardInput

if TYPE_CHECKING:
    from saeray.encoder import EncodedDocument, FailedDocument, PooledRow

_INTS = pa.list_(pa.int32())
_STRINGS = pa.list_(pa.string())
TOKENIZED_SCHEMA = pa.schema(
    [
        ("document", pa.int32()),  # index into ShardInput.documents
        ("ids", _INTS),
        ("channel", _INTS),
        ("starts", _INTS),
        ("channels", _STRINGS),
        ("texts", _STRINGS),
        ("head", pa.int32()),
        ("truncated", pa.bool_()),
    ]
)


def tokenize(
    shard: ShardInput, input_name: str, tokenizer: DocumentTokenizer, long: LongPolicy, window: int
) -> tuple[pa.Table, pa.Table]:
    """The shard's documents as TOKENIZED_SCHEMA, and the rejects so far: those of reading and those of tokenizing."""
    columns = shard.documents.column_names
    cells = shard.documents[columns[2]].to_pylist()
    tokenized: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = shard.rejects.to_pylist()
    for index, cell in enumerate(cells):
        try:
            if isinstance(cell, str):
                document = tokenizer.text(cell)
            else:
                document = tokenizer.messages([Turn(turn["role"], turn["content"]) for turn in cell])
            document = apply_long_policy(document, long, window)
        except (DocumentError, TemplateError) as error:
            rejects.append(_reject(shard, index, input_name, str(error)))
            continue
        tokenized.append(
            {
                "document": index,
                "ids": document.ids,
                "channel": document.channel,
                "starts": document.starts,
                "channels": list(document.channels),
                "texts": list(document.texts),
                "head": document.head,
                "truncated": document.truncated,
            }
        )
    return pa.Table.from_pylist(tokenized, TOKENIZED_SCHEMA), pa.Table.from_pylist(rejects, REJECTS_SCHEMA)


def documents_of(tokenized: pa.Table) -> list[TokenizedDocument]:
    """The documents of a TOKENIZED_SCHEMA table."""
    lists = {name: _int_lists(tokenized[name].combine_chunks()) for name in ("ids", "channel", "starts")}
    plain = {name: tokenized[name].to_pylist() for name in ("channels", "texts", "head", "truncated")}
    return [
        TokenizedDocument(
            lists["ids"][i],
            lists["channel"][i],
            lists["starts"][i],
            tuple(plain["channels"][i]),
            tuple(plain["texts"][i]),
            plain["head"][i],
            plain["truncated"][i],
        )
        for i in range(len(tokenized))
    ]


def documents_table(
    schema: pa.Schema,
    shard: ShardInput,
    tokenized: pa.Table,
    documents: Sequence[TokenizedDocument],
    encoded: Sequence[EncodedDocument | FailedDocument],
    rejects: pa.Table,
    input_name: str,
) -> tuple[pa.Table, pa.Table]:
    """The shard's rows in the store's `schema`, one a document and channel, and all of its rejects."""
    from saeray.encoder import FailedDocument  # torch, which the stages before and after do without

    positions = tokenized["document"].to_pylist()
    failed = [
        _reject(shard, position, input_name, result.reason)
        for position, result in zip(positions, encoded, strict=True)
        if isinstance(result, FailedDocument)
    ]
    rejects = pa.concat_tables([rejects, pa.Table.from_pylist(failed, REJECTS_SCHEMA)]).sort_by("row")
    sources, channels, texts, starts, windows, truncated = [], [], [], [], [], []
    rows: list[PooledRow] = []
    for position, document, result in zip(positions, documents, encoded, strict=True):
        if isinstance(result, FailedDocument):
            continue
        for i, (name, row) in enumerate(zip(document.channels, result.rows, strict=True)):
            sources.append(position)
            channels.append(name)
            texts.append(document.texts[i])
            starts.append(document.starts[document.pooled(i)])
            windows.append(result.n_windows)
            truncated.append(document.truncated)
            rows.append(row)
    columns: dict[str, Any] = {
        "channel": pa.array(channels, pa.string()),
        "text": pa.array(texts, pa.string()),
        "n_tokens": pa.array([len(s) for s in starts], pa.int32()),
        "n_windows": pa.array(windows, pa.int32()),
        "truncated": pa.array(truncated, pa.bool_()),
        "token_starts": _list_array(starts, np.int32),
        "latents": _list_array([row.latents for row in rows], np.int32),
        "max": _list_array([row.max for row in rows], np.float32),
        "count": _list_array([row.count for row in rows], np.int32),
        "peak": _list_array([row.peak for row in rows], np.int32),
        "sum": _list_array([row.sum for row in rows], np.float32),
    }
    kept = shard.documents.take(pa.array(sources, pa.int64()))
    arrays = [columns[name] if name in columns else kept[name] for name in schema.names]
    return pa.table(dict(zip(schema.names, arrays, strict=True))), rejects


def to_bytes(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def from_bytes(data: bytes) -> pa.Table:
    """The inverse of `to_bytes`, without copying."""
    return pa.ipc.open_stream(pa.py_buffer(data)).read_all()


def _reject(shard: ShardInput, index: int, input_name: str, reason: str) -> dict[str, Any]:
    row = shard.documents.slice(index, 1)
    return {
        "row": row["row"][0].as_py(),
        "input": input_name,
        "doc_id": row["doc_id"][0].as_py(),
        "reason": reason,
    }


def _int_lists(column: pa.ListArray) -> list[Any]:
    values, offsets = column.values.to_numpy(), column.offsets.to_numpy()
    return [values[a:b] for a, b in pairwise(offsets)]


def _list_array(parts: Sequence[Any], dtype: Any) -> pa.ListArray:
    values = np.concatenate([np.zeros(0, dtype), *parts])
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.astype(dtype)))
