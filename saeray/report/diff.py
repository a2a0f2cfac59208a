"""The page of a diff: what differs in sentences, hypotheses, each finding with its evidence, all latents, how made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from saeray.report.cost import cost_section
from saeray.report.diff_finding import finding
from saeray.report.diff_hypotheses import hypotheses
from saeray.report.diff_latents import all_latents
from saeray.report.diff_made import how_made, to_keep_in_mind
from saeray.report.diff_shares import scale_of, shares_of
from saeray.report.diff_sides import SideNames
from saeray.report.diff_summary import KINDS, how_to_read, summary
from saeray.report.diff_sure import how_sure
from saeray.report.latents import script
from saeray.report.page import document, points, section, table
from saeray.report.text import name

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
        how_sure(result, sides),
        how_to_read(result),
        *hypotheses(result, sides),
        *_direction(result, 0, sides, scale),
        *_direction(result, 1, sides, scale),
        *_explained(result),
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
        f'<h3 class="kind">{KINDS[kind]}</h3>{drawn}' for kind, groups in order.standing if (drawn := cards(groups))
    ]
    folded = []
    for groups, what in ((order.guesses, "without a name that holds"), (order.weak, _weak(result))):
        drawn = cards(groups)
        if drawn and (first or groups is order.weak):
            many = "1 difference" if len(groups) == 1 else f"{len(groups):,} differences"
            folded.append(f"<details><summary>{many} {what}</summary>{_cut(groups, result)}{drawn}</details>")
        elif drawn:
            first.append(drawn)
    if first or folded:
        whose = sides.drawn(0) if side == 0 else sides.others()
        lede = "Largest first, with the strongest sentences of each." if first else "None that holds."
        yield section(f"The evidence: more in {whose}", f'<p class="soft">{lede}</p>', *first, *folded)


def _weak(result: DiffResult) -> str:
    return "that fresh texts do not confirm" if result.parameters.get("halves") else "too small to be sure of"


def _cut(groups: Sequence[LatentGroup], result: DiffResult) -> str:
    """Said where not all have a card."""
    shown = sum(group.latents[0] in result.evidence for group in groups)
    if shown == len(groups):
        return ""
    return f'<p class="soft">{shown:,} are shown; the table of all latents has the rest.</p>'


def _explained(result: DiffResult) -> Iterator[str]:
    """Differences that something else explains: a table each, folded."""
    for what, column, groups in (
        ("length", "difference_at_equal_length", result.by_length),
        ("the prompts", "difference_given", result.by_given),
    ):
        if not groups:
            continue
        rows = [(result.row(group.latents[0]), group) for group in groups]
        cells = (
            [
                f"{row['latent']} {name(group.name)}",
                points(row["difference"]),
                "" if row[column] is None else points(row[column]),
            ]
            for row, group in rows
        )
        many = "1 difference that is" if len(rows) == 1 else f"{len(rows):,} differences that are"
        drawn = table(["latent", "points", f"with {what} held equal"], cells)
        yield f"<details><summary>{many} not separable from {what}</summary>{drawn}</details>"
