"""One cell of an input row, made sure of: a document, its id or a kept value, or the reason why the row is a reject.

Documents are untrusted, so nothing here raises because of what a cell holds; a `Reject` says what is wrong in words
that never quote the document.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

# A cell of 64 MiB is some 16 million tokens, beyond any reader's use; it bounds what one row may take in memory.
MAX_CELL_BYTES = 64 << 20
MAX_ID_CHARACTERS = 1024
ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
MISSING = object()
NOT_UTF8 = object()


@dataclass(frozen=True)
class Reject:
    """Why a row is not encoded, in one short line."""

    reason: str


def text_cell(value: Any, column: str) -> str | Reject:
    """The document of a text column."""
    problem = _string_problem(value, column)
    if problem:
        return Reject(problem)
    return value if value else Reject(f"column {column} is empty")


def messages_cell(value: Any, column: str) -> list[dict[str, str]] | Reject:
    """The messages of a chat column: a list of {role, content}, or a JSON string of one."""
    if isinstance(value, str):
        problem = _string_problem(value, column)
        if problem:
            return Reject(problem)
        value = load_json(value)
        if isinstance(value, Reject):
            return Reject(f"column {column}: {value.reason}")
    if value is MISSING or value is NOT_UTF8 or value is None:
        return Reject(_string_problem(value, column))
    if not isinstance(value, list):
        return Reject(f"column {column} is not a list of messages")
    messages = []
    for number, message in enumerate(value):
        where = f"column {column}, message {number}"
        if not isinstance(message, dict):
            return Reject(f"{where} is not a {{role, content}}")
        role, content = message.get("role", MISSING), message.get("content", MISSING)
        if not isinstance(role, str) or not ROLE.fullmatch(role):
            return Reject(f"{where}: the role is not a word of up to 64 letters, digits, _ and -")
        problem = _string_problem(content, "content")
        if problem:
            return Reject(f"{where}: {problem}")
        messages.append({"role": role, "content": content})
    if not any(message["content"] for message in messages):
        return Reject(f"column {column} is empty")
    return messages


def id_cell(value: Any, column: str) -> str | Reject:
    """The document id of an id column: a string, or an integer in decimals."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    problem = _string_problem(value, column)
    if problem:
        return Reject(f"id {problem}")
    if not value:
        return Reject(f"id column {column} is empty")
    if len(value) > MAX_ID_CHARACTERS:
        return Reject(f"id column {column} is longer than {MAX_ID_CHARACTERS} characters")
    return str(value)


def kept_cell(value: Any, kind: pa.DataType, column: str) -> Any:
    """`value` as the recorded type of a kept column has it (None stays None), or a Reject when it does not fit."""
    if value is NOT_UTF8:
        return Reject(f"column {column} is not UTF-8")
    if value is MISSING or value is None:
        return None
    misfit = Reject(f"column {column} is not {type_name(kind)}")
    if pa.types.is_string(kind):
        try:
            text = value if isinstance(value, str) else as_text(value)
        except RecursionError:
            return Reject(f"column {column} is nested too deep")
        problem = _string_problem(text, column)
        return Reject(problem) if problem else text
    if pa.types.is_list(kind):
        if not isinstance(value, list):
            return misfit
        items = [kept_cell(item, kind.value_type, column) for item in value]
        return next((item for item in items if isinstance(item, Reject)), items)
    if isinstance(value, str):
        return _from_string(value, kind, misfit)
    try:
        return value if _fits(value, kind) else misfit
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return misfit


def load_json(text: str) -> Any:
    """What a JSON text holds, or a Reject: not JSON, nested too deep for the parser."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return Reject("not JSON")


def as_text(value: Any) -> str:
    """A value of a column that is kept as text: JSON where JSON has a form for it, else Python's."""
    return json.dumps(value, ensure_ascii=False, default=_plain)


def type_name(kind: pa.DataType) -> str:
    """A type as plans record it, e.g. int64, list<string>, timestamp[us, tz=UTC]."""
    return f"list<{type_name(kind.value_type)}>" if pa.types.is_list(kind) else str(kind)


def parse_type(name: str) -> pa.DataType:
    """The inverse of `type_name`. Raises ValueError on a name it never made."""
    if match := re.fullmatch(r"list<(.+)>", name):
        return pa.list_(parse_type(match[1]))
    if match := re.fullmatch(r"timestamp\[(s|ms|us|ns)(?:, tz=([^\]]+))?\]", name):
        return pa.timestamp(match[1], tz=match[2])
    if match := re.fullmatch(r"decimal128\((\d+), (-?\d+)\)", name):
        return pa.decimal128(int(match[1]), int(match[2]))
    if name == "date32[day]":
        return pa.date32()
    return pa.type_for_alias(name)


def storable_type(kind: pa.DataType) -> pa.DataType:
    """The type in which a Parquet column of type `kind` is kept: its own, or string for what has no plain form."""
    kinds = pa.types
    if kinds.is_dictionary(kind):
        return storable_type(kind.value_type)
    if kinds.is_list(kind) or kinds.is_large_list(kind):
        inner = storable_type(kind.value_type)
        return pa.string() if kinds.is_list(inner) else pa.list_(inner)
    plain = kinds.is_boolean(kind) or kinds.is_integer(kind) or kinds.is_float32(kind) or kinds.is_float64(kind)
    if plain or kinds.is_timestamp(kind) or kinds.is_date32(kind) or kinds.is_decimal128(kind):
        return kind
    return pa.string()


def _string_problem(value: Any, column: str) -> str:
    """Why `value` is no string to store, or "" when it is one."""
    if value is MISSING:
        return f"no column {column}"
    if value is NOT_UTF8:
        return f"column {column} is not UTF-8"
    if value is None:
        return f"column {column} is null"
    if not isinstance(value, str):
        return f"column {column} is not a string"
    if len(value) > MAX_CELL_BYTES:
        return f"column {column} is longer than 64 MiB"
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return f"column {column} is not UTF-8"
    return f"column {column} is longer than 64 MiB" if size > MAX_CELL_BYTES else ""


def _fits(value: Any, kind: pa.DataType) -> bool:
    """Whether `kind` holds `value` as it is: Arrow alone would cut 1.5 to an integer and a time to its date."""
    types = pa.types
    if isinstance(value, bool) or types.is_boolean(kind):
        return isinstance(value, bool) and bool(types.is_boolean(kind))
    wanted: tuple[type, ...] = (Decimal, int)
    if types.is_integer(kind):
        wanted = (int,)
    elif types.is_floating(kind):
        wanted = (float, int)
    elif types.is_temporal(kind):
        wanted = (datetime,) if types.is_timestamp(kind) else (date,)
        if types.is_date(kind) and isinstance(value, datetime):
            return False
    if not isinstance(value, wanted):
        return False
    held = pa.scalar(value, kind).as_py()
    return not types.is_floating(kind) or held == value or value != value


def _from_string(value: str, kind: pa.DataType, misfit: Reject) -> Any:
    """A CSV cell (or a string among typed values) as `kind`. An empty cell is null."""
    if not value:
        return None
    try:
        if pa.types.is_boolean(kind):
            return {"true": True, "false": False}.get(value.lower(), misfit)
        if pa.types.is_floating(kind):
            number = float(value)
            spelt_out = value.lower().lstrip("+-") in ("nan", "inf", "infinity")
            return number if math.isfinite(number) or spelt_out else misfit
        if pa.types.is_decimal(kind):
            pa.scalar(Decimal(value), kind)
            return Decimal(value)
        return pa.scalar(value, pa.string()).cast(kind).as_py()
    except (pa.ArrowException, ValueError, InvalidOperation, OverflowError):
        return misfit


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)
