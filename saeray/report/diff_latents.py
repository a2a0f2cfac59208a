"""The table of a diff's latents: the strongest of all that were tested, findings or not, to sort, search and filter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saeray.report.diff_finding import anchor
from saeray.report.diff_sides import SideNames
from saeray.report.latents import Filters, Line, latents
from saeray.report.page import percent, points, section, tiny
from saeray.report.text import name

if TYPE_CHECKING:
    from saeray.analysis.diff.result import DiffResult

#: The id of the table.
LATENTS = "all-latents"
#: Rows of the table: some 900 kB of page. All are in result.parquet.
MOST = 2_000
CAPTION = (
    "Shares of texts with each latent, differences in points, with 95% intervals. Beside its number stands a latent’s "
    "name here, or else its label, which is of other texts and may not hold here."
)


def all_latents(result: DiffResult, sides: SideNames) -> Iterator[str]:
    """The section, where anything was tested."""
    tested = result.rows.num_rows
    if not tested:
        return
    rows = result.rows.take(_strongest(result)).to_pylist()
    extent = f"All {tested:,} tested latents" if tested <= MOST else f"The {len(rows):,} of {tested:,} tested latents"
    caption = extent + (" that differ most, all findings among them; result.parquet has all" if tested > MOST else "")
    halves = bool(result.parameters.get("halves"))
    other = "the highest other" if sides.several else name(sides.short[1])
    head = ["latent", "difference", "from", "to", "at equal length", name(sides.short[0]), other, "q"]
    which = {"more": f"more in {name(sides.short[0])}", "less": f"more in {other}"}
    only = {"found": "findings only", "length": "not explained by length"}
    if halves:
        only["confirmed"] = "confirmed"
    lines = (_line(row, result, halves) for row in rows)
    yield section(
        f'<span id="{LATENTS}">All latents</span>',
        "<details><summary>"
        + caption
        + "</summary>"
        + latents(CAPTION, head, lines, Filters(which, only))
        + "</details>",
    )


def _strongest(result: DiffResult) -> NDArray[np.int64]:
    """The rows that are shown, strongest first: those of findings, whose half that measures may say less than the one
    that proposed, and as many others as there is room for."""
    size = np.abs(result.rows.column("difference").to_numpy())
    found = result.rows.column("finding").is_valid().to_numpy()
    chosen = np.lexsort((-size, ~found))[:MOST]
    return np.asarray(chosen[np.argsort(-size[chosen], kind="stable")], np.int64)


def _line(row: Mapping[str, Any], result: DiffResult, halves: bool) -> Line:
    number = str(row["latent"])
    if row["latent"] in result.evidence:
        number = f'<a href="#{anchor(row["latent"])}">{number}</a>'
    called = result.names.of.get(row["latent"])
    label = called.text if called and called.borne_out else row["label"]
    cells = [
        f"{number} {name(label)}" if label else number,
        points(row["difference"]),
        points(row["lower"]),
        "" if row["upper"] is None else points(row["upper"]),
        "" if row["difference_at_equal_length"] is None else points(row["difference_at_equal_length"]),
        percent(row["frequency_target"]),
        percent(row["frequency_other"]),
        tiny(row["q"]),
    ]
    marks = ["more" if row["difference"] > 0 else "less"]
    marks += ["found"] if _found(row, result) else []
    marks += ["length"] if row["separable_from_length"] else []
    marks += ["confirmed"] if halves and row["confirmed"] else []
    return Line(cells, marks)


def _found(row: Mapping[str, Any], result: DiffResult) -> bool:
    """Whether the row passes: significant, and by more than `keep`, which the proposing half decides."""
    size = round(row.get("proposed_difference", row["difference"]), 12)
    if len(result.sides) == 2:
        size = abs(size)
    return bool(row["q"] <= result.parameters["q"] and size > result.parameters["keep"])
