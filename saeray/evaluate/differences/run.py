"""Does a diff name a difference that is known? Sets from a tasks file, the diff of each at several sizes, the figures.

A set is named when one of the first ten names (or three) matches a keyword that was written down beforehand. The same
keywords judge the ways that the diff is held against, in the same run and on the same documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from saeray.evaluate.differences.documents import Documents
from saeray.evaluate.differences.keywords import Keywords
from saeray.evaluate.differences.sets import DiffSet
from saeray.evaluate.differences.ways import RANDOM, WAYS, Said, all_ways, lost_to, run_diff
from saeray.labels.meanings import Meanings
from saeray.report.evaluate_diff import differences_page
from saeray.stats.intervals import wilson

#: Each set once, at the largest size that was compared of it.
LARGEST = "largest"

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("known_difference", pa.string()),
        # The size asked for, and what was compared.
        ("size", pa.int64()),
        ("documents_target", pa.int64()),
        ("documents_other", pa.int64()),
        ("paired", pa.bool_()),
        ("way", pa.string()),
        # Place of the first name that names the difference; null: none does, however far down, or latents at random.
        ("place", pa.int64()),
        ("in_first", pa.float64()),
        ("in_top", pa.float64()),
        ("names", pa.list_(pa.string())),
        # How near the first five come to the known difference, as an LLM sees it; null: nobody was asked.
        ("similarity", pa.float64()),
        # Of the diff: its findings that are more in the target, what its names were lost to, what it says of length,
        # and whether that names the difference.
        ("findings", pa.int64()),
        ("lost_to", pa.string()),
        ("length", pa.string()),
        ("as_length", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class DifferencesResult:
    """`rows`: one a set, size and way, as in SCHEMA. `cost`: of the LLM, where one was asked."""

    rows: pa.Table
    parameters: Mapping[str, Any]
    made_with: Mapping[str, Any]
    cost: Mapping[str, Any] | None = None

    def table(self) -> list[dict[str, Any]]:
        """One row a size and way: the share of sets that are named, with its 95% interval."""
        rows = self.compared()
        shown = [key for key in rows[0] if any(row[key] is not None for row in rows)]
        return [{key: "" if row[key] is None else row[key] for key in shown} for row in rows]

    def compared(self) -> list[dict[str, Any]]:
        """The same, null where there is no figure."""
        return compare_ways(self.rows.to_pylist())

    def summary(self) -> dict[str, Any]:
        """JSON-ready: shares by size and way, every set, parameters, and what made it."""
        rows = self.rows.to_pylist()
        return {
            "analysis": "evaluate diff",
            "compared": self.compared(),
            "sets": [{key: row[key] for key in row if key not in ("names", "known_difference")} for row in rows],
            "cost": None if self.cost is None else dict(self.cost),
            "parameters": dict(self.parameters),
            "made_with": dict(self.made_with),
        }

    def page(self) -> str:
        """The report, one HTML page."""
        return differences_page(self)


def evaluate_differences(
    sets: Iterable[tuple[DiffSet, Documents]],
    keywords: Keywords,
    meanings: Meanings,
    steps: Sequence[int],
    parameters: Mapping[str, Any],
    made_with: Mapping[str, Any],
    say: Callable[[str], None] = lambda line: None,
) -> DifferencesResult:
    """Every way on every set at each of its sizes. `steps`: the sizes asked for; `say` gets a line a diff."""
    rows: list[dict[str, Any]] = []
    for one, documents in sets:
        task = one.task
        for size in one.sizes:
            say(f"{task.name}, {size} documents a side")
            sides = documents.sides(one, size)
            result = run_diff(sides, made_with, meanings)
            said = all_ways(result, sides, meanings.labels, made_with["d_sae"], keywords, task.name)
            why = lost_to(result, meanings.labels, said, keywords, task.name)
            common = {
                "task": task.name,
                "known_difference": task.known_difference,
                "size": min((step for step in steps if step >= size), default=size),
                "documents_target": sides[0].n_documents,
                "documents_other": sides[1].n_documents,
                "paired": one.keys is not None,
            }
            length = "; ".join(result.length["differs"])
            of_diff = {"findings": len(result.more), "lost_to": why, "length": length}
            of_diff["as_length"] = keywords.name(task.name, length)
            rows += [common | _row(way) | (of_diff if i == 0 else {}) for i, way in enumerate(said)]
    return DifferencesResult(pa.Table.from_pylist(rows, SCHEMA), dict(parameters), made_with)


def compare_ways(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By size and way the share of sets that are named among the first and among the top, with Wilson's interval; where
    there are several sizes, then each set at its largest. Of random latents the mean chance, which has no interval."""
    last = {row["task"]: row["size"] for row in sorted(rows, key=lambda row: row["size"])}
    sizes = sorted({row["size"] for row in rows})
    groups: list[tuple[Any, list[Mapping[str, Any]]]] = [(s, [row for row in rows if row["size"] == s]) for s in sizes]
    if len(sizes) > 1:
        groups.append((LARGEST, [row for row in rows if row["size"] == last[row["task"]]]))
    found = []
    for size, own in groups:
        for way in WAYS:
            of_way = [row for row in own if row["way"] == way]
            if of_way:
                found.append({"size": size, "way": way, "sets": len(of_way)} | _shares(of_way, way == RANDOM))
    return found


def _shares(rows: Sequence[Mapping[str, Any]], chance: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in ("in_first", "in_top"):
        total = sum(row[key] for row in rows)
        lower, upper = (None, None) if chance else (round(float(x), 4) for x in wilson(total, len(rows)))
        found |= {key: round(total / len(rows), 4), f"{key}_from": lower, f"{key}_to": upper}
    told = [max(row["in_top"], float(row["as_length"])) for row in rows if row.get("as_length") is not None]
    found["in_top_or_as_length"] = round(sum(told) / len(told), 4) if told else None
    scores = [row["similarity"] for row in rows if row.get("similarity") is not None]
    return found | {"similarity": round(sum(scores) / len(scores), 4) if scores else None}


def _row(said: Said) -> dict[str, Any]:
    return {
        "way": said.way,
        "place": said.place,
        "in_first": said.in_first,
        "in_top": said.in_top,
        "names": [name or "" for name in said.names],
    }
