"""How often is each latent present in a dataset, or in each group of it? The first look, and what others divide by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from saeray.analysis.evidence import Evidence, collect
from saeray.analysis.sides import Side, open_side, provenance
from saeray.errors import UsageError
from saeray.report.frequencies import page as frequencies_page
from saeray.stats.frequency import COLUMNS, Frequencies, frequencies, grouped
from saeray.store import Store

#: Latents that get examples and a place on the page.
SHOWN = 20
#: Groups of `by`: a page of more is read by nobody, and 50 groups of 65,536 latents take 92 MB to count.
MOST_GROUPS = 50


@dataclass(frozen=True)
class StatsResult:
    """`rows`: one row a latent, ascending (with `by`, one a group and latent). `total`: all groups together."""

    rows: pa.Table
    total: Frequencies
    groups: Mapping[str, Frequencies]
    evidence: Mapping[int, Evidence]
    side: Mapping[str, Any]
    by: str | None
    made_with: Mapping[str, Any]

    def summary(self) -> dict[str, Any]:
        """JSON-ready: size, how many latents are ever present, how many a document, and the most frequent."""
        return {
            "analysis": "stats",
            "selection": dict(self.side),
            **_facts(self.total),
            "top": self.table(),
            "by": self.by,
            "groups": {name: _facts(group) for name, group in self.groups.items()},
            "made_with": dict(self.made_with),
        }

    def table(self, limit: int = 10) -> list[dict[str, Any]]:
        """The most frequent latents, for a terminal."""
        return [
            {
                "latent": int(i),
                "document_frequency": float(self.total.frequency[i]),
                "token_frequency": float(self.total.token_frequency[i]),
                "max": float(self.total.maximum[i]),
                "peak_tokens": [token for token, _ in self.evidence.get(int(i), Evidence()).peak_tokens],
            }
            for i in most_frequent(self.total, limit)
        ]

    def page(self) -> str:
        """The report, one HTML page."""
        return frequencies_page(self)


def stats(store: Store, selector: str, *, channel: str | None = None, by: str | None = None) -> StatsResult:
    """Document frequency, token frequency and maximum of every latent over the selected rows, or per value of `by`.

    `by` is a kept column of at most `MOST_GROUPS` values; a null is the group "(none)". Raises UsageError for an empty
    selection, several channels, and a column that is not there or cannot group.
    """
    side = open_side(store, selector, channel)
    made_with = provenance(store)
    d_sae = made_with["d_sae"]
    if by is None:
        total = frequencies(side.scan(COLUMNS), d_sae)
        groups: dict[str, Frequencies] = {}
        rows = _rows(total)
    else:
        groups = _grouped(side, by, d_sae)
        total = sum(list(groups.values())[1:], next(iter(groups.values())))
        rows = pa.concat_tables(
            _rows(group).add_column(0, "group", pa.array([name] * group.d_sae)) for name, group in groups.items()
        )
    evidence = collect(side, most_frequent(total, SHOWN))
    return StatsResult(rows, total, groups, evidence, side.facts(), by, made_with)


def most_frequent(counts: Frequencies, limit: int) -> NDArray[np.int64]:
    """Latents present anywhere, the most frequent first, equal ones ascending; at most `limit`."""
    order = np.argsort(-counts.documents, kind="stable")[:limit]
    return np.asarray(order[counts.documents[order] > 0], np.int64)


def _grouped(side: Side, by: str, d_sae: int) -> dict[str, Frequencies]:
    if by not in side.stored:
        raise UsageError(f"{side.dataset} has no column {by!r}; it has {', '.join(sorted(side.stored))}")
    seen: dict[str, None] = {}
    for table in side.scan([by]):
        if pa.types.is_nested(table.column(by).type):
            raise UsageError(f"column {by!r} holds lists or structures and cannot group; choose one of plain values")
        seen |= dict.fromkeys(_names(table.column(by).unique()))
        if len(seen) > MOST_GROUPS:
            raise UsageError(f"column {by!r} has more than {MOST_GROUPS} values; choose another column")
    names = sorted(seen)
    known = pa.array(names, pa.string())

    def group_of(batch: pa.RecordBatch) -> NDArray[np.int64]:
        column = pc.dictionary_encode(batch.column(by), null_encoding="encode")
        code = pc.index_in(pa.array(_names(column.dictionary), pa.string()), value_set=known).to_numpy()
        return np.asarray(code[column.indices.to_numpy()], np.int64)

    found = grouped(side.scan([*COLUMNS, by]), d_sae, len(names), group_of)
    return dict(zip(names, found, strict=True))


def _names(column: pa.Array) -> Sequence[str]:
    return ["(none)" if value is None else str(value) for value in column.to_pylist()]


def _rows(counts: Frequencies) -> pa.Table:
    return pa.table(
        {
            "latent": np.arange(counts.d_sae, dtype=np.uint32),
            "documents": counts.documents,
            "document_frequency": counts.frequency,
            "tokens": counts.tokens,
            "token_frequency": counts.token_frequency,
            "max": counts.maximum,
            "mean_max": counts.mean_max,
        }
    )


def _facts(counts: Frequencies) -> dict[str, Any]:
    return {
        "documents": counts.n_documents,
        "tokens": counts.n_tokens,
        "latents_present": int((counts.documents > 0).sum()),
        "mean_latents_per_document": round(float(counts.documents.sum() / max(counts.n_documents, 1)), 1),
        "mean_active_per_token": round(float(counts.tokens.sum() / max(counts.n_tokens, 1)), 2),
    }
