"""The index of a diff by the values of a column: of each value its first findings in words, and where its page is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from saeray.report.page import document, made, points, section
from saeray.report.text import name

if TYPE_CHECKING:
    from saeray.analysis.diff.each import EachResult
    from saeray.analysis.diff.result import DiffResult

#: Findings of a value on the index; its own page has all.
FIRST = 5


def page(result: EachResult) -> str:
    """One HTML file, with relative links to the pages of the values."""
    column = name(result.column)
    against = {"max": "whichever other value has it most", "rest": "all others together", "union": "any of the others"}
    none = [value for value in result.results if not result.first(value, 1)]
    quiet = f" Nothing that has a name is confirmed for {', '.join(map(name, none))}." if none else ""
    body = [
        f"<h1>What each {column} does more than the others</h1>",
        f"<p>{len(result.results)} values, each against {against[result.parameters['against']]}. Of all findings at "
        f"most {100 * result.parameters['q']:g}% are to be expected by chance.{quiet}</p>",
        *(_value(result, value, one) for value, one in result.results.items()),
        made(_lines(result), result.made_with),
    ]
    return document(f"each {result.column} against the others", body)


def _value(result: EachResult, value: str, one: DiffResult) -> str:
    side = one.sides[0]
    count = "1 finding" if len(one.more) == 1 else f"{len(one.more):,} findings"
    size = f"{side['documents']:,} documents, {side['median_tokens']:g} tokens in the median one; {count}"
    lines = "".join(f"<li>{_line(line)}</li>" for line in result.first(value, FIRST))
    aside = one.set_aside["by_length"]
    by_length = f'<p class="soft">{aside:,} latents differ with length alone.</p>' if aside else ""
    # A folder's name is letters, digits and hyphens, so it can stand in an attribute.
    link = f'<a href="{result.folders[value]}/report.html">all of it, with sentences</a>'
    unnamed = f"None of {count} has a name that holds and is confirmed." if one.more else "No difference passes."
    listed = f"<ol>{lines}</ol>" if lines else f"<p>{unnamed}</p>"
    return section(name(value), f'<p class="soft">{size} · {link}</p>', listed, by_length)


def _line(line: dict[str, Any]) -> str:
    called = name(line["finding"] or f"latent {line['latent']}")
    said = f"{called}: {line['points'].replace('-', '−')} points, {line['target']} against {line['other']}"
    return said + (f" · at least {line['from'].replace('-', '−')}" if line["from"] is not None else "")


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
    yield "findings", f"q ≤ {used['q']:g}, more than {points(used['keep'])[1:]} points, at most {used['top']} a value"
    if used["pair_on"]:
        yield "paired on", f"{used['pair_on']}: {used['n_pairs']:,} keys that every value has"
    halves = (
        f"one half proposes, the other measures, by {used['halves_by']}" if used["halves"] else used["why_no_halves"]
    )
    yield "halves", halves
