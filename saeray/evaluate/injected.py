"""Injected texts in the store: written to files, encoded once, and read back as a part of what is counted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from saeray.analysis.correlate.indexed import parts_of
from saeray.analysis.correlate.pairs import Held, Part, columns
from saeray.errors import SaerayError
from saeray.evaluate.encoded import encode_tables
from saeray.evaluate.injections import Kind
from saeray.store import Store
from saeray.store.chosen import Chosen
from saeray.store.index import build_missing

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

#: The dataset of a store that holds them.
DATASET = "injections"
#: Texts of a kind and seed: with both properties, and with each alone.
TEXTS, CONTROLS = 100, 40
BOTH, FIRST, SECOND = "both", "first", "second"
KEPT = ("kind", "seed", "part", "sample")


@dataclass(frozen=True)
class Injected:
    """The encoded texts: `part` with all of them; `kind`, `seed`, `which` (BOTH, FIRST or SECOND) and `texts`, one a
    document of it."""

    part: Part
    kind: NDArray[np.str_]
    seed: Int64
    which: NDArray[np.str_]
    texts: list[str]

    def chosen(self, kind: Kind, seed: int, which: str) -> Int64:
        """The numbers of some documents, ascending."""
        return np.flatnonzero((self.kind == kind.name) & (self.seed == seed) & (self.which == which))

    def only(self, documents: Int64) -> Part:
        """A part of some documents; the others are there but not looked at."""
        return Only(self.part, documents)


class Only:
    """A part of which only some documents are looked at."""

    def __init__(self, part: Part, documents: Int64) -> None:
        self._part = part
        self.documents, self.lengths = part.documents, part.lengths
        self.kept: Bool = np.zeros(part.documents, bool)
        self.kept[documents] = True

    def held(self, side: int, latents: Int64) -> Held:
        return self._part.held(side, latents)


def presence(part: Part, d_sae: int) -> sparse.csr_matrix:
    """float32 CSR [documents, d_sae] of ones."""
    matrix = columns(part, 0, np.arange(d_sae)).matrix
    return sparse.csc_matrix((np.ones(matrix.nnz, np.float32), matrix.indices, matrix.indptr), matrix.shape).tocsr()


def table_of(kind: Kind, seed: int) -> pa.Table:
    """The texts of one kind and seed: text, kind, seed, part, and sample, a digest of the texts."""
    both, (first, second) = kind.texts(TEXTS, seed), kind.controls(CONTROLS, seed)
    texts = [*both, *first, *second]
    part = [BOTH] * TEXTS + [FIRST] * CONTROLS + [SECOND] * CONTROLS
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
    n = len(texts)
    return pa.table({"text": texts, "kind": [kind.name] * n, "seed": [seed] * n, "part": part, "sample": [digest] * n})


def encode_injected(
    kinds: Sequence[Kind],
    seeds: Sequence[int],
    store: str,
    out: str,
    encoder: str = "smollm2-135m",
    encode: Callable[..., Any] | None = None,
    on_progress: Callable[[Any], None] | None = None,
) -> None:
    """Writes the texts below `out`/inputs and encodes what of them `store` does not hold yet, as one dataset.

    `encode` is `saeray.pipeline.encode.encode` unless given. SaerayError when shards are missing afterwards.
    """
    made = (table_of(kind, seed) for kind in kinds for seed in seeds)
    tables = {f"{file_name(table)}.parquet": table for table in made}
    encode_tables(tables, DATASET, KEPT, store, out, encoder, encode, on_progress)


def file_name(table: pa.Table) -> str:
    """Kind, seed and digest."""
    row = table.slice(0, 1).to_pylist()[0]
    return f"{row['kind'].replace(' ', '-')}-{row['seed']}-{row['sample']}"


def read_injected(store: Store, kinds: Sequence[Kind], seeds: Sequence[int]) -> Injected:
    """The encoded texts of these kinds and seeds, through an index of them that is made when it is missing."""
    index = build_missing(store, DATASET)
    _, selector = store.select(DATASET)
    parts = parts_of(Chosen(index, selector, ()))
    if len(parts) != 1:
        raise SaerayError(f"dataset {DATASET} of {store.uri} is too large for one block: delete it and run again")
    names = ["doc_id", "text", *KEPT]
    scanned = (t for shard in index.dataset.committed() for t in index.dataset.scan_shard(shard, None, names))
    rows = pa.concat_tables(scanned)
    at = {doc_id: row for row, doc_id in enumerate(rows.column("doc_id").to_pylist())}
    rows = rows.take(pa.array([at[doc_id] for doc_id in parts[0].block.doc_ids().to_pylist()]))
    known = {table_of(kind, seed).column("sample")[0].as_py() for kind in kinds for seed in seeds}
    current = np.isin(rows.column("sample").to_numpy(zero_copy_only=False).astype(str), sorted(known))
    return Injected(
        part=parts[0],
        # Texts of an older version of the grammar stay in the store and are of no kind.
        kind=np.where(current, np.array(rows.column("kind").to_pylist(), str), ""),
        seed=rows.column("seed").to_numpy().astype(np.int64),
        which=np.array(rows.column("part").to_pylist(), str),
        texts=rows.column("text").to_pylist(),
    )
