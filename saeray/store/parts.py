"""The file of one shard: Parquet that says what it is and carries its own digest, byte for byte the same from the same
rows.

A part is the single truth of its shard. Its footer names the shard and the encoder and holds the shard's rejects, so a
part that outlived its writer can be adopted together with them.

Latents are delta-packed; maxima are halves held in float32 and split into their bytes; both under zstd. On
heavy-tailed synthetic rows that is 2.48 bytes an active latent at 3,000 a document and 2.76 at 1,000. Parquet's own
FLOAT16 would be 0.04 smaller, but DuckDB 2.0 does not read it byte-split, and unsplit it takes 0.1 more.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from saeray.errors import SaerayError
from saeray.store.plan import Plan

FORMAT = 1
ABOUT = b"saeray.part"
DIGEST = b"saeray.digest"
# Levels 1 to 19 differ by 2% in size on all but the split floats. Those hold no repeats worth a reference, which zstd
# sees from level 16 on (1.60 bytes a value; 1.67 at 6, 1.65 at 1), at 0.8 million values a second and core.
ZSTD_LEVEL = 6
ZSTD_LEVEL_OF_FLOATS = 16
# Small pages give each byte plane too little to count: 1.65 bytes a value at 1 MB, 1.60 at 8.
PAGE_BYTES = 8 << 20
# 16 million latents are some 230 MB in Arrow, and far from the 2**31 that a list's offsets can count.
MAX_GROUP_LATENTS = 1 << 24
MAX_GROUP_ROWS = 65_536
SMALLEST_HALF, LARGEST_HALF = 2.0**-24, 65504.0

ENCODINGS = {
    "token_starts": "DELTA_BINARY_PACKED",
    "latents": "DELTA_BINARY_PACKED",
    "max": "BYTE_STREAM_SPLIT",
    "count": "BYTE_STREAM_SPLIT",
    "peak": "BYTE_STREAM_SPLIT",
    "sum": "BYTE_STREAM_SPLIT",
}


class BrokenPart(SaerayError):
    """A part that is not whole, or not what its name says."""


@dataclass(frozen=True)
class PartInfo:
    """What a part's footer says of it. `rejects` are (row, doc_id, reason), in row order."""

    format: int
    dataset: str
    shard: int
    encoder: str
    input: str
    start: int
    stop: int
    documents: int
    rows: int
    tokens: int
    rejects: tuple[tuple[int, str, str], ...]


def documents_schema(plan: Plan) -> pa.Schema:
    """The columns of a dataset's documents, from its first plan."""
    settings = plan.settings
    columns: list[tuple[str, pa.DataType]] = [("doc_id", pa.string()), ("channel", pa.string())]
    if settings.store_text:
        columns.append(("text", pa.string()))
    columns += [(name, _as_read(plan.keep_types[name])) for name in settings.keep]
    columns += [("n_tokens", pa.int32()), ("n_windows", pa.int32()), ("truncated", pa.bool_())]
    columns += [(name, _list(pa.int32())) for name in ("token_starts", "latents")]
    columns += [("max", _list(pa.float32())), ("count", _list(pa.int32())), ("peak", _list(pa.int32()))]
    if settings.store_sum:
        columns.append(("sum", _list(pa.float32())))
    return pa.schema(columns)


def write_part(table: pa.Table, schema: pa.Schema, about: PartInfo) -> bytes:
    """The bytes of a part: `table` in the columns of `schema` (see `fit`), `about` in its footer."""
    sink = io.BytesIO()
    lists = {name: _path(schema.field(name)) for name in schema.names if name in ENCODINGS}
    packed = {lists[name]: ENCODINGS[name] for name in lists}
    paths = [_path(field) for field in schema]
    floats = {lists[name] for name in ("max", "sum") if name in lists}
    plain = {"doc_id", "text", *lists}
    short = [name for name in schema.names if name not in plain and not pa.types.is_nested(schema.field(name).type)]
    writer = pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level={path: ZSTD_LEVEL_OF_FLOATS if path in floats else ZSTD_LEVEL for path in paths},
        data_page_size=PAGE_BYTES,
        use_dictionary=short,
        column_encoding=packed,
        write_statistics=["doc_id", *short],
    )
    for group in _groups(table):
        writer.write_table(group, row_group_size=max(1, group.num_rows))
    note = json.dumps(asdict(about), ensure_ascii=False, separators=(",", ":")).encode()
    digest = hashlib.sha256(sink.getbuffer())
    digest.update(note)
    writer.add_key_value_metadata({ABOUT: note, DIGEST: digest.hexdigest().encode()})
    writer.close()
    return sink.getvalue()


def check_part(data: bytes, uri: str) -> PartInfo:
    """What the part with these bytes says of itself. Raises BrokenPart naming `uri` when it is not whole.

    The digest covers all bytes before the Parquet footer and the footer's own note (what it is, its rejects).
    """
    try:
        footer = int.from_bytes(data[-8:-4], "little") + 8
        if len(data) < 12 or data[:4] != b"PAR1" or data[-4:] != b"PAR1" or footer > len(data):
            raise BrokenPart(f"{uri} is not a whole Parquet file")
        metadata = pq.read_metadata(pa.BufferReader(data))
        notes: dict[bytes, bytes] = metadata.metadata or {}
        digest = hashlib.sha256(memoryview(data)[:-footer])
        digest.update(notes[ABOUT])
        if digest.hexdigest().encode() != notes[DIGEST]:
            raise BrokenPart(f"{uri} does not have the digest it was written with")
        content: dict[str, Any] = json.loads(notes[ABOUT])
        content["rejects"] = tuple((int(row), str(doc), str(why)) for row, doc, why in content["rejects"])
        info = PartInfo(**{one.name: content[one.name] for one in fields(PartInfo)})
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise BrokenPart(f"{uri} is not a whole part ({' '.join(str(error).split())[:120]})") from error
    if info.format != FORMAT or info.rows != metadata.num_rows:
        raise BrokenPart(f"{uri} is not a part of format {FORMAT} with {info.rows} rows")
    return info


def fit(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` in the columns, order and types of `schema`; maxima are clamped to the halves above 0, sums rounded to
    the 11 significant bits of a half. Raises ValueError on rows that no encoder makes: a bug, not bad input."""
    missing = set(schema.names) ^ set(table.column_names)
    if missing:
        raise ValueError(f"the documents' columns differ from the dataset's: {sorted(missing)}")
    table = table.select(schema.names).combine_chunks()
    columns = [_column(table.column(field.name), field) for field in schema]
    fitted = pa.Table.from_arrays(columns, schema=schema)
    _check(fitted)
    return fitted


def rejects_table(info: PartInfo, schema: pa.Schema) -> pa.Table:
    """The rejects of a part's shard as a table of `schema` (row, input, doc_id, reason)."""
    rows = [
        {"row": row, "input": info.input, "doc_id": doc_id, "reason": reason} for row, doc_id, reason in info.rejects
    ]
    return pa.Table.from_pylist(rows, schema)


def _list(kind: pa.DataType) -> pa.DataType:
    """Parquet calls the items of a list "element", Arrow "item"; so that what is read has the declared schema."""
    return pa.list_(pa.field("element", kind))


def _as_read(kind: pa.DataType) -> pa.DataType:
    return _list(_as_read(kind.value_type)) if pa.types.is_list(kind) else kind


def _path(field: pa.Field) -> str:
    """The name by which Parquet knows the column that holds a field's values."""
    path, kind = str(field.name), field.type
    while pa.types.is_list(kind):
        path, kind = f"{path}.list.element", kind.value_type
    return path


def _column(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if field.name not in ("max", "sum"):
        return column.cast(field.type)
    chunks = []
    for chunk in column.chunks:
        offsets = chunk.offsets.to_numpy().astype(np.int64)
        values = chunk.values.to_numpy()[offsets[0] : offsets[-1]].astype(np.float32)
        if not (values > 0).all():
            raise ValueError(f"{field.name} holds values that are not above 0")
        rounded = _halves(values) if field.name == "max" else _eleven_bits(values)
        starts = pa.array((offsets - offsets[0]).astype(np.int32))
        chunks.append(pa.ListArray.from_arrays(starts, pa.array(rounded)))
    return pa.chunked_array(chunks, field.type)


def _halves(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The nearest halves above 0, so that what is present stays present; no sign, no infinity."""
    return np.clip(values, SMALLEST_HALF, LARGEST_HALF).astype(np.float16).astype(np.float32)


def _eleven_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rounded half to even. A sum over a long document passes the largest half, so it keeps float32's range."""
    bits = values.view(np.uint32)
    rounded = bits + np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFFE000)).view(np.float32)


def _check(table: pa.Table) -> None:
    names = [name for name in ("latents", "max", "count", "peak", "sum") if name in table.column_names]
    for name in table.column_names:
        if (name in ENCODINGS or name in ("doc_id", "channel", "n_tokens")) and table.column(name).null_count:
            raise ValueError(f"column {name} holds nulls")
    for columns in zip(*(table.column(name).chunks for name in names), strict=True):
        offsets = [column.offsets.to_numpy() - column.offsets[0].as_py() for column in columns]
        if any(not np.array_equal(offsets[0], other) for other in offsets[1:]):
            raise ValueError("latents, max, count and peak of a row differ in length")
        ids = columns[0].flatten().to_numpy()
        rising = np.diff(ids) > 0
        inner = offsets[0][1:-1]
        rising[inner[(inner > 0) & (inner < len(ids))] - 1] = True
        if not rising.all() or (len(ids) and ids.min() < 0):
            raise ValueError("the latents of a row do not ascend")


def _groups(table: pa.Table) -> Iterator[pa.Table]:
    """Cuts `table` into row groups, by its rows alone."""
    sizes = pc.list_value_length(table.column("latents")).to_numpy()
    start, latents = 0, 0
    for row, size in enumerate(sizes.tolist()):
        if row > start and (latents + size > MAX_GROUP_LATENTS or row - start >= MAX_GROUP_ROWS):
            yield table.slice(start, row - start)
            start, latents = row, 0
        latents += size
    if start < table.num_rows or not table.num_rows:
        yield table.slice(start)
