"""The opening of a diff's page: what differs, in sentences that need no other word of the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from saeray.report.diff_finding import anchor, chips, told
from saeray.report.diff_sides import SideNames
from saeray.report.page import percent, points
from saeray.report.text import name, visible

if TYPE_CHECKING:
    from saeray.analysis.diff.names import Name
    from saeray.analysis.diff.result import DiffResult
    from saeray.labels.groups import LatentGroup

#: Findings named in the opening sentences, a direction.
IN_SHORT = 8
#: Findings without a name in the opening, where none has one.
UNNAMED = 3


def summary(result: DiffResult, sides: SideNames) -> Iterator[str]:
    """The first screen."""
    yield f"<p>{_compared(result, sides)}</p>"
    directions = list(enumerate((result.more, result.less)))
    lists = [_more_often(result, groups, side, sides) for side, groups in directions]
    named = any(lists)
    if not named:
        lists = [_unnamed(result, groups, side, sides) for side, groups in directions]
    yield from (drawn for drawn in lists if drawn)
    if named:
        yield (
            '<p class="soft">The percentages are of a search of the texts for what is named. Each line leads to its '
            "sentences and its statistics.</p>"
        )
    counted = f"<p>{_counted(result)} {_halves(result, sides)}</p>"
    yield from (*_length(result, sides), counted) if any(lists) else (counted, *_length(result, sides))


def _compared(result: DiffResult, sides: SideNames) -> str:
    sizes = [f"{side['documents']:,}" for side in result.sides]
    one_by_one = " and ".join(f"{n} of {sides.drawn(i)}" for i, n in enumerate(sizes) if i)
    others = sides.others() if len(sizes) > 4 else one_by_one
    return f"{sizes[0]} texts of {sides.drawn(0)} were compared with {others}."


def _halves(result: DiffResult, sides: SideNames) -> str:
    """Which documents proposed and which measured, and what pairs them."""
    used, said = result.parameters, []
    if used.get("n_pairs"):
        said.append(f"Texts are paired by {name(str(used['pair_on']))}: {used['n_pairs']:,} pairs.")
    if used.get("halves"):
        said.append(
            "Differences were looked for in one half of the texts and measured in the other, "
            f"{' and '.join(f'{size:,} of {sides.drawn(i)}' for i, size in enumerate(sides.sizes))}: all figures and "
            "sentences here are of these fresh texts."
        )
    elif why := used.get("why_no_halves"):
        said.append(f"The same texts proposed the differences and measured them, without halves: {visible(why)}.")
    return " ".join(said)


def _more_often(result: DiffResult, groups: Sequence[LatentGroup], side: int, sides: SideNames) -> str:
    """The findings that a plain test of the texts shows too, strongest first; "" when there are none."""
    found = [(group, result.names.of[group.latents[0]]) for group in groups if result.stands(group)]
    found = [(group, called) for group, called in found if group.latents[0] in result.evidence]
    plain = [(group, called) for group, called in found if _gap(called, side) > result.parameters["keep"]]
    if not plain:
        return ""
    shown = [
        f'<li><span><a href="#{anchor(group.latents[0])}">{name(told(called.text))}</a>: '
        f"{_shares(called, side, sides)}</span>{_mini(called, side)}</li>"
        for group, called in plain[:IN_SHORT]
    ]
    more = f'<li class="soft">and {len(plain) - IN_SHORT:,} more, below</li>' if len(plain) > IN_SHORT else ""
    return _list(shown, more, side, sides)


def _unnamed(result: DiffResult, groups: Sequence[LatentGroup], side: int, sides: SideNames) -> str:
    """The strongest findings where none has a name, by the words that they are strongest on; "" when there are none."""
    shown: list[str] = []
    for group in groups:
        latent = group.latents[0]
        if latent in result.evidence and len(shown) < UNNAMED:
            row = result.row(latent)
            own, other = (row["frequency_target"], row["frequency_other"])[:: 1 if side == 0 else -1]
            tokens = chips(result.evidence[latent].peak_tokens)
            what = f"a feature without a name, strongest on {tokens}" if tokens else "a feature without a name"
            link = f'<a href="#{anchor(latent)}">latent {latent}</a>'
            shown.append(f"<li><span>{link}, {what}: in {percent(own)} of texts, against {percent(other)}</span></li>")
    return _list(shown, "", side, sides) if shown else ""


def _list(items: Sequence[str], more: str, side: int, sides: SideNames) -> str:
    own, other = (sides.drawn(0), sides.others())[:: 1 if side == 0 else -1]
    return f'<h2>More often in {own} than in {other}</h2><ul class="short">{"".join(items)}{more}</ul>'


def _gap(called: Name, side: int) -> float:
    """By how much the plain test finds more in the finding's own side than in any other."""
    own, other = called.holds[0], max(called.holds[1:])
    return own - other if side == 0 else other - own


def _shares(called: Name, side: int, sides: SideNames) -> str:
    """In what share of each side's texts it is; of several others only the highest is named."""
    target, others = called.holds[0], called.holds[1:]
    if sides.several:
        highest = max(range(len(others)), key=lambda i: others[i])
        return f"{target:.0%} of texts, against at most {others[highest]:.0%} ({sides.drawn(1 + highest)})"
    own, other = (target, others[0]) if side == 0 else (others[0], target)
    return f"{own:.0%} of texts, against {other:.0%}"


def _mini(called: Name, side: int) -> str:
    """The two shares drawn, the finding's own side first; said in words beside it already."""
    shares = [("t", called.holds[0]), ("o", max(called.holds[1:]))]
    drawn = (
        f'<span class="track"><b class="{colour}" style="width:{100 * share:.1f}%"></b></span>'
        for colour, share in (shares if side == 0 else shares[::-1])
    )
    return f'<span class="mini" aria-hidden="true">{"".join(drawn)}</span>'


def _length(result: DiffResult, sides: SideNames) -> Iterator[str]:
    """Length is a finding of its own, said once."""
    notes = []
    for side, chance in zip(range(1, len(result.sides)), result.length["probability_target_longer"], strict=True):
        own, other = (result.sides[i]["median_tokens"] for i in (0, side))
        if any(result.sides[side]["name"] in note for note in result.length["differs"]):
            longer = "longer" if chance > 0.5 else "shorter"
            notes.append(
                f"than {sides.drawn(side)} in {max(chance, 1 - chance):.0%} of pairs (median {own:,.0f} against "
                f"{other:,.0f} tokens)"
            )
            notes[-1] = f"{longer} {notes[-1]}"
    if notes:
        yield (
            f'<p class="note">Texts of {sides.drawn(0)} are {"; ".join(notes)}. A longer text has more of everything, '
            "so each finding says what is left of it among texts of the same length.</p>"
        )


def _counted(result: DiffResult) -> str:
    keep, q = result.parameters["keep"], result.parameters["q"]
    found, tested = sum(result.passing), result.rows.num_rows
    meanings = len(result.more) + len(result.less)
    if found:
        text = (
            f"{found:,} of {tested:,} tested latents (features of text) differ by more than {100 * keep:g} points; at "
            f"most {100 * q:g}% of such findings are to be expected by chance."
        )
    else:
        text = (
            f"None of {tested:,} tested latents (features of text) differs by more than {100 * keep:g} points at a "
            f"false-discovery rate of {100 * q:g}%."
        )
    if meanings < min(found, 2 * result.parameters["top"]):
        text += f" Taken together where they mean the same, the strongest make {meanings:,} findings."
    aside = result.set_aside["by_length"]
    if aside and not result.length["share_in_common_strata"]:
        text += (
            f" {aside:,} more latents differ, but no class of length has 5 texts of every side, so length may be all "
            "of it: more texts are needed."
        )
    elif aside:
        text += f" {aside:,} more latents differ, but no more than the texts’ lengths explain."
    if result.set_aside["by_given"]:
        text += f" {result.set_aside['by_given']:,} more differ no more than {_given(result)} explains."
    if tested and not found:
        row = max(result.rows.to_pylist(), key=lambda row: abs(row["difference"]))
        text += f" The largest difference is {points(row['difference'])} points, with q = {row['q']:.2g}."
    return text


def _given(result: DiffResult) -> str:
    return f"the channel {name(str(result.parameters['given']))}"


def how_to_read(result: DiffResult) -> str:
    """The page's words, for who sees such a page for the first time."""
    lines = {
        "latent": "one of the features that the encoder finds in text; it is present in a document or not. Its number "
        "is only its address.",
        "bars and points": "the share of documents that have the latent on each side; the dark line is its 95% "
        "interval. A difference of shares is given in percentage points.",
        "finding": "a difference of one or more latents that mean the same, or go through the same documents.",
        "plain test": "the name taken literally, as a search of the texts would: how many have what it says. It is not "
        "the latent, so its shares are near the bars and not the same.",
        "marked words": "where the latent is strongest in that text.",
        "at equal length": "the difference if both sides had documents of the same lengths.",
        "q": "how many false findings to expect among all that are at least as clear: 0.05 is one in twenty.",
    }
    if not result.names.of:
        del lines["plain test"]
    drawn = "".join(f"<dt>{key}</dt><dd>{said}</dd>" for key, said in lines.items())
    return f"<details><summary>What the words on this page mean</summary><dl>{drawn}</dl></details>"
