"""The rows of one shard, read and judged: documents ready to encode, and rejects with their reasons.

It runs on a CPU worker beside the encoder, so it travels as Arrow IPC bytes (`to_bytes`), never pickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from saeray.errors import SaerayError
from saeray.store.cells import MISSING, Reject, id_cell, kept_cell, messages_cell, text_cell
from saeray.store.files import location
from saeray.store.inputs import Input, check_unchanged
from saeray.store.plan import Plan, Shard
from saeray.store.rows import Row, read_rows

REJECTS_SCHEMA = pa.schema(
    [("row", pa.int64()), ("input", pa.string()), ("doc_id", pa.string()), ("reason", pa.string())]
)
MESSAGES_TYPE = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


@dataclass
class ShardInput:
    """`documents`: row int64, doc_id string, then text string or messages list<struct<role, content>>, then the kept
    columns. `rejects`: REJECTS_SCHEMA. Together every row of the shard once, in order."""

    shard: int
    documents: pa.Table
    rejects: pa.Table

    def to_bytes(self) -> bytes:
        """Two Arrow IPC streams, the first preceded by the shard's number and its own length (8 bytes each)."""
        first, second = _stream(self.documents), _stream(self.rejects)
        return b"".join([self.shard.to_bytes(8, "little"), len(first).to_bytes(8, "little"), first, second])

    @classmethod
    def from_bytes(cls, data: bytes) -> ShardInput:
        """The inverse of `to_bytes`, without copying the columns."""
        buffer = pa.py_buffer(data)
        size = int.from_bytes(data[8:16], "little")
        documents = pa.ipc.open_stream(buffer.slice(16, size)).read_all()
        rejects = pa.ipc.open_stream(buffer.slice(16 + size)).read_all()
        return cls(int.from_bytes(data[:8], "little"), documents, rejects)


def read_shard(plan: Plan, shard: Shard, uri: str | None = None) -> ShardInput:
    """Reads `shard` from its input, at `uri` or where it was planned.

    Raises SaerayError when the input is not what was planned: another size, mark or number of rows, or gone.
    """
    source = plan.input_of(shard)
    place = location(uri or source.uri)
    check_unchanged(source, place)
    documents: list[tuple[Any, ...]] = []
    rejects: list[dict[str, Any]] = []
    repeated = frozenset(shard.duplicate_rows)
    count = 0
    for row in read_rows(source, place, plan.settings.columns, shard.start, shard.stop, shard.offset):
        count += 1
        doc_id, judged = _judge(plan, source, row, row.number in repeated)
        if isinstance(judged, Reject):
            rejects.append({"row": row.number, "input": source.name, "doc_id": doc_id, "reason": judged.reason})
        else:
            documents.append((row.number, doc_id, *judged))
    check_unchanged(source, place)
    if count != shard.rows:
        raise SaerayError(f"input {source.name} has fewer rows than when it was planned: restore it")
    return ShardInput(shard.shard, _table(plan, documents), pa.Table.from_pylist(rejects, REJECTS_SCHEMA))


def documents_schema(plan: Plan) -> pa.Schema:
    """The columns of `ShardInput.documents`."""
    document = ("text", pa.string()) if plan.settings.messages_column is None else ("messages", MESSAGES_TYPE)
    kept = [(name, plan.keep_types[name]) for name in plan.settings.keep]
    return pa.schema([("row", pa.int64()), ("doc_id", pa.string()), document, *kept])


def _judge(plan: Plan, source: Input, row: Row, repeated: bool) -> tuple[str, list[Any] | Reject]:
    """The document id of a row, and its document and kept values or why it is a reject."""
    settings = plan.settings
    doc_id = f"{source.name}:{row.number}"
    if row.problem:
        return doc_id, Reject(row.problem)
    if settings.id_column is not None:
        own = id_cell(row.cells.get(settings.id_column, MISSING), settings.id_column)
        if isinstance(own, Reject):
            return doc_id, own
        doc_id = own
    if repeated:
        return doc_id, Reject("an earlier row has this id")
    judge = text_cell if settings.messages_column is None else messages_cell
    values = [judge(row.cells.get(settings.document_column, MISSING), settings.document_column)]
    for name in settings.keep:
        values.append(kept_cell(row.cells.get(name, MISSING), plan.keep_types[name], name))
    return doc_id, next((value for value in values if isinstance(value, Reject)), values)


def _table(plan: Plan, documents: list[tuple[Any, ...]]) -> pa.Table:
    schema = documents_schema(plan)
    columns = list(zip(*documents, strict=True)) or [()] * len(schema)
    arrays = [pa.chunked_array([pa.array(column, field.type)]) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
