"""What the label commands do, apart from the terminal: a store and a selector in, something to print out.

Each is one call, for a job or a notebook too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from saeray.analysis.sides import open_side
from saeray.errors import UsageError
from saeray.labels.baselines import TOP_TOKENS, top_tokens
from saeray.labels.embedding import Embedder, label_embeddings
from saeray.labels.groups import JACCARD, MIN_SUPPORT, NEAR, LatentGroup, groups_of_side, near_level
from saeray.labels.meanings import named
from saeray.labels.score import SAMPLE, Embeds, score_labels, with_scores
from saeray.labels.store import LabelStore
from saeray.store import Store, location

#: What the labels that saeray makes itself are called.
AUTO = "auto"


@dataclass(frozen=True)
class Grouping:
    """All groups, singles too; `near`: the cosine at which labels count as near, None where that was not asked."""

    groups: list[LatentGroup]
    near: float | None
    documents: int


def make_auto_labels(store: Store, selector: str, channel: str | None, out: str | None, date: str) -> dict[str, Any]:
    """Labels from the documents of `selector`, into STORE/labels or into the Parquet file `out`."""
    from saeray.labels.auto import auto_labels

    if out is not None and not out.endswith(".parquet"):
        raise UsageError(f"--out {out}: a Parquet file, so it ends in .parquet")
    labels = LabelStore.of(store)
    side = open_side(store, selector, channel)
    table = auto_labels(side, labels.d_sae, date=date)
    if out is None:
        labels.add(table, AUTO)
        where = (labels.root / f"{AUTO}.parquet").uri
    else:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        place = location(out)
        place.replace(sink.getvalue().to_pybytes())
        where = place.uri
    kinds = table.column("kind").value_counts().to_pylist()
    return {
        "labels": table.num_rows,
        "latents": len(table.column("latent").unique()),
        "kinds": {str(kind["values"]): kind["counts"] for kind in sorted(kinds, key=lambda kind: -kind["counts"])},
        "documents": side.n_documents,
        "out": where,
    }


def score_source(
    store: Store,
    selector: str,
    channel: str | None,
    source: str,
    embedder: Embeds,
    *,
    sample: int | None = SAMPLE,
    seed: int = 0,
    told: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Scores the labels of `source` on the documents of `selector` and keeps the scores with them; the summary. Beside
    them in the same run, where the evidence has tokens, the plain labels of the same latents."""
    labels = LabelStore.of(store)
    table = labels.table(source)
    side = open_side(store, selector, channel)
    both = table if source == TOP_TOKENS else pa.concat_tables([table, top_tokens(table)])
    scores = score_labels(side, labels.d_sae, both, embedder, sample=sample, seed=seed, told=told)
    labels.add(with_scores(table, scores), source)
    return {"source": source, "selection": side.facts(), **scores.summary}


def group_all(
    store: Store,
    selector: str,
    channel: str | None,
    sources: Sequence[str],
    embedder: Embedder | None,
    *,
    near: float | None = None,
    jaccard: float = JACCARD,
    min_support: int = MIN_SUPPORT,
) -> Grouping:
    """Groups of all latents of the encoder by their best labels and the documents of `selector`.

    `near` None: `NEAR` for minilm, measured on these labels for another embedder. Without `embedder` labels must be the
    same to count as the same.
    """
    labels = LabelStore.of(store)
    side = open_side(store, selector, channel)
    texts = named(labels, sources)
    embeddings = None
    if embedder is not None and texts:
        distinct = sorted(set(texts.values()))
        vectors = label_embeddings(labels, distinct, embedder)
        if near is None:
            near = NEAR if embedder.name == "minilm" else near_level(vectors)
        place = {text: i for i, text in enumerate(distinct)}
        embeddings = np.zeros((labels.d_sae, vectors.shape[1]), np.float32)
        embeddings[list(texts)] = vectors[[place[text] for text in texts.values()]]
    found = groups_of_side(
        side,
        range(labels.d_sae),
        labels=texts,
        embeddings=embeddings,
        near=NEAR if near is None else near,
        jaccard=jaccard,
        min_support=min_support,
    )
    return Grouping(found, near if embeddings is not None else None, side.n_documents)


def list_sources(store: Store, source: str | None = None) -> list[dict[str, Any]]:
    """Each source with its counts, models and mean score; UsageError when `source` is not one."""
    labels = LabelStore.of(store)
    found = labels.sources()
    if source is not None:
        labels.table(source)
        found = [row for row in found if row["name"] == source]
    return found


def of_latent(store: Store, latent: int, source: str | None = None) -> list[dict[str, Any]]:
    """All labels of one latent, evidence read. UsageError when the encoder has no such latent."""
    labels = LabelStore.of(store)
    if not 0 <= latent < labels.d_sae:
        raise UsageError(f"there is no latent {latent}: the encoder has {labels.d_sae:,}, from 0")
    table = labels.table(source)
    rows: list[dict[str, Any]] = table.filter(pc.equal(table.column("latent"), latent)).to_pylist()
    return [row | {"evidence": json.loads(row["evidence"]) if row["evidence"] else None} for row in rows]
