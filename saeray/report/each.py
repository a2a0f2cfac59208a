"""The index of a diff by the values of a column: all values at a glance, then of each its first findings, and where its
page is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from saeray.report.diff_finding import said
from saeray.report.diff_shares import shares_of
from saeray.report.diff_sides import SideNames
from saeray.report.diff_summary import listed
from saeray.report.page import document, made, points, section
from saeray.report.text import name

if TYPE_CHECKING:
    from saeray.analysis.diff.each import EachResult
    from saeray.analysis.diff.result import DiffResult

#: Findings of a kind and a direction on the index; a value's own page has all.
FIRST = 4
AGAINST = {
    "max": "whichever of the {} others has a thing most",
    "rest": "the {} others together",
    "union": "whatever any of the {} others has for the same {}",
}


def page(result: EachResult) -> str:
    """One HTML file, with relative links to the pages of the values."""
    column = name(result.column)
    rows = "".join(_row(result, value, one) for value, one in result.results.items())
    body = [
        f"<h1>What each {column} does more and less than the others</h1>",
        f"<p>{_compared(result)} {_percentages(result)}</p>",
        section("At a glance", f'<ul class="short">{rows}</ul>'),
        *(_value(result, value, one) for value, one in result.results.items()),
        made(_lines(result), result.made_with),
    ]
    return document(f"each {result.column} against the others", body)


def _compared(result: EachResult) -> str:
    used, n = result.parameters, len(result.results)
    key = name(str(used["pair_on"]))
    against = AGAINST[used["against"]].format(n - 1, key) if n > 2 else "the other"
    same = "" if used["against"] == "union" and n > 2 else f", always for the same {key}"
    paired = f"{same} ({used['n_pairs']:,} of them)" if used["pair_on"] else ""
    values = f'<span class="t">values of {name(result.column)}</span>'
    return f'Each of {n} {values} is compared with <span class="o">{against}</span>{paired}.'


def _percentages(result: EachResult) -> str:
    """Of which texts the percentages are shares; how many where it is as many in every comparison."""
    each = "Each percentage is the share of {} in which a program’s search finds what is named."
    if not result.parameters["halves"]:
        return each.format("texts")
    names = (one.called(group) for one in result.results.values() for side in (0, 1) for group in one.order(side).best)
    read = {called.read for called in names if called and called.read}
    many = _read(result, *read.pop()) if len(read) == 1 else ""
    return f"About half of the texts suggested what differs; the rest measured it. {each.format(f'the rest{many}')}"


def _read(result: EachResult, own: int, *others: int) -> str:
    """How many texts were searched: of the others together where they are one side."""
    column = name(result.column)
    if result.parameters["against"] == "rest" and len(result.results) > 2:
        return f" ({own:,} of the {column} and {others[0]:,} of the others)"
    return f" ({own:,} of each {column})" if set(others) == {own} else ""


def _row(result: EachResult, value: str, one: DiffResult) -> str:
    """A value with the first of what it does more, or else less, and how many there are."""
    orders = [one.order(side).best for side in (0, 1)]
    link = f'<a href="#{_anchor(result, value)}">{name(value)}</a>'
    first = next((best[0] for best in orders if best), None)
    if first is None:
        return f'<li><span>{link}: <span class="soft">nothing that has a name and holds</span></span></li>'
    shown = shares_of(one, first, SideNames.of(one))
    assert shown.name is not None
    own, other = shown.of[0][1], max(share for _, share, _ in shown.of[1:])
    how = "more often:" if shown.side == 0 else "less often:"
    text = f"{how} {said(shown.name)}, {shown.text(own)} against {shown.text(other)}"
    more, less = map(len, orders)
    rest = [f"first of {more or less:,}"] if (more or less) > 1 else []
    rest += [f"{less:,} less often"] if more and less else []
    of = f" <small>({'; '.join(rest)})</small>" if rest else ""
    return f"<li><span>{link}: {text}{of}</span>{shown.mini(target_first=True)}</li>"


def _value(result: EachResult, value: str, one: DiffResult) -> str:
    sides, target = SideNames.of(one), one.sides[0]
    # A folder's name is letters, digits and hyphens, so it can stand in an attribute.
    where = f"{result.folders[value]}/report.html"
    size = f"{target['documents']:,} texts, {target['median_tokens']:,.0f} tokens (pieces of words) in the median one"
    lists = []
    for side, word in enumerate(("More often", "Less often")):
        order = one.order(side)
        drawn = "".join(listed(one, order, sides, FIRST, where))
        if drawn:
            lists.append(f"<p>{word} than the others:</p>{drawn}")
    guesses = sum(len(one.order(side).guesses) for side in (0, 1))
    quiet = [] if lists else ["<p>No difference has a name that holds.</p>"]
    rest = f", and {guesses:,} differences without a name that holds" if guesses else ""
    link = f'<a href="{where}">All of it, with sentences</a>{rest}.'
    heading = f'<span id="{_anchor(result, value)}">{name(value)}</span>'
    return section(heading, f'<p class="soft">{size}. {link}</p>', *quiet, *lists)


def _anchor(result: EachResult, value: str) -> str:
    return f"of-{result.folders[value]}"


def _lines(result: EachResult) -> Iterator[tuple[str, str]]:
    used, selection = result.parameters, result.selection
    yield "documents", f"{selection['documents']:,} of dataset {selection['dataset']}, channel {selection['channel']}"
    yield "grouped by", result.column
    if used["left_out_values"]:
        left = ", ".join(
            f"{'no value' if value == 'None' else value} ({n:,} documents)"
            for value, n in used["left_out_values"].items()
        )
        yield "left out", left
    yield (
        "findings",
        f"q ≤ {used['q']:g} over all latents and values together, more than {points(used['keep'])[1:]} points, at most "
        f"{used['top']} a value",
    )
    if used["pair_on"]:
        yield "paired on", f"{used['pair_on']}: {used['n_pairs']:,} keys that every value has"
    halves = (
        f"one half proposes, the other measures, by {used['halves_by']}" if used["halves"] else used["why_no_halves"]
    )
    yield "halves", halves
