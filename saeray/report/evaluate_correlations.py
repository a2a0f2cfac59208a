"""The page of `evaluate correlations`: recall by size, by kind, what misses were lost to, and every injection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from saeray.report.page import document, made, section, table
from saeray.report.text import name, visible

if TYPE_CHECKING:
    from saeray.evaluate.correlations import CorrelationsResult

NOTES = (
    "Injected texts are composed from small grammars, so they are more alike than what people write; real artefacts of "
    "data (a template, a bot) are often as alike.",
    "Right: the finding holds mostly in injected documents, covers at least half of them, and one of its pairs joins "
    "the two properties, as texts with only one of them tell. Any: it holds there, whatever its latents stand for. "
    "Named: labels of a pair hold the keywords that were written down with the kind.",
    "“Found” counts every finding that was looked through, however far down the list. “Right passes”: some pair that "
    "joins the two properties passes every filter, though perhaps inside a finding that another pair leads.",
    "Words go through the same counts, filters and measures as latents; each word is its own label.",
)


def correlations_page(result: CorrelationsResult) -> str:
    """One HTML file."""
    size, top = result.background["documents"], result.parameters["top_group"]
    rows = result.rows.to_pylist()
    body = [
        "<h1>Are hidden pairs of properties found?</h1>",
        f"<p>{len(rows):,} injections into {size:,} documents of {name(result.background['name'])}. The top group is "
        f"the {top} strongest findings.</p>",
        section("By size", _recall(result.table(), ("way", "size"))),
        section("By kind", _recall(result.summary()["by_kind"], ("way", "kind", "size"))),
        section("What misses were lost to", _misses(result.summary()["misses"])),
        _every(rows),
        made([(key.replace("_", " "), str(value)) for key, value in result.parameters.items()], result.made_with),
        section("What to keep in mind", "<ul>" + "".join(f"<li>{note}</li>" for note in NOTES) + "</ul>"),
    ]
    return document("Are hidden pairs of properties found?", body)


def _recall(rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> str:
    shares = ["right_in_top", "right_found", "any_in_top", "any_found", "named_in_top", "named_found"]
    shares.append("right_passes")
    cells = (
        [
            " · ".join(visible(str(row[key])) for key in by),
            str(row["injections"]),
            *(f"{row[key]:.0%}" for key in shares),
        ]
        for row in rows
    )
    return table(["", "injections", *(key.replace("_", " ") for key in shares)], cells)


def _misses(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = (
        [f"{visible(row['way'])} · {row['size']}", visible(row["lost_to"]), str(row["injections"])] for row in rows
    )
    return table(["", "lost to", "injections"], cells)


def _every(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = (
        [
            f"{visible(row['way'])} · {visible(row['kind'])} · {row['size']} · seed {row['seed']}, {row['draw']}",
            "" if row["rank"] is None else str(row["rank"]),
            "" if row["npmi"] is None else f"{row['npmi']:.2f}",
            name(f"{row['label_i'] or ''} × {row['label_j'] or ''}") if row["rank"] else "",
            visible(row["lost_to"] or ""),
        ]
        for row in rows
    )
    drawn = table(["injection", "place", "NPMI", "finding", "lost to"], cells)
    return f"<details><summary>Every injection</summary>{drawn}</details>"
