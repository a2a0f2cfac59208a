"""How good a label is: can a reader of the label alone tell the documents where its latent is present?

Labels are judged on documents that nobody used before. A labeller reads the "propose" documents; among its candidates,
and for the thresholds here, only "choose" documents decide; what is reported comes from the "score" documents. Without
the third part the best of ten candidates would be reported at the luck that made it the best.

Two readers. The embedding: the cosine of the label's text and an excerpt around the latent's peak (in silent documents
around the peak of a neighbouring latent, or anywhere). The label's own test, where its evidence holds one: applied to
the whole text, since that is what the label speaks of. `score` is the embedding's balanced accuracy, 0.5 by chance, for
every source alike. Detection after Paulo et al. 2024, arXiv 2410.13928, with hard negatives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.analysis.sides import Side
from saeray.errors import SaerayError, UsageError
from saeray.labels.baselines import TOP_TOKENS
from saeray.labels.detection import Distinct, Drawn, gather, mixed
from saeray.labels.predict import test_in
from saeray.stats.ranking import above, auroc, balanced_accuracy, column

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
Predict = Callable[[dict[str, Any], Sequence[str]], Float64]
Row = dict[str, Any]

#: Documents pooled for thresholds and for scores. 2,000 hold 10 documents of a latent present in 0.5% of them.
CHOOSE, SCORE = 1_000, 2_000
#: Positives, and as many negatives, a latent: one latent's score is known to within 0.08, a mean of 500 within 0.004.
CHOOSE_EACH, SCORE_EACH = 10, 20
#: A latent with fewer positives or negatives has no score, and is counted; with half as many to choose by, its
#: threshold is the median of the others.
MIN_DOCUMENTS = 10
#: Latents drawn unless all are asked for.
SAMPLE = 500
_RESAMPLES = 1_000
_TRIES = 100
SHUFFLED = "shuffled"
_MEASURES = ("auroc_embedding", "balanced_accuracy_embedding", "auroc_test", "balanced_accuracy_test", "auroc_hard")

SCORES_SCHEMA = pa.schema(
    [
        ("latent", pa.uint32()),
        ("source", pa.string()),
        ("text", pa.string()),
        *((name, pa.int32()) for name in ("n_positive", "n_negative", "n_hard")),
        *((name, pa.float32()) for name in _MEASURES),
    ]
)


class Embeds(Protocol):
    """What turns texts into unit vectors: saeray.labels.embedding.Embedder, or a stand-in."""

    name: str

    def embed(self, texts: Sequence[str]) -> Float32:
        """float32 [len(texts), d], unit rows."""


@dataclass(frozen=True)
class Scores:
    """`table`: SCORES_SCHEMA, one row a label, by (latent, source, text); nulls where there are too few documents.
    `summary`: for each source the means with 95% intervals, and the same for labels dealt to the wrong latents."""

    table: pa.Table
    summary: dict[str, Any]


def score_labels(
    side: Side,
    d_sae: int,
    labels: pa.Table,
    embedder: Embeds,
    *,
    predict: Predict | None = None,
    sample: int | None = SAMPLE,
    seed: int = 0,
    choose: int = CHOOSE,
    score: int = SCORE,
    told: Callable[[str], None] | None = None,
) -> Scores:
    """Scores of the labels of `sample` latents (None: all), drawn from those labelled by hash of `seed` and latent.

    `labels`: LABEL_SCHEMA, any sources; empty texts are left out. `predict`: (test, texts) -> float64 scores,
    saeray.labels.predict.predict unless given. `choose`, `score`: documents pooled. A text is embedded once.
    """
    apply = predict or _own_predict()
    rows = _rows(labels, sample, seed)
    if not rows:
        raise UsageError("there are no labels to score; run `saeray labels auto` or `saeray labels import` first")
    latents = np.unique(np.array([row["latent"] for row in rows], np.int64))
    if latents[-1] >= d_sae:
        raise SaerayError(
            f"a label is for latent {latents[-1]}, the encoder has {d_sae}; these are another SAE's labels"
        )
    pools = gather(side, d_sae, {"choose": choose, "score": score})
    neighbours = pools["score"].neighbours(latents)
    tried = Drawn(pools["choose"], latents, neighbours, CHOOSE_EACH)
    final = Drawn(pools["score"], latents, neighbours, SCORE_EACH)
    texts = Distinct()
    for documents in (tried, final):
        documents.number(texts)
    of_label = [texts.number(row["text"]) for row in rows]
    if told:
        told(f"{len(rows):,} labels of {len(latents):,} latents, {len(texts.all):,} excerpts to embed")
    vectors = embedder.embed(texts.all)

    def cosines(documents: Drawn, row: Row, label: int) -> Float64:
        return np.asarray(vectors[documents.excerpts[row["latent"]]] @ vectors[label], np.float64)

    def tested(documents: Drawn, row: Row) -> Float64:
        return apply(row["test"], documents.texts(row["latent"]))

    embedding = [(cosines(tried, row, at), cosines(final, row, at)) for row, at in zip(rows, of_label, strict=True)]
    dealt = [of_label[i] for i in _wrong(rows)]
    shuffled = [(cosines(tried, row, at), cosines(final, row, at)) for row, at in zip(rows, dealt, strict=True)]
    own = [(tested(tried, row), tested(final, row)) if row["test"] else None for row in rows]
    judged = _judge(rows, tried, final, embedding, "embedding")
    judged_shuffled = _judge(rows, tried, final, shuffled, "embedding")
    for row, a, b in zip(rows, judged, _judge(rows, tried, final, own, "test"), strict=True):
        row |= a | b | final.facts(row["latent"])
    table = pa.Table.from_pylist([{name: row[name] for name in SCORES_SCHEMA.names} for row in rows], SCORES_SCHEMA)
    summary = {
        "embedder": embedder.name,
        "documents": {split: len(pool.texts) for split, pool in pools.items()},
        "latents": len(latents),
        "chance": 0.5,
        "sources": {
            source: _means([row for row in rows if row["source"] == source])
            for source in sorted({row["source"] for row in rows})
        },
        SHUFFLED: _means(
            [found for row, found in zip(rows, judged_shuffled, strict=True) if row["source"] != TOP_TOKENS]
        ),
    }
    return Scores(table, summary)


def with_scores(labels: pa.Table, scores: Scores) -> pa.Table:
    """`labels` with `score` set to the embedding's balanced accuracy where a label was scored, else as it was."""
    found = {
        (row["latent"], row["source"], row["text"]): row["balanced_accuracy_embedding"]
        for row in scores.table.to_pylist()
    }
    keys = zip(*(labels.column(name).to_pylist() for name in ("latent", "source", "text")), strict=True)
    before = labels.column("score").to_pylist()
    values = [found.get(key, old) for key, old in zip(keys, before, strict=True)]
    at = labels.schema.get_field_index("score")
    return labels.set_column(at, labels.schema.field(at), pa.array(values, pa.float32()))


def midpoint(scores: Float64, positive: Bool) -> float:
    """The threshold: half way between the means of the two classes.

    Steadier than the best cut of 20 documents, and as good when a test says only 0 or 1.
    """
    return float((scores[positive].mean() + scores[~positive].mean()) / 2)


def _rows(labels: pa.Table, sample: int | None, seed: int) -> list[Row]:
    """The labels to score, by (latent, source, text), each once, with the `test` of its evidence."""
    every = labels.select(["latent", "source", "text", "evidence"]).to_pylist()
    every = [row for row in every if row["text"] and row["text"].strip()]
    latents = np.unique(np.array([row["latent"] for row in every], np.uint64))
    if sample is not None and sample < len(latents):
        order = np.argsort(mixed(latents ^ mixed(np.array([seed], np.uint64))), kind="stable")
        latents = latents[order[:sample]]
    wanted = set(latents.tolist())
    rows = {(row["latent"], row["source"], row["text"]): row for row in every if row["latent"] in wanted}
    return [row | {"test": test_in(row.pop("evidence"))} for _, row in sorted(rows.items())]


def _own_predict() -> Predict:
    """saeray.labels.predict.predict with each text cut into units once, for all labels."""
    from saeray.labels.predict import predict_units
    from saeray.labels.units import units

    cut = cache(units)
    return lambda test, texts: predict_units(test, [cut(text) for text in texts])


def _wrong(rows: Sequence[Row]) -> list[int]:
    """For each label another one, of the same source, a different latent and a different text where there is one."""
    by_hash = mixed(np.array([row["latent"] for row in rows], np.uint64)).argsort(kind="stable").tolist()
    wrong = list(range(len(rows)))
    for place, i in enumerate(by_hash):
        for step in range(1, min(len(rows), _TRIES)):
            other = by_hash[(place + step) % len(rows)]
            if all(rows[other][name] != rows[i][name] for name in ("latent", "text")) and (
                rows[other]["source"] == rows[i]["source"]
            ):
                wrong[i] = other
                break
    return wrong


def _judge(
    rows: Sequence[Row],
    tried: Drawn,
    final: Drawn,
    scores: Sequence[tuple[Float64, Float64] | None],
    name: str,
) -> list[Row]:
    """AUROC and balanced accuracy of one reader for each label; `scores` on the documents tried and on the final."""
    thresholds = [
        midpoint(pair[0], tried.draws[row["latent"]].positive)
        if pair is not None and tried.enough(row["latent"], MIN_DOCUMENTS // 2)
        else float("nan")
        for row, pair in zip(rows, scores, strict=True)
    ]
    known = [t for t in thresholds if t == t]
    usual = float(np.median(known)) if known else float("nan")
    judged = []
    for row, pair, threshold in zip(rows, scores, thresholds, strict=True):
        found: Row = dict.fromkeys((f"auroc_{name}", f"balanced_accuracy_{name}"))
        if name == "embedding":
            found["auroc_hard"] = None
        cut = threshold if threshold == threshold else usual
        if pair is not None and cut == cut and final.enough(row["latent"], MIN_DOCUMENTS):
            draw = final.draws[row["latent"]]
            found[f"auroc_{name}"] = float(auroc(column(pair[1]), draw.positive)[0])
            found[f"balanced_accuracy_{name}"] = float(balanced_accuracy(above(pair[1], cut), draw.positive)[0])
            use = draw.positive | draw.hard
            if name == "embedding" and draw.hard.sum() >= MIN_DOCUMENTS // 2:
                found["auroc_hard"] = float(auroc(column(pair[1][use]), draw.positive[use])[0])
        judged.append(found)
    return judged


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over labels with their 95% bootstrap intervals (percentiles, resampling labels)."""
    scored = [row for row in rows if row["balanced_accuracy_embedding"] is not None]
    found: dict[str, Any] = {"labels": len(rows), "scored": len(scored), "too_few_documents": len(rows) - len(scored)}
    for name in _MEASURES:
        values = np.array([row[name] for row in rows if row.get(name) is not None], np.float64)
        if len(values):
            rng = np.random.default_rng(0)
            means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(_RESAMPLES)]
            low, high = np.quantile(means, [0.025, 0.975])
            figures = {"mean": values.mean(), "low": low, "high": high}
            found[name] = {key: round(float(value), 4) for key, value in figures.items()} | {"labels": len(values)}
    return found
