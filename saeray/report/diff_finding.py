"""One finding of a diff as a card: what it is called, how frequent it is on each side, its sentences side by side, and
folded behind them its statistics and the latents that it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from saeray.analysis.diff.claims import claim_of
from saeray.report.diff_shares import Shares, shares_of
from saeray.report.diff_sides import SideNames, colour
from saeray.report.page import percent, points, tiny
from saeray.report.text import marked, name, visible

if TYPE_CHECKING:
    from saeray.analysis.diff.names import Name
    from saeray.analysis.diff.result import DiffResult
    from saeray.analysis.evidence import Evidence, Example
    from saeray.labels.groups import LatentGroup

Row = Mapping[str, Any]
#: A token below one in a hundred says nothing of the latent.
COMMON = 0.01
#: Of a difference of which less than this is left at equal length it is said how much.
MOSTLY = 0.6


def anchor(latent: int) -> str:
    """The id of a finding's card."""
    return f"latent-{latent}"


def said(called: Name) -> str:
    """What is claimed of the texts, as HTML: the part of a name that its test asks."""
    return name(claim_of(called).removeprefix("texts with "))


def guess(row: Row, evidence: Evidence, lead: str = "a feature; ") -> str:
    """What a latent goes by that no tested name explains: its label from elsewhere as a guess, or the words that it is
    strongest on. `lead`: says first that the shares beside it are those of a feature, not of the guess."""
    if row["label"]:
        return f'<span class="soft">{lead}perhaps</span> {name(row["label"].removeprefix("texts with "))}'
    tokens = [token for token, share in evidence.peak_tokens if share >= COMMON]
    if not tokens:
        return f'<span class="soft">{lead}latent</span> {row["latent"]}'
    return f'<span class="soft">{lead}strongest on</span> {" ".join(map(chip, tokens))}'


def left_at_equal_length(shown: Shares) -> str:
    """How much of a finding's difference is left among texts of like length, "" where most of it is or nobody knows."""
    level = shown.name.level if shown.name else None
    if level is None or level * shown.difference <= 0 or abs(level) >= MOSTLY * abs(shown.difference):
        return ""
    return f"{100 * abs(level):.0f} of the {shown.points} points at equal length"


def finding(group: LatentGroup, result: DiffResult, sides: SideNames, scale: float) -> str:
    """The card of `group`; bars run from 0 to `scale`."""
    row, shown = result.row(group.latents[0]), shares_of(result, group, sides)
    return (
        f'<article class="finding" id="{anchor(row["latent"])}"><header><h3>{_heading(row, shown, result)}</h3>'
        f'<span class="big {colour(shown.side)}">{shown.points} <small>points more</small></span></header>'
        f"{badges(list(_verdicts(row, shown, group, result)))}{shown.bars(sides, scale)}"
        f"{side_by_side(row, result, sides)}{_behind(row, shown, group, sides, result)}</article>"
    )


def amount(difference: float) -> str:
    """The size of a difference in percentage points, without a sign."""
    return f"{100 * abs(difference):.1f}"


def chips(tokens: Sequence[tuple[str, float]]) -> str:
    """The tokens that a latent is strongest on, with their shares."""
    return " ".join(f"{chip(token)} {share:.0%}" for token, share in tokens if share >= COMMON)


def chip(token: str) -> str:
    """A token as it stands in the text."""
    return f'<span class="chip">{name(token)}</span>'


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
        strongest = f"{heads[1]} <small>its own strongest</small>"
        cells = [_column(heads[0], examples), _column(strongest, contrast)]
        return f'<div class="beside">{"".join(cells)}</div>'
    key = name(result.parameters["pair_on"])
    # Those that something stands beside tell more, so they come first.
    pairs = [(left, right) for left, right in zip(examples, contrast, strict=False) if right]
    alone = [left for left, right in zip(examples, (*contrast, *(None,) * len(examples)), strict=False) if not right]

    def beside(answer: Example) -> str:
        begins = "; it begins:" if answer.excerpt.cut_right else ":"
        return _column(f"{heads[1]} <small>has none of it for the same {key}{begins}</small>", [answer])

    cells = [_column(heads[0], [left]) + beside(right) for left, right in pairs]
    shown = f'<div class="beside">{"".join(cells)}</div>' if pairs else ""
    if alone:
        here = "".join(marked(example.excerpt) for example in alone)
        too = f"where {heads[1]} has it too, for the same {key}"
        shown += f'<p class="from">{heads[0]} <small>{too}</small></p>{here}'
    return shown


def _column(head_html: str, examples: Sequence[Example | None]) -> str:
    shown = "".join(marked(example.excerpt) for example in examples if example)
    shown = shown or '<p class="soft">no text here has it</p>'
    return f'<div><p class="from">{head_html}</p>{shown}</div>'


def _other_side(row: Row, result: DiffResult, own: int) -> int:
    """The side that a finding of side `own` is held against."""
    if own:
        return 0
    return next((i for i, side in enumerate(result.sides) if i and side["name"] == row["other"]), 1)


def _heading(row: Row, shown: Shares, result: DiffResult) -> str:
    if shown.name is None:
        return guess(row, result.evidence[row["latent"]])
    return said(shown.name)


def badges(said: Sequence[tuple[str, str]]) -> str:
    """Verdicts in words: (its class: good, bad or "", what it says)."""
    return '<p class="badges">' + " ".join(f'<span class="{kind}">{text}</span>' for kind, text in said) + "</p>"


def _verdicts(row: Row, shown: Shares, group: LatentGroup, result: DiffResult) -> Iterator[tuple[str, str]]:
    """What a sceptic asks first, in words."""
    if not result.confirmed(group):
        yield "bad", "not confirmed on fresh texts"
        return  # what does not hold needs no second verdict
    if shown.name is None:
        yield "bad", _unexplained(row, result)
    elif not result.stands(group):
        yield "bad", "too small a difference to be sure of"
        return
    if result.parameters.get("halves"):
        yield "good", "confirmed on fresh texts"
    # Length is looked at twice: within its classes the latent must differ, and of what is claimed something be left.
    level = shown.name.level if shown.name else row["difference_at_equal_length"]
    left = row["separable_from_length"] and (level is None or level * shown.difference > 0)
    if left and (partly := left_at_equal_length(shown)):
        yield "", partly
    else:
        yield ("good", "not explained by length") if left else ("bad", "length may explain it")
    if row.get("difference_given") is not None:
        yield (
            ("good", "not explained by the prompts")
            if row["separable_from_given"]
            else ("bad", "the prompts may explain it")
        )


def _unexplained(row: Row, result: DiffResult) -> str:
    """Why a finding has no name: its label failed here, it has no test, or there is no label."""
    if not row["label"]:
        return "no name fits"
    called = result.names.of.get(row["latent"])
    return "a guess: no search of these texts bears it out" if called else "a label that no search can test"


def bound(row: Row) -> str:
    """The interval of a difference in words; against several others there is no upper end."""
    return _interval(row["lower"], row["upper"])


def _interval(lower: float, upper: float | None) -> str:
    return f"at least {points(lower)}" if upper is None else f"{points(lower)} to {points(upper)}"


def at_equal_length(row: Row) -> str:
    level = row["difference_at_equal_length"]
    text = "no lengths that all sides have" if level is None else points(level)
    return text if row["separable_from_length"] else f"{text}, not separable from length"


def _behind(row: Row, shown: Shares, group: LatentGroup, sides: SideNames, result: DiffResult) -> str:
    """Folded: the statistics, and the latents of the finding with why they count as one."""
    lines = "".join(f"<dt>{key}</dt><dd>{text}</dd>" for key, text in _statistics(row, shown, sides, result))
    rows = [result.row(latent) for latent in group.latents]
    items = [f"{one['latent']} {name(one['label'] or 'without a label')} {points(one['difference'])}" for one in rows]
    tokens = chips(result.evidence[row["latent"]].peak_tokens)
    if tokens:
        items[0] += f"<br><small>strongest on {tokens}</small>"
    latents = "the latent behind it" if len(rows) == 1 else f"the {len(rows):,} latents behind it"
    why = f'<p class="soft">One finding because of: {visible(group.why)}.</p>' if group.why else ""
    drawn = "".join(f"<li>{item}</li>" for item in items)
    return f"<details><summary>Statistics and {latents}</summary><dl>{lines}</dl>{why}<ul>{drawn}</ul></details>"


def _statistics(row: Row, shown: Shares, sides: SideNames, result: DiffResult) -> Iterator[tuple[str, str]]:
    minus = f"points ({name(sides.short[0])} less {name(sides.short[_other_side(row, result, 0)])})"
    if shown.name is not None:
        limits = f", 95% interval {_interval(*shown.name.limits)}" if shown.name.limits else ""
        yield "found by search", f"{_both(shown.name.holds)}: {points(shown.difference)} {minus}{limits}"
        level = "no lengths that all sides have" if shown.name.level is None else points(shown.name.level)
        yield "– at equal length", level
    shares = row["frequency_target"], row["frequency_other"]
    yield f"latent {row['latent']}", f"{_both(shares)}: {points(row['difference'])} {minus}, 95% interval {bound(row)}"
    yield "– at equal length", at_equal_length(row)
    if row.get("difference_given") is not None:
        given = points(row["difference_given"])
        yield "– at equal prompts", given if row["separable_from_given"] else f"{given}, explained by them"
    if result.parameters.get("halves"):
        yield "– in the half that chose it", points(row["proposed_difference"])
    yield "– q", tiny(row["q"])
    called = result.names.of.get(row["latent"])
    if called is not None:
        what = "the search" if shown.name else f"a search for “{name(called.text)}” ({_both(called.holds)})"
        pairs = f"{called.agreement:.0%} of pairs of texts (50% is chance)"
        yield "search and latent", f"where {what} finds something the latent is stronger, in {pairs}"


def _both(shares: Sequence[float]) -> str:
    """The target's share and the highest other."""
    return f"{percent(shares[0])} against {percent(max(shares[1:]))}"
