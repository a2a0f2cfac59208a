"""What comes and goes over an ordered series of versions? A trend test of every latent, and its frequency by version.

That a latent rises at every step is said beside the test, with how many would by chance: with five versions one in 120
does. When versions answer the same prompts, the test swaps whole prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.analysis.diff.conclude import Making, length_edges
from saeray.analysis.diff.design import Design
from saeray.analysis.diff.findings import Groups, borne_out, candidates, row_of
from saeray.analysis.diff.measure import supported_latents
from saeray.analysis.diff.names import Names
from saeray.analysis.diff.naming import Namer
from saeray.analysis.diff.options import Options
from saeray.analysis.diff.plain_tests import DOCUMENTS
from saeray.analysis.diff.setup import arrange
from saeray.analysis.diff.trends import trends
from saeray.analysis.diff.values import Corpus, Values, open_values, sampled
from saeray.analysis.evidence import Evidence, collect
from saeray.analysis.sides import provenance
from saeray.errors import UsageError
from saeray.labels.groups import LatentGroup
from saeray.labels.meanings import Meanings
from saeray.stats.length import edges
from saeray.stats.trend import monotone_by_chance
from saeray.store import Store

Int64 = NDArray[np.int64]

#: Findings of each direction with examples.
SHOWN = 20


@dataclass(frozen=True)
class SeriesResult:
    """`rows`: one a tested latent, steepest proposed rise first: latent, change (from the first version to the last by
    the fitted slope), lower, upper, p, q, proposed_change, confirmed, change_at_equal_length, separable_from_length,
    monotone (1, -1, 0), monotone_proposed, frequencies (a version each), documents, label, finding. `rising`,
    `falling`: findings; `by_length`: what is not separable from length. `passing`, `set_aside`: latents of these before
    the cut. With halves p, q and proposed_change come from the one half, separable_from_length from both, the rest from
    the other.
    """

    rows: pa.Table
    rising: Groups
    falling: Groups
    passing: tuple[int, int]
    by_length: Groups
    set_aside: int
    evidence: Mapping[int, Evidence]
    versions: Sequence[Mapping[str, Any]]
    monotone: Mapping[str, Any]
    parameters: Mapping[str, Any]
    made_with: Mapping[str, Any]
    names: Names

    def summary(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "analysis": "diff ordered",
            "target": dict(self.versions[0]),
            "others": [dict(version) for version in self.versions[1:]],
            "tested": self.rows.num_rows,
            "latents": dict(zip(("rising", "falling"), self.passing, strict=True)),
            "findings": {"rising": len(self.rising), "falling": len(self.falling)},
            "not_separable": {"from_length": self.set_aside},
            "monotone": dict(self.monotone),
            "top": {"rising": self._top(self.rising), "falling": self._top(self.falling)},
            "parameters": dict(self.parameters),
            "made_with": dict(self.made_with),
        }

    def table(self, limit: int = 10) -> list[dict[str, Any]]:
        """The first findings for a terminal, at most `limit` a direction."""
        lines = []
        for group in (*self.rising[:limit], *self.falling[:limit]):
            row = self.row(group.latents[0])
            lines.append(
                {
                    "finding": self.called(group),
                    "points": f"{100 * row['change']:+.0f}",
                    "from": f"{100 * row['lower']:+.0f}",
                    "to": f"{100 * row['upper']:+.0f}",
                    "by_version": " ".join(f"{share:.0%}" for share in row["frequencies"]),
                    "every_step": bool(row["monotone"]) or None,
                    "latent": group.latents[0],
                }
            )
        return lines

    def called(self, group: LatentGroup) -> str | None:
        """The name of a finding where one is borne out, else the label of its latent where no name was tried."""
        latent = group.latents[0]
        name = self.names.of.get(latent)
        label: str | None = self.row(latent)["label"]
        return name.text if name and borne_out(self.names, group) else None if name else label

    def row(self, latent: int) -> dict[str, Any]:
        """The row of one tested latent."""
        return row_of(self.rows, latent)

    def page(self) -> str:
        """The report, one HTML page."""
        from saeray.report.series import page

        return page(self)

    def _top(self, groups: Groups) -> list[dict[str, Any]]:
        return [self.row(group.latents[0]) | {"name": self.called(group)} for group in groups[:10]]


def diff_ordered(
    store: Store,
    target: str,
    column: str,
    options: Options,
    order: Sequence[str] | None = None,
    meanings: Meanings | None = None,
) -> SeriesResult:
    """The documents that `target` selects, by the values of `column` as versions, in `order` (sorted by default).

    When paired, keys that every version has are compared, of these such that have one document a version. Raises
    UsageError as `diff` does, for fewer than two versions, and for `against` or `given`, which a series has not.
    """
    options.check()
    if options.against != "max" or options.given is not None:
        raise UsageError("an ordered series takes neither --against nor --given")
    labels = Meanings.of(store) if meanings is None else meanings
    values = open_values(store, target, column, options.channel, order)
    made_with = provenance(store)
    made = arrange(values.sides, None, options)
    design = made.design
    if design.keys is not None and any(side.n_documents > design.n_keys for side in design.sides):
        raise UsageError(
            f"a key of {options.pair_on} has several documents in a version; pair on a column with one each"
        )
    corpus = Corpus.of(values, made, None)
    inner = length_edges(design)
    halves = corpus.count(len(values.values), inner, made_with["d_sae"])
    support = options.support(min(side.n_documents for side in design.proposers().sides))
    tested = supported_latents(halves, support)
    making = Making(options, support, inner, labels, made_with, {**made.facts, "ordered": column})
    columns = trends(corpus, design, halves, tested, inner, options)
    return _conclude(values, corpus, design, columns, tested, making)


def _conclude(
    values: Values, corpus: Corpus, design: Design, columns: dict[str, Any], tested: Int64, making: Making
) -> SeriesResult:
    """Findings, names and evidence: a rise is read in the last version, a fall in the first."""
    options, meanings = making.options, making.meanings
    proposed, apart = columns["proposed_change"], columns["separable_from_length"]
    passes = columns["q"] <= options.q
    order = np.argsort(-np.abs(proposed), kind="stable")

    def strongest(chosen: NDArray[np.bool_]) -> Int64:
        return tested[order[chosen[order]]]

    up, down = passes & (proposed > options.keep), passes & (proposed < -options.keep)
    rising, falling = strongest(up & apart), strongest(down & apart)
    aside = [strongest(direction & ~apart) for direction in (up, down)]
    proposing = np.ones(corpus.code.size, np.bool_) if corpus.proposing is None else corpus.proposing
    reading, shown = sampled(corpus.base.where(proposing), DOCUMENTS, corpus.code[proposing])
    code, last = corpus.code[proposing][shown], len(values.values) - 1
    ends = reading.where(code == last), reading.where(code == 0)
    strength = dict(zip(tested.tolist(), proposed.tolist(), strict=True))
    found = candidates(ends, (rising[: options.top], falling[: options.top]), strength, meanings)
    by_length = candidates(ends, (aside[0][: options.top], aside[1][: options.top]), strength, meanings)
    leaders = found.leaders
    sides = [ends[0], ends[1]]
    tests = meanings.tests(list(leaders))
    namer = Namer(sides, list(leaders), tests, edges(reading.lengths), tested.tolist())
    names = namer.names(leaders, (0, 1))
    groups = found.findings(names, meanings)
    verify = design.verifiers().sides
    evidence = collect(verify[-1], [group.latents[0] for group in groups[0][:SHOWN]])
    evidence |= collect(verify[0], [group.latents[0] for group in groups[1][:SHOWN]])
    leader = {latent: group.latents[0] for group in (*groups[0], *groups[1]) for latent in group.latents}
    columns["label"] = pa.array([meanings.labels.get(int(latent)) for latent in tested], pa.string())
    columns["finding"] = pa.array([leader.get(int(latent)) for latent in tested], pa.uint32())
    steps = columns["monotone_proposed"]
    chance = monotone_by_chance(len(values.values), tested.size)
    counted = {
        "rising": int((steps == 1).sum()),
        "falling": int((steps == -1).sum()),
        "each_by_chance": round(chance, 1),
    }
    left = {str(value): n for value, n in values.left_out.items()}
    return SeriesResult(
        rows=pa.table(columns).take(np.argsort(-proposed, kind="stable")),
        rising=groups[0],
        falling=groups[1],
        passing=(len(rising), len(falling)),
        by_length=(*by_length.more, *by_length.less),
        set_aside=sum(map(len, aside)),
        evidence=evidence,
        versions=[side.facts() | {"value": v} for side, v in zip(design.sides, values.values, strict=True)],
        monotone={**counted, "each_by_chance": round(chance, 1)},
        parameters=making.parameters() | {"left_out_values": left},
        made_with=making.made_with,
        names=names,
    )
