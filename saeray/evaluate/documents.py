"""A sample as it lies in the store: texts, labels, pooled latents, and the halves that choose and measure in turn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from saeray.errors import SaerayError
from saeray.evaluate.sample import DATASET, Sample, query_id
from saeray.evaluate.tasks import Retrieval
from saeray.stats.frequency import flat, lengths
from saeray.stats.ranking import Float64
from saeray.store import Store

Bool = NDArray[np.bool_]
VALUES = ("max", "count", "sum")


@dataclass(frozen=True)
class Documents:
    """The encoded rows of one sample.

    `n_tokens` int64[n]; `relevant` bool[n, queries]; `pools` name -> SciPy CSR float64[n, d_sae] of `max`, `count`
    and `sum`. `order`: a fixed shuffling of the documents, by hash of their texts.
    """

    sample: str
    file: str
    queries: tuple[Retrieval, ...]
    texts: list[str]
    n_tokens: NDArray[np.int64]
    relevant: Bool
    pools: dict[str, Any]

    @property
    def order(self) -> NDArray[np.int64]:
        keys = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in self.texts]
        return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)

    def first_half(self, query: int) -> Bool:
        """bool[n]: half of the relevant documents of a query and half of the others."""
        first = np.zeros(len(self.texts), np.bool_)
        relevant = self.relevant[self.order, query]
        for side in (relevant, ~relevant):
            first[self.order[side][::2]] = True
        return first


def read_documents(store: Store, sample: Sample) -> Documents:
    """The rows of `sample`. SaerayError when the reader could encode so few that a query has no two of a kind left."""
    dataset = store.dataset(DATASET)
    d_sae = (store.encoder() or {})["sae"]["d_sae"]
    name = f"{sample.name}.parquet"
    shards = [shard.shard for shard in dataset.shards() if dataset.plan_of(shard).input_of(shard).name == name]
    columns = ["text", "n_tokens", "relevant", "latents", *VALUES]
    table = pa.concat_tables(table for shard in shards for table in dataset.scan_shard(shard, None, columns))
    ids = [set(found) for found in table.column("relevant").to_pylist()]
    relevant = np.array([[query_id(q) in own for q in range(len(sample.queries))] for own in ids], np.bool_)
    hits = relevant.sum(axis=0)
    if table.num_rows == 0 or (np.minimum(hits, table.num_rows - hits) < 2).any():
        raise SaerayError(
            f"too few documents of {sample.file} could be encoded ({table.num_rows} of {sample.table.num_rows}); "
            f"leave it out with --without, or see the rejects of dataset {DATASET}"
        )
    return Documents(
        sample=sample.name,
        file=sample.file,
        queries=sample.queries,
        texts=table.column("text").to_pylist(),
        n_tokens=table.column("n_tokens").to_numpy().astype(np.int64),
        relevant=relevant,
        pools=_pools(table.combine_chunks().to_batches()[0], d_sae),
    )


def folds(first: Bool) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(documents to choose on, documents to measure on), both ways round."""
    a, b = np.flatnonzero(first), np.flatnonzero(~first)
    yield a, b
    yield b, a


def best_column(area: Float64, apart: Float64) -> int:
    """The column with the highest AUROC; of equal ones that with the widest contrast, then the first."""
    return int(np.lexsort((-apart, -np.round(area, 12)))[0])


def _pools(batch: pa.RecordBatch, d_sae: int) -> dict[str, Any]:
    latents = flat(batch, "latents").astype(np.int64)
    if latents.size and latents.max() >= d_sae:
        raise SaerayError(f"a row holds latent {latents.max()}, the encoder has {d_sae}; run `saeray verify {DATASET}`")
    starts = np.concatenate([[0], np.cumsum(lengths(batch, "latents"))])
    shape = (batch.num_rows, d_sae)
    return {n: sp.csr_array((flat(batch, n).astype(np.float64), latents, starts), shape=shape) for n in VALUES}
