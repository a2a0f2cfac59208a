"""The sides of a diff as a reader meets them: a short name, a colour, and how many of its documents were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from saeray.report.text import name
from saeray.stats.intervals import wilson

if TYPE_CHECKING:
    from saeray.analysis.diff.design import Design
    from saeray.analysis.diff.result import DiffResult


@dataclass(frozen=True)
class SideNames:
    """`short`: what each side is called on the page, target first, as text; `sizes`: its measured documents."""

    short: tuple[str, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, result: DiffResult) -> SideNames:
        """The names and sizes of a result."""
        column = result.parameters.get("by")
        names = [_counted(side["name"], column) for side in result.sides]
        return cls(shortened(names), measured(result.design, result.sides))

    @property
    def several(self) -> bool:
        return len(self.short) > 2

    def drawn(self, side: int) -> str:
        """A side's name in its colour, as HTML."""
        return f'<span class="{colour(side)}">{name(self.short[side])}</span>'

    def others(self) -> str:
        """All sides but the target, as HTML; many are only counted."""
        rest = self.short[1:]
        if len(rest) > 3:
            return f'<span class="o">each of {len(rest)} others</span>'
        return f'<span class="o">{" and ".join(map(name, rest))}</span>'

    def numbers(self, sizes: Sequence[int]) -> str:
        """How many of each side, as HTML: "94 a side", or each by itself, or of many sides the fewest."""
        if len(set(sizes)) == 1:
            return f"{sizes[0]:,} a side"
        if len(sizes) > 4:
            return f"{min(sizes):,} or more a side"
        return " and ".join(f"{size:,} of {self.drawn(i)}" for i, size in enumerate(sizes))

    def shares(self, row: Mapping[str, Any]) -> list[tuple[float, float, float]] | None:
        """Of each side the share of its measured documents that have the row's latent, with the limits of its Wilson
        interval; None when the row's counts are not of these documents."""
        counts = row["documents"]
        if len(counts) != len(self.sizes) or not all(self.sizes):
            return None
        if any(count > n for count, n in zip(counts, self.sizes, strict=True)):
            return None
        if abs(counts[0] / self.sizes[0] - row["frequency_target"]) > 1e-6:
            return None
        return [interval(count, n) for count, n in zip(counts, self.sizes, strict=True)]


def interval(count: int, n: int) -> tuple[float, float, float]:
    """A share with the limits of its 95% Wilson interval; `n` > 0."""
    low, high = wilson(count, n)
    return count / n, float(low), float(high)


def colour(side: int) -> str:
    """The class of a side's colour: the target's, or that of all others."""
    return "o" if side else "t"


def measured(design: Design, sides: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """Documents of each side that effects were measured on, or keys against a union: those of the verifying half where
    there are halves."""
    if design.against == "union" and design.sides:
        return (design.verifiers().n_keys,) * len(sides)
    if design.proposing is None:
        return tuple(int(side["documents"]) for side in sides)
    return tuple(int((~mask).sum()) for mask in design.proposing)


def shortened(names: Sequence[str]) -> tuple[str, ...]:
    """Selectors without what all of them say: `d:model=A` against `d:model=B` is A against B, beside `the rest of d`
    A too. The full names where short ones would be ambiguous."""
    split = [_conditions(full) for full in names]
    selectors = [conditions for conditions in split if conditions]
    shared = set.intersection(*map(set, selectors)) if len(selectors) > 1 else set()
    short = []
    for full, conditions in zip(names, split, strict=True):
        own = [condition for condition in conditions if condition not in shared]
        column, equals, value = own[0].partition("=") if len(own) == 1 else ("", "", "")
        plain = equals and column.replace("_", "").isalnum() and value.strip()
        short.append(value.strip() if plain else ", ".join(own) or full)
    return tuple(short) if len(set(short)) == len(short) else tuple(names)


def _counted(full: str, column: str | None) -> str:
    """All other values of a column as one side: on the page of one value they are "the 7 others"."""
    rest = f" other values of {column}"
    return f"{full.removesuffix(rest)} others" if column and full.endswith(rest) else full


def _conditions(selector: str) -> list[str]:
    _, colon, conditions = selector.partition(":")
    return [condition.strip() for condition in conditions.split(",") if condition.strip()] if colon else []
