"""The page of a diff: what was compared, what differs with its evidence, how it was made, and what it does not say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from saeray.report.page import bar, card, document, made, percent, points, read_from, section, table, tiny
from saeray.report.text import name, visible

if TYPE_CHECKING:
    from saeray.analysis.diff.naming import Name
    from saeray.analysis.diff.run import DiffResult
    from saeray.labels.groups import LatentGroup


#: Findings named in the opening sentences.
IN_SHORT = 6


def page(result: DiffResult) -> str:
    """One HTML file."""
    target, others = result.sides[0]["name"], [side["name"] for side in result.sides[1:]]
    colours = f'<span class="t">{name(target)}</span>', f'<span class="o">{" and ".join(map(name, others))}</span>'
    notes = [f"{visible(note)}." for note in result.length["differs"]]
    if notes:
        notes.append("Longer documents have more latents, so read “at equal length”.")
    body = [
        f"<h1>What {colours[0]} does more than {colours[1]}</h1>",
        f"<p>{_lede(result)}</p>",
        *_short_of_it(result, colours),
        _how_to_read(result),
        *([f'<p class="note">{" ".join(notes)}</p>'] if notes else []),
        *_direction(result, result.more, 1, f"More in {colours[0]}"),
        *_direction(result, result.less, -1, f"More in {colours[1]}"),
        *_all(result),
        made(_lines(result), result.made_with),
        section("What to keep in mind", "<ul>" + "".join(f"<li>{line}</li>" for line in _caveats(result)) + "</ul>"),
    ]
    return document(f"{target} against {', '.join(others)}", body)


def _lede(result: DiffResult) -> str:
    keep, q = result.parameters["keep"], result.parameters["q"]
    target, *others = (f"{side['documents']:,}" for side in result.sides)
    found, tested = sum(result.passing), result.rows.num_rows
    meanings = len(result.more) + len(result.less)
    words = f"{found:,} of {tested:,} tested latents differ" if found else f"None of {tested:,} tested latents differs"
    text = (
        f"{target} documents against {' and '.join(others)}. {words} by more than {100 * keep:g} points at a "
        f"false-discovery rate of {q:g}."
    )
    if meanings < min(found, 2 * result.parameters["top"]):
        text += f" Taken together where they mean the same, the strongest make {meanings:,} findings."
    if tested and not found:
        row = max(result.rows.to_pylist(), key=lambda row: abs(row["difference"]))
        text += f" The largest difference is {points(row['difference'])} points, with q = {row['q']:.2g}."
    return text


def _short_of_it(result: DiffResult, colours: Sequence[str]) -> Iterator[str]:
    """The named findings in a sentence a direction, with the shares of texts that a plain test finds them in."""
    for groups, colour in zip((result.more, result.less), colours, strict=True):
        found = [(result.names.of[g.latents[0]], g) for g in groups if result.named(g)][:IN_SHORT]
        if found:
            said = "; ".join(f"{name(called.text)} ({_shares(called)})" for called, _ in found)
            yield f"<p>More in {colour}: {said}.</p>"


def _how_to_read(result: DiffResult) -> str:
    """The page's words, for who sees such a page for the first time."""
    lines = {
        "latent": "one of the features that the encoder finds in text; it is present in a document or not. Its number "
        "is only its address.",
        "bars and points": "the share of documents that have the latent on each side, and the difference of these "
        "shares in percentage points, with its 95% interval.",
        "finding": "a difference of one or more latents that mean the same, or go through the same documents.",
        "plain test": "the name taken literally, as a search of the texts would: how many texts on each side have what "
        "the name says. It is not the latent, so its shares are near the bars and not the same.",
        "peaks on": "the words on which the latent is strongest, with the share of its documents.",
        "at equal length": "the difference if both sides had documents of the same lengths.",
        "q": "how many false findings to expect among all that are at least as clear: 0.05 is one in twenty.",
    }
    if not result.names.of:
        del lines["plain test"]
    drawn = "".join(f"<dt>{key}</dt><dd>{said}</dd>" for key, said in lines.items())
    return f"<details><summary>How to read this page</summary><dl>{drawn}</dl></details>"


def _shares(called: Name) -> str:
    """The share of texts that have it: the target's against the highest of the others."""
    return f"{called.holds[0]:.0%} of texts against {max(called.holds[1:]):.0%}"


def _direction(result: DiffResult, groups: Sequence[LatentGroup], sign: int, heading: str) -> Iterator[str]:
    shown = [(result.row(group.latents[0]), group) for group in groups if group.latents[0] in result.evidence]
    if not shown:
        return
    count = "1 finding" if len(groups) == 1 else f"{len(groups):,} findings"
    named = sum(result.named(group) for group in groups)
    said = f"{count}, {named:,} with a name that holds in these documents" if result.names.of else count
    if len(shown) < len(groups):
        said += f"; the first {len(shown)}"
    if named:
        said += ", by how much of a difference the name accounts for"
    # One scale for all, so that bars compare down the page.
    scale = max(sign * edge for row, _ in shown for edge in _interval(row))
    cards = [(_finding(row, group, result, sign, scale), result.named(group)) for row, group in shown]
    first = [html for html, holds in cards if holds or not named]
    rest = [html for html, holds in cards if named and not holds]
    if rest:
        what = "1 difference" if len(rest) == 1 else f"{len(rest)} differences"
        rest = [f"<details><summary>{what} that no name explains</summary>{''.join(rest)}</details>"]
    yield section(heading, f'<p class="soft">{said}.</p>', *first, *rest)


def _finding(row: Mapping[str, Any], group: LatentGroup, result: DiffResult, sign: int, scale: float) -> str:
    several = len(result.sides) > 2
    short = _short([side["name"] for side in result.sides])
    low, high = sorted(max(0.0, sign * edge / scale) for edge in _interval(row))
    bars = [
        bar(name(short[result.sides[0]["name"]]), "t", row["frequency_target"], percent(row["frequency_target"])),
        bar(name(short[row["other"]]), "o", row["frequency_other"], percent(row["frequency_other"])),
        bar("difference", "d", sign * row["difference"] / scale, points(row["difference"]), (low, high)),
    ]
    lower, upper = _interval(row)
    bound = f"at least {points(lower)}" if several else f"95% interval {points(lower)} to {points(upper)}"
    level = row["difference_at_equal_length"]
    equal = "no common lengths" if level is None else f"at equal length {points(level)}"
    if not row["separable_from_length"]:
        equal += ", not separable from length"
    called = result.names.of.get(row["latent"])
    return card(
        {**row, "label": called.text if called and called.borne_out else None if called else row["label"]},
        result.evidence[row["latent"]],
        f'<span class="{"t" if sign > 0 else "o"}">{points(row["difference"])}</span> <small>points</small>',
        f'<div class="bars">{"".join(bars)}</div>',
        f'<p class="soft">{bound} · {equal} · q {tiny(row["q"])}</p>',
        _checked(called, row, [short[side["name"]] for side in result.sides]),
        _alike(group, result),
    )


def _checked(called: Name | None, row: Mapping[str, Any], sides: Sequence[str]) -> str:
    """What the texts themselves say to the name."""
    if called is None:
        return ""
    rates = ", ".join(f"{percent(share)} of {name(side)}" for share, side in zip(called.holds, sides, strict=True))
    if called.borne_out:
        return f'<p class="soft">By a plain test of the texts for it: {rates}.</p>'
    if row["label"] != called.text:
        return ""
    return f'<p class="soft">Elsewhere called “{name(called.text)}”, which does not explain it here ({rates}).</p>'


def _alike(group: LatentGroup, result: DiffResult) -> str:
    """The further latents of a finding, with their differences and why they count as the same."""
    if len(group.latents) == 1:
        return ""
    others = (result.row(latent) for latent in group.latents[1:])
    said = "; ".join(f"{row['latent']} {name(row['label'] or '')} {points(row['difference'])}" for row in others)
    count = "1 latent" if len(group.latents) == 2 else f"{len(group.latents) - 1:,} latents"
    return f"<details><summary>and {count} like it ({visible(group.why)})</summary><p>{said}</p></details>"


def _interval(row: Mapping[str, Any]) -> tuple[float, float]:
    """Limits of the difference; against several others there is no upper one and the estimate stands in."""
    return row["lower"], row["difference"] if row["upper"] is None else row["upper"]


def _short(names: Sequence[str]) -> dict[str, str]:
    """Each name without the conditions that all share at the start, so that a narrow screen shows what differs."""
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    shared = "".join(letters[0] for letters in same)
    start = max(shared.rfind(mark) for mark in ":=,") + 1
    return {full: full[start:] or full for full in names}


def _all(result: DiffResult) -> Iterator[str]:
    rows = [row for row, _ in _rows(result)]
    cells = (
        [
            f"{row['latent']} {name(row['label'] or '')}",
            points(row["difference"]),
            points(row["lower"]),
            "" if row["upper"] is None else points(row["upper"]),
            "" if row["difference_at_equal_length"] is None else points(row["difference_at_equal_length"]),
            percent(row["frequency_target"]),
            percent(row["frequency_other"]),
            tiny(row["q"]),
        ]
        for row in rows
    )
    if rows:
        head = ["latent", "points", "lower", "upper", "at equal length", "target", "other", "q"]
        yield f"<details><summary>All {len(rows):,} latents as a table</summary>{table(head, cells)}</details>"


def _rows(result: DiffResult) -> list[tuple[dict[str, Any], LatentGroup]]:
    """The rows of all findings' latents, each with its group."""
    return [(result.row(latent), group) for group in (*result.more, *result.less) for latent in group.latents]


def _lines(result: DiffResult) -> Iterator[tuple[str, str]]:
    used, length = result.parameters, result.length
    for i, side in enumerate(result.sides):
        size = (
            f"{side['documents']:,} documents, {side['tokens']:,} tokens, {side['median_tokens']:g} in the median one"
        )
        yield "other" if i else "target", f"{side['name']}: {size}; {read_from(side)}"
    yield "findings", f"q ≤ {used['q']:g}, more than {100 * used['keep']:g} points, at most {used['top']} a direction"
    alike = "latents with one label or in the same documents are one finding"
    near = "" if used["near_label"] is None else f"; labels count as one from a cosine of {used['near_label']:g}"
    yield "grouped", alike + near
    yield "tested", f"latents present in at least {used['min_support']:,} of all documents and absent from as many"
    classes, share = len(length["stratum_edges"]) + 1, length["share_in_common_strata"]
    yield "equal length", f"{classes} classes of length; {share:.0%} of documents are in those that every side has"


def _caveats(result: DiffResult) -> Iterator[str]:
    yield (
        "A latent is present in a document when it is active on at least one token, so presence rises with length. "
        "A difference that vanishes at equal length is a difference of length."
    )
    if len(result.sides) > 2:
        test = "p is the largest of the one-sided Fisher mid-p values against each other side, the bound the smallest."
    else:
        test = "p is two-sided Fisher mid-p; the interval is Newcombe’s, for one latent alone."
    yield f"q is the share of false discoveries to expect among all latents up to that one. {test}"
    yield (
        "The latents were chosen and measured on the same documents, which flatters the largest differences. "
        "Documents count as independent: several answers to one prompt, or near-copies, make q too small."
    )
    yield (
        "Examples are the strongest activations, not typical ones. Peak tokens are where a latent is strongest: "
        "evidence, not a meaning."
    )
    if any(row["label"] for row, _ in _rows(result)):
        yield (
            "Names come from the latents’ labels or from these documents, most without a person or an LLM looking. A "
            "finding goes by a name when a plain test of the texts for it tells where the latent is and differs as the "
            f"latent does between the sides, on {result.names.documents:,} of the documents. The sentences are what "
            "counts."
        )
    else:
        yield "There are no labels yet: what a latent stands for is for you to judge from its sentences."
