"""How sure a diff is: what was tested, on which texts, what chance and length account for. In short sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from saeray.analysis.hypotheses.statements import PLAIN
from saeray.report.diff_aside import aside, many, strongest
from saeray.report.diff_sides import SideNames
from saeray.report.page import section
from saeray.report.text import name, visible

if TYPE_CHECKING:
    from saeray.analysis.diff.result import DiffResult
    from saeray.labels.groups import LatentGroup


def how_sure(result: DiffResult, sides: SideNames) -> str:
    """The section."""
    lines = (*_tested(result), *_halves(result, sides), *_searched(result, sides), *_aside(result))
    return section("How sure is this?", "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>")


def _tested(result: DiffResult) -> Iterator[str]:
    keep, q = result.parameters["keep"], result.parameters["q"]
    found, tested = sum(result.passing), result.rows.num_rows
    what = f"{tested:,} features of text (latents) were tested"
    unclear = sum(result.set_aside.values())
    if not found and unclear:
        beyond = "none of them beyond what length or prompts explain"
        yield f"{what}. {unclear:,} differ more clearly than chance, {beyond}."
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
    groups = (*result.more, *result.less)
    taken = sum(len(group.latents) for group in groups)
    together = ""
    if len(groups) < found:
        some = "They" if taken == found else f"The strongest {taken:,} of them"
        together = f" {some} make {many(len(groups), 'difference')}, those that mean the same taken together."
    yield (
        f"{what}. {found:,} differ by more than {100 * keep:g} points; of them at most {100 * q:g}% are to be expected "
        f"by chance.{together}"
    )


def _halves(result: DiffResult, sides: SideNames) -> Iterator[str]:
    """Which documents proposed and which measured, and what became of what was proposed."""
    used, (named, bare, weak) = result.parameters, _standing(result)
    found = named + bare + weak
    if used.get("halves"):
        sizes = [f"{size:,} of {sides.drawn(i)}" for i, size in enumerate(sides.sizes)]
        if len(sizes) > 4:
            sizes = [sizes[0], f"{sum(sides.sizes[1:]):,} of the others"]
        yield (
            "One half of the texts proposed what to look at. All percentages and sentences here are of the other half, "
            f"{' and '.join(sizes)}: fresh texts, which proposed nothing."
        )
        if found:
            rest = f" The other {weak:,} they do not confirm, or not as named; these are folded away." if weak else ""
            confirmed = f"{named + bare:,} of the {found:,} that were proposed"
            yield (
                f"The fresh texts confirm {confirmed}: {_names(named, bare)}.{rest} A small difference may be a little "
                "smaller than it looks, as only confirmed ones are listed. Each interval is for its finding alone."
            )
        return
    if found:
        rest = f"; {weak:,} too small to be sure of, folded away" if weak else ""
        yield f"Of {found:,}, {_names(named, bare)}{rest}."
    if why := used.get("why_no_halves"):
        yield (
            "The same texts said what to look at and were measured, so the largest differences look a little larger "
            f"than they are ({visible(why)})."
        )


def _standing(result: DiffResult) -> tuple[int, int, int]:
    """Of all findings how many have a name that holds, how many have none, and how many are not borne out."""
    orders = [result.order(side) for side in (0, 1)]
    return (
        sum(len(order.best) for order in orders),
        sum(len(order.guesses) for order in orders),
        sum(len(order.weak) for order in orders),
    )


def _names(named: int, bare: int) -> str:
    return f"{named:,} with a name that holds, {bare:,} without one"


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
    by_length, by_given = result.set_aside["by_length"], result.set_aside["by_given"]
    if by_length and not result.length["share_in_common_strata"]:
        yield (
            f"{by_length:,} more features differ, but the sides share hardly any lengths, so length may be all of it: "
            f"more texts are needed. {_listed('length', result.by_length, by_length)}"
        )
    elif by_length:
        yield (
            f"{by_length:,} more features differ, but the texts’ lengths may be all of it. "
            f"{_listed('length', result.by_length, by_length)}"
        )
    if by_given:
        channel = name(str(result.parameters["given"]))
        yield (
            f"{by_given:,} more differ no more than the channel {channel} explains. "
            f"{_listed('prompts', result.by_given, by_given)}"
        )


def _listed(why: str, groups: Sequence[LatentGroup], of: int) -> str:
    """Where the latents stand that are set aside."""
    if not groups:
        return ""
    where = f'<a href="#{aside(why)}">{many(len(groups), "difference")}</a>'
    return f"The lists above have none of them; find {strongest(groups, of)} below, as {where}."
