"""Planning: one streaming pass over the inputs that cuts them into shards and finds what only a whole pass can find.

That is the types of the kept columns, which columns there are at all, and second rows with an id. Memory is 16 bytes
a row when there is an id column (a hash of each id), and otherwise that of one row and the shard list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from saeray.errors import UsageError
from saeray.store.cells import Reject, id_cell, storable_type
from saeray.store.files import Location, location
from saeray.store.infer import TypeGuess, join_types
from saeray.store.inputs import Input, check_unchanged
from saeray.store.plan import Plan, PlanSettings, Shard
from saeray.store.rows import column_names, parquet_schema, read_rows

# A shard's rejects lie in its file's footer and its rows in few row groups; this bounds both when rows are empty.
MAX_SHARD_ROWS = 65_536
HASH = np.dtype([("high", "<u8"), ("low", "<u8")])
Hashes = npt.NDArray[np.void]


def plan_inputs(
    inputs: Sequence[Input],
    settings: PlanSettings,
    *,
    number: int = 0,
    first_shard: int = 0,
    keep_types: dict[str, pa.DataType] | None = None,
    seen: Hashes | None = None,
) -> tuple[Plan, Hashes | None]:
    """Plan `number` over `inputs`, its shards counted from `first_shard`, and the hashes of the ids it brings.

    `keep_types` are those of the dataset's first plan (a value that does not fit is then a reject); without them they
    are decided here. `seen` are the hashes of earlier plans' ids. Raises UsageError: no such column, nothing to read.
    """
    scan = _Scan(settings, number, first_shard)
    kinds: dict[str, pa.DataType | None] = dict.fromkeys(settings.keep)
    for index, source in enumerate(inputs):
        place = location(source.uri)
        check_unchanged(source, place)
        guesses = scan.input(index, source, place)
        for name in settings.keep:
            kinds[name] = join_types(kinds[name], guesses[name])
        check_unchanged(source, place)
    if not scan.shards and number == 0:
        raise UsageError(f"{inputs[0].uri if len(inputs) == 1 else 'the inputs'} hold no rows: there is nothing to do")
    if not scan.readable and scan.shards:
        raise UsageError(f"no line of {inputs[0].name} is a JSON object: give JSONL, one object a line")
    shards, fresh = scan.shards, None
    if settings.id_column is not None:
        hashes = np.frombuffer(bytes(scan.hashes), HASH)
        valid = np.frombuffer(bytes(scan.valid), np.bool_)
        repeated = _repeated(hashes, valid, seen)
        shards = _with_duplicates(shards, repeated)
        fresh = hashes[valid & ~repeated]
    if keep_types is None:
        keep_types = {name: pa.string() if kind is None else kind for name, kind in kinds.items()}
    return Plan(number, settings, tuple(inputs), tuple(shards), keep_types), fresh


class _Scan:
    """The pass: shards as they are closed, ids as they come."""

    def __init__(self, settings: PlanSettings, number: int, first_shard: int) -> None:
        self.settings, self.number, self.first_shard = settings, number, first_shard
        self.shards: list[Shard] = []
        self.hashes, self.valid = bytearray(), bytearray()
        self.readable = False

    def input(self, index: int, source: Input, place: Location) -> dict[str, pa.DataType | None]:
        """Scans one input. Returns the types of its kept columns, None where it has only nulls."""
        typed = self._check_typed(source, place)
        columns = self.settings.columns
        if typed is not None:  # what only the kept columns need is not read
            columns = tuple({self.settings.document_column, self.settings.id_column or self.settings.document_column})
        guesses = {name: TypeGuess() for name in self.settings.keep}
        found: set[str] = set()
        parsed = False
        start, tokens, offset, stop = 0, 0, None, 0
        for row in read_rows(source, place, columns):
            size = max(1, (_document_bytes(row.cells.get(self.settings.document_column)) + 3) // 4)
            full = tokens + size > self.settings.shard_tokens or row.number - start >= MAX_SHARD_ROWS
            if row.number > start and full:
                self._close(index, start, row.number, offset)
                start, tokens = row.number, 0
            if row.number == start:
                offset = row.offset
            tokens += size
            stop = row.number + 1
            parsed = parsed or not row.problem
            found.update(row.cells)
            self._see_id(row.cells)
            for name, guess in guesses.items() if typed is None else ():
                value = row.cells.get(name)
                guess.see_csv(value) if source.format == "csv" and value is not None else guess.see_json(value)
        if stop > start:
            self._close(index, start, stop, offset)
        self.readable = self.readable or parsed
        if source.format == "jsonl" and parsed:
            self._check_columns(source, found, lambda: column_names(source, place))
        return typed if typed is not None else {name: guess.type() for name, guess in guesses.items()}

    def _close(self, index: int, start: int, stop: int, offset: int | None) -> None:
        self.shards.append(Shard(self.first_shard + len(self.shards), self.number, index, start, stop, offset))

    def _see_id(self, cells: dict[str, Any]) -> None:
        column = self.settings.id_column
        if column is None:
            return
        value = id_cell(cells[column], column) if column in cells else Reject("")
        valid = isinstance(value, str)
        self.valid.append(valid)
        self.hashes += hashlib.blake2b(str(value).encode(), digest_size=16).digest() if valid else bytes(16)

    def _check_typed(self, source: Input, place: Location) -> dict[str, pa.DataType | None] | None:
        """For Parquet and CSV: refuses columns that are not there. For Parquet: the types of the kept columns."""
        if source.format == "jsonl":
            return None
        names = column_names(source, place)
        if names or source.format == "parquet":
            self._check_columns(source, set(names), lambda: names)
        if source.format == "csv":
            return None
        schema = parquet_schema(source, place)
        kind = schema.field(self.settings.document_column).type
        if not _holds_documents(kind, messages=self.settings.messages_column is not None):
            wanted = "text" if self.settings.messages_column is None else "messages (a list of {role, content})"
            raise UsageError(f"column {self.settings.document_column} of {source.name} is {kind}, not {wanted}")
        return {name: storable_type(schema.field(name).type) for name in self.settings.keep}

    def _check_columns(self, source: Input, there: set[str], listed: Any) -> None:
        for name in self.settings.columns:
            if name not in there:
                names = listed()
                shown = ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")
                raise UsageError(f"no such column {name} in {source.name}; it has: {shown or 'none'}")


def _document_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, list):
        return sum(_document_bytes(message.get("content")) for message in value if isinstance(message, dict))
    return 0


def _holds_documents(kind: pa.DataType, messages: bool) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_null(kind) or types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return True
    if types.is_binary(kind) or types.is_large_binary(kind):
        return True
    return bool(messages and (types.is_list(kind) or types.is_large_list(kind)) and types.is_struct(kind.value_type))


def _repeated(hashes: Hashes, valid: npt.NDArray[np.bool_], seen: Hashes | None) -> npt.NDArray[np.bool_]:
    """True for each row whose id an earlier row, or an earlier plan, has."""
    before = np.empty(0, HASH) if seen is None else seen
    rows = np.flatnonzero(valid)
    together = np.concatenate([before, hashes[rows]])
    order = np.lexsort((together["low"], together["high"]))  # stable: of equal ids the earliest comes first
    ordered = together[order]
    again = np.zeros(len(together), np.bool_)
    again[order[1:]] = (ordered["high"][1:] == ordered["high"][:-1]) & (ordered["low"][1:] == ordered["low"][:-1])
    repeated = np.zeros(len(hashes), np.bool_)
    repeated[rows] = again[len(before) :]
    return repeated


def _with_duplicates(shards: list[Shard], repeated: npt.NDArray[np.bool_]) -> list[Shard]:
    marked, first = [], 0
    for shard in shards:
        rows = np.flatnonzero(repeated[first : first + shard.rows]) + shard.start
        marked.append(replace(shard, duplicate_rows=tuple(int(row) for row in rows)))
        first += shard.rows
    return marked
