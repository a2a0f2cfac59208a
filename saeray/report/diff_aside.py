"""What differs but may be the texts' lengths or the prompts: said once, some of it by name, the strongest in tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from saeray.analysis.diff.conclude import NOTICEABLE
from saeray.report.diff_sides import SideNames
from saeray.report.page import points, table
from saeray.report.text import name

if TYPE_CHECKING:
    from saeray.analysis.diff.result import DiffResult
    from saeray.labels.groups import LatentGroup

#: A difference at equal length that a reader would want to know of though it is set aside, and how many are named.
WORTH, NAMED = 0.1, 3


def aside(why: str) -> str:
    """The id of a table: of what `length` or `prompts` may explain."""
    return f"aside-{why}"


def many(n: int, what: str) -> str:
    """A number of things."""
    return f"{n:,} {what}{'s' * (n != 1)}"


def strongest(groups: Sequence[LatentGroup], of: int) -> str:
    """Which of `of` latents stand in a table, as a noun phrase."""
    latents = sum(len(group.latents) for group in groups)
    if latents == of:
        return "all of them"
    return f"the strongest {latents:,} of them" if latents > 1 else "the strongest of them"


def length(result: DiffResult, sides: SideNames) -> Iterator[str]:
    """Length is a finding of its own, said once."""
    differ: dict[str, list[int]] = {}
    for side, chance in zip(range(1, len(result.sides)), result.length["probability_target_longer"], strict=True):
        if max(chance, 1 - chance) > NOTICEABLE:
            differ.setdefault("longer" if chance > 0.5 else "shorter", []).append(side)
    median = [f"{side['median_tokens']:,.0f}" for side in result.sides]
    notes = [
        f"{how} than those of {' and '.join(map(sides.drawn, of))}: half of them have {median[0]} tokens (pieces of "
        f"words) or more, against {' and '.join(median[side] for side in of)}"
        for how, of in differ.items()
    ]
    worth = list(map(_worth, _at_equal_length(result)[:NAMED]))
    said = []
    if notes:
        said.append(f"Texts of {sides.drawn(0)} are {'; '.join(notes)}. A longer text has more of everything.")
    if worth or (notes and (result.more or result.less)):
        said.append("What length alone may explain is left out of the lists above.")
    if worth:
        said.append(
            f"Some of it differs by at least {100 * WORTH:.0f} points at equal length too, but too few texts are of "
            f'like length to be sure: {"; ".join(worth)}. <a href="#{aside("length")}">More of what is left out</a>.'
        )
    if said:
        yield f'<p class="note">{" ".join(said)}</p>'


def _at_equal_length(result: DiffResult) -> list[Mapping[str, Any]]:
    """Of what is set aside for length the rows that have a label and differ at equal length too, in the texts that
    measure; largest first."""
    halves, found = bool(result.parameters.get("halves")), []
    for row in (result.row(group.latents[0]) for group in result.by_length):
        level = row["difference_at_equal_length"]
        same = level is not None and level * row["difference"] > 0 and abs(level) >= WORTH
        if same and row["label"] and (row["confirmed"] or not halves):
            found.append(row)
    return sorted(found, key=lambda row: -abs(row["difference_at_equal_length"]))


def _worth(row: Mapping[str, Any]) -> str:
    level = f"{100 * row['difference_at_equal_length']:+.0f}".replace("-", "−")
    shares = f"active in {row['frequency_target']:.0%} against {row['frequency_other']:.0%}"
    return f"a feature, perhaps {name(row['label'].removeprefix('texts with '))} ({shares}; {level} at equal length)"


def explained(result: DiffResult) -> Iterator[str]:
    """What length and the prompts may explain: a table each, folded."""
    for what, why, column, groups, of in (
        ("length", "length", "difference_at_equal_length", result.by_length, result.set_aside["by_length"]),
        ("the prompts", "prompts", "difference_given", result.by_given, result.set_aside["by_given"]),
    ):
        if not groups:
            continue
        rows = [result.row(group.latents[0]) for group in groups]
        cells = (
            [
                f"{row['latent']} {name(row['label'])}" if row["label"] else str(row["latent"]),
                points(row["difference"]),
                "" if row[column] is None else points(row[column]),
            ]
            for row in rows
        )
        drawn = table(["latent", "points", f"at equal {why}"], cells)
        yield (
            f'<details id="{aside(why)}"><summary>{many(len(rows), "difference")} that {what} may explain</summary>'
            f'<p class="soft">{many(of, "feature")} may be so; here stand {strongest(groups, of)}, taken together '
            f"where they mean the same. Their names are of other texts and may not hold here.</p>{drawn}</details>"
        )
