"""Selectors: `NAME:cond,cond` picks rows of a dataset, e.g. `alpaca:model=A|B,n_tokens>=10`.

A condition compares a column by `=` `!=` `<=` `>=` `^=` (starts with) `*=` (list holds); `|` gives alternatives; a
name or value in double quotes may hold any of these characters. Null meets no condition but `!=`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from saeray.errors import UsageError

OPERATORS = ("!=", "<=", ">=", "^=", "*=", "=")
DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_COLUMN = re.compile(r'[^=!<>^*|,"]+')
_VALUE = re.compile(r'[^=,|"][^,|"]*')


@dataclass(frozen=True)
class Condition:
    """One comparison; met when any of `values` meets it (for `!=`: when none equals)."""

    column: str
    operator: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return _quote(self.column, _COLUMN) + self.operator + "|".join(_quote(value, _VALUE) for value in self.values)


@dataclass(frozen=True)
class Selector:
    """Rows of `dataset` that meet every condition; with `negate`, those that do not."""

    dataset: str
    conditions: tuple[Condition, ...] = ()
    negate: bool = False

    def __str__(self) -> str:
        text = self.dataset + (":" + ",".join(map(str, self.conditions)) if self.conditions else "")
        return f"rest of {text}" if self.negate else text

    @property
    def columns(self) -> list[str]:
        """The columns that the conditions read."""
        return list(dict.fromkeys(condition.column for condition in self.conditions))

    def rest(self) -> Selector:
        """The complement within the dataset."""
        return replace(self, negate=not self.negate)

    def check(self, schema: pa.Schema) -> None:
        """Raises UsageError for a column that `schema` lacks, or a comparison its type does not have."""
        for condition in self.conditions:
            if condition.column not in schema.names:
                there = ", ".join(schema.names)
                raise UsageError(f"no such column {condition.column} in dataset {self.dataset}; it has: {there}")
            _operands(condition, schema.field(condition.column).type)

    def mask(self, table: pa.Table) -> pa.BooleanArray:
        """For each row of `table` (which has `columns`) whether it is selected; never null."""
        chosen = np.ones(table.num_rows, np.bool_)
        for condition in self.conditions:
            chosen &= _meets(condition, table.column(condition.column))
        return pa.array(~chosen if self.negate else chosen)


def parse(text: str) -> Selector:
    """The selector that `text` spells. Raises UsageError that shows where it cannot be read."""
    name, colon, rest = text.partition(":")
    check_name(name)
    if not colon:
        return Selector(name)
    conditions, at = [], 0
    while True:
        condition, at = _condition(rest, at, text)
        conditions.append(condition)
        if at == len(rest):
            return Selector(name, tuple(conditions))
        at += 1


def check_name(name: str) -> str:
    """`name`, when it can name a dataset: no path may hide in it."""
    if not DATASET_NAME.fullmatch(name) or ".." in name:
        raise UsageError(f"not a dataset name: {name[:110]!r}; use letters, digits, '.', '_' and '-', at most 100")
    return name


def _condition(text: str, at: int, whole: str) -> tuple[Condition, int]:
    """The condition that begins at `at`, and where it ends: at a comma or at the end."""
    column, at = _token(text, at, _COLUMN)
    operator = next((sign for sign in OPERATORS if text.startswith(sign, at)), None)
    if not column.strip() or operator is None:
        raise UsageError(f"cannot read selector {whole!r} at {text[at:][:30]!r}: write COLUMN=VALUE, e.g. {EXAMPLE}")
    at += len(operator)
    values: list[str] = []
    while True:
        quoted = text.startswith('"', at)
        if text.startswith("=", at):
            raise UsageError(f"cannot read selector {whole!r} at {text[at:][:30]!r}: quote a value that begins with =")
        value, at = _token(text, at, _VALUE)
        if not quoted and not value:
            raise UsageError(f'selector {whole!r}: {column.strip()}{operator} needs a value; write "" for an empty one')
        values.append(value)
        if at == len(text) or text[at] == ",":
            return Condition(column, operator, tuple(values)), at
        if text[at] != "|":
            raise UsageError(f"cannot read selector {whole!r} at {text[at:][:30]!r}: quote the whole value")
        at += 1


EXAMPLE = "alpaca:model=A|B,n_tokens>=10"


def _token(text: str, at: int, plain: re.Pattern[str]) -> tuple[str, int]:
    if match := _QUOTED.match(text, at):
        return re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL), match.end()
    match = plain.match(text, at)
    return (match[0].strip(), match.end()) if match else ("", at)


def _quote(text: str, plain: re.Pattern[str]) -> str:
    if plain.fullmatch(text) and text == text.strip():
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _operands(condition: Condition, kind: pa.DataType) -> list[pa.Scalar]:
    """The values of a condition in the column's own type. Raises UsageError when there are none."""
    types, operator = pa.types, condition.operator
    inner = kind.value_type if types.is_list(kind) else kind
    if types.is_list(kind) != (operator == "*="):
        right = "*= (holds)" if types.is_list(kind) else "=, != or ^="
        raise UsageError(f"{condition}: column {condition.column} is {kind}; compare it by {right}")
    if operator == "^=" and not types.is_string(inner):
        raise UsageError(f"{condition}: only text starts with something; column {condition.column} is {kind}")
    if operator in ("<=", ">=") and (len(condition.values) > 1 or types.is_boolean(inner)):
        raise UsageError(f"{condition}: {operator} compares a number or text with one value")
    if types.is_nested(inner) or types.is_float16(inner):
        raise UsageError(f"{condition}: a column of type {kind} cannot be selected by")
    try:
        return [pa.scalar(value, pa.string()).cast(inner) for value in condition.values]
    except (pa.ArrowException, ValueError) as error:
        raise UsageError(f"{condition}: column {condition.column} is {kind}; give such a value") from error


def _meets(condition: Condition, column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    operands = _operands(condition, column.type)
    if condition.operator == "*=":
        return np.concatenate([np.zeros(0, np.bool_), *(_holds(chunk, operands) for chunk in column.chunks)])
    if condition.operator == "^=":
        found = [pc.starts_with(column, pattern=operand.as_py()) for operand in operands]
        return _any(found, len(column))
    if condition.operator == "<=":
        return _any([pc.less_equal(column, operands[0])], len(column))
    if condition.operator == ">=":
        return _any([pc.greater_equal(column, operands[0])], len(column))
    equal = _any([pc.equal(column, operand) for operand in operands], len(column))
    return ~equal if condition.operator == "!=" else equal


def _any(found: Sequence[pa.ChunkedArray], rows: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    chosen = np.zeros(rows, np.bool_)
    for one in found:
        chosen |= pc.fill_null(one, False).to_numpy().astype(np.bool_)
    return chosen


def _holds(lists: pa.ListArray, operands: list[pa.Scalar]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    chosen = np.zeros(len(lists), np.bool_)
    items, parents = lists.flatten(), pc.list_parent_indices(lists).to_numpy()
    for operand in operands:
        hits = pc.fill_null(pc.equal(items, operand), False).to_numpy(zero_copy_only=False)
        chosen[parents[hits]] = True
    return chosen
