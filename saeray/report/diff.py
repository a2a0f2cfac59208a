"""The page of a diff: what differs in sentences, hypotheses, each finding with its evidence, all latents, how made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from saeray.report.cost import cost_section
from saeray.report.diff_aside import explained, length, many
from saeray.report.diff_finding import finding
from saeray.report.diff_hypotheses import hypotheses
from saeray.report.diff_latents import LATENTS, all_latents
from saeray.report.diff_made import how_made, to_keep_in_mind
from saeray.report.diff_shares import scale_of, shares_of
from saeray.report.diff_sides import SideNames
from saeray.report.diff_summary import KINDS, ORDER, how_to_read, summary
from saeray.report.diff_sure import how_sure
from saeray.report.latents import script
from saeray.report.page import document, section

if TYPE_CHECKING:
    from saeray.analysis.diff.result import DiffResult
    from saeray.labels.groups import LatentGroup


def page(result: DiffResult) -> str:
    """One HTML file."""
    sides = SideNames.of(result)
    there = [group for group in (*result.more, *result.less) if group.latents[0] in result.evidence]
    scale = scale_of([shares_of(result, group, sides) for group in there])
    body = [
        f"<h1>{_title(sides)}</h1>",
        *summary(result, sides),
        *length(result, sides),
        how_sure(result, sides),
        how_to_read(result),
        *hypotheses(result, sides),
        *_direction(result, 0, sides, scale),
        *_direction(result, 1, sides, scale),
        *explained(result),
        *all_latents(result, sides),
        *([cost_section(result.hypotheses.cost)] if result.hypotheses and result.hypotheses.cost["stages"] else []),
        how_made(result),
        to_keep_in_mind(result),
    ]
    title = f"{sides.short[0]} against {', '.join(sides.short[1:])}"
    return document(title, body, script() if result.rows.num_rows else "")


def _title(sides: SideNames) -> str:
    if sides.several:
        return f"What {sides.drawn(0)} does more than {sides.others()}"
    return f"How {sides.drawn(0)} and {sides.others()} differ"


def _direction(result: DiffResult, side: int, sides: SideNames, scale: float) -> Iterator[str]:
    order = result.order(side)

    def cards(groups: Sequence[LatentGroup]) -> str:
        there = (group for group in groups if group.latents[0] in result.evidence)
        return "".join(finding(group, result, sides, scale) for group in there)

    first = [
        f'<h3 class="kind">{KINDS[kind]}</h3>{drawn}{_cut(groups, result)}'
        for kind, groups in order.standing
        if (drawn := cards(groups))
    ]
    folded = []
    for groups, what in ((order.guesses, "without a name that holds"), (order.weak, _weak(result))):
        drawn = cards(groups)
        if drawn and not first and groups is order.guesses:
            first.append(drawn)
        elif groups and (drawn or first):
            said = f"{many(len(groups), 'difference')} {what}"
            folded.append(f"<details><summary>{said}</summary>{drawn}{_cut(groups, result)}</details>")
    if first or folded:
        whose = sides.drawn(0) if side == 0 else sides.others()
        lede = f'<p class="soft">{ORDER if first else "None that holds."}</p>'
        yield section(f"The evidence: more in {whose}", lede, *first, *folded)


def _weak(result: DiffResult) -> str:
    return "that fresh texts do not confirm" if result.parameters.get("halves") else "too small to be sure of"


def _cut(groups: Sequence[LatentGroup], result: DiffResult) -> str:
    """Said where not all have a card."""
    shown = sum(group.latents[0] in result.evidence for group in groups)
    if shown == len(groups):
        return ""
    rest = f"{len(groups) - shown:,} {'more' if shown else 'of them'}"
    return f'<p class="soft">{rest} without sentences here: <a href="#{LATENTS}">all latents</a>.</p>'
