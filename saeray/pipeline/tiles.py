"""Counting one tile: which files it needs, and what a worker does to make them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from saeray.stats.cooccurrence import Columns, Costs, Tile, calibrate
from saeray.store import Store
from saeray.store.block import Block
from saeray.store.builder import is_half_full
from saeray.store.index import Index
from saeray.store.tiles import Manifest, TileFacts, TileFile, Tiles

Int64 = NDArray[np.int64]

FOLDER = "cooccurrence"


@dataclass(frozen=True)
class TileTask:
    """The tile of latents `rows` x `columns` (int64, in order of entry); `columns` None: of `rows` with themselves.

    `facts`: the files it shall have; `missing`: those of them to make. `before`: a file of its first latents over some
    of the settled blocks, to go on from.
    """

    rows: Int64
    columns: Int64 | None
    facts: TileFacts
    missing: tuple[TileFile, ...]
    before: TileFile | None


def ranges(order: Sequence[int], width: int) -> list[Int64]:
    """The latents of each tile along a side."""
    return [np.array(order[start : start + width], np.int64) for start in range(0, len(order), width)]


def extended(before: Sequence[int], band: Int64, frequency: Int64) -> tuple[int, ...]:
    """`before`, and then those of `band` that are new, the frequent ones first (equal ones ascending).

    By frequency, so that tiles are dense or sparse throughout and each gets the engine for what it is.
    """
    new = np.setdiff1d(band, np.array(before, np.int64))
    return (*before, *new[np.lexsort((new, -frequency[new]))].tolist())


def plan_tiles(
    tiles: Tiles, manifest: Manifest, before: Manifest | None, bands: Sequence[Int64], blocks: Iterable[Block]
) -> list[TileTask]:
    """A task for every tile of `manifest` (whose own tiles are not looked at) that holds a pair of `bands`."""
    settled, tail = list[str](), list[str]()
    for block in blocks:
        (settled if is_half_full(block.facts.spans) else tail).append(block.digest)
    there = set(tiles.place.names())
    known = {(one.row, one.column): one.settled for one in (before.tiles if before else ())}
    within = len(manifest.channels) == 1
    sides = [ranges(order, manifest.width) for order in manifest.latents]
    live = [[bool(np.isin(part, band).any()) for part in side] for side, band in zip(sides, bands, strict=True)]
    tasks = []
    for row, r in enumerate(sides[0]):
        for column, c in enumerate(sides[1]):
            if (within and column < row) or not (live[0][row] and live[1][column]):
                continue
            facts = TileFacts(
                row,
                column,
                TileFile.of(manifest.question, row, column, r, c, settled) if settled else None,
                TileFile.of(manifest.question, row, column, r, c, tail) if tail else None,
            )
            old = known.get((row, column))
            usable = old is not None and old.file in there and set(old.blocks) <= set(settled)
            missing = tuple(one for one in facts.files() if one.file not in there)
            diagonal = within and row == column
            tasks.append(TileTask(r, None if diagonal else c, facts, missing, old if usable else None))
    return tasks


class Counter:
    """Counts over blocks of the index of `name`. `masks`: of some blocks, packed, which documents are chosen."""

    def __init__(
        self, store: Store, name: str, channels: Sequence[str], masks: Mapping[str, bytes], device: str = "cpu"
    ) -> None:
        self._blocks = {block.digest: block for block in Index.open(store, name, check=False).blocks}
        self._sides = (channels[0], channels[-1])
        self._masks, self._device = masks, device

    def make(self, tiles: Tiles, task: TileTask) -> None:
        """Writes the missing files of a tile. Safe to repeat, and to do twice at once."""
        if task.facts.settled in task.missing and task.facts.settled is not None:
            tiles.write(task.facts.settled, self.settled(tiles, task))
        if task.facts.tail in task.missing and task.facts.tail is not None:
            tiles.write(task.facts.tail, self.count(task.facts.tail.blocks, task.rows, task.columns))

    def settled(self, tiles: Tiles, task: TileTask) -> Int64:
        """The settled counts: what was counted before, the strips of latents that are new, and the new blocks."""
        assert task.facts.settled is not None
        blocks, before = task.facts.settled.blocks, task.before
        if before is None:
            return self.count(blocks, task.rows, task.columns)
        columns = task.rows if task.columns is None else task.columns
        total = np.zeros((len(task.rows), len(columns)), np.int64)
        r, c = before.rows, before.columns
        total[:r, :c] = tiles.read(before)
        if c < len(columns):
            total[:, c:] = self.count(before.blocks, task.rows, columns[c:])
        if task.columns is None:
            total[r:, :] = total[:, r:].T
        elif r < len(task.rows):
            total[r:, :c] = self.count(before.blocks, task.rows[r:], columns[:c])
        new = set(blocks) - set(before.blocks)
        return total + self.count(sorted(new), task.rows, task.columns) if new else total

    def count(self, blocks: Sequence[str], rows: Int64, columns: Int64 | None) -> Int64:
        """int64[rows, columns] over some blocks; both in the order given."""
        costs = _costs(self._device, torch.get_num_threads())
        # Postings are read by ascending latents: the tile is counted so, and put in order at the end.
        orders = [np.argsort(side) for side in ((rows,) if columns is None else (rows, columns))]
        tile = Tile(len(rows), None if columns is None else len(columns), device=self._device)
        for name in blocks:
            left = self._columns(name, self._sides[0], rows[orders[0]])
            right = None if columns is None else self._columns(name, self._sides[1], columns[orders[1]])
            tile.add(left, right, costs.choose(left, right))
        counts = tile.counts()
        back = [np.argsort(order) for order in orders]
        return np.ascontiguousarray(counts[np.ix_(back[0], back[-1])])

    def _columns(self, name: str, channel: str, latents: Int64) -> Columns:
        block = self._blocks[name]
        postings = block.postings(channel, latents)
        columns = Columns(postings.offsets, postings.documents, block.documents)
        packed = self._masks.get(name)
        if packed is None:
            return columns
        bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=block.documents)
        return columns.only(bits.astype(np.bool_))


@functools.cache
def _costs(device: str, threads: int) -> Costs:
    """Measured once a process (0.3 s); other threads have other costs."""
    return calibrate(device)
