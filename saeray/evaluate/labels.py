"""Are latents found by their labels? The auto-label goal, and what a person who searches by label gets.

For each property the latent that tells it best is known from the labelled documents. All labels are put in order of
similarity to the property's words, and the rank of that latent's label is the figure: 1 is best, 20 is what a person
reads through. Beside it the same for other labels of the same latents, and for a search that needs no latents: the
similarity of the documents' own embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import rankdata

from saeray.evaluate.documents import Documents, best_column, folds
from saeray.evaluate.table import kinds_of, mean_of, median_of
from saeray.report.evaluate import labels_page
from saeray.stats.ranking import Float64, auroc, average_precision, balanced_accuracy, column, contrast

#: Labels a person reads through, and the goal for the median rank.
READ = 20
#: A latent counts as as good as the best when its AUROC is no more than this below.
AS_GOOD = 0.02
#: Similarities are compared to six digits: a product of equal rows may differ in the seventh by where they stand.
DIGITS = 6
DOCUMENTS = "document embeddings"
BEST = "best latent, labelled documents at hand"

Embed = Callable[[Sequence[str]], NDArray[Any]]


@dataclass(frozen=True)
class LabelsResult:
    """`rows`: one a property and source of labels."""

    rows: pa.Table
    compared: list[dict[str, Any]]
    documents: Mapping[str, int]
    sources: Mapping[str, int]
    parameters: Mapping[str, Any]
    made_with: Mapping[str, Any]

    def table(self) -> list[dict[str, Any]]:
        """For a terminal: one row a kind of property and way to find documents that have it."""
        return [{name: "" if value is None else value for name, value in row.items()} for row in self.compared]

    def summary(self) -> dict[str, Any]:
        """JSON-ready: the table, the labels and documents it rests on, parameters, and what made it."""
        return {
            "analysis": "evaluate labels",
            "compared": self.compared,
            "labels": dict(self.sources),
            "documents": dict(self.documents),
            "parameters": dict(self.parameters),
            "made_with": dict(self.made_with),
        }

    def page(self) -> str:
        """The report, one HTML page."""
        return labels_page(self)


def evaluate_labels(
    sets: Iterable[Documents],
    sources: Mapping[str, Mapping[int, str]],
    embed_labels: Embed,
    embed_documents: Callable[[Documents], NDArray[Any]],
    parameters: Mapping[str, Any],
    made_with: Mapping[str, Any],
) -> LabelsResult:
    """Every source of labels (name -> one label a latent) on every property of `sets`.

    `embed_labels` and `embed_documents` give rows of length 1, float[n, d], so that products are cosines; queries are
    embedded like labels.
    """
    embedded = {name: _Labels.of(labels, embed_labels) for name, labels in sources.items()}
    rows: list[dict[str, Any]] = []
    documents: dict[str, int] = {}
    for one in sets:
        documents[one.file] = len(one.texts)
        queries = embed_labels([task.query for task in one.queries])
        vectors = embed_documents(one)
        for q, query in enumerate(queries):
            best, as_good = _best(one, q)
            told = _told(one, q, vectors @ query) | {"latent": best, "as_good": len(as_good)}
            for name, labels in embedded.items():
                rows.append(told | {"source": name} | _found(one, q, labels, query, best, as_good))
    counts = {name: len(labels) for name, labels in sources.items()}
    fixed = {"read": READ, "as_good": AS_GOOD}
    return LabelsResult(
        pa.Table.from_pylist(rows), compare(rows), documents, counts, {**parameters, **fixed}, made_with
    )


def compare(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means and medians over the properties of each kind, a row for each source and each thing beside it."""
    found = []
    for kind, own in kinds_of(rows).items():
        sources = list(dict.fromkeys(row["source"] for row in own))
        for source in sources:
            of_source = [row for row in own if row["source"] == source]
            entry = {"kind": kind, "way": f"labels: {source}", "properties": len(of_source)}
            entry |= {name: median_of(of_source, name) for name in ("rank", "rank_as_good")}
            entry["within_20"] = round(float(np.mean([row["rank"] <= READ for row in of_source])), 4)
            measures = ("auroc_first", "auroc_best_of_20", "precision_first", "precision_best_of_20")
            found.append(entry | {name: mean_of(of_source, name) for name in measures})
        once = [row for row in own if row["source"] == sources[0]]
        beside = {"kind": kind, "properties": len(once)}
        auroc_, precision = mean_of(once, "auroc_documents"), mean_of(once, "precision_documents")
        found.append(beside | {"way": DOCUMENTS, "auroc_first": auroc_, "precision_first": precision})
        auroc_, precision = mean_of(once, "auroc_held_out"), mean_of(once, "precision_held_out")
        found.append(beside | {"way": BEST, "auroc_first": auroc_, "precision_first": precision})
    names = list(found[0])
    return [{name: entry.get(name) for name in names} for entry in found]


def ranks(similarity: NDArray[Any], latents: NDArray[np.int64], d_sae: int) -> Float64:
    """float64[d_sae]: 1 for the latent whose label is most similar; equal ones share their mean rank, and latents
    without a label share that of all places after the last."""
    found = np.full(d_sae, (len(latents) + 1 + d_sae) / 2)
    found[latents] = rankdata(-np.round(similarity, DIGITS))
    return found


@dataclass(frozen=True)
class _Labels:
    """`latents` int64[n] ascending, `texts` theirs, `vectors` float[n, d]."""

    latents: NDArray[np.int64]
    texts: list[str]
    vectors: NDArray[Any]

    @classmethod
    def of(cls, labels: Mapping[int, str], embed: Embed) -> _Labels:
        latents = sorted(labels)
        texts = [labels[latent] for latent in latents]
        unique = sorted(set(texts))
        place = {text: i for i, text in enumerate(unique)}
        return cls(np.array(latents, np.int64), texts, embed(unique)[[place[text] for text in texts]])


def _best(d: Documents, q: int) -> tuple[int, NDArray[np.int64]]:
    """The latent that tells query `q` best, and all that do it about as well.

    Chosen on all documents: the rank of its label owes nothing to them, and a half would more often take a latent
    that is best by chance.
    """
    x, relevant = d.pools["max"], d.relevant[:, q]
    area = auroc(x, relevant)
    best = best_column(area, contrast(x, relevant))
    return best, np.flatnonzero(area >= area[best] - AS_GOOD)


def _told(d: Documents, q: int, similarity: NDArray[Any]) -> dict[str, Any]:
    """What holds for a property whatever the labels: how well its best latent does, and document embeddings.

    The `_held_out` figures are of a latent chosen on one half and measured on the other, the mean of both ways.
    """
    x, relevant, task = d.pools["max"], d.relevant[:, q], d.queries[q]
    held_out = []
    for train, test in folds(d.first_half(q)):
        chosen = best_column(auroc(x[train], relevant[train]), contrast(x[train], relevant[train]))
        held_out.append(_measures(x[test][:, [chosen]], relevant[test]))
    mean = np.mean(held_out, axis=0)
    beside = _measures(column(np.round(similarity, DIGITS)), relevant)
    return {
        "file": d.file,
        "query": task.query,
        "kind": task.kind,
        "documents": len(d.texts),
        "relevant": int(relevant.sum()),
        "auroc_held_out": float(mean[0]),
        "precision_held_out": float(mean[1]),
        "presence_accuracy_held_out": float(mean[2]),
        "auroc_documents": float(beside[0]),
        "precision_documents": float(beside[1]),
    }


def _found(
    d: Documents, q: int, labels: _Labels, query: NDArray[Any], best: int, as_good: NDArray[np.int64]
) -> dict[str, Any]:
    """Where the label of the `best` latent stands, and how well those do that stand first.

    The first is taken as it comes; the best of the first READ is chosen on one half and measured on the other.
    """
    x, relevant = d.pools["max"], d.relevant[:, q]
    similarity = np.round(labels.vectors @ query, DIGITS)
    place = ranks(similarity, labels.latents, x.shape[1])
    read = labels.latents[np.argsort(-similarity, kind="stable")[:READ]]
    first = _measures(x[:, read[:1]], relevant)
    twenty = []
    for train, test in folds(d.first_half(q)):
        own = x[:, read]
        chosen = best_column(auroc(own[train], relevant[train]), contrast(own[train], relevant[train]))
        twenty.append(_measures(own[test][:, [chosen]], relevant[test]))
    of_twenty = np.mean(twenty, axis=0)
    text = dict(zip(labels.latents.tolist(), labels.texts, strict=True))
    return {
        "label": text.get(best),
        "rank": float(place[best]),
        "rank_as_good": float(place[as_good].min()),
        "first": int(read[0]),
        "first_label": text[int(read[0])],
        "auroc_first": float(first[0]),
        "precision_first": float(first[1]),
        "auroc_best_of_20": float(of_twenty[0]),
        "precision_best_of_20": float(of_twenty[1]),
    }


def _measures(x: Any, relevant: NDArray[np.bool_]) -> tuple[float, float, float]:
    """AUROC, average precision, and balanced accuracy of presence, of one column."""
    area, precision, accuracy = (f(x, relevant)[0] for f in (auroc, average_precision, balanced_accuracy))
    return float(area), float(precision), float(accuracy)
