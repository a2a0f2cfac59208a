"""What a diff found: a row a latent, findings with their names and evidence, and how all of it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from saeray.analysis.diff.claims import Order, by_kind, claim_of
from saeray.analysis.diff.design import NO_DESIGN, Design
from saeray.analysis.diff.findings import borne_out, row_of
from saeray.analysis.diff.names import NO_NAMES, Name, Names
from saeray.analysis.evidence import Evidence, Example
from saeray.analysis.hypotheses.statements import PLAIN
from saeray.labels.groups import LatentGroup

if TYPE_CHECKING:
    from saeray.analysis.hypotheses.statements import Hypotheses
    from saeray.analysis.hypotheses.verify import Verified


@dataclass(frozen=True)
class DiffResult:
    """`rows`: one row a tested latent, largest proposed difference first. `more`, `less`: findings, each a group of
    latents led by the one that shows it best. Those whose name is borne out come first.

    `less` (more in the other side) is empty against several. `passing`: how many latents of each there are before the
    cut to `top`. `by_length`, `by_given`: what differs but is not separable from length, or from the other channel,
    more in the target first; no findings. `set_aside`: how many latents of these there are before the cut. `evidence`
    holds the shown findings' leading latents, `beside` what the other side has to that, `names` what these are called
    here.

    With halves, `p`, `q`, `proposed_difference`, groups, order and names are of the documents that propose, every other
    figure, the evidence and what the names' tests find are of those that verify. `separable_from_length` and
    `separable_from_given` rest on both: the one half says which way and how likely, the other whether. So of what is
    kept, the difference at equal length is a little too large.
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
        """The first findings for a terminal, at most `limit` a direction, target's first: those that stand, or those
        without a name where none does."""
        orders = [self.order(side) for side in (0, 1)]
        return [self.line(group) for order in orders for group in (order.best or order.guesses)[:limit]]

    def order(self, side: int) -> Order:
        """The findings of a direction (0: more in the target) as they are read."""
        groups = self.less if side else self.more
        names = {group: name for group in groups if (name := self.called(group)) and self._holds(group, name)}
        rest = sorted(
            (group for group in groups if group not in names),
            key=lambda group: -abs(self.row(group.latents[0])["difference"]),
        )
        guesses = tuple(group for group in rest if not self.named(group) and self.confirmed(group))
        return Order(by_kind(names), guesses, tuple(group for group in rest if group not in guesses))

    def stands(self, group: LatentGroup) -> bool:
        """Whether the finding has a name that is borne out, and where one half proposed it, the other confirms the
        difference and finds the name more often on the same side, by more than chance where its interval is known."""
        name = self.called(group)
        return name is not None and self._holds(group, name)

    def confirmed(self, group: LatentGroup) -> bool:
        """Whether the half that measures bears the leading latent's difference out; true where there are no halves."""
        return not self.parameters.get("halves", False) or bool(self.row(group.latents[0])["confirmed"])

    def named(self, group: LatentGroup) -> bool:
        """Whether the finding has a name that is borne out by these documents."""
        return borne_out(self.names, group)

    def called(self, group: LatentGroup) -> Name | None:
        """The finding's name where one is borne out, with the shares that it is shown with: those of the statement that
        a plain test verified, where one was made of it, else those of `names`."""
        if not self.named(group):
            return None
        latent = group.latents[0]
        name, found = self.names.of[latent], self.verified.get(latent)
        if found is None or self.several_a_key:  # there the verified bounds are of keys, and the shares of texts
            return name
        shares = tuple(yes / read for yes, read in zip(found.yes, found.judged, strict=True))
        lower, upper = (found.lower, found.upper) if found.hypothesis.side == 0 else (-found.upper, -found.lower)
        return replace(name, holds=shares, read=found.judged, limits=(lower, upper if len(shares) == 2 else None))

    @property
    def several_a_key(self) -> bool:
        """Whether the sides are paired and some side has several documents of a key."""
        n = self.parameters.get("n_pairs", 0) if self.parameters.get("pair_on") else None
        return n is not None and any(side["documents"] > n for side in self.sides)

    @property
    def verified(self) -> Mapping[int, Verified]:
        """Of leading latents the statement that is their name, verified by its plain test. An LLM's statements are
        about several latents and stand for themselves."""
        methods = self.hypotheses.methods if self.hypotheses else ()
        checked = [one.verification for one in methods if one.judge == PLAIN and one.verification]
        return {one.hypothesis.latents[0]: one for done in checked for one in done.verified}

    def _holds(self, group: LatentGroup, name: Name) -> bool:
        if not self.confirmed(group):
            return False
        side = -1 if self.row(group.latents[0])["difference"] < 0 else 1
        return name.leans(side, self.parameters.get("halves", False))

    def line(self, group: LatentGroup) -> dict[str, Any]:
        """One finding in the few figures that fit a terminal, those of the page: what a search for its name finds, or
        of its latent where no name holds; `summary` has both."""
        found, called = self._finding(group), self.called(group)
        size, bounds = found["difference"], (found["lower"], found["upper"])
        shares: Sequence[float] = (found["frequency_target"], found["frequency_other"])
        if called:
            size, bounds, shares = called.gap, called.limits or (None, None), called.holds
        guess = f"a feature; perhaps {found['label']}" if found["label"] else "a feature without a name"
        return {
            "finding": found["claim"] or found["name"] or guess,
            "points": f"{100 * size:+.0f}",
            "from": None if bounds[0] is None else f"{100 * bounds[0]:+.0f}",
            "to": None if bounds[1] is None else f"{100 * bounds[1]:+.0f}",
            "target": f"{shares[0]:.0%}",
            "other": f"{max(shares[1:]):.0%}",
            "strongest on": found["peak_tokens"],
            "latent": str(found["latent"]),
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
        row, called = self.row(latent), self.called(group) or self.names.of.get(latent)
        peaks = self.evidence[latent].peak_tokens if latent in self.evidence else ()
        return {name: row[name] for name in names} | {
            "name": called.text if called and called.borne_out else None if called else row["label"],
            "claim": claim_of(called) if called and called.borne_out else None,
            "name_from": called.source if called else None,
            "name_borne_out": called.borne_out if called else None,
            "name_kind": called.kind if called else None,
            "agreement": called.agreement if called else None,
            "holds": list(called.holds) if called else None,
            "holds_of": list(called.read) if called else None,
            "holds_limits": list(called.limits) if called and called.limits else None,
            "stands": self.stands(group),
            "peak_tokens": [token for token, _ in peaks],
            "alike": len(group.latents) - 1 or None,
        }
