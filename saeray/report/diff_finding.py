"""One finding of a diff as a card: what it is called, how frequent it is on each side, its sentences side by side, and
folded behind them its statistics and the latents that it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from saeray.report.diff_sides import SideNames, colour
from saeray.report.page import bar, percent, points, tiny
from saeray.report.text import marked, name, visible

if TYPE_CHECKING:
    from saeray.analysis.diff.names import Name
    from saeray.analysis.diff.result import DiffResult
    from saeray.analysis.evidence import Evidence, Example
    from saeray.labels.groups import LatentGroup

Row = Mapping[str, Any]
#: Ends of the bars' scale: the first that all bars of a page fit on.
SCALES = (0.05, 0.1, 0.25, 0.5, 1.0)
#: A token below one in a hundred says nothing of the latent.
COMMON = 0.01


def anchor(latent: int) -> str:
    """The id of a finding's card."""
    return f"latent-{latent}"


def told(called: str) -> str:
    """A name as the object of "a text has …"."""
    return called.removeprefix("texts with ")


def finding(row: Row, group: LatentGroup, result: DiffResult, sides: SideNames, scale: float) -> str:
    """The card of `group`, whose leading latent is `row`; bars run from 0 to `scale`."""
    own = 0 if row["difference"] > 0 else 1
    called = result.names.of.get(row["latent"])
    evidence = result.evidence[row["latent"]]
    return (
        f'<article class="finding" id="{anchor(row["latent"])}"><header><h3>{_heading(row, called, evidence)}</h3>'
        f'<span class="big {colour(own)}">{amount(row["difference"])} <small>points more</small></span></header>'
        f"{_badges(row, result)}{bars(row, sides, scale)}{_in_words(row, called, sides)}"
        f"{side_by_side(row, result, sides)}{_behind(row, group, called, sides, result)}</article>"
    )


def amount(difference: float) -> str:
    """The size of a difference in percentage points, without a sign."""
    return f"{100 * abs(difference):.1f}"


def scale_of(rows: Sequence[Row], sides: SideNames) -> float:
    """The scale on which all bars of these rows fit, so that they compare down the page."""
    tops = [high for row in rows for _, _, high in sides.shares(row) or [(0, 0, _highest(row))]]
    return next((scale for scale in SCALES if scale >= max(tops, default=1.0)), 1.0)


def bars(row: Row, sides: SideNames, scale: float) -> str:
    """A bar a side, each with its interval where the counts are there."""
    shares = sides.shares(row)
    if shares is None:
        known = [(0, row["frequency_target"]), (1, row["frequency_other"])]
        labels = [name(sides.short[0]), name(row["other"] if sides.several else sides.short[1])]
        drawn = [bar(labels[i], colour(i), share / scale, percent(share)) for i, share in known]
    else:
        drawn = [share_bar(sides, i, share, scale) for i, share in enumerate(shares)]
    return f'<div class="bars">{"".join(drawn)}</div>'


def share_bar(sides: SideNames, side: int, share: tuple[float, float, float], scale: float = 1.0) -> str:
    """One side's share with its interval, on a track from 0 to `scale`."""
    value, low, high = share
    label = name(sides.short[side])
    return bar(label, colour(side), value / scale, percent(value), (low / scale, min(1.0, high / scale)))


def chips(tokens: Sequence[tuple[str, float]]) -> str:
    """The tokens that a latent is strongest on, with their shares."""
    return " ".join(
        f'<span class="chip">{name(token)}</span> {share:.0%}' for token, share in tokens if share >= COMMON
    )


def side_by_side(row: Row, result: DiffResult, sides: SideNames) -> str:
    """The finding's own examples beside what the other side has: paired, its answer to the same prompt; else its own
    strongest. On a narrow screen one below the other."""
    examples = result.evidence[row["latent"]].examples
    if not examples:
        return '<p class="soft">No examples: the texts are not stored.</p>'
    own = 0 if row["difference"] > 0 else 1
    contrast = result.beside.get(row["latent"])
    if contrast is None:
        return "".join(marked(example.excerpt) for example in examples)
    heads = sides.drawn(own), sides.drawn(_other_side(row, result, own))
    if not result.parameters.get("pair_on"):
        cells = [_column(head, shown) for head, shown in zip(heads, (examples, contrast), strict=True)]
        return f'<div class="beside">{"".join(cells)}</div>'
    key = name(result.parameters["pair_on"])
    if not any(contrast):
        shown = "".join(marked(example.excerpt) for example in examples)
        return f'{shown}<p class="soft">The answers of {heads[1]} with the same {key} have it too.</p>'
    cells = [
        _column(heads[0], [left]) + _column(f"{heads[1]} <small>same {key}</small>", [right])
        for left, right in zip_longest(examples, contrast)
    ]
    return f'<div class="beside">{"".join(cells)}</div>'


def _column(head_html: str, examples: Sequence[Example | None]) -> str:
    shown = "".join(marked(example.excerpt) for example in examples if example)
    missing = "has it too" if examples else "no text here has it"
    shown = shown or f'<p class="soft">{missing}</p>'
    return f'<div><p class="from">{head_html}</p>{shown}</div>'


def _other_side(row: Row, result: DiffResult, own: int) -> int:
    """The side that a finding of side `own` is held against."""
    if own:
        return 0
    return next((i for i, side in enumerate(result.sides) if i and side["name"] == row["other"]), 1)


def _heading(row: Row, called: Name | None, evidence: Evidence) -> str:
    label = called.text if called and called.borne_out else None if called else row["label"]
    if label:
        return name(told(label))
    tokens = chips(evidence.peak_tokens)
    return f'<span class="soft">no name; strongest on</span> {tokens}' if tokens else f"latent {row['latent']}"


def badges(said: Sequence[tuple[str, str]]) -> str:
    """Verdicts in words: (its class: good, bad or "", what it says)."""
    return '<p class="badges">' + " ".join(f'<span class="{kind}">{text}</span>' for kind, text in said) + "</p>"


def _badges(row: Row, result: DiffResult) -> str:
    """What a sceptic asks first, in words."""
    said = []
    if result.parameters.get("halves"):
        said.append(
            ("good", "confirmed on fresh texts") if row["confirmed"] else ("bad", "not confirmed on fresh texts")
        )
        if not row["confirmed"]:
            return badges(said)  # what does not hold needs no second verdict
    if row["separable_from_length"]:
        said.append(("good", "not explained by length"))
    else:
        said.append(("bad", "length may explain it"))
    if row.get("difference_given") is not None:
        said.append(
            ("good", "not explained by the prompts")
            if row["separable_from_given"]
            else ("bad", "the prompts may explain it")
        )
    return badges(said)


def _in_words(row: Row, called: Name | None, sides: SideNames) -> str:
    """What a plain test of the texts says of the name; of a name that fails here, that it does."""
    if called is None:
        return ""
    rates = ", ".join(
        f"{percent(share)} of {name(side)}" for share, side in zip(called.holds, sides.short, strict=True)
    )
    if called.borne_out:
        return f"<p>By a plain test of the texts for it: {rates}.</p>"
    if row["label"] != called.text:
        return ""
    return f'<p class="soft">Elsewhere called “{name(called.text)}”, which does not explain it here ({rates}).</p>'


def bound(row: Row) -> str:
    """The interval of a difference in words; against several others there is no upper end."""
    if row["upper"] is None:
        return f"at least {points(row['lower'])}"
    return f"{points(row['lower'])} to {points(row['upper'])}"


def at_equal_length(row: Row) -> str:
    level = row["difference_at_equal_length"]
    said = "no lengths that all sides have" if level is None else points(level)
    return said if row["separable_from_length"] else f"{said}, not separable from length"


def _behind(row: Row, group: LatentGroup, called: Name | None, sides: SideNames, result: DiffResult) -> str:
    """Folded: the statistics, and the latents of the finding with why they count as one."""
    lines = "".join(f"<dt>{key}</dt><dd>{said}</dd>" for key, said in _statistics(row, called, sides, result))
    rows = [result.row(latent) for latent in group.latents]
    items = [f"{one['latent']} {name(one['label'] or 'without a label')} {points(one['difference'])}" for one in rows]
    tokens = chips(result.evidence[row["latent"]].peak_tokens)
    if tokens:
        items[0] += f"<br><small>strongest on {tokens}</small>"
    latents = "the latent behind it" if len(rows) == 1 else f"the {len(rows):,} latents behind it"
    why = f'<p class="soft">One finding because of: {visible(group.why)}.</p>' if group.why else ""
    drawn = "".join(f"<li>{item}</li>" for item in items)
    return f"<details><summary>Statistics and {latents}</summary><dl>{lines}</dl>{why}<ul>{drawn}</ul></details>"


def _statistics(row: Row, called: Name | None, sides: SideNames, result: DiffResult) -> Iterator[tuple[str, str]]:
    minus = f"{name(sides.short[0])} less {name(sides.short[_other_side(row, result, 0)])}"
    yield "difference", f"{points(row['difference'])} points ({minus})"
    yield "95% interval", bound(row)
    yield "at equal length", at_equal_length(row)
    if row.get("difference_given") is not None:
        given = points(row["difference_given"])
        yield "at equal prompts", given if row["separable_from_given"] else f"{given}, explained by them"
    if result.parameters.get("halves"):
        yield "in the proposing half", points(row["proposed_difference"])
    yield "q", tiny(row["q"])
    if called is not None:
        yield "name tells where it is", f"{called.agreement:.0%} of the time (50% is chance)"


def _highest(row: Row) -> float:
    return max(float(row["frequency_target"]), float(row["frequency_other"]))
