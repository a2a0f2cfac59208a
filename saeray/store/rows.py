"""Rows of an input file as plain cells, in order, with bounded memory, from any format.

A bad row (not JSON, not UTF-8, too long) is a `Row` with a problem, so that it can be counted and rejected; a bad file
(cut short, not what its name says) is a SaerayError that names it. Parquet reads only the row groups and columns it
needs; plain JSONL starts at a byte offset; what is compressed, and CSV, is read from its start.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq

from saeray.errors import SaerayError, UsageError
from saeray.store.cells import MAX_CELL_BYTES, NOT_UTF8, Reject, load_json
from saeray.store.files import Location
from saeray.store.inputs import Input

# A line may hold more than its longest cell: other columns, and JSON's escapes (six characters for one).
MAX_LINE_BYTES = 2 * MAX_CELL_BYTES
PARQUET_BATCH_ROWS = 1024


class Row(NamedTuple):
    """One row: its number in the file, where its line starts (plain JSONL only), its cells (absent ones are missing),
    and what is wrong with the row as a whole, or ""."""

    number: int
    offset: int | None
    cells: dict[str, Any]
    problem: str


def read_rows(
    source: Input,
    place: Location,
    columns: Sequence[str],
    start: int = 0,
    stop: int | None = None,
    offset: int | None = None,
) -> Iterator[Row]:
    """Rows [start, stop) of `source`, which lies at `place`; `offset` is where row `start` begins, if known."""
    reader = {"parquet": _parquet_rows, "jsonl": _jsonl_rows, "csv": _csv_rows}[source.format]
    try:
        yield from reader(source, place, columns, start, stop, offset)
    except (OSError, EOFError, zlib.error, pa.ArrowException, csv.Error) as error:
        what = "Parquet file" if source.format == "parquet" else f"{source.compression or source.format} file"
        reason = " ".join(str(error).split())[:160]
        raise SaerayError(f"cannot read input {source.name} as a {what} ({reason}): is it whole?") from error


def column_names(source: Input, place: Location) -> list[str]:
    """The columns that `source` has; for JSONL those of its first 100 objects."""
    if source.format == "parquet":
        return list(parquet_schema(source, place).names)
    if source.format == "csv":
        try:
            with _plain_stream(source, place) as stream:
                return _header(_csv_reader(stream))
        except (OSError, EOFError, zlib.error, csv.Error) as error:
            raise SaerayError(f"cannot read input {source.name}: {error} ({place.uri})") from error
    names: dict[str, None] = {}
    for row in read_rows(source, place, (), stop=100):
        names.update(dict.fromkeys(row.cells))
    return list(names)


def parquet_schema(source: Input, place: Location) -> pa.Schema:
    """The Arrow schema of a Parquet input, from its footer."""
    try:
        with place.open() as file:
            return pq.read_schema(file)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:160]
        raise SaerayError(f"cannot read input {source.name} as a Parquet file ({reason}): is it whole?") from error


def _parquet_rows(
    source: Input, place: Location, columns: Sequence[str], start: int, stop: int | None, offset: int | None
) -> Iterator[Row]:
    with place.open() as stream:
        file = pq.ParquetFile(stream, pre_buffer=False)
        names = [name for name in columns if name in file.schema_arrow.names]
        stop = file.metadata.num_rows if stop is None else stop
        number = 0
        for group in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if number >= stop:
                return
            if number + rows <= start:
                number += rows
                continue
            for batch in file.iter_batches(PARQUET_BATCH_ROWS, row_groups=[group], columns=names):
                first, last = max(start - number, 0), min(stop - number, batch.num_rows)
                if first < last:
                    part = batch.slice(first, last - first)
                    cells = [_cells(part.column(name)) for name in names]
                    for index in range(part.num_rows):
                        row = dict(zip(names, (column[index] for column in cells), strict=True))
                        yield Row(number + first + index, None, row, "")
                number += batch.num_rows
                if number >= stop:
                    return


def _cells(column: pa.Array) -> list[Any]:
    """Python values; text that is not UTF-8 (Parquet does not check it) becomes NOT_UTF8, cell by cell."""
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return [_decoded(value) for value in column.to_pylist()]
    try:
        return cast("list[Any]", column.to_pylist())
    except UnicodeDecodeError:
        return [_one_cell(value) for value in column]


def _one_cell(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return NOT_UTF8


def _decoded(value: bytes | None) -> Any:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return NOT_UTF8


def _jsonl_rows(
    source: Input, place: Location, columns: Sequence[str], start: int, stop: int | None, offset: int | None
) -> Iterator[Row]:
    """Blank lines are no rows. Without `columns` the cells hold every column."""
    with _plain_stream(source, place) as stream:
        number, at = 0, 0
        if offset is not None:
            stream.seek(offset)
            number, at = start, offset
        wanted = frozenset(columns)
        while stop is None or number < stop:
            line = stream.readline(MAX_LINE_BYTES)
            if not line:
                return
            begin, at = at, at + len(line)
            too_long = len(line) == MAX_LINE_BYTES and not line.endswith(b"\n")
            if too_long:
                at += _skip_line(stream)
            if begin == 0 and line.startswith(b"\xef\xbb\xbf"):
                line = line[3:]
            if not line.strip():
                continue
            if number >= start:
                where = None if source.compression else begin
                long_row = Row(number, where, {}, "line is longer than 128 MiB")
                yield long_row if too_long else _json_row(number, where, line, wanted)
            number += 1


def _json_row(number: int, offset: int | None, line: bytes, wanted: frozenset[str]) -> Row:
    try:
        value = load_json(line.decode())
    except UnicodeDecodeError:
        return Row(number, offset, {}, "line is not UTF-8")
    if isinstance(value, Reject):
        return Row(number, offset, {}, "line is not JSON")
    if not isinstance(value, dict):
        return Row(number, offset, {}, "line is not a JSON object")
    if wanted:
        value = {name: cell for name, cell in value.items() if name in wanted}
    return Row(number, offset, value, "")


def _skip_line(stream: BinaryIO) -> int:
    """Reads on to the end of a line without keeping it. Returns how many bytes that was."""
    skipped = 0
    while piece := stream.readline(1 << 20):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped


def _csv_rows(
    source: Input, place: Location, columns: Sequence[str], start: int, stop: int | None, offset: int | None
) -> Iterator[Row]:
    with _plain_stream(source, place) as stream:
        reader = _csv_reader(stream)
        header = _header(reader)
        twice = sorted({name for name in columns if header.count(name) > 1})
        if twice:
            raise UsageError(f"{source.name} has two columns named {twice[0]}: rename one")
        wanted = [(name, header.index(name)) for name in columns if name in header]
        number = 0
        for fields in reader:
            if not fields:
                continue
            if stop is not None and number >= stop:
                return
            if number >= start:
                if len(fields) == len(header):
                    yield Row(number, None, {name: fields[index] for name, index in wanted}, "")
                else:
                    yield Row(number, None, {}, f"row has {len(fields)} fields where the header has {len(header)}")
            number += 1


def _csv_reader(stream: BinaryIO) -> Iterator[list[str]]:
    # Bytes that are not UTF-8 come through as lone surrogates, which every cell is checked for.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    return csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline=""))


def _header(reader: Iterator[list[str]]) -> list[str]:
    return next((fields for fields in reader if fields), [])


def _plain_stream(source: Input, place: Location) -> BinaryIO:
    """The decompressed bytes of `source`; seekable when it is not compressed."""
    stream = place.open()
    if source.compression == "gz":
        unzipped: Any = gzip.GzipFile(fileobj=stream)
        unzipped.myfileobj = stream  # closed with it
        return cast(BinaryIO, io.BufferedReader(unzipped, 1 << 20))
    if source.compression == "zst":
        return cast(BinaryIO, io.BufferedReader(_Zstandard(stream), 1 << 20))
    return stream


class _Zstandard(io.RawIOBase):
    """Arrow's zstd decoder as a raw stream: the standard library of Python 3.11 has none."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._decoder.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._decoder.close()
            self._stream.close()
        super().close()
