"""Tables of texts that an evaluation makes itself, encoded once into a dataset of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from saeray.config import EncodeConfig
from saeray.errors import SaerayError
from saeray.store import Store, location

#: Every table has one modification time, so that the store knows a file that was written again for the same.
MADE_NS = 946_684_800 * 10**9


def encode_tables(
    tables: Mapping[str, pa.Table],
    dataset: str,
    keep: Sequence[str],
    store: str,
    out: str,
    encoder: str,
    encode: Callable[..., Any] | None = None,
    on_progress: Callable[[Any], None] | None = None,
    store_sum: bool = False,
) -> None:
    """Writes `tables` (file name -> rows with `text` and the columns `keep`) below `out`/inputs and encodes what
    `dataset` does not hold of them yet.

    `encode` is `saeray.pipeline.encode.encode` unless given. SaerayError when shards are missing afterwards.
    """
    places = {name: location(out) / "inputs" / name for name in tables}
    for name, place in places.items():
        sink = pa.BufferOutputStream()
        pq.write_table(tables[name], sink, compression="zstd")
        data = sink.getvalue().to_pybytes()
        if place.read_if_there() != data:
            place.replace(data)
        if place.is_local:
            os.utime(place.path, ns=(MADE_NS, MADE_NS))
    if all_encoded(tables, dataset, store):
        return
    config = EncodeConfig(
        inputs=[place.uri for place in places.values()],
        dataset=dataset,
        store=store,
        encoder=encoder,
        text_column="text",
        keep=list(keep),
        store_sum=store_sum,
    )
    (encode or _pipeline())(config, on_progress)
    if not all_encoded(tables, dataset, store):
        raise SaerayError(f"the texts of {dataset} are not encoded to their end in {store}; run the same command again")


def all_encoded(files: Iterable[str], dataset: str, store: str) -> bool:
    """Whether every shard of these input files is committed; needs neither reader nor cluster."""
    try:
        here = Store.open(store)
    except SaerayError:
        return False  # not there yet: encoding makes it, and says what is wrong with it otherwise
    if dataset not in here.datasets():
        return False
    own = here.dataset(dataset)
    missing = {own.plan_of(shard).input_of(shard).name for shard in own.missing()}
    return set(files) <= {one.name for plan in own.plans() for one in plan.inputs} - missing


def _pipeline() -> Callable[..., Any]:
    from saeray.pipeline.encode import encode  # brings Ray, which tests and finished stores do without

    return encode
