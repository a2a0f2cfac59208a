"""One against the rest, for every value of a column: what sets each model apart, from one count of all documents.

Each value is a diff of its own. The rows are counted once for all values, names are sought once in one sample, and
false discoveries are bounded over all latents and values together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.analysis.diff.conclude import Making, choose, conclude, correct, length_edges
from saeray.analysis.diff.counts import Counts, Halves, postings
from saeray.analysis.diff.design import Design
from saeray.analysis.diff.measure import measure, supported_latents
from saeray.analysis.diff.naming import Namer
from saeray.analysis.diff.options import Options
from saeray.analysis.diff.plain_tests import DOCUMENTS
from saeray.analysis.diff.presence import Runs, runs
from saeray.analysis.diff.result import DiffResult
from saeray.analysis.diff.setup import arrange
from saeray.analysis.diff.tests import Tested, paired, unpaired
from saeray.analysis.diff.values import Corpus, Values, open_values, sampled
from saeray.analysis.sides import Side, open_side, provenance
from saeray.analysis.write import write
from saeray.labels.meanings import Meanings
from saeray.stats.length import edges
from saeray.store import Store

Int64 = NDArray[np.int64]

#: The line of a value without a finding that stands, as `DiffResult.line` has one.
NOTHING = {"finding": "nothing that has a name and holds"} | dict.fromkeys(
    ("points", "from", "to", "target", "other", "strongest on", "latent"), ""
)


@dataclass(frozen=True)
class EachResult:
    """`results`: value -> its diff, in order; `folders`: value -> where its page lies below the index."""

    column: str
    results: Mapping[str, DiffResult]
    folders: Mapping[str, str]
    selection: Mapping[str, Any]
    parameters: Mapping[str, Any]
    made_with: Mapping[str, Any]

    @property
    def rows(self) -> pa.Table:
        """The rows of all values, `value` first."""
        tables = []
        for value, result in self.results.items():
            tables.append(result.rows.add_column(0, "value", pa.array([value] * result.rows.num_rows, pa.string())))
        return pa.concat_tables(tables)

    def summary(self) -> dict[str, Any]:
        """JSON-ready: what was found of each value."""
        return {
            "analysis": "diff by",
            "selection": dict(self.selection),
            "column": self.column,
            "values": {
                value: result.summary() | {"folder": self.folders[value]} for value, result in self.results.items()
            },
            "parameters": dict(self.parameters),
            "made_with": dict(self.made_with),
        }

    def table(self, limit: int = 10) -> list[dict[str, Any]]:
        """The first findings that stand of each value for a terminal, `limit` in all but at least two a value: what it
        does more, or else less. A value without any has a line that says so."""
        each = max(2, limit // max(len(self.results), 1))
        rows = []
        for value, result in self.results.items():
            best = result.order(0).best or result.order(1).best
            lines = [result.line(group) for group in best[:each]]
            rows += [{self.column: value, **line} for line in lines or [NOTHING]]
        return rows

    def page(self) -> str:
        """The index, one HTML page."""
        from saeray.report.each import page

        return page(self)

    def write_each(self, out: str) -> None:
        """The result of every value in a folder of its own below `out`."""
        for value, result in self.results.items():
            write(result, f"{out.rstrip('/')}/{self.folders[value]}")


def diff_each(store: Store, target: str, column: str, options: Options, meanings: Meanings | None = None) -> EachResult:
    """Every value of `column` among the documents that `target` selects, against the others: the highest of them, or
    with `against` "rest" all of them as one side. Documents without a value are left out and counted.

    When paired, keys that every value has are compared. Raises UsageError as `diff` does, and for a column with fewer
    than two values.
    """
    options.check()
    labels = Meanings.of(store) if meanings is None else meanings
    values = open_values(store, target, column, options.channel)
    made_with = provenance(store)
    given = None if options.given is None else open_side(store, target, options.given)
    # The sides stay apart here whatever they are compared with: pooling comes after pairing and halving.
    made = arrange(values.sides, None, replace(options, against="union" if options.against == "union" else "max"))
    corpus = Corpus.of(values, made, given)
    inner = length_edges(made.design)
    halves = corpus.count(len(values.values), inner, made_with["d_sae"])
    designs = [_versus(corpus, made.design, values, i, options) for i in range(len(values.values))]
    smallest = min(side.n_documents for design in designs for side in design.proposers().sides)
    support = options.support(smallest)
    tested = supported_latents(halves, support)
    own = [_halves(halves, i, options) for i in range(len(designs))]
    figures = _figures(corpus, designs, own, tested, runs(postings(halves, tested), corpus.code.size), inner)
    measured = [measure(*one) for one in zip(designs, own, [tested] * len(designs), figures, strict=True)]
    corrected = correct(measured, options)
    making = Making(options, support, inner, labels, made_with, {**made.facts, "by": column, "value": None})
    proposing = np.ones(corpus.code.size, np.bool_) if corpus.proposing is None else corpus.proposing
    reading, shown = sampled(corpus.base.where(proposing), DOCUMENTS, corpus.code[proposing])
    code = corpus.code[proposing][shown]
    chosen = [
        choose(_reading(reading, code, i, design), one, columns, making)
        for i, (design, one, columns) in enumerate(zip(designs, measured, corrected, strict=True))
    ]
    leaders = sorted({latent for one in chosen for latent in one.candidates.leaders})
    sides = [reading.where(code == i) for i in range(len(designs))]
    namer = Namer(sides, leaders, labels.tests(leaders), edges(corpus.base.lengths), tested.tolist())
    results = {}
    for i, value in enumerate(values.values):
        names = namer.names(chosen[i].candidates.leaders, _places(i, len(designs), options))
        own_making = replace(making, facts={**making.facts, "value": value})
        results[value] = conclude(designs[i], measured[i], corrected[i], own_making, chosen[i], names)
    facts = making.parameters() | {"left_out_values": {str(k): n for k, n in values.left_out.items()}}
    return EachResult(column, results, _folders(values.values), corpus.base.facts(), facts, made_with)


def _versus(corpus: Corpus, design: Design, values: Values, i: int, options: Options) -> Design:
    """The design of value `i` against the others."""
    others = [j for j in range(len(values.values)) if j != i]
    if options.against == "rest" and len(others) > 1:
        rest = corpus.code != i
        name = f"the {len(others)} other values of {values.column}"
        sides = (design.sides[i], corpus.base.where(rest, name))
        keys = None if corpus.keys is None else (corpus.keys[~rest], corpus.keys[rest])
        half = None if corpus.proposing is None else (corpus.proposing[~rest], corpus.proposing[rest])
        return Design(sides, options.against, keys, design.n_keys, half)
    order = [i, *others]

    def arranged(parts: Sequence[Any] | None) -> Any:
        return None if parts is None else tuple(parts[j] for j in order)

    return Design(
        arranged(design.sides), options.against, arranged(design.keys), design.n_keys, arranged(design.proposing)
    )


def _halves(counts: Halves, i: int, options: Options) -> Halves:
    """Counts of each half, value `i` first; with "rest" the others as one."""

    def sides(half: Sequence[Counts]) -> tuple[Counts, ...]:
        others = [one for j, one in enumerate(half) if j != i]
        return (half[i], reduce(add, others)) if options.against == "rest" else (half[i], *others)

    return sides(counts[0]), sides(counts[1])


def _figures(
    corpus: Corpus, designs: Sequence[Design], halves: Sequence[Halves], tested: Int64, taken: Runs, inner: Int64
) -> list[Tested]:
    """p-values and limits of each comparison; when paired the rows are read once for all."""
    if corpus.keys is None or not tested.size:
        return [unpaired(one, tested) for one in halves]
    parts: list[list[Tested]] = [[] for _ in designs]
    for rows in corpus.rows(tested, taken, inner):
        each = [rows.where(corpus.code == i) for i in range(len(designs))]
        for i, design in enumerate(designs):
            others = [one for j, one in enumerate(each) if j != i]
            if len(others) != len(design.sides) - 1:
                others = [rows.where(corpus.code != i)]
            parts[i].append(paired(design, [each[i], *others], len(inner) + 1))
    return [Tested.joined(one) for one in parts]


def _reading(base: Side, code: Int64, i: int, design: Design) -> Design:
    """The sampled documents as the sides of value `i`'s comparison; of several others only the number matters."""
    rest = base.where(code != i)
    return Design((base.where(code == i), *[rest] * (len(design.sides) - 1)), design.against)


def _places(i: int, n: int, options: Options) -> list[int]:
    """The number of each value's side when value `i` is the target."""
    if options.against == "rest":
        return [0 if j == i else 1 for j in range(n)]
    others = iter(range(1, n))
    return [0 if j == i else next(others) for j in range(n)]


def _folders(values: Sequence[str]) -> dict[str, str]:
    """A folder name for each value: letters and digits alone, and no two alike."""
    found: dict[str, str] = {}
    for value in values:
        slug = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:60] or "value"
        taken = set(found.values())
        name, n = slug, 2
        while name in taken:
            name, n = f"{slug}-{n}", n + 1
        found[value] = name
    return found
