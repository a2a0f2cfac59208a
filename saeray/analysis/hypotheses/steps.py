"""What a judge reads, and in which order: each step is a fresh draw of the design, the same one in every run.

A confidence sequence holds where each step is a random draw. A step is a whole key with all its rows, or, where nothing
is paired, a document of the smallest side with its share of every other side. The order hangs on the documents' ids and
the seed alone, so a rerun asks the same questions and finds them answered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saeray.analysis.diff.design import Design
from saeray.analysis.sides import Side
from saeray.errors import UsageError

Int64 = NDArray[np.int64]

#: Characters of a document that a judge is shown: some 6,000 tokens. What comes after them is cut off.
LONGEST = 24_000


@dataclass(frozen=True)
class Steps:
    """`rows`: of each side the rows to read, int64, numbered in scan order, step after step. `ends`: of each side how
    many rows are read before each step and after the last, int64[steps + 1]. `paired`: a step is a key. `union`: the
    others of a key count as one, which has a property when any of them has it.
    """

    rows: tuple[Int64, ...]
    ends: tuple[Int64, ...]
    paired: bool
    union: bool

    @property
    def n(self) -> int:
        return len(self.ends[0]) - 1

    @property
    def contrasts(self) -> int:
        """How many sides the target is held against, the union being one."""
        return 1 if self.union else len(self.rows) - 1

    @property
    def documents(self) -> tuple[int, ...]:
        return tuple(len(rows) for rows in self.rows)

    @property
    def binary(self) -> bool:
        """Whether every step gives one yes or no for the target and one for each that it is held against."""
        once = [bool((np.diff(ends) == 1).all()) for ends in self.ends]
        return once[0] and (self.union or all(once))


def steps_of(design: Design, documents: int | None = None, seed: int = 0) -> Steps:
    """The steps of all documents of `design`, or of at most `documents` a side (one key at least).

    Raises UsageError for a side without documents or without stored texts, and for a union without keys.
    """
    for side in design.sides:
        if "text" not in side.stored:
            raise UsageError(f"{side.name} was encoded without its texts, so no judge can read it: encode it with them")
        if not side.n_documents:
            raise UsageError(f"{side.name} has no document left to verify on: choose more, or do without halves")
    ids = [side.doc_ids.to_pylist() for side in design.sides]
    if design.keys is None:
        if design.against == "union":
            raise UsageError("a union is of answers to the same prompt: name the column that pairs them (--pair-on)")
        return _unpaired(ids, documents, seed)
    return _paired(ids, design.keys, design.n_keys, documents, seed, design.against == "union")


def texts_of(side: Side, rows: Int64) -> tuple[list[str], int]:
    """Texts of `rows`, in their order and no longer than `LONGEST`, and how many of them were cut to it."""
    place = {int(row): i for i, row in enumerate(rows)}
    found, cut, first = [""] * len(rows), 0, 0
    for table in side.scan(["text"]):
        column = table.column("text")
        for row in range(first, first + table.num_rows):
            if row in place:
                text = column[row - first].as_py() or ""
                cut += len(text) > LONGEST
                found[place[row]] = text[:LONGEST]
        first += table.num_rows
    return found, cut


def draws(names: Sequence[str], seed: int) -> NDArray[np.uint64]:
    """64 bits of each name and the seed: sorted by them, names stand in a random order that is always the same."""
    made = (
        hashlib.blake2b(f"{seed}\n{name}".encode("utf-8", "surrogatepass"), digest_size=8, person=b"saeray-verify")
        for name in names
    )
    return np.frombuffer(b"".join(one.digest() for one in made), np.dtype("<u8")).astype(np.uint64)


def _unpaired(ids: list[list[str]], documents: int | None, seed: int) -> Steps:
    sizes = [len(side) if documents is None else min(len(side), documents) for side in ids]
    n = min(sizes)
    orders = (np.argsort(draws(side, seed), kind="stable") for side in ids)
    rows = tuple(order[:size].astype(np.int64) for order, size in zip(orders, sizes, strict=True))
    ends = tuple(np.arange(n + 1, dtype=np.int64) * size // n for size in sizes)
    return Steps(rows, ends, paired=False, union=False)


def _paired(
    ids: list[list[str]], keys: tuple[Int64, ...], n_keys: int, documents: int | None, seed: int, union: bool
) -> Steps:
    # A key is called by the least id of its target rows: its number changes when keys come or go.
    names = [""] * n_keys
    for name, key in sorted(zip(ids[0], keys[0].tolist(), strict=True), reverse=True):
        names[key] = name
    order = np.argsort(draws(names, seed), kind="stable")
    ends = [np.concatenate([[0], np.cumsum(np.bincount(key, minlength=n_keys)[order])]) for key in keys]
    n = n_keys
    if documents is not None:
        n = max(1, min(int((end[1:] <= documents).sum()) for end in ends))
    place = np.empty(n_keys, np.int64)
    place[order] = np.arange(n_keys)
    rows = []
    for side, key, end in zip(ids, keys, ends, strict=True):
        by_step = np.lexsort((draws(side, seed), place[key]))
        rows.append(by_step[: end[n]].astype(np.int64))
    return Steps(tuple(rows), tuple(end[: n + 1].astype(np.int64) for end in ends), paired=True, union=union)
