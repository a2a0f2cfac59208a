"""Neuronpedia's bulk exports, in and out: `explanations/batch-*.jsonl.gz`, one explanation a line.

How many batches there are differs by source, so the directory is listed; `index` is a string. What Neuronpedia has no
field for (source, score, kind, evidence) travels in `notes` as JSON, so that what is written here reads back equal.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from saeray.errors import SaerayError, first_line
from saeray.labels.formats.base import Found, indices, one_sae, read_many, read_plain

#: Labels a batch; Neuronpedia's own batches vary, so nobody may count on it.
BATCH = 1024
#: The key under which `notes` holds what Neuronpedia has no field for.
NOTES = "saeray"
_NOTED = ("source", "score", "kind", "evidence")
_BATCH_NAME = re.compile(r"batch-\d+\.jsonl(\.gz)?")
# Only these are parsed: a line may also hold an embedding of 256 numbers, ten times the size of all the rest.
_FIELDS = pa.schema(
    dict.fromkeys(
        ("modelId", "layer", "index", "description", "typeName", "explanationModelName", "notes", "createdAt"),
        pa.string(),
    )
)
_NUMBERED = _FIELDS.set(_FIELDS.get_field_index("index"), pa.field("index", pa.int64()))


def detect(found: Found) -> bool:
    """A directory with batches, or one file of JSON lines."""
    if found.names is None:
        return found.name.lower().endswith((".jsonl", ".jsonl.gz"))
    return any(map(_BATCH_NAME.fullmatch, found.names))


def read(found: Found) -> pa.Table:
    """Columns latent, text, model, date and evidence (`{"type": typeName}`); of an export of saeray's, all of them.

    Raises SaerayError for a batch that is not whole or not JSON lines, UsageError for explanations of several SAEs.
    """
    if found.names is None:
        names, batches = [found.name], [read_plain(found.place)]
    else:
        names = [name for name in found.names if _BATCH_NAME.fullmatch(name)]
        batches = read_many(found.place, names)
    rows = pa.concat_tables([_FIELDS.empty_table(), *map(_parsed, batches, names)])
    model, layer = (pc.fill_null(rows.column(name), "?") for name in ("modelId", "layer"))
    one_sae(found, pc.unique(pc.binary_join_element_wise(model, layer, "/")).to_pylist())
    table = pa.table(
        {
            "latent": indices(rows.column("index"), found.name),
            "text": rows.column("description"),
            "model": rows.column("explanationModelName"),
            "date": rows.column("createdAt"),
        }
    )
    return _with_notes(table, rows.column("notes"), _types(rows.column("typeName")), found.name)


def batches(table: pa.Table, model_id: str, source_id: str) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of each batch file of `table` (LABEL_SCHEMA); equal tables give equal bytes."""
    for number, batch in enumerate(table.to_batches(BATCH) if table.num_rows else []):
        lines = (json.dumps(_record(row, model_id, source_id), ensure_ascii=False) for row in batch.to_pylist())
        data = "".join(f"{line}\n" for line in lines).encode()
        yield f"batch-{number}.jsonl.gz", gzip.compress(data, mtime=0)


def is_batch(name: str) -> bool:
    """Whether a reader of this layout would take the file `name` for a batch."""
    return _BATCH_NAME.fullmatch(name) is not None


def _record(row: dict[str, Any], model_id: str, source_id: str) -> dict[str, Any]:
    who = [model_id, source_id, *(row[name] for name in ("latent", "source", "model", "date", "text", "evidence"))]
    evidence = json.loads(row["evidence"] or "{}")
    return {
        "id": hashlib.sha256(json.dumps(who).encode()).hexdigest()[:24],
        "modelId": model_id,
        "layer": source_id,
        "index": str(row["latent"]),
        "description": row["text"],
        "typeName": str(evidence.get("type") or f"saeray-{row['source']}"),
        "explanationModelName": row["model"],
        "authorId": None,
        "notes": json.dumps({NOTES: {name: row[name] for name in _NOTED}}, ensure_ascii=False),
        "createdAt": row["date"] and f"{row['date']}T00:00:00.000Z",
    }


def _parsed(data: bytes, name: str) -> pa.Table:
    if not data.strip():
        return _FIELDS.empty_table()
    try:
        return _lines(data, _FIELDS)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        try:
            return _lines(data, _NUMBERED).cast(_FIELDS)  # indices as numbers, which other tools write
        except (pa.ArrowException, UnicodeDecodeError):
            raise SaerayError(f"{name} is not lines of explanations ({first_line(error)}): is it whole?") from error


def _lines(data: bytes, schema: pa.Schema) -> pa.Table:
    # One block: a line may be of any length, and Arrow refuses one that does not fit two blocks.
    table = pj.read_json(
        io.BytesIO(data),
        read_options=pj.ReadOptions(use_threads=False, block_size=len(data)),
        parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )
    table.validate(full=True)  # the JSON reader does not check that text is UTF-8
    return table


def _types(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """`{"type": name}` of each explanation's type, which tells how it was made."""
    kinds = names.unique().drop_null()
    objects = pa.array([json.dumps({"type": kind}, ensure_ascii=False) for kind in kinds.to_pylist()], pa.string())
    return objects.take(pc.index_in(names, value_set=kinds))


def _with_notes(table: pa.Table, notes: pa.ChunkedArray, types: pa.ChunkedArray, name: str) -> pa.Table:
    own = pc.fill_null(pc.starts_with(notes, f'{{"{NOTES}":'), False)
    if not pc.any(own).as_py():
        return table.append_column("evidence", types)
    try:
        noted = [json.loads(text)[NOTES] if mine else {} for text, mine in zip(notes.to_pylist(), own, strict=True)]
        columns = {key: pa.array([note.get(key) for note in noted]) for key in _NOTED}
    except (ValueError, RecursionError, TypeError, AttributeError, pa.ArrowException) as error:
        raise SaerayError(f"{name} has notes of saeray's that cannot be read ({first_line(error)})") from error
    columns["evidence"] = pc.if_else(own, columns["evidence"].cast(pa.string()), types)
    for key, column in columns.items():
        table = table.append_column(key, column)
    return table
