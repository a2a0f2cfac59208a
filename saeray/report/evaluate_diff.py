"""The page of `evaluate diff`: shares by size and way, each set with what was said of it, what misses were lost to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from saeray.report.page import document, made, section, table
from saeray.report.text import name, visible

if TYPE_CHECKING:
    from saeray.evaluate.differences.run import DifferencesResult

NOTES = (
    "A set counts as named when one of the first ten (three) names matches one of its keywords, regular expressions "
    "that were written down before the run from the set's description alone. Keywords can be met for a wrong reason, "
    "and can miss a name that says it in other words: every list is below.",
    "“Diff: names” is what the diff calls its findings in these documents; “diff: labels” the stored labels of the "
    "same findings. “Raw difference” lists labelled latents by plain difference of frequency. “Words” are those with "
    "the highest log-odds (Monroe, Colaresi and Quinn 2008); for a word it is enough to be a keyword. “Random latents” "
    "is the chance that one of ten tested latents drawn at random has a label that matches.",
    "Larger sizes are of fewer sets, those with so many documents within the budget, so rows of one size compare and "
    "rows of different sizes do not. “Largest” is every set once. Sets of one file share documents, so the intervals "
    "are a little too narrow.",
    "What is not separable from length is told once, as length, and is no finding with a name. Such a set counts as "
    "missed; whether the sentence on length holds one of its keywords is told beside.",
)


def differences_page(result: DifferencesResult) -> str:
    """One HTML file."""
    rows = result.rows.to_pylist()
    compared = result.compared()
    head = next(row for row in compared if row["size"] == compared[-1]["size"])
    body = [
        "<h1>Does a diff name a known difference?</h1>",
        f"<p>{len({row['task'] for row in rows})} sets. The diff names the known difference among its first ten names "
        f"in {_share(head, 'in_top')} of them, among the first three in {_share(head, 'in_first')}, each set at the "
        f"largest size that was compared. With those that it tells apart as length, not by a name: "
        f"{head['in_top_or_as_length']:.0%}.</p>",
        section("By size", _compared(compared)),
        *_cost(result.cost),
        section("What misses were lost to", _misses(rows)),
        section("Every set", *_sets(rows)),
        made([(key.replace("_", " "), str(value)) for key, value in result.parameters.items()], result.made_with),
        section("What to keep in mind", "<ul>" + "".join(f"<li>{note}</li>" for note in NOTES) + "</ul>"),
    ]
    return document("Does a diff name a known difference?", body)


def _share(row: Mapping[str, Any], key: str) -> str:
    share = f"{row[key]:.0%}"
    return share if row[f"{key}_from"] is None else f"{share} ({row[f'{key}_from']:.0%} to {row[f'{key}_to']:.0%})"


def _compared(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = (
        [
            f"{visible(str(row['size']))} · {visible(row['way'])}",
            str(row["sets"]),
            _share(row, "in_first"),
            _share(row, "in_top"),
            "" if row["similarity"] is None else f"{row['similarity']:.2f}",
        ]
        for row in rows
    )
    head = ["documents a side", "sets", "named in the first 3", "in the first 10", "similarity"]
    if all(row["similarity"] is None for row in rows):
        return table(head[:-1], (cell[:-1] for cell in cells))
    return table(head, cells)


def _cost(cost: Mapping[str, Any] | None) -> list[str]:
    """What the LLM's score cost, in one line; nothing where none was asked."""
    if cost is None:
        return []
    return [f'<p class="soft">Similarity by an LLM: {visible(json.dumps(cost))}</p>']


def _misses(rows: Sequence[Mapping[str, Any]]) -> str:
    lost = [row for row in rows if row["lost_to"]]
    if not lost:
        return "<p>No set was missed.</p>"
    lines = (
        f"{name(row['task'])}, {row['size']:,} documents a side: {visible(row['lost_to'])}."
        + (f" {visible(row['length'])}." if row["length"] else "")
        for row in lost
    )
    return "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"


def _sets(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    for task, size in dict.fromkeys((row["task"], row["size"]) for row in rows):
        own = [row for row in rows if (row["task"], row["size"]) == (task, size)]
        sizes = f"{own[0]['documents_target']:,} against {own[0]['documents_other']:,} documents"
        paired = ", paired" if own[0]["paired"] else ""
        said = "".join(f"<dt>{visible(r['way'])}: {_place(r)}</dt><dd>{_list(r['names'])}</dd>" for r in own)
        drawn = f"<p>Known: {name(own[0]['known_difference'])}.</p><dl>{said}</dl>"
        found.append(f"<details><summary>{name(task)}, {sizes}{paired}</summary>{drawn}</details>")
    return found


def _place(row: Mapping[str, Any]) -> str:
    if row["place"] is not None:
        return f"place {row['place']}"
    return f"{row['in_top']:.0%} by chance" if 0 < row["in_top"] < 1 else "not named"


def _list(names: Sequence[str]) -> str:
    return " · ".join(name(text) if text else "<i>no name</i>" for text in names)
