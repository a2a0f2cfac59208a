"""Which concepts travel together, and should not? From exact counts of all pairs to a few findings with their evidence.

Half a billion pairs are counted; nearly all of those that stand out are two marks of one thing: near-same labels, one
token, one kind of document. Filters leave those out, each a named option with its toll told, and what remains is one
finding for each set of documents. Spec: NPMI from integer counts, beside it the same within strata of length, shares
both ways, and a q-value over every pair that could have been found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.analysis.correlate.asking import Asked
from saeray.analysis.correlate.evidence import PairExample
from saeray.analysis.correlate.groups import PairGroup, group_pairs
from saeray.analysis.correlate.labels import ReadLabels
from saeray.analysis.correlate.options import FILTERS, CorrelateConfig
from saeray.analysis.correlate.pairs import Part, Profiles, look
from saeray.labels.meanings import Meanings
from saeray.report.correlate import page as correlate_page
from saeray.stats.association import benjamini_yekutieli, log_p_together, npmi_within

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Pairs that the documents are asked about, the strongest first: each costs its documents, 500 on average.
MOST_CANDIDATES = 200_000
#: Pairs tested at a time: 64 terms of a tail each take 50 MB.
STEP = 100_000


class Counts(Protocol):
    """Exact counts of pairs; `saeray.pipeline.cooccur` gives them for an index."""

    @property
    def documents(self) -> int: ...
    @property
    def channels(self) -> tuple[str, ...]: ...
    @property
    def bands(self) -> tuple[Int64, Int64]: ...
    @property
    def frequencies(self) -> tuple[Int64, Int64]: ...
    @property
    def within(self) -> bool: ...
    def pairs(self) -> int: ...
    def edges(self) -> pa.Table: ...


@dataclass(frozen=True)
class CorrelateResult:
    """`rows`: the pairs that pass, strongest first, each with the number of its finding (null beyond `top`).
    `findings`: strongest first; `toll`: (filter, pairs left after it). `examples`: of each shown finding by number.
    `asked`: what an LLM added, None where none was asked."""

    rows: pa.Table
    findings: tuple[PairGroup, ...]
    toll: tuple[tuple[str, int], ...]
    label_level: float | None
    examples: Mapping[int, Sequence[PairExample]]
    selection: Mapping[str, Any]
    channels: tuple[str, ...]
    pairs: int
    latents: tuple[int, int]
    parameters: Mapping[str, Any]
    made_with: Mapping[str, Any]
    asked: Asked | None = None

    def row(self, finding: int) -> dict[str, Any]:
        """The row of a finding's strongest pair."""
        found: dict[str, Any] = self.rows.slice(self.findings[finding].members[0], 1).to_pylist()[0]
        return found

    def summary(self) -> dict[str, Any]:
        """JSON-ready: what was looked at, what each filter left, the findings, parameters, and what made it."""
        return {
            "analysis": "correlate",
            "selection": dict(self.selection),
            "channels": list(self.channels),
            "latents": list(self.latents),
            "pairs": self.pairs,
            "left": dict(self.toll),
            "passing": self.rows.num_rows,
            "findings": len(self.findings),
            "top": self.table(20),
            "label_level": self.label_level,
            "parameters": dict(self.parameters),
            "made_with": dict(self.made_with),
            **({} if self.asked is None else {"llm": self.asked.summary()}),
        }

    def table(self, limit: int = 10) -> list[dict[str, Any]]:
        """The strongest findings, for a terminal."""
        names = ["npmi", "documents", "p_j_given_i", "p_i_given_j", "npmi_at_equal_length", "log10_q", "i", "label_i"]
        names += ["j", "label_j"]
        verified = {} if self.asked is None else {k: one.npmi.value for k, one in self.asked.verified.items()}
        return [
            {name: row[name] for name in names}
            | {"alike": len(group.members) - 1 or None}
            | ({} if self.asked is None else {"verified_npmi": verified.get(k)})
            for k, group, row in ((k, group, self.row(k)) for k, group in enumerate(self.findings[:limit]))
        ]

    def page(self) -> str:
        """The report, one HTML page."""
        return correlate_page(self)


@dataclass(frozen=True)
class Passing:
    """Pairs that pass every filter, strongest first, and what each filter left."""

    table: pa.Table
    toll: tuple[tuple[str, int], ...]
    label_level: float | None


def passing(
    counts: Counts,
    parts: Sequence[Part],
    labels: ReadLabels,
    options: CorrelateConfig,
    profile_of: Callable[[Part], NDArray[np.float32]] | None = None,
    watch: Callable[[str, Int64, Int64], None] | None = None,
) -> Passing:
    """The pairs of `counts` that pass the filters of `options`, strongest first, with all that is known of each.

    `profile_of`: of a part's documents, `Profiles.of` by default. `watch` is told each filter and the pairs it left.
    """
    edges = counts.edges()
    i, j, count, strength = (edges.column(name).to_numpy() for name in ("i", "j", "count", "npmi"))
    i, j, count = (one.astype(np.int64) for one in (i, j, count))
    kept = np.arange(len(i))
    toll: list[tuple[str, int]] = []

    def keep(name: str, passes: Bool) -> None:
        nonlocal kept
        kept = kept[passes]
        toll.append((name, len(kept)))
        if watch:
            watch(name, i[kept], j[kept])

    keep(FILTERS[0], np.ones(len(i), bool))
    if labels.any and not options.keep_unlabelled:
        keep(FILTERS[1], labels.named[i[kept]] & labels.named[j[kept]])
    if labels.any and not options.keep_syntactic and options.llm is None:  # an LLM sorts the labels of what is left
        keep(FILTERS[2], ~(labels.syntactic[i[kept]] | labels.syntactic[j[kept]]))
    similarity = np.full(len(i), np.nan)
    if labels.level is not None:
        similarity[kept] = labels.similarity(i[kept], j[kept])
        keep(FILTERS[3], ~(similarity[kept] >= labels.level))
    n_i, n_j = counts.frequencies[0][i], counts.frequencies[1][j]
    log_q = np.full(len(i), np.nan)
    log_q[kept] = _log_q(count[kept], n_i[kept], n_j[kept], counts)
    keep(FILTERS[4], log_q[kept] <= np.log(options.q))
    if len(kept) > MOST_CANDIDATES:
        keep(f"the {MOST_CANDIDATES:,} strongest", np.arange(len(kept)) < MOST_CANDIDATES)
    channels = 1 if counts.within else 2
    profile_of = profile_of or Profiles(counts.bands[:channels], counts.frequencies[:channels], counts.documents).of
    seen = look(parts, i[kept], j[kept], profile_of, counts.within)
    same_token = seen.near / count[kept]
    level = npmi_within(count[kept], seen.n_i, seen.n_j, seen.n)
    at = np.arange(len(kept))
    for name, passes in (
        (FILTERS[5], same_token < options.same_token),
        (FILTERS[6], seen.alike < options.alike),
        (FILTERS[7], level >= options.at_equal_length * strength[kept]),
    ):
        if name != FILTERS[5] or counts.within:
            at = at[passes[at]]
            toll.append((name, len(at)))
            if watch:
                watch(name, i[kept[at]], j[kept[at]])
    own = kept[at]
    table = pa.table(
        {
            "i": i[own].astype(np.uint32),
            "j": j[own].astype(np.uint32),
            "npmi": strength[own],
            "documents": count[own],
            "documents_i": n_i[own],
            "documents_j": n_j[own],
            "p_i_given_j": edges.column("p_i_given_j").to_numpy()[own],
            "p_j_given_i": edges.column("p_j_given_i").to_numpy()[own],
            "npmi_at_equal_length": level[at],
            "log10_q": log_q[own] / np.log(10),
            "label_similarity": pa.array(similarity[own], from_pandas=True),
            "same_token": same_token[at],
            "alike": seen.alike[at],
            "label_i": pa.array([labels.texts.get(latent) for latent in i[own].tolist()], pa.string()),
            "label_j": pa.array([labels.texts.get(latent) for latent in j[own].tolist()], pa.string()),
        }
    )
    return Passing(table, tuple(toll), labels.level)


def _log_q(count: Int64, n_i: Int64, n_j: Int64, counts: Counts) -> Float64:
    log_p = np.empty(len(count))
    for at in range(0, len(count), STEP):
        own = slice(at, at + STEP)
        log_p[own] = log_p_together(count[own], n_i[own], n_j[own], counts.documents)
    return benjamini_yekutieli(log_p, counts.pairs())


def correlate(
    counts: Counts,
    parts: Sequence[Part],
    meanings: Meanings,
    options: CorrelateConfig,
    selection: Mapping[str, Any],
    made_with: Mapping[str, Any],
    examples: Callable[[list[tuple[int, int]]], Sequence[Sequence[PairExample]]] | None = None,
) -> CorrelateResult:
    """Findings of `counts`. `parts`: the documents that were counted. `examples`: gives those of
    each pair, for the page; none by default."""
    labels = ReadLabels(meanings, made_with["d_sae"], options.label_quantile)
    found = passing(counts, parts, labels, options)
    groups = group_pairs(found.table, parts, labels, options.top)
    leaders = found.table.select(["i", "j"]).take([group.members[0] for group in groups]).to_pylist() if groups else []
    pairs = [(row["i"], row["j"]) for row in leaders]
    fixed = {"most_candidates": MOST_CANDIDATES}
    return CorrelateResult(
        rows=numbered(found.table, groups),
        findings=groups,
        toll=found.toll,
        label_level=found.label_level,
        examples=dict(enumerate(examples(pairs))) if examples and pairs else {},
        selection=selection,
        channels=counts.channels,
        pairs=counts.pairs(),
        latents=(len(counts.bands[0]), len(counts.bands[1])),
        parameters=options.model_dump(exclude={"selection", "store", "out", "num_gpus", "width", "tiles", "llm"})
        | fixed,
        made_with=made_with,
    )


def numbered(pairs: pa.Table, groups: Sequence[PairGroup]) -> pa.Table:
    """`pairs` with the number of each one's finding, null beyond those there are."""
    finding: list[int | None] = [None] * pairs.num_rows
    for number, group in enumerate(groups):
        for member in group.members:
            finding[member] = number
    return pairs.append_column("finding", pa.array(finding, pa.int32()))
