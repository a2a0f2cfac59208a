"""Two sides of known difference, drawn and encoded once: the first n documents by hash, so sizes are nested.

A tasks file often compares many groups of one file, and encoding is what costs. So a row is encoded once, whichever of
the sets it is in: first all sets at the smallest size, then what the next size adds. A size is left out of a set when
it would cost more than the budget; texts are never cut, because a difference may stand at their end.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.errors import UsageError
from saeray.evaluate.encoded import all_encoded, encode_tables
from saeray.evaluate.tasks import Condition, Diff, Tasks

#: The dataset of a store that holds every set's documents.
DATASET = "eval-diff"
KEPT = ("unit", "source_row")
#: Characters a token, about, of English: what a set costs is said before it is tokenised.
CHARACTERS = 4
#: Below this no latent could pass a test.
LEAST = 10


@dataclass(frozen=True)
class DiffSet:
    """A task with its documents: `a`, `b` rows of the file in the order of drawing; paired ones stand at one place and
    share the key at that place of `keys`. `sizes`: how many of each side are compared, smallest first; where the budget
    does not reach the smallest size, as many as it does reach."""

    task: Diff
    a: tuple[int, ...]
    b: tuple[int, ...]
    keys: tuple[str, ...] | None
    sizes: tuple[int, ...]

    def rows(self, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The rows of each side at that size."""
        return self.a[:size], self.b[:size]


@dataclass(frozen=True)
class Unit:
    """What is encoded as one input file: rows of `column` of `file`. `table` has text, unit (its name), source_row."""

    name: str
    file: str
    column: str
    table: pa.Table

    @property
    def characters(self) -> int:
        return sum(map(len, self.table.column("text").to_pylist()))


def chosen_tasks(tasks: Tasks, only: Sequence[str] = (), without: Sequence[str] = ()) -> list[Diff]:
    """The diff tasks, in order; `only` and `without` name some."""
    names = [task.name for task in tasks.diff]
    if not names:
        raise UsageError(f"{tasks.uri} has no diff tasks")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{tasks.uri} has two diff tasks named {twice}; give each a name of its own")
    if unknown := next((name for name in (*only, *without) if name not in names), None):
        raise UsageError(f"{tasks.uri} has no diff task {unknown}; it has {', '.join(names)}")
    found = [task for task in tasks.diff if (not only or task.name in only) and task.name not in without]
    if not found:
        raise UsageError(f"no diff task is left of {tasks.uri}: name fewer to leave out")
    return found


def draw_sets(
    tasks: Tasks, chosen: Sequence[Diff], sizes: Sequence[int], tokens: int, where: Mapping[str, Condition]
) -> tuple[list[DiffSet], list[Unit]]:
    """The sets of `chosen`, and the units that hold their documents.

    `sizes`: documents a side, taken ascending. `tokens`: the most of a side, as characters / 4. `where`: task name ->
    a condition that both sides also meet. All tasks of a file are drawn, so that the units do not depend on `chosen`.
    UsageError: columns that are not there, sides that overlap or are too small.
    """
    steps = sorted(set(sizes))
    sets: dict[str, DiffSet] = {}
    units: list[Unit] = []
    wanted = {task.name for task in chosen}
    for file in dict.fromkeys(task.file for task in chosen):
        table = tasks.table(file)
        own = [task for task in tasks.diff if task.file == file]
        drawn = [_drawn(task, table, tasks.uri, steps, tokens, where.get(task.name)) for task in own]
        sets |= {one.task.name: one for one in drawn}
        units += _units(file, table, drawn, wanted)
    return [sets[task.name] for task in chosen], units


def encode_units(
    units: Sequence[Unit],
    store: str,
    out: str,
    encoder: str = "smollm2-135m",
    encode: Callable[..., Any] | None = None,
    on_progress: Callable[[Any], None] | None = None,
) -> None:
    """Encodes what of the units `store` does not hold yet, as one dataset; shortest units first."""
    tables = {f"{unit.name}.parquet": unit.table for unit in sorted(units, key=lambda unit: unit.characters)}
    encode_tables(tables, DATASET, KEPT, store, out, encoder, encode, on_progress)


def is_encoded(units: Sequence[Unit], store: str) -> bool:
    """Whether every unit is committed; needs neither reader nor cluster."""
    return all_encoded((f"{unit.name}.parquet" for unit in units), DATASET, store)


def _drawn(
    task: Diff, table: pa.Table, uri: str, steps: Sequence[int], tokens: int, where: Condition | None
) -> DiffSet:
    if missing := next((n for n in (task.text_column, task.pair_by) if n and n not in table.column_names), None):
        raise UsageError(f"{uri}: {task.name}: {task.file} has no column {missing!r}")
    texts = table.column(task.text_column).to_pylist()
    there = np.array([isinstance(text, str) and bool(text.strip()) for text in texts], np.bool_)
    try:
        a = task.a.mask(table)
        b = ~a if task.b is None else task.b.mask(table)
        if where is not None:
            there &= where.mask(table)
    except UsageError as error:
        raise UsageError(f"{uri}: {task.name} on {task.file}: {error}") from error
    if (a & b).any():
        both = int((a & b).sum())
        raise UsageError(f"{uri}: {task.name}: {both:,} rows are on both sides; a row can be on one side only")
    if task.pair_by is None:
        rows = [_hashed(task.file, side & there) for side in (a, b)]
    else:
        rows = _pairs(task.file, table.column(task.pair_by).to_pylist(), a & there, b & there)
    within = min(_within([len(texts[row]) for row in side], tokens * CHARACTERS) for side in rows)
    if within < LEAST:
        raise UsageError(f"{uri}: {task.name} has {within} documents a side within the budget; it takes {LEAST}")
    fit = [step for step in steps if step <= within] or [within]
    first, second = (tuple(side[: max(fit)]) for side in rows)
    keys = None
    if task.pair_by is not None:
        own = table.column(task.pair_by).take(pa.array(first, pa.int64())).to_pylist()
        keys = tuple(map(str, own))
    return DiffSet(task, first, second, keys, tuple(fit))


def _pairs(file: str, keys: Sequence[Any], a: NDArray[np.bool_], b: NDArray[np.bool_]) -> list[list[int]]:
    """One row of each key that both sides have, then the next of each key that has more, all by hash."""
    found: list[tuple[int, bytes, int, int]] = []
    of_key: list[dict[Any, list[int]]] = [{}, {}]
    for side, mask in zip(of_key, (a, b), strict=True):
        for row in _hashed(file, mask):
            if keys[row] is not None:
                side.setdefault(keys[row], []).append(row)
    for key, rows in of_key[0].items():
        pairs = zip(rows, of_key[1].get(key, []), strict=False)
        found += [(turn, _place(file, key), first, second) for turn, (first, second) in enumerate(pairs)]
    found.sort()
    return [[pair[2] for pair in found], [pair[3] for pair in found]]


def _hashed(file: str, mask: NDArray[np.bool_]) -> list[int]:
    """The rows of a mask, by hash."""
    return sorted(np.flatnonzero(mask).tolist(), key=lambda row: _place(file, row))


def _place(file: str, row: Any) -> bytes:
    return hashlib.blake2b(f"{file}\0{row}".encode(), digest_size=8).digest()


def _within(lengths: Sequence[int], budget: int) -> int:
    """How many of the first lengths stay within the budget together."""
    return sum(total <= budget for total in accumulate(lengths))


def _units(file: str, table: pa.Table, drawn: Sequence[DiffSet], wanted: set[str]) -> list[Unit]:
    """The rows of a file that the sets need, by size and then by set, each once; units without wanted rows are left
    out."""
    needed = {row for one in drawn if one.task.name in wanted for row in (*one.a, *one.b)}
    texts = {one.task.text_column: table.column(one.task.text_column) for one in drawn}
    taken: set[tuple[str, int]] = set()
    found = []
    for size in sorted({size for one in drawn for size in one.sizes}):
        for one in drawn:
            if size not in one.sizes:
                continue
            column = one.task.text_column
            rows = [row for side in one.rows(size) for row in side if (column, row) not in taken]
            taken |= {(column, row) for row in rows}
            if needed & set(rows):
                found.append(_unit(file, one.task.name, column, texts[column], rows))
    return found


def _unit(file: str, name: str, column: str, texts: pa.ChunkedArray, rows: Sequence[int]) -> Unit:
    own = texts.take(pa.array(rows, pa.int64())).cast(pa.string())
    said = json.dumps([file, column, list(rows), own.to_pylist()])
    digest = hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    unit = f"{re.sub(r'[^A-Za-z0-9_.]+', '-', f'{PurePosixPath(file).stem}-{name}')}-{len(rows)}-{digest}"
    columns = {"text": own, "unit": pa.array([unit] * len(rows), pa.string()), "source_row": pa.array(rows, pa.int64())}
    return Unit(unit, file, column, pa.table(columns))
