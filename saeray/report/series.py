"""The page of an ordered series: what rises and what falls, each with its frequency by version and its sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from saeray.report.page import bar, card, document, made, percent, points, read_from, section, tiny
from saeray.report.text import name, visible

if TYPE_CHECKING:
    from saeray.analysis.diff.series import SeriesResult
    from saeray.labels.groups import LatentGroup


def page(result: SeriesResult) -> str:
    """One HTML file."""
    column = result.parameters["ordered"]
    versions = " → ".join(name(version["value"]) for version in result.versions)
    body = [
        f"<h1>What comes and goes over {name(column)}</h1>",
        f"<p>{versions}. {_lede(result)}</p>",
        *_direction(result, result.rising, "Rising", "t"),
        *_direction(result, result.falling, "Falling", "o"),
        *_by_length(result),
        made(_lines(result), result.made_with),
        section("What to keep in mind", "<ul>" + "".join(f"<li>{line}</li>" for line in _caveats(result)) + "</ul>"),
    ]
    return document(f"what comes and goes over {column}", body)


def _lede(result: SeriesResult) -> str:
    found, used = sum(result.passing), result.parameters
    words = f"{found:,} of {result.rows.num_rows:,} tested latents change" if found else "No tested latent changes"
    steps = result.monotone
    return (
        f"{words} by more than {100 * used['keep']:g} points from first to last at a false-discovery rate of "
        f"{used['q']:g}. {steps['rising']:,} rise at every step and {steps['falling']:,} fall; by chance alone some "
        f"{steps['each_by_chance']:,g} would do either."
    )


def _direction(result: SeriesResult, groups: Sequence[LatentGroup], heading: str, colour: str) -> Iterator[str]:
    shown = [group for group in groups if group.latents[0] in result.evidence]
    if not shown:
        return
    count = "1 finding" if len(groups) == 1 else f"{len(groups):,} findings"
    first = f"; the first {len(shown)}" if len(shown) < len(groups) else ""
    yield section(
        f'<span class="{colour}">{heading}</span>',
        f'<p class="soft">{count}{first}.</p>',
        *(_finding(result, group, colour) for group in shown),
    )


def _finding(result: SeriesResult, group: LatentGroup, colour: str) -> str:
    row = result.row(group.latents[0])
    bars = [
        bar(name(version["value"]), colour, share, percent(share))
        for version, share in zip(result.versions, row["frequencies"], strict=True)
    ]
    level = row["change_at_equal_length"]
    said = [
        f"95% interval {points(row['lower'])} to {points(row['upper'])}",
        "no common lengths" if level is None else f"at equal length {points(level)}",
        f"q {tiny(row['q'])}",
        *(["at every step"] if row["monotone"] else []),
        *([] if row["confirmed"] else ["not confirmed in the other half"]),
    ]
    like = f'<p class="soft">and {len(group.latents) - 1} like it ({visible(group.why)})</p>' if group.why else ""
    return card(
        {**row, "label": result.called(group)},
        result.evidence[row["latent"]],
        f'<span class="{colour}">{points(row["change"])}</span> <small>points</small>',
        f'<div class="bars">{"".join(bars)}</div>',
        f'<p class="soft">{" · ".join(said)}</p>',
        like,
    )


def _by_length(result: SeriesResult) -> Iterator[str]:
    if result.set_aside:
        listed = "".join(f"<li>{_named(result, group)}</li>" for group in result.by_length[:20])
        yield (
            f"<details><summary>{result.set_aside:,} latents change with the length of documents alone</summary>"
            f"<ul>{listed}</ul></details>"
        )


def _named(result: SeriesResult, group: LatentGroup) -> str:
    row = result.row(group.latents[0])
    return f"{name(row['label'] or 'latent ' + str(row['latent']))} {points(row['change'])}"


def _lines(result: SeriesResult) -> Iterator[tuple[str, str]]:
    used: Mapping[str, Any] = result.parameters
    for version in result.versions:
        size = f"{version['documents']:,} documents, {version['median_tokens']:g} tokens in the median one"
        yield version["value"], f"{version['name']}: {size}; {read_from(version)}"
    if used["left_out_values"]:
        left = {"no value" if value == "None" else value: n for value, n in used["left_out_values"].items()}
        yield "left out", ", ".join(f"{value} ({n:,} documents)" for value, n in left.items())
    if used["pair_on"]:
        yield "paired on", f"{used['pair_on']}: {used['n_pairs']:,} keys that every version has"
    two = f"one half proposes, the other measures, by {used['halves_by']}"
    yield "halves", two if used["halves"] else f"none: {used['why_no_halves']}"
    yield "findings", f"q ≤ {used['q']:g}, more than {100 * used['keep']:g} points, at most {used['top']} a direction"
    yield "tested", f"latents present in at least {used['min_support']:,} proposing documents and absent from as many"


def _caveats(result: SeriesResult) -> Iterator[str]:
    test = "sign flips of each key’s trend" if result.parameters["pair_on"] else "the Cochran–Armitage test"
    yield f"p is of {test}, versions taken as evenly spaced; q is over all tested latents."
    yield "Points are the change from the first version to the last by the fitted line, not the difference of the two."
    if not result.parameters["halves"]:
        yield "Latents were chosen and measured on the same documents, which flatters the largest changes."
    yield "Examples are the strongest activations, of the last version for what rises, of the first for what falls."
