"""The Arrow type of a kept column, decided once from what the inputs hold and recorded in the plan.

JSONL and CSV carry no types, so every value of the first plan is looked at; a column of several kinds becomes string
(JSON for what was not text), because a type that drops values would lose them unseen.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# Integers beyond 2**53 do not survive as float64.
EXACT_IN_FLOAT = 2**53


class TypeGuess:
    """What has been seen of one column in one untyped input."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()
        self._items: TypeGuess | None = None

    def see_json(self, value: Any) -> None:
        """Takes a value of a JSON object into account."""
        if value is None:
            return
        if isinstance(value, bool):
            self._kinds.add("bool")
        elif isinstance(value, int):
            self._see_integer(value)
        elif isinstance(value, float):
            self._kinds.add("float")
        elif isinstance(value, list):
            self._kinds.add("list")
            self._items = self._items or TypeGuess()
            for item in value:
                self._items.see_json(item)
        else:
            self._kinds.add("string")

    def see_csv(self, value: str) -> None:
        """Takes a CSV cell into account. An empty one may be a null of any type; a leading zero makes it text."""
        if not value:
            return
        if INTEGER.fullmatch(value):
            self._see_integer(int(value))
        elif NUMBER.fullmatch(value) and not re.match(r"[+-]?0[0-9]|\+", value):
            self._kinds.add("float")
        elif value.lower() in ("true", "false"):
            self._kinds.add("bool")
        else:
            self._kinds.add("string")

    def type(self) -> pa.DataType | None:
        """The type that holds everything seen; None when nothing but nulls was."""
        kinds = self._kinds
        if not kinds:
            return None
        if kinds == {"list"} and self._items is not None:
            return pa.list_(self._items.type() or pa.string())
        if kinds <= {"int", "large"}:
            return pa.int64()
        if kinds <= {"int", "float"}:
            return pa.float64()
        return pa.bool_() if kinds == {"bool"} else pa.string()

    def _see_integer(self, value: int) -> None:
        if -(2**63) <= value < 2**63:
            self._kinds.add("int" if abs(value) <= EXACT_IN_FLOAT else "large")
        else:
            self._kinds.add("string")


def join_types(one: pa.DataType | None, other: pa.DataType | None) -> pa.DataType | None:
    """The type that holds the values of both; string where there is no better one."""
    if one is None or other is None or one.equals(other):
        return other if one is None else one
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(join_types(one.value_type, other.value_type))
    if pa.types.is_integer(one) and pa.types.is_integer(other) and pa.uint64() not in (one, other):
        return pa.int64()
    both = (one, other)
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in both):
        return pa.string() if all(pa.types.is_integer(kind) for kind in both) else pa.float64()
    return pa.string()
