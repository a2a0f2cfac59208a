"""How often is each latent present in a dataset, or in each group of it? The first look, and what others divide by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from saeray.analysis.counting import ALL, Counted, Counting, Fill, Progress, ask, here, several
from saeray.analysis.evidence import Evidence, collect
from saeray.analysis.sides import Side, provenance, ranges
from saeray.errors import SaerayError
from saeray.report.frequencies import page as frequencies_page
from saeray.stats.frequency import Frequencies
from saeray.stats.quantiles import ERROR
from saeray.stats.tally import EDGES, Tally, stratum_of
from saeray.store import Store, parse

#: Latents that get examples and a place on the page.
SHOWN = 20
#: Examples come from this many of the selected documents, in shards drawn evenly: texts take more room than all that is
#: counted, and of latents in one document of a hundred this still shows two hundred.
SAMPLED = 20_000
#: Stop looking for them after this many documents, for a selection that has hardly any.
LOOKED_AT = 200_000
#: How often another run may merge partials away under this one before it gives up.
PATIENCE = 3


@dataclass(frozen=True)
class StatsResult:
    """`rows`: one row a latent, ascending (with `by`, one a group and latent). `total`: all groups together.

    `sampled`: the documents that the evidence is from.
    """

    rows: pa.Table
    total: Frequencies
    tally: Tally
    groups: Mapping[str, Frequencies]
    percentiles: tuple[float, ...]
    evidence: Mapping[int, Evidence]
    sampled: int
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
            "lengths": self.lengths(),
            "by": self.by,
            "groups": {name: _facts(group) for name, group in self.groups.items()},
            "percentile_error": ERROR,
            "examples_from": self.sampled,
            "made_with": dict(self.made_with),
        }

    def lengths(self) -> list[dict[str, Any]]:
        """The length strata: pooled tokens `from` to `to`, how many documents, and latents present in one on average.

        In the same order as the lists of `rows`' `documents_by_length`.
        """
        documents = _documents_by_stratum(self.tally)
        edges = [0, *EDGES.tolist()]
        return [
            {
                "from": edges[stratum],
                "to": edges[stratum + 1] - 1,
                "documents": documents[stratum],
                "mean_latents": round(float(found.sum() / documents[stratum]), 1),
            }
            for stratum, found in sorted(self.tally.strata.items())
        ]

    def table(self, limit: int = 10) -> list[dict[str, Any]]:
        """The most frequent latents, for a terminal."""
        order = most_frequent(self.total, limit)
        percentiles = self.tally.percentiles(self.percentiles)[:, order]
        return [
            {
                "latent": int(i),
                "document_frequency": float(self.total.frequency[i]),
                "token_frequency": float(self.total.token_frequency[i]),
                **{name_of(p): float(value) for p, value in zip(self.percentiles, values, strict=True)},
                "max": float(self.total.maximum[i]),
                "peak_tokens": [token for token, _ in self.evidence.get(int(i), Evidence()).peak_tokens],
            }
            for i, values in zip(order, percentiles.T, strict=True)
        ]

    def page(self) -> str:
        """The report, one HTML page."""
        return frequencies_page(self)


def stats(
    store: Store,
    selector: str,
    *,
    channel: str | None = None,
    by: str | None = None,
    percentiles: Sequence[float] = (90,),
    fill: Fill = here,
    on_progress: Callable[[Progress], None] | None = None,
) -> StatsResult:
    """Frequencies, sums, maxima and percentiles of non-zero maxima of every latent over the selected rows, or for each
    value of `by`, from the store's partial results; `fill` makes those that are missing.

    `by` is a kept column of at most `MOST_GROUPS` values; a null is the group "(none)". Raises UsageError for an empty
    selection, several channels, and a column that is not there or cannot group.
    """
    made_with = provenance(store)
    counting = ask(store, selector, channel, by)
    counted = _counted(counting, fill, on_progress)
    if channel is None and len(counted.channels) > 1:
        raise several(selector, set(counted.channels))
    tallies = dict(sorted(counted.groups.items()))
    tally = sum(list(tallies.values())[1:], next(iter(tallies.values())))
    total = tally.frequencies()
    if by is None:
        groups: dict[str, Frequencies] = {}
        rows = _rows(tallies[ALL], tally, percentiles)
    else:
        groups = {name: found.frequencies() for name, found in tallies.items()}
        rows = pa.concat_tables(
            _rows(found, tally, percentiles).add_column(0, "group", pa.array([name] * found.d_sae))
            for name, found in tallies.items()
        )
    sample = _sample(counting)
    evidence = collect(sample, most_frequent(total, SHOWN))
    side = _side_facts(counting, selector, tally, total)
    return StatsResult(
        rows, total, tally, groups, tuple(percentiles), evidence, sample.n_documents, side, by, made_with
    )


def name_of(percentile: float) -> str:
    """The column of a percentile: p90, p99.9."""
    return f"p{percentile:g}"


def most_frequent(counts: Frequencies, limit: int) -> NDArray[np.int64]:
    """Latents present anywhere, the most frequent first, equal ones ascending; at most `limit`."""
    order = np.argsort(-counts.documents, kind="stable")[:limit]
    return np.asarray(order[counts.documents[order] > 0], np.int64)


def _counted(counting: Counting, fill: Fill, on_progress: Callable[[Progress], None] | None) -> Counted:
    for _ in range(PATIENCE):
        fill(counting, counting.partials.missing(), on_progress)
        found = counting.total()
        if found is not None:
            return found
    raise SaerayError(f"other runs keep changing {counting.partials.place.uri}: run again when they are done")


def _sample(counting: Counting) -> Side:
    """Up to some `SAMPLED` of the selected documents, for evidence: of all shards, or of as many as that takes."""
    question, dataset = counting.question, counting.dataset
    selector = parse(question.selector)
    shards = sorted(counting.commits)
    chosen: list[int] = []
    lengths: dict[int, NDArray[np.int64]] = {}
    looked_at = 0
    for at in np.random.default_rng(0).permutation(len(shards)).tolist():
        shard = shards[at]
        tables = [
            _of_channel(one, question.channel) for one in dataset.scan_shard(shard, selector, ["n_tokens", "channel"])
        ]
        chosen.append(shard)
        lengths[shard] = np.concatenate([np.zeros(0, np.int64), *(one.column("n_tokens").to_numpy() for one in tables)])
        looked_at += counting.commits[shard].documents
        if sum(map(len, lengths.values())) >= SAMPLED or looked_at >= LOOKED_AT:
            break
    chosen.sort()

    def scan(columns: Sequence[str]) -> Iterator[pa.Table]:
        for shard in chosen:
            for table in dataset.scan_shard(shard, selector, list(dict.fromkeys([*columns, "channel"]))):
                yield _of_channel(table, question.channel)

    every = np.concatenate([lengths[shard] for shard in chosen])
    stored = frozenset(dataset.schema().names)
    none = pa.chunked_array([], pa.string())
    return Side(question.selector, dataset.name, question.channel, none, every, stored, {}, scan)


def _of_channel(table: pa.Table, channel: str) -> pa.Table:
    return table.filter(pc.equal(table.column("channel"), channel))


def _side_facts(counting: Counting, name: str, tally: Tally, total: Frequencies) -> dict[str, Any]:
    """What a report says of the selection; the same words as `Side.facts`."""
    dataset, shards = counting.dataset, sorted(counting.commits)
    return {
        "name": name,
        "channel": counting.question.channel,
        "documents": total.n_documents,
        "tokens": total.n_tokens,
        "mean_tokens": round(total.n_tokens / total.n_documents, 1),
        "median_tokens": tally.median_tokens(),
        "dataset": dataset.name,
        "plans": [plan.number for plan in dataset.plans()],
        "commits": ranges(shards),
        "shards_missing": len(dataset.shards()) - len(shards),
    }


def _documents_by_stratum(tally: Tally) -> dict[int, int]:
    stratum = stratum_of(tally.n_tokens)
    return {one: int(tally.n_documents[stratum == one].sum()) for one in np.unique(stratum).tolist()}


def _rows(tally: Tally, whole: Tally, percentiles: Sequence[float]) -> pa.Table:
    """`whole`: the tally whose strata all groups' lists are in the order of."""
    counts = tally.frequencies()
    none = np.zeros(tally.d_sae, np.int64)
    strata = np.stack([tally.strata.get(stratum, none) for stratum in sorted(whole.strata)], axis=1)
    by_length = pa.FixedSizeListArray.from_arrays(strata.ravel(), strata.shape[1]).cast(pa.list_(pa.int64()))
    quantiles = zip(percentiles, tally.percentiles(percentiles), strict=True)
    return pa.table(
        {
            "latent": np.arange(counts.d_sae, dtype=np.uint32),
            "documents": counts.documents,
            "document_frequency": counts.frequency,
            "tokens": counts.tokens,
            "token_frequency": counts.token_frequency,
            "max": counts.maximum,
            "mean_max": counts.mean_max,
            "max_sum": counts.max_sum,
            **({} if tally.sum is None else {"sum": tally.sum.to_float()}),
            **{name_of(p): values for p, values in quantiles},
            "documents_by_length": by_length,
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
