"""Are pairs of properties found that were hidden among real documents? Recall by how many texts were injected.

Into a background that is encoded already, 10 to 100 texts are put that join two unrelated properties. A finding holds
in them when at least `PURE` of its documents are injected ones and it covers at least `COVERED` of those. It is right
when one of its pairs has a latent of the one property and a latent of the other, which controls with one property each
tell; a finding that holds in injected documents but is of one property alone (two marks of one language) is not.
Beside latents, words: the same counts and filters for a bag of words. Where labels are, so are keywords, committed with
the kinds. What removed the right pairs is told for every miss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.analysis.correlate.groups import PairGroup, group_pairs
from saeray.analysis.correlate.labels import ReadLabels
from saeray.analysis.correlate.options import CorrelateConfig
from saeray.analysis.correlate.pairs import Float32, Part, Profiles
from saeray.analysis.correlate.run import passing
from saeray.evaluate.counted import Background
from saeray.evaluate.injected import BOTH, FIRST, SECOND, Injected, presence
from saeray.evaluate.injections import Kind
from saeray.report.evaluate_correlations import correlations_page

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

#: The top group: so many of the strongest findings, as many as a person reads.
TOP = 20
#: Of a finding's documents, and of the injected ones.
PURE, COVERED = 0.8, 0.5
#: A latent is of a property when it is in this share of the texts with it alone, and in half as many of the others.
OF_PROPERTY = 0.5
#: Where a right pair was lost that passed every filter.
OUTRANKED = "outranked by other findings"
HIDDEN = "hidden in another finding, or past the last"


@dataclass(frozen=True)
class Way:
    """What is counted: latents or words. `background`, `labels`; `added`: the injected texts in the same form."""

    name: str
    background: Background
    labels: ReadLabels
    added: Injected


@dataclass(frozen=True)
class CorrelationsResult:
    """`rows`: one an injection and way."""

    rows: pa.Table
    background: Mapping[str, Any]
    parameters: Mapping[str, Any]
    made_with: Mapping[str, Any]

    def table(self) -> list[dict[str, Any]]:
        """Recall by way and size."""
        return recall(self.rows.to_pylist(), ("way", "size"))

    def summary(self) -> dict[str, Any]:
        """JSON-ready: recall by size and by kind, what misses were lost to, parameters, and what made it."""
        rows = self.rows.to_pylist()
        return {
            "analysis": "evaluate correlations",
            "background": dict(self.background),
            "recall": self.table(),
            "by_kind": recall(rows, ("way", "kind", "size")),
            "misses": misses(rows),
            "parameters": dict(self.parameters),
            "made_with": dict(self.made_with),
        }

    def page(self) -> str:
        """The report, one HTML page."""
        return correlations_page(self)


def evaluate_correlations(
    ways: Sequence[Way],
    kinds: Sequence[Kind],
    seeds: Sequence[int],
    sizes: Sequence[int],
    draws: int,
    options: CorrelateConfig,
    background: Mapping[str, Any],
    made_with: Mapping[str, Any],
) -> CorrelationsResult:
    """Every kind, seed and size, by every way; of each seed's texts up to `draws` injections of a size that share no
    text."""
    rows = []
    for way in ways:
        trials = _Trials(way, options)
        for kind in kinds:
            for seed in seeds:
                properties = trials.properties(kind, seed)
                for size, draw, documents in drawn(way.added.chosen(kind, seed, BOTH), sizes, draws):
                    found = trials.run(kind, properties, documents)
                    facts = {"way": way.name, "kind": kind.name, "seed": seed, "size": size, "draw": draw}
                    rows.append(facts | found)
    used = options.model_dump(exclude={"selection", "store", "out", "num_gpus", "width", "tiles", "channels", "top"})
    own = {"top_group": TOP, "pure": PURE, "covered": COVERED, "seeds": list(seeds), "draws": draws}
    return CorrelationsResult(pa.Table.from_pylist(rows, ROWS), background, own | used, made_with)


ROWS = pa.schema(
    [
        ("way", pa.string()),
        ("kind", pa.string()),
        ("seed", pa.int64()),
        ("size", pa.int64()),
        ("draw", pa.int64()),
        # Place of the first finding that holds in injected documents, and of the first right one; null: none.
        ("rank_any", pa.int64()),
        ("rank", pa.int64()),
        ("rank_named", pa.int64()),
        ("findings", pa.int64()),
        ("pairs", pa.int64()),
        ("npmi", pa.float64()),
        ("label_i", pa.string()),
        ("label_j", pa.string()),
        # Right pairs left after each filter, and the first filter that left none.
        ("right_left", pa.list_(pa.int64())),
        ("filters", pa.list_(pa.string())),
        ("lost_to", pa.string()),
    ]
)


def drawn(documents: Int64, sizes: Sequence[int], draws: int) -> Iterator[tuple[int, int, Int64]]:
    """(size, draw, documents): runs of `size` that share none, at most `draws` a size."""
    for size in sizes:
        for draw in range(min(draws, len(documents) // size)):
            yield size, draw, documents[draw * size : (draw + 1) * size]


def recall(rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> list[dict[str, Any]]:
    """Shares of injections: with a right finding in the top group, anywhere among the findings; the same for a finding
    of any two latents, and for keywords; and with some right pair that passes every filter, wherever it is shown."""
    found = []
    for key in dict.fromkeys(tuple(row[name] for name in by) for row in rows):
        own = [row for row in rows if tuple(row[name] for name in by) == key]
        entry = dict(zip(by, key, strict=True)) | {"injections": len(own)}
        for name, rank in (("right", "rank"), ("any", "rank_any"), ("named", "rank_named")):
            entry[f"{name}_in_top"] = _share([row[rank] is not None and row[rank] <= TOP for row in own])
            entry[f"{name}_found"] = _share([row[rank] is not None for row in own])
        entry["right_passes"] = _share([row["right_left"][-1] > 0 for row in own])
        found.append(entry)
    return found


def misses(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many right findings each filter cost, by way and size."""
    counts: dict[tuple[str, int, str], int] = {}
    for row in rows:
        if row["lost_to"]:
            key = row["way"], row["size"], row["lost_to"]
            counts[key] = counts.get(key, 0) + 1
    return [{"way": way, "size": size, "lost_to": name, "injections": n} for (way, size, name), n in counts.items()]


class _Trials:
    """One way's injections: the background's profiles are made once."""

    def __init__(self, way: Way, options: CorrelateConfig) -> None:
        self.way, self.options = way, options
        alone = way.background.alone()
        self._profiles = Profiles(alone.bands[:1], alone.frequencies[:1], alone.documents)
        self._made = {id(part): self._profiles.of(part) for part in way.background.parts}
        self._there = presence(way.added.part, way.background.d_sae)

    def properties(self, kind: Kind, seed: int) -> tuple[Bool, Bool]:
        """bool[d_sae] twice: the latents of the content, and those of the form."""
        controls = [self.way.added.chosen(kind, seed, which) for which in (FIRST, SECOND)]
        a, b = (np.asarray(self._there[one].mean(axis=0)).ravel() for one in controls)
        return (a >= OF_PROPERTY) & (b <= a / 2), (b >= OF_PROPERTY) & (a <= b / 2)

    def run(self, kind: Kind, properties: tuple[Bool, Bool], documents: Int64) -> dict[str, Any]:
        """What became of one injection."""
        way = self.way
        added = way.added.only(documents)
        parts = (*way.background.parts, added)
        share = np.asarray(self._there[documents].mean(axis=0)).ravel()
        first, second = (one & (share >= COVERED) for one in properties)
        left: dict[str, int] = {}

        def watch(name: str, i: Int64, j: Int64) -> None:
            left[name] = int(_right(first, second, i, j).sum())

        found = passing(way.background.with_added(added), parts, way.labels, self.options, self._profile, watch)
        groups = group_pairs(found.table, parts, way.labels, self.options.top)
        i, j = (found.table.column(name).to_numpy().astype(np.int64) for name in ("i", "j"))
        right = _right(first, second, i, j)
        named = [
            _named(kind, row["label_i"], row["label_j"])
            for row in found.table.select(["label_i", "label_j"]).to_pylist()
        ]
        holds = [self._holds(group, len(documents)) for group in groups]
        ranks = {
            "rank_any": _first(holds),
            "rank": _first([ok and right[list(g.members)].any() for ok, g in zip(holds, groups, strict=True)]),
            "rank_named": _first(
                [ok and any(named[m] for m in g.members) for ok, g in zip(holds, groups, strict=True)]
            ),
        }
        shown: dict[str, Any] = {}
        if ranks["rank"]:
            first_right = next(member for member in groups[ranks["rank"] - 1].members if right[member])
            shown = found.table.slice(first_right, 1).to_pylist()[0]
        return {
            **ranks,
            "findings": len(groups),
            "pairs": found.table.num_rows,
            **{name: shown.get(name) for name in ("npmi", "label_i", "label_j")},
            "right_left": list(left.values()),
            "filters": list(left),
            "lost_to": _lost(ranks["rank"], left, bool(right.any())),
        }

    def _profile(self, part: Part) -> Float32:
        return self._made[id(part)] if id(part) in self._made else self._profiles.of(part)

    def _holds(self, group: PairGroup, size: int) -> bool:
        injected = group.documents >= sum(part.documents for part in self.way.background.parts)
        return bool(injected.mean() >= PURE and injected.sum() >= COVERED * size)


def _lost(rank: int | None, left: Mapping[str, int], passed: bool) -> str | None:
    if rank is not None:
        return None if rank <= TOP else OUTRANKED
    return HIDDEN if passed else next(name for name, pairs in left.items() if not pairs)


def _right(first: Bool, second: Bool, i: Int64, j: Int64) -> Bool:
    found: Bool = (first[i] & second[j]) | (second[i] & first[j])
    return found


def _named(kind: Kind, one: str | None, other: str | None) -> bool:
    a, b = (one or "").casefold(), (other or "").casefold()
    return any(
        any(word in x for word in kind.first) and any(word in y for word in kind.second) for x, y in ((a, b), (b, a))
    )


def _first(holds: Sequence[Any]) -> int | None:
    return next((place for place, ok in enumerate(holds, 1) if ok), None)


def _share(values: Sequence[bool]) -> float:
    return round(float(np.mean(values)), 4)
