"""Tallies as an Arrow table, one row a group, and back: what the cached partial results hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.stats.frequency import Int64
from saeray.stats.quantiles import Sketch
from saeray.stats.tally import Exact, Tally, stratum_of

_SUMS = ("max_sum", "sum")
_LISTS: dict[str, pa.DataType] = {
    "n_tokens": pa.int64(),
    "n_documents": pa.int64(),
    "stratum_cell": pa.int64(),  # stratum * d_sae + latent
    "stratum_documents": pa.int64(),
    "latents": pa.int64(),  # those with any token
    "tokens": pa.int64(),
    "max": pa.float32(),
    **{f"{name}_{limb}": pa.int64() for name in _SUMS for limb in ("high", "low")},
    "sketch_size": pa.int32(),  # how many of the buckets are each latent's
    "sketch_bucket": pa.int32(),
    "sketch_count": pa.int64(),
}
#: One row a group. Lists go together by their first words; `sum_*` is null where no sums are stored.
SCHEMA = pa.schema(
    [("group", pa.string()), *((name, pa.list_(pa.field("element", kind))) for name, kind in _LISTS.items())]
)


def to_table(groups: Mapping[str, Tally]) -> pa.Table:
    """The table (`SCHEMA`) of some tallies, in the order of their names; only what is not 0 takes room."""
    tables = [_row(name, groups[name]) for name in sorted(groups)]
    return pa.concat_tables([SCHEMA.empty_table(), *tables])


def from_table(table: pa.Table, d_sae: int) -> dict[str, Tally]:
    """The inverse of `to_table`."""
    return {table.column("group")[i].as_py(): _tally(table.slice(i, 1), d_sae) for i in range(table.num_rows)}


def _row(name: str, tally: Tally) -> pa.Table:
    there = np.flatnonzero(tally.tokens | tally.documents)
    cells = [stratum * tally.d_sae + np.flatnonzero(found) for stratum, found in tally.strata.items()]
    counts = [found[found > 0] for found in tally.strata.values()]
    size, bucket, count = tally.sketch.buckets()
    lists: dict[str, NDArray[Any] | None] = {
        "n_tokens": tally.n_tokens,
        "n_documents": tally.n_documents,
        "stratum_cell": np.concatenate([np.zeros(0, np.int64), *cells]),
        "stratum_documents": np.concatenate([np.zeros(0, np.int64), *counts]),
        "latents": there,
        "tokens": tally.tokens[there],
        "max": tally.maximum[there],
        "sketch_size": size[there].astype(np.int32),
        "sketch_bucket": bucket,
        "sketch_count": count,
    }
    for column, total in zip(_SUMS, (tally.max_sum, tally.sum), strict=True):
        lists[f"{column}_high"] = None if total is None else total.high[there]
        lists[f"{column}_low"] = None if total is None else total.low[there]
    arrays = [pa.array([name])] + [_list(lists[column], SCHEMA.field(column).type) for column in _LISTS]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _list(values: NDArray[Any] | None, kind: pa.DataType) -> pa.Array:
    if values is None:
        return pa.nulls(1, kind)
    return pa.ListArray.from_arrays(np.array([0, len(values)], np.int32), pa.array(values, kind.value_type), type=kind)


def _tally(row: pa.Table, d_sae: int) -> Tally:
    def column(name: str) -> NDArray[Any]:
        found: NDArray[Any] = row.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return found

    def spread(name: str) -> NDArray[Any]:
        full = np.zeros(d_sae, column(name).dtype)
        full[column("latents")] = column(name)
        return full

    stratum, latent = np.divmod(column("stratum_cell"), d_sae)
    strata: dict[int, Int64] = {}
    bucket = column("sketch_bucket")
    for one in np.unique(stratum_of(column("n_tokens"))).tolist():
        own = stratum == one
        strata[one] = np.zeros(d_sae, np.int64)
        strata[one][latent[own]] = column("stratum_documents")[own]
    stored = row.column("sum_high").null_count == 0
    return Tally(
        column("n_tokens"),
        column("n_documents"),
        strata,
        spread("tokens"),
        spread("max").astype(np.float32),
        Exact(spread("max_sum_high"), spread("max_sum_low")),
        Exact(spread("sum_high"), spread("sum_low")) if stored else None,
        Sketch.from_buckets(spread("sketch_size"), bucket, column("sketch_count")),
    )
