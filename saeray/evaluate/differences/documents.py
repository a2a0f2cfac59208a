"""A set's documents as the two sides of a diff: read once a file, every size taken from memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.analysis.sides import Side
from saeray.errors import SaerayError
from saeray.evaluate.differences.sets import DATASET, LEAST, DiffSet, Unit
from saeray.store import Store

COLUMNS = ("doc_id", "channel", "text", "n_tokens", "source_row", "token_starts", "latents", "max", "count", "peak")
#: The column that pairs, in a set's sides.
PAIR = "pair"


@dataclass(frozen=True)
class Documents:
    """The encoded documents of one text column of one file: `table` has COLUMNS, `place` its row by source row."""

    table: pa.Table
    place: dict[int, int]
    shards: tuple[int, ...]

    def sides(self, one: DiffSet, size: int) -> tuple[Side, Side]:
        """The sides of a set at that size; paired ones with a column `pair`. SaerayError when the reader could encode
        too few of them."""
        keys = one.keys[:size] if one.keys is not None else None
        first, second = (self._side(name, rows, keys) for name, rows in zip("AB", one.rows(size), strict=True))
        if min(first.n_documents, second.n_documents) < LEAST:
            raise SaerayError(f"too few documents of {one.task.name} could be encoded; leave it out with --without")
        return first, second

    def _side(self, name: str, rows: Sequence[int], keys: Sequence[str] | None) -> Side:
        there = [i for i, row in enumerate(rows) if row in self.place]
        table = self.table.take(pa.array([self.place[rows[i]] for i in there], pa.int64()))
        if keys is not None:
            table = table.append_column(PAIR, pa.array([keys[i] for i in there], pa.string()))

        def scan(columns: Sequence[str]) -> Iterator[pa.Table]:
            yield table.select(list(columns))

        lengths = table.column("n_tokens").to_numpy().astype(np.int64)
        source = {"dataset": DATASET, "plans": [], "commits": "", "shards_missing": 0}
        stored = frozenset(table.column_names)
        return Side(name, DATASET, "text", table.column("doc_id"), lengths, stored, source, scan)


def read_units(store: Store, units: Sequence[Unit]) -> Documents:
    """The documents of `units`, all of one file and text column."""
    dataset = store.dataset(DATASET)
    files = {f"{unit.name}.parquet" for unit in units}
    shards = [one.shard for one in dataset.shards() if dataset.plan_of(one).input_of(one).name in files]
    tables = [table for shard in shards for table in dataset.scan_shard(shard, None, COLUMNS)]
    table = pa.concat_tables(tables).combine_chunks()
    place = {row: i for i, row in enumerate(table.column("source_row").to_pylist())}
    return Documents(table, place, tuple(shards))


def frequencies(side: Side, d_sae: int) -> NDArray[np.float64]:
    """float64[d_sae]: the share of the side's documents with each latent."""
    counts = np.zeros(d_sae, np.int64)
    for table in side.scan(["latents"]):
        latents = table.column("latents").combine_chunks().flatten().to_numpy()
        # A row has each latent once.
        counts += np.bincount(latents.astype(np.int64), minlength=d_sae)
    return counts / max(1, side.n_documents)
