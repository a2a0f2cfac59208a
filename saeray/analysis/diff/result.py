"""What a diff found: a row a latent, findings with their names and evidence, and how all of it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from saeray.analysis.diff.design import NO_DESIGN, Design
from saeray.analysis.diff.findings import borne_out, row_of
from saeray.analysis.diff.names import NO_NAMES, Names
from saeray.analysis.evidence import Evidence, Example
from saeray.labels.groups import LatentGroup

if TYPE_CHECKING:
    from saeray.analysis.hypotheses.statements import Hypotheses


@dataclass(frozen=True)
class DiffResult:
    """`rows`: one row a tested latent, largest proposed difference first. `more`, `less`: findings, each a group of
    latents led by the one that shows it best. Those whose name is borne out come first.

    `less` (more in the other side) is empty against several. `passing`: how many latents of each there are before the
    cut to `top`. `by_length`, `by_given`: what differs but is not separable from length, or from the other channel,
    more in the target first; no findings. `set_aside`: how many latents of these there are before the cut. `evidence`
    holds the shown findings' leading latents, `beside` what the other side has to that, `names` what these are called
    here.

    With halves, `p`, `q`, `proposed_difference`, `separable_from_length`, `separable_from_given`, groups, order and
    names are of the documents that propose, every other figure, the evidence and what the names' tests find are of
    those that verify.
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
    design: Design = field(default=NO_DESIGN, repr=False)
    by_length: tuple[LatentGroup, ...] = ()
    by_given: tuple[LatentGroup, ...] = ()
    set_aside: Mapping[str, int] = field(default_factory=lambda: {"by_length": 0, "by_given": 0})
    hypotheses: Hypotheses | None = None
    beside: Mapping[int, tuple[Example | None, ...]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """JSON-ready: what was compared, what was found, with which parameters, from which commits."""
        return {
            "analysis": "diff",
            "target": dict(self.sides[0]),
            "others": [dict(side) for side in self.sides[1:]],
            "tested": self.rows.num_rows,
            "latents": dict(zip(("more_in_target", "more_in_other"), self.passing, strict=True)),
            "findings": {"more_in_target": len(self.more), "more_in_other": len(self.less)},
            "not_separable": {"from_length": self.set_aside["by_length"], "from_given": self.set_aside["by_given"]},
            "top": {
                "more_in_target": [self._finding(group) for group in self.more[:10]],
                "more_in_other": [self._finding(group) for group in self.less[:10]],
            },
            "length": dict(self.length),
            "hypotheses": self.hypotheses.summary() if self.hypotheses else None,
            "parameters": dict(self.parameters),
            "made_with": dict(self.made_with),
        }

    def table(self, limit: int = 10) -> list[dict[str, Any]]:
        """The first findings for a terminal, at most `limit` a direction, target's first: those that stand, or all
        where none does."""
        shown = []
        for groups in (self.more, self.less):
            best = [group for group in groups if self.stands(group)]
            shown += [self.line(group) for group in (best or groups)[:limit]]
        return shown

    def stands(self, group: LatentGroup) -> bool:
        """Whether the finding has a name that is borne out, and where one half proposed it, the other confirms the
        difference and finds the name more often on the same side."""
        if not self.named(group) or not self.parameters.get("halves", False):
            return self.named(group)
        row, holds = self.row(group.latents[0]), self.names.of[group.latents[0]].holds
        return bool(row["confirmed"]) and (holds[0] - max(holds[1:])) * row["difference"] > 0

    def named(self, group: LatentGroup) -> bool:
        """Whether the finding has a name that is borne out by these documents."""
        return borne_out(self.names, group)

    def line(self, group: LatentGroup) -> dict[str, Any]:
        """One finding in the few figures that fit a terminal; `summary` has all."""
        found = self._finding(group)
        bounds = [found["lower"], found["upper"]]
        level = found["difference_at_equal_length"]
        return {
            "finding": found["name"] or (f"no name; elsewhere: {found['label']}" if found["label"] else None),
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
        return row_of(self.rows, latent)

    def page(self) -> str:
        """The report, one HTML page."""
        # Here and not above: the page reads the types of this package.
        from saeray.report.diff import page

        return page(self)

    def _finding(self, group: LatentGroup) -> dict[str, Any]:
        names = ["latent", "difference", "lower", "upper", "q", "proposed_difference", "confirmed"]
        names += ["frequency_target", "frequency_other", "difference_at_equal_length", "separable_from_length", "label"]
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
