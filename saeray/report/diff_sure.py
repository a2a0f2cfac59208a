"""How sure a diff is: what was tested, on which texts, what chance and length account for. In short sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from saeray.analysis.hypotheses.statements import PLAIN
from saeray.report.diff_sides import SideNames
from saeray.report.page import section
from saeray.report.text import name, visible

if TYPE_CHECKING:
    from saeray.analysis.diff.result import DiffResult


def how_sure(result: DiffResult, sides: SideNames) -> str:
    """The section."""
    lines = (*_tested(result), *_halves(result, sides), *_searched(result, sides), *_aside(result))
    return section("How sure is this?", "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>")


def _tested(result: DiffResult) -> Iterator[str]:
    keep, q = result.parameters["keep"], result.parameters["q"]
    found, tested = sum(result.passing), result.rows.num_rows
    what = f"{tested:,} features of text (latents) were tested"
    aside = sum(result.set_aside.values())
    if not found and aside:
        yield f"{what}. {aside:,} differ more clearly than chance, none of them beyond what length or prompts explain."
        return
    if not found:
        yield f"{what}. None differs by more than {100 * keep:g} points and more clearly than chance."
        if tested:
            largest = max(abs(one) for one in result.rows.column("difference").to_pylist())
            yield (
                f"The largest difference is {100 * largest:.0f} points. Among so many features in so few texts chance "
                "alone may make such a one; with more texts a smaller one would count."
            )
        return
    yield (
        f"{what}. {found:,} differ by more than {100 * keep:g} points; at most {100 * q:g}% of them are to be expected "
        "by chance."
    )
    meanings = len(result.more) + len(result.less)
    if meanings < min(found, 2 * result.parameters["top"]):
        yield f"Taken together where they mean the same, the strongest make {meanings:,} findings."


def _halves(result: DiffResult, sides: SideNames) -> Iterator[str]:
    """Which documents proposed and which measured."""
    used = result.parameters
    if used.get("halves"):
        sizes = [f"{size:,} of {sides.drawn(i)}" for i, size in enumerate(sides.sizes)]
        if len(sizes) > 4:
            sizes = [sizes[0], f"{sum(sides.sizes[1:]):,} of the others"]
        yield (
            "One half of the texts said what to look at. All numbers and sentences here are of the other half, "
            f"{' and '.join(sizes)}: fresh texts, which did not choose what is looked at. What they do not bear out is "
            "folded away, so a small difference that is listed may be a little smaller than it looks; each interval is "
            "for its finding alone."
        )
    elif why := used.get("why_no_halves"):
        yield (
            "The same texts said what to look at and were measured, so the largest differences look a little larger "
            f"than they are ({visible(why)})."
        )


def _searched(result: DiffResult, sides: SideNames) -> Iterator[str]:
    """What the plain tests said of the names, where they were put as statements."""
    for method in result.hypotheses.methods if result.hypotheses else ():
        done = method.verification
        if method.judge == PLAIN and done and done.verified:
            n, confirmed = len(done.verified), sum(one.confirmed for one in done.verified)
            read = " and ".join(f"{size:,}" for size in done.documents)
            put = "1 name was put as a statement" if n == 1 else f"{n:,} names were put as statements"
            are = "1 is" if confirmed == 1 else f"{confirmed:,} are"
            held = f"{are} confirmed, with a 95% interval wholly above 0"
            yield f"{put} on a text and searched for in {read} texts: {held}."
            if done.coverage is not None:
                yield (
                    f"In {done.coverage:.0%} of {done.covered_of:,} {_cases(result)} at least one of them holds of "
                    f"{sides.drawn(0)}{' and of no other' if result.parameters['pair_on'] else ''}."
                )


def _cases(result: DiffResult) -> str:
    return "pairs" if result.parameters["pair_on"] else "texts"


def _aside(result: DiffResult) -> Iterator[str]:
    aside = result.set_aside["by_length"]
    if aside and not result.length["share_in_common_strata"]:
        yield (
            f"{aside:,} more features differ, but no class of length has 5 texts of every side, so length may be all "
            "of it: more texts are needed."
        )
    elif aside:
        yield f"{aside:,} more features differ, but no more than the texts’ lengths explain. They are not listed above."
    if result.set_aside["by_given"]:
        channel = name(str(result.parameters["given"]))
        yield f"{result.set_aside['by_given']:,} more differ no more than the channel {channel} explains."
