"""The opening of a diff's page: what differs, in sentences that need no other word of the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from saeray.analysis.diff.conclude import NOTICEABLE
from saeray.analysis.diff.names import Kind
from saeray.report.diff_finding import anchor, guess, said
from saeray.report.diff_shares import shares_of
from saeray.report.diff_sides import SideNames
from saeray.report.text import name

if TYPE_CHECKING:
    from saeray.analysis.diff.claims import Order
    from saeray.analysis.diff.result import DiffResult
    from saeray.labels.groups import LatentGroup

#: Findings of a kind named in the opening, a direction.
IN_SHORT = 6
#: Findings without a name in the opening, and from how many named ones they are folded behind a line.
GUESSES, ENOUGH = 8, 3
KINDS: dict[Kind, str] = {"form": "Form and behaviour", "topic": "Topics", "words": "Words and marks"}

GUESSED = (
    "Each of these differs, but it is not known what it is: no search of these texts bears out what it is called "
    "elsewhere. The percentages are of the texts that have the feature. Read its sentences before you believe a name."
)


def summary(result: DiffResult, sides: SideNames) -> Iterator[str]:
    """The first screen."""
    orders = [result.order(side) for side in (0, 1)]
    lists = [list(listed(result, order, sides, IN_SHORT)) for order in orders]
    perhaps = [guesses(result, order, sides) for order in orders]
    yield f"<p>{_compared(result, sides)} {_lede(result, any(lists), any(perhaps))}</p>"
    for side, (named, unnamed) in enumerate(zip(lists, perhaps, strict=True)):
        if not named and not unnamed:
            continue
        own, other = (sides.drawn(0), sides.others())[:: 1 if side == 0 else -1]
        yield f"<h2>More often in {own} than in {other}</h2>"
        yield from named
        if unnamed:
            n = len(orders[side].guesses)
            said = f"{n:,} {'more ' if named else ''}" + (
                "differs, but no name for it holds" if n == 1 else "differ, but no name for them holds"
            )
            body = f'<p class="soft">{GUESSED}{_cut(n)}</p>{unnamed}'
            folded = len(orders[side].best) >= ENOUGH
            yield f"<details{'' if folded else ' open'}><summary>{said}</summary>{body}</details>"
    yield from _length(result, sides)


def _cut(n: int) -> str:
    return f" The {GUESSES} largest:" if n > GUESSES else ""


def _lede(result: DiffResult, named: bool, guessed: bool) -> str:
    if named:
        return (
            "Each percentage is the share of texts in which a search finds what is named. Follow a line to its "
            "sentences and its statistics."
        )
    if guessed:
        return "They differ, but nothing that differs has a name that holds here."
    if result.more or result.less:
        return ""
    if any(result.set_aside.values()):
        return "<b>They differ, but in nothing that is separable</b> from the length of the texts or from the prompts."
    return "<b>No difference was found</b> that is clearer than chance."


def listed(result: DiffResult, order: Order, sides: SideNames, most: int, page: str = "") -> Iterator[str]:
    """The findings of a direction that stand, a list a kind with at most `most` lines. `page`: the page that has their
    cards, where it is another than this; there every line begins with the target."""
    for kind, groups in order.standing:
        shown = [_line(result, group, sides, page) for group in groups[:most]]
        more = f'<li class="soft">and {len(groups) - most:,} more, below</li>' if len(groups) > most else ""
        yield f'<h3 class="kind">{KINDS[kind]}</h3><ul class="short">{"".join(shown)}{more}</ul>'


def _line(result: DiffResult, group: LatentGroup, sides: SideNames, page: str) -> str:
    shown = shares_of(result, group, sides)
    assert shown.name is not None
    text = said(shown.name)
    if group.latents[0] in result.evidence:
        text = f'<a href="{page}#{anchor(group.latents[0])}">{text}</a>'
    return f"<li><span>{text}: {shown.in_words(sides, bool(page))}</span>{shown.mini(bool(page))}</li>"


def guesses(result: DiffResult, order: Order, sides: SideNames) -> str:
    """The findings that no name explains, as a list; "" when none has a card."""
    there = [group for group in order.guesses if group.latents[0] in result.evidence]
    lines = []
    for group in there[:GUESSES]:
        latent, shown = group.latents[0], shares_of(result, group, sides)
        what = guess(result.row(latent), result.evidence[latent])
        lines.append(
            f'<li><span><a href="#{anchor(latent)}">{what}</a>: {shown.in_words(sides)}</span>{shown.mini()}</li>'
        )
    return f'<ul class="short">{"".join(lines)}</ul>' if lines else ""


def _compared(result: DiffResult, sides: SideNames) -> str:
    sizes = [f"{side['documents']:,}" for side in result.sides]
    one_by_one = " and ".join(f"{n} of {sides.drawn(i)}" for i, n in enumerate(sizes) if i)
    others = sides.others() if len(sizes) > 4 else one_by_one
    used = result.parameters
    key = name(str(used["pair_on"]))
    paired = f", always for the same {key} ({used['n_pairs']:,} of them)" if used["pair_on"] else ""
    return f"{sizes[0]} texts of {sides.drawn(0)} were compared with {others}{paired}."


def _length(result: DiffResult, sides: SideNames) -> Iterator[str]:
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
    if notes:
        found = " What length alone explains is left out of the lists above." if result.more or result.less else ""
        yield (
            f'<p class="note">Texts of {sides.drawn(0)} are {"; ".join(notes)}. A longer text has more of everything.'
            f"{found}</p>"
        )


def how_to_read(result: DiffResult) -> str:
    """The page's words, for who sees such a page for the first time."""
    lines = {
        "search": "each name is taken literally: a program looks in every text for the words, marks or form that it "
        "says.",
        "points": "percentage points: 40% against 6% are 34 points more.",
        "bars": "the share of texts on each side; the dark line is its 95% interval.",
        "fresh texts": "texts that had no part in choosing what to look at.",
        "marked words": "where the feature behind the finding is strongest in that text.",
        "latent": "a feature of text that the encoder has learned; a text has it or not. Findings rest on latents; its "
        "number is only its address. It and its name seldom go through quite the same texts.",
        "at equal length": "the difference if all sides had texts of the same lengths.",
        "q": "how many false findings to expect among all that are at least as clear: 0.05 is one in twenty.",
    }
    if not result.names.of:
        del lines["search"]
    if not result.parameters.get("halves"):
        del lines["fresh texts"]
    drawn = "".join(f"<dt>{key}</dt><dd>{meaning}</dd>" for key, meaning in lines.items())
    return f"<details><summary>What the words on this page mean</summary><dl>{drawn}</dl></details>"
