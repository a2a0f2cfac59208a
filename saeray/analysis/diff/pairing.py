"""Which documents belong together: those of all sides that answer the same prompt, or share any other key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from saeray.analysis.sides import Side
from saeray.errors import UsageError, short


@dataclass(frozen=True)
class Pairs:
    """`sides`: the documents whose key every side has; `keys`: of each side the key's number, int64[documents];
    `names`: the keys as text, by number; `kept`: of each side given which documents are compared."""

    sides: tuple[Side, ...]
    keys: tuple[NDArray[np.int64], ...]
    names: pa.StringArray
    kept: tuple[NDArray[np.bool_], ...]


def pair(sides: Sequence[Side], column: str) -> Pairs:
    """The documents of all sides that share a value of `column`. UsageError when it is not there or nothing is shared.

    Keys are compared as text, so that the number 7 of one dataset meets the "7" of another; a null is no key.
    """
    found = [_keys(side, column) for side in sides]
    distinct = [set(keys.unique().drop_null().to_pylist()) for keys in found]
    for side, own in zip(sides, distinct, strict=True):
        if not own:
            raise UsageError(f"nothing to pair on: {column} is empty in every document of {side.name}")
    shared = reduce(set.intersection, distinct)
    if not shared:
        raise UsageError(
            f"nothing to pair on: the sides share no value of {column} "
            f"({', '.join(f'{side.name} has {short(min(own))}' for side, own in zip(sides, distinct, strict=True))})"
        )
    # In order of the text, so that neither the order of the input nor of the sides moves a number.
    names = pa.array(sorted(shared), pa.string())
    numbers = []
    for keys in found:
        numbers.append(pc.fill_null(pc.index_in(keys, value_set=names), -1).to_numpy().astype(np.int64))
    kept = tuple(number >= 0 for number in numbers)
    paired = tuple(side.where(keep) for side, keep in zip(sides, kept, strict=True))
    return Pairs(paired, tuple(number[keep] for number, keep in zip(numbers, kept, strict=True)), names, kept)


def column_of(side: Side, column: str, what: str) -> pa.ChunkedArray:
    """A flat column of a side as text, in scan order. UsageError when there is none; `what` it was wanted for."""
    if column not in side.stored:
        there = ", ".join(sorted(side.stored))
        raise UsageError(f"no such column {column} {what} in dataset {side.dataset}; it has: {there}")
    tables = [table.column(column) for table in side.scan([column])]
    chunks: list[Any] = [chunk for one in tables for chunk in one.chunks]
    kind = tables[0].type if tables else pa.string()
    if pa.types.is_nested(kind):
        raise UsageError(f"{column} of dataset {side.dataset} holds lists; {what} takes one value a document")
    return pc.cast(pa.chunked_array(chunks, kind), pa.string())


def _keys(side: Side, column: str) -> pa.ChunkedArray:
    return column_of(side, column, "to pair on")
