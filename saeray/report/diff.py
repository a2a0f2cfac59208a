"""The page of a diff: what differs in sentences, hypotheses, each finding with its evidence, all latents, how made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from saeray.report.cost import cost_section
from saeray.report.diff_finding import finding, scale_of
from saeray.report.diff_hypotheses import hypotheses
from saeray.report.diff_latents import all_latents
from saeray.report.diff_made import how_made, to_keep_in_mind
from saeray.report.diff_sides import SideNames
from saeray.report.diff_summary import how_to_read, summary
from saeray.report.latents import script
from saeray.report.page import document, points, section, table
from saeray.report.text import name

if TYPE_CHECKING:
    from saeray.analysis.diff.result import DiffResult
    from saeray.labels.groups import LatentGroup


def page(result: DiffResult) -> str:
    """One HTML file."""
    sides = SideNames.of(result)
    shown = [group for group in (*result.more, *result.less) if group.latents[0] in result.evidence]
    scale = scale_of([result.row(group.latents[0]) for group in shown], sides)
    body = [
        f"<h1>{_title(sides)}</h1>",
        *summary(result, sides),
        how_to_read(result),
        *hypotheses(result, sides),
        *_direction(result, result.more, 0, sides, scale),
        *_direction(result, result.less, 1, sides, scale),
        *_explained(result),
        *all_latents(result, sides),
        *([cost_section(result.hypotheses.cost)] if result.hypotheses else []),
        how_made(result),
        to_keep_in_mind(result),
    ]
    title = f"{sides.short[0]} against {', '.join(sides.short[1:])}"
    return document(title, body, script() if result.rows.num_rows else "")


def _title(sides: SideNames) -> str:
    if sides.several:
        return f"What {sides.drawn(0)} does more than {sides.others()}"
    return f"How {sides.drawn(0)} and {sides.others()} differ"


def _direction(
    result: DiffResult, groups: Sequence[LatentGroup], side: int, sides: SideNames, scale: float
) -> Iterator[str]:
    shown = [group for group in groups if group.latents[0] in result.evidence]
    if not shown:
        return
    standing = sum(result.stands(group) for group in groups)
    cards = [(finding(result.row(g.latents[0]), g, result, sides, scale), result.stands(g)) for g in shown]
    first = [html for html, stands in cards if stands or not standing]
    rest = [html for html, stands in cards if standing and not stands]
    if rest:
        what = "1 more difference" if len(rest) == 1 else f"{len(rest)} more differences"
        why = "that no name explains" + (", or that are not confirmed" if result.parameters.get("halves") else "")
        rest = [f"<details><summary>{what} {why}</summary>{''.join(rest)}</details>"]
    whose = sides.drawn(0) if side == 0 else sides.others()
    yield section(
        f"The evidence: more in {whose}", f'<p class="soft">{_extent(result, groups, len(shown))}</p>', *first, *rest
    )


def _extent(result: DiffResult, groups: Sequence[LatentGroup], shown: int) -> str:
    """How many findings there are, and which of them come first."""
    standing = sum(result.stands(group) for group in groups)
    said = "1 difference" if len(groups) == 1 else f"{len(groups):,} differences"
    held = " and are confirmed on fresh texts" if result.parameters.get("halves") else ""
    if standing:
        said += f"; first the {standing:,} whose names hold in these texts{held}, by how much each name accounts for"
    return said + (f"; of all, the first {shown} are shown." if shown < len(groups) else ".")


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
