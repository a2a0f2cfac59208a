"""What does one set of documents do more than others? The latents whose document frequency differs.

freq_target - max over others, a p-value and an interval for every latent that passes a support filter blind to the
sides, Benjamini-Hochberg over all of them before any cut by size, and beside each difference the same at equal length.
Latents that mean the same (near-same label, or present in the same documents) are one finding. A finding's name is one
that holds in these documents; findings whose name does come first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.analysis.diff.findings import borne_out, find
from saeray.analysis.diff.naming import NO_NAMES, Names
from saeray.analysis.evidence import Evidence, collect
from saeray.analysis.sides import Side, open_sides, provenance
from saeray.labels.groups import LatentGroup
from saeray.labels.meanings import Meanings
from saeray.report.diff import page as diff_page
from saeray.stats.frequency import COLUMNS, Frequencies, grouped, values
from saeray.stats.intervals import newcombe
from saeray.stats.length import Standardised, edges, probability_longer, standardise
from saeray.stats.significance import benjamini_hochberg, fisher_midp, intersection_union, supported
from saeray.store import Store

#: Findings of each direction that get examples and a place on the page.
SHOWN = 20
#: A side counts as longer when a random document of it is longer than one of the other with more than this chance.
NOTICEABLE = 0.55


@dataclass(frozen=True)
class DiffResult:
    """`rows`: one row a tested latent, largest difference first. `more`, `less`: findings, each a group of latents led
    by the one that shows it best. Those whose name is borne out come first.

    `less` (more in the other side) is empty against several. `passing`: how many latents of each there are before the
    cut to `top`. `evidence` holds the shown findings' leading latents, `names` what these are called here.
    """

    rows: pa.Table
    more: tuple[LatentGroup, ...]
    less: tuple[LatentGroup, ...]
    passing: tuple[int, int]
    evidence: Mapping[int, Evidence]
    sides: Sequence[Mapping[str, Any]]
    length: Mapping[str, Any]
    parameters: Mapping[str, Any]
    made_with: Mapping[str, Any]
    names: Names = NO_NAMES

    def summary(self) -> dict[str, Any]:
        """JSON-ready: what was compared, what was found, with which parameters, from which commits."""
        return {
            "analysis": "diff",
            "target": dict(self.sides[0]),
            "others": [dict(side) for side in self.sides[1:]],
            "tested": self.rows.num_rows,
            "latents": dict(zip(("more_in_target", "more_in_other"), self.passing, strict=True)),
            "findings": {"more_in_target": len(self.more), "more_in_other": len(self.less)},
            "top": {
                "more_in_target": [self._finding(group) for group in self.more[:10]],
                "more_in_other": [self._finding(group) for group in self.less[:10]],
            },
            "length": dict(self.length),
            "parameters": dict(self.parameters),
            "made_with": dict(self.made_with),
        }

    def table(self, limit: int = 10) -> list[dict[str, Any]]:
        """The first findings for a terminal, at most `limit` a direction, target's first; what no name explains is
        left to the page where there are enough names."""
        shown = []
        for groups in (self.more, self.less):
            named = [group for group in groups if self.named(group)]
            shown += [self._line(group) for group in (named or groups)[:limit]]
        return shown

    def named(self, group: LatentGroup) -> bool:
        """Whether the finding has a name that is borne out by these documents."""
        return borne_out(self.names, group)

    def _line(self, group: LatentGroup) -> dict[str, Any]:
        """One finding in the few figures that fit a terminal; `summary` has all."""
        found = self._finding(group)
        bounds = [found["lower"], found["upper"]]
        level = found["difference_at_equal_length"]
        return {
            "finding": found["name"],
            "points": f"{100 * found['difference']:+.0f}",
            "from": None if bounds[0] is None else f"{100 * bounds[0]:+.0f}",
            "to": None if bounds[1] is None else f"{100 * bounds[1]:+.0f}",
            "at_equal_length": None if level is None else f"{100 * level:+.0f}",
            "target": f"{found['frequency_target']:.0%}",
            "other": f"{found['frequency_other']:.0%}",
            "by_plain_test": None if found["holds"] is None else " v ".join(f"{share:.0%}" for share in found["holds"]),
            "peak_tokens": found["peak_tokens"],
            "latent": found["latent"],
            "alike": found["alike"],
        }

    def row(self, latent: int) -> dict[str, Any]:
        """The row of one tested latent."""
        at = int(np.flatnonzero(self.rows.column("latent").to_numpy() == latent)[0])
        found: dict[str, Any] = self.rows.slice(at, 1).to_pylist()[0]
        return found

    def page(self) -> str:
        """The report, one HTML page."""
        return diff_page(self)

    def _finding(self, group: LatentGroup) -> dict[str, Any]:
        names = ["latent", "difference", "lower", "upper", "q", "frequency_target", "frequency_other"]
        names += ["difference_at_equal_length", "separable_from_length", "label"]
        latent = group.latents[0]
        row, called = self.row(latent), self.names.of.get(latent)
        peaks = self.evidence[latent].peak_tokens if latent in self.evidence else ()
        return {name: row[name] for name in names} | {
            "name": called.text if called and called.borne_out else None if called else row["label"],
            "name_from": called.source if called else None,
            "name_borne_out": called.borne_out if called else None,
            "agreement": called.agreement if called else None,
            "holds": list(called.holds) if called else None,
            "peak_tokens": [token for token, _ in peaks],
            "alike": len(group.latents) - 1 or None,
        }


def diff(
    store: Store,
    target: str,
    others: Sequence[str],
    *,
    channel: str | None = None,
    min_support: int | None = None,
    keep: float = 0.03,
    top: int = 200,
    q: float = 0.05,
    meanings: Meanings | None = None,
) -> DiffResult:
    """Compare the documents that `target` selects with those of each of `others` (selectors, or "rest").

    A finding has q-value <= `q` and a difference beyond `keep`; the `top` strongest of each direction are kept.
    `min_support` documents must have the latent and as many must lack it, all sides pooled; by default no latent that
    could pass `keep` is left out. `meanings`: the labels, those of the store by default. Raises UsageError for an empty
    selection, several channels or sides that share documents.
    """
    sides = open_sides(store, target, others, channel)
    parameters = {"channel": channel, "min_support": min_support, "keep": keep, "top": top, "q": q}
    return compare(sides, provenance(store), parameters, Meanings.of(store) if meanings is None else meanings)


def compare(
    sides: Sequence[Side], made_with: Mapping[str, Any], parameters: Mapping[str, Any], meanings: Meanings
) -> DiffResult:
    """The diff of opened sides, target first."""
    pooled = np.concatenate([side.lengths for side in sides])
    inner = edges(pooled)
    strata = [_by_length(side, inner, made_with["d_sae"]) for side in sides]
    totals = [sum(per[1:], per[0]) for per in strata]
    min_support = parameters["min_support"]
    if min_support is None:
        # A difference beyond `keep` needs more than keep x n documents with the latent on one side, and without it on
        # another.
        min_support = max(5, ceil(parameters["keep"] * min(side.n_documents for side in sides)))
    tested = np.flatnonzero(supported(sum(t.documents for t in totals), len(pooled), min_support))
    level = standardise(strata)
    columns = _columns(totals, level, tested, [side.name for side in sides], parameters["keep"])
    columns["label"] = pa.array([meanings.labels.get(int(latent)) for latent in tested], pa.string())
    # 0.33 - 0.30 is 0.030000000000000027 in double precision, which is not more than 0.03 and no stronger than 0.13 -
    # 0.10.
    difference, passes = np.round(columns["difference"], 12), columns["q"] <= parameters["q"]
    # Strongest first, equal ones by latent: `tested` ascends and the sorts are stable.
    down = np.argsort(-difference, kind="stable")
    up = np.argsort(difference, kind="stable")
    more = tested[down[passes[down] & (difference[down] > parameters["keep"])]]
    less = tested[up[passes[up] & (difference[up] < -parameters["keep"])]][: None if len(sides) == 2 else 0]
    passing = len(more), len(less)
    more, less = more[: parameters["top"]], less[: parameters["top"]]
    signed = dict(zip(tested.tolist(), _strength(difference, columns).tolist(), strict=True))
    (groups_more, groups_less), names = find(sides, (more, less), signed, meanings, inner)
    leader = {latent: group.latents[0] for group in (*groups_more, *groups_less) for latent in group.latents}
    columns["finding"] = pa.array([leader.get(int(latent)) for latent in tested], pa.uint32())
    evidence = collect(sides[0], [group.latents[0] for group in groups_more[:SHOWN]])
    if len(sides) == 2:
        evidence |= collect(sides[1], [group.latents[0] for group in groups_less[:SHOWN]])
    return DiffResult(
        rows=pa.table(columns).take(down),
        more=groups_more,
        less=groups_less,
        passing=passing,
        evidence=evidence,
        sides=[side.facts() for side in sides],
        length=_length(sides, level, inner),
        parameters={**parameters, "min_support": min_support, "near_label": meanings.near},
        made_with=made_with,
        names=names,
    )


def _strength(difference: NDArray[np.float64], columns: Mapping[str, Any]) -> NDArray[np.float64]:
    """The smaller of the difference and that at equal length, where there is one, with the sign of the difference;
    0 when they disagree: what length explains is no strong finding."""
    sign = np.sign(difference)
    level = columns["difference_at_equal_length"].to_numpy(zero_copy_only=False)
    at_level = np.where(np.isnan(level), np.inf, np.maximum(sign * level, 0))
    return np.asarray(sign * np.minimum(np.abs(difference), at_level), np.float64)


def _by_length(side: Side, inner: NDArray[np.int64], d_sae: int) -> list[Frequencies]:
    def stratum(batch: pa.RecordBatch) -> NDArray[np.int64]:
        return np.searchsorted(inner, values(batch, "n_tokens"), side="right")

    return grouped(side.scan(COLUMNS), d_sae, len(inner) + 1, stratum)


def _columns(
    totals: Sequence[Frequencies], level: Standardised, tested: NDArray[np.int64], names: Sequence[str], keep: float
) -> dict[str, Any]:
    """The columns of `rows`, in the order of `tested`. `other`: the other side with the highest frequency;
    `documents`: the documents with the latent on each side, target first."""
    target, others = totals[0], totals[1:]
    n = [t.n_documents for t in totals]
    counts = [t.documents[tested] for t in totals]
    rates = [t.frequency[tested] for t in totals]
    highest = np.argmax(rates[1:], axis=0)
    pick = np.arange(len(tested))
    limits = [newcombe(counts[0], n[0], counts[i], n[i]) for i in range(1, len(n))]
    if len(others) == 1:
        lower, upper = limits[0]
        p = fisher_midp(counts[0], n[0], counts[1], n[1])
    else:
        # Against several the claim is one-sided, so there is a lower bound and no upper one (spec section 6).
        lower, upper = np.min([low for low, _ in limits], axis=0), np.full(len(tested), np.nan)
        p = intersection_union([fisher_midp(counts[0], n[0], counts[i], n[i], "greater") for i in range(1, len(n))])
    at_length = level.rates[:, tested]
    at_level = at_length[0] - at_length[1:].max(axis=0)
    difference = rates[0] - np.array(rates[1:])[highest, pick]
    return {
        "latent": tested.astype(np.uint32),
        "difference": difference,
        "lower": lower,
        "upper": pa.array(upper, from_pandas=True),
        "p": p,
        "q": benjamini_hochberg(p),
        "frequency_target": rates[0],
        "frequency_other": np.array(rates[1:])[highest, pick],
        "other": pa.array([names[1 + i] for i in highest], pa.string()),
        "documents": pa.array(np.array(counts).T.tolist(), pa.list_(pa.int64())),
        "difference_at_equal_length": pa.array(at_level, from_pandas=True),
        "separable_from_length": np.sign(difference) * np.nan_to_num(at_level) > keep,
        "mean_max_target": target.mean_max[tested],
        "mean_max_other": np.array([t.mean_max[tested] for t in others])[highest, pick],
    }


def _length(sides: Sequence[Side], level: Standardised, inner: NDArray[np.int64]) -> dict[str, Any]:
    """How far lengths differ: the chance that a target document is the longer one, against each other side."""
    longer = [probability_longer(sides[0].lengths, side.lengths) for side in sides[1:]]
    notes = [
        f"{sides[0].name} is {'longer' if chance > 0.5 else 'shorter'} than {side.name}: median "
        f"{np.median(sides[0].lengths):.0f} against {np.median(side.lengths):.0f} tokens, "
        f"{'longer' if chance > 0.5 else 'shorter'} in {max(chance, 1 - chance):.0%} of pairs"
        for side, chance in zip(sides[1:], longer, strict=True)
        if max(chance, 1 - chance) > NOTICEABLE
    ]
    return {
        "probability_target_longer": [round(chance, 4) for chance in longer],
        "differs": notes,
        "stratum_edges": inner.tolist(),
        "share_in_common_strata": round(level.overlap, 4),
    }
