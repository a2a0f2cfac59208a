"""Which pool tells a property best: max, count, count a token, mean, or presence alone?

The authors of the method (arXiv 2512.10092) took the maximum and left the question open. Here every pool answers the
same properties on the same documents, from the same rows of the store: by its best single latent and by a plain
read-out of fifty, each chosen on one half of the documents and measured on the other. Beside them what needs no
encoder: counts of words, and length alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.feature_extraction.text import CountVectorizer

from saeray.evaluate.documents import Documents, best_column, folds
from saeray.evaluate.table import kinds_of, mean_of
from saeray.report.evaluate import pooling_page
from saeray.stats.ranking import Float64, auroc, column, contrast, spearman

#: Latents of the read-out. Enough for a property spread over several, few enough for 12 relevant documents.
READ_OUT = 50
RESAMPLES = 2000
#: Letters in runs, and every mark by itself, so that words can tell form too.
TOKENS = r"\w+|[^\w\s]"


def _words(d: Documents) -> Any:
    return sp.csr_array(CountVectorizer(token_pattern=TOKENS, min_df=2).fit_transform(d.texts), dtype=np.float64)


def _per_token(x: Any, n_tokens: NDArray[np.int64]) -> Any:
    return sp.csr_array(sp.diags_array(1.0 / np.maximum(n_tokens, 1)) @ x)


#: Pools first, then what a user would use instead; each gives documents x columns, not negative.
WAYS: dict[str, Callable[[Documents], Any]] = {
    "max": lambda d: d.pools["max"],
    "count": lambda d: d.pools["count"],
    "count/n_tokens": lambda d: _per_token(d.pools["count"], d.n_tokens),
    "mean": lambda d: _per_token(d.pools["sum"], d.n_tokens),
    "presence": lambda d: (d.pools["max"] > 0).astype(np.float64),
    "words": _words,
    "length": lambda d: sp.csr_array(column(d.n_tokens)),
}
MEASURES = ("auroc_latent", "auroc_readout")


@dataclass(frozen=True)
class PoolingResult:
    """`rows`: one a property and way, with held-out AUROCs and rank correlations with length."""

    rows: pa.Table
    compared: list[dict[str, Any]]
    documents: Mapping[str, int]
    parameters: Mapping[str, Any]
    made_with: Mapping[str, Any]

    def table(self) -> list[dict[str, Any]]:
        """For a terminal: one row a kind of property and way, gains over max with interval and sign test."""
        rows = []
        for row in self.compared:
            figures = {name: row[name] for name in ("kind", "way", "properties")}
            for measure, name in zip(MEASURES, ("latent", "read_out"), strict=True):
                figures |= {name: row[measure], f"{name}_gain": _gain(row, measure)}
            rows.append(figures | {"length_latent": row["length_latent"], "length_read_out": row["length_readout"]})
        return rows

    def summary(self) -> dict[str, Any]:
        """JSON-ready: the table, the documents it rests on, parameters, and what made it."""
        return {
            "analysis": "evaluate pooling",
            "compared": self.compared,
            "documents": dict(self.documents),
            "parameters": dict(self.parameters),
            "made_with": dict(self.made_with),
        }

    def page(self) -> str:
        """The report, one HTML page."""
        return pooling_page(self)


def evaluate_pooling(
    sets: Iterable[Documents], parameters: Mapping[str, Any], made_with: Mapping[str, Any]
) -> PoolingResult:
    """Every way on every property of `sets`."""
    rows: list[dict[str, Any]] = []
    documents: dict[str, int] = {}
    for one in sets:
        documents[one.file] = len(one.texts)
        for name, make in WAYS.items():
            x = make(one)
            rows += [_measured(one, q, name, x) for q in range(len(one.queries))]
    fixed = {"read_out": READ_OUT, "resamples": RESAMPLES}
    return PoolingResult(pa.Table.from_pylist(rows), compare(rows), documents, {**parameters, **fixed}, made_with)


def compare(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means of every way over the properties of each kind, and its differences from max over the same properties."""
    found = []
    for kind, own in kinds_of(rows).items():
        base = {(row["file"], row["query"]): row for row in own if row["way"] == "max"}
        for way in WAYS:
            of_way = [row for row in own if row["way"] == way]
            entry: dict[str, Any] = {"kind": kind, "way": way, "properties": len(of_way)}
            for measure in MEASURES:
                gains = [row[measure] - base[row["file"], row["query"]][measure] for row in of_way]
                entry |= {measure: mean_of(of_way, measure)}
                entry |= {f"{measure}_{key}": value for key, value in against(np.array(gains)).items() if way != "max"}
            for name in ("length_latent", "length_readout"):
                entry[name] = round(float(np.mean([abs(row[name]) for row in of_way])), 4)
            found.append(entry)
    names = list(dict.fromkeys(name for entry in found for name in entry))
    return [{name: entry.get(name) for name in names} for entry in found]


def against(gains: Float64) -> dict[str, Any]:
    """Mean of paired differences, its 95% bootstrap interval over properties, how many are above and below 0, and the
    two-sided sign test of those (ties left out)."""
    draws = np.random.default_rng(0).integers(len(gains), size=(RESAMPLES, len(gains)))
    low, high = np.quantile(gains[draws].mean(axis=1), [0.025, 0.975])
    above, below = int((gains > 0).sum()), int((gains < 0).sum())
    p = float(binomtest(above, above + below).pvalue) if above + below else 1.0
    figures = {"gain": float(gains.mean()), "lower": float(low), "upper": float(high)}
    rounded = {key: round(value, 4) for key, value in figures.items()}
    return {**rounded, "better": above, "worse": below, "p": p}


def read_out(x: Any, area: Float64, apart: Float64) -> tuple[NDArray[np.int64], Float64]:
    """(columns, weights) of a linear score: the READ_OUT columns whose AUROC `area` is farthest from a half, each
    weighted by the difference of class means over its variance (a discriminant with independent columns: no solver).
    `apart` is their `contrast` on the same documents `x`.
    """
    order = np.lexsort((-np.abs(apart), -np.round(np.abs(area - 0.5), 12)))[:READ_OUT]
    # contrast is in standard deviations already; the second division makes it fit the column's own unit.
    deviation = x[:, order].toarray().std(axis=0)
    weights = np.divide(apart[order], deviation, out=np.zeros(len(order)), where=apart[order] != 0)
    return np.asarray(order, np.int64), weights


def _gain(row: Mapping[str, Any], measure: str) -> str:
    if row[f"{measure}_gain"] is None:
        return ""
    gain, lower, upper = (row[f"{measure}_{key}"] for key in ("gain", "lower", "upper"))
    return f"{gain:+.3f} ({lower:+.3f}..{upper:+.3f}) p {row[f'{measure}_p']:.2g}"


def _measured(d: Documents, q: int, way: str, x: Any) -> dict[str, Any]:
    """Both halves choose and measure in turn; the figures are their means."""
    relevant = d.relevant[:, q]
    found: dict[str, list[float]] = {name: [] for name in (*MEASURES, "length_latent", "length_readout")}
    chosen = []
    for train, test in folds(d.first_half(q)):
        area, apart = auroc(x[train], relevant[train]), contrast(x[train], relevant[train])
        best, (columns, weights) = best_column(area, apart), read_out(x[train], area, apart)
        chosen.append(best)
        scores = {"latent": x[test][:, [best]].toarray()[:, 0], "readout": x[test][:, columns] @ weights}
        others = ~relevant[test]
        for name, score in scores.items():
            found[f"auroc_{name}"].append(float(auroc(column(score), relevant[test])[0]))
            found[f"length_{name}"].append(spearman(score[others], d.n_tokens[test][others]))
    task = d.queries[q]
    facts = {"file": d.file, "query": task.query, "kind": task.kind, "way": way, "documents": len(d.texts)}
    means = {name: float(np.mean(values)) for name, values in found.items()}
    return {**facts, "relevant": int(relevant.sum()), "latents": chosen, **means}
