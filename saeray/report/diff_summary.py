"""The opening of a diff's page: what differs, in sentences that need no other word of the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from saeray.analysis.diff.names import Kind
from saeray.report.diff_aside import many
from saeray.report.diff_finding import anchor, guess, left_at_equal_length, said
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
KINDS: dict[Kind, str] = {"form": "Form and behaviour", "topic": "Subjects", "words": "Words and marks"}

ORDER = "In each group what differs most among texts of like length comes first; common marks and words count half."
HALVES = "About half of them suggested what differs; the rest measured it."
GUESSED = (
    "Each of these features differs, but it is not known what it is. “Perhaps” is what it is called on other texts; no "
    "search of these texts bears it out. Read its sentences before you believe it."
)


def summary(result: DiffResult, sides: SideNames) -> Iterator[str]:
    """The first screen."""
    orders = [result.order(side) for side in (0, 1)]
    lists = [list(listed(result, order, sides, IN_SHORT)) for order in orders]
    perhaps = [guesses(result, order, sides) for order in orders]
    yield f"<p>{_compared(result, sides)} {_lede(result, sides, any(lists), any(perhaps))}</p>"
    for side, (named, unnamed) in enumerate(zip(lists, perhaps, strict=True)):
        if side and sides.several:
            continue  # less than each of several says nothing: each may be another
        own, other = (sides.drawn(0), sides.others())[:: 1 if side == 0 else -1]
        if not named and not unnamed:
            if any(lists) or any(perhaps):
                yield f"<h2>More often in {own} than in {other}</h2><p>{_nothing(result, side)}</p>"
            continue
        yield f"<h2>More often in {own} than in {other}</h2>"
        yield from named
        if unnamed:
            n = len(orders[side].guesses)
            said = f"{n:,} {'more ' if named else ''}" + (
                "differs, but no name for it holds" if n == 1 else "differ, but no name for them holds"
            )
            some = "" if unnamed.count("<li>") == n else f" Here are {unnamed.count('<li>')} of them:"
            body = f'<p class="soft">{GUESSED}{some}</p>{unnamed}'
            folded = len(orders[side].best) >= ENOUGH
            yield f"<details{'' if folded else ' open'}><summary>{said}</summary>{body}</details>"


def _nothing(result: DiffResult, side: int) -> str:
    """Why a direction is empty."""
    signs = [result.row(group.latents[0])["difference"] > 0 for group in result.by_length]
    aside = sum(above == (side == 0) for above in signs)
    why = f" Length may explain {many(aside, 'difference')} of this direction." if aside else ""
    weak = " What was proposed the fresh texts do not confirm." if result.order(side).weak else ""
    return f"Nothing that is clearer than chance.{weak}{why}"


def _lede(result: DiffResult, sides: SideNames, named: bool, guessed: bool) -> str:
    if named:
        first = ""
        if result.length["differs"]:
            first = f" {ORDER}"
        return f"{_percentages(result, sides)}{first} Follow a line to its sentences and its statistics."
    if guessed:
        return f"They differ, but nothing that differs has a name that holds here.{_guessed(result, sides)}"
    if result.more or result.less:
        return ""
    if any(result.set_aside.values()):
        return "<b>They differ, but in nothing that is separable</b> from the length of the texts or from the prompts."
    return "<b>No difference was found</b> that is clearer than chance."


def _percentages(result: DiffResult, sides: SideNames) -> str:
    """Of which texts the percentages are shares: those that were searched, of the half that chose nothing."""
    names = (result.called(group) for side in (0, 1) for group in result.order(side).best)
    read = {called.read for called in names if called}
    halves = bool(result.parameters.get("halves"))
    of = "the rest" if halves else "texts"
    if len(read) == 1:
        searched = read.pop()
        if len(searched) == len(sides.sizes) and all(n <= size for n, size in zip(searched, sides.sizes, strict=True)):
            if searched != sides.sizes:
                of = f"texts drawn from {'the rest' if halves else 'them'}, {sides.numbers(searched)},"
            elif halves:
                of = f"the rest, {sides.numbers(searched)},"
    each = f"Each percentage is the share of {of} in which a program’s search finds what is named."
    return f"{HALVES} {each}" if halves else each


def _guessed(result: DiffResult, sides: SideNames) -> str:
    if not result.parameters.get("halves"):
        return ""
    rest = sides.numbers(sides.sizes)
    return f" {HALVES} Each percentage is a share of the rest, {rest}."


def listed(result: DiffResult, order: Order, sides: SideNames, most: int, page: str = "") -> Iterator[str]:
    """The findings of a direction that stand, a list a kind; what is beyond `most` lines is folded. `page`: the page
    that has their cards, where it is another than this; there every line begins with the target."""
    for kind, groups in order.standing:
        lines = [_line(result, group, sides, page) for group in groups]
        yield f'<h3 class="kind">{KINDS[kind]}</h3><ul class="short">{"".join(lines[:most])}</ul>'
        if len(groups) > most:
            more = f"and {len(groups) - most:,} more"
            yield f'<details><summary>{more}</summary><ul class="short">{"".join(lines[most:])}</ul></details>'


def _line(result: DiffResult, group: LatentGroup, sides: SideNames, page: str) -> str:
    shown = shares_of(result, group, sides)
    assert shown.name is not None
    text, bare = f"<b>{said(shown.name)}</b>", " <small>(no sentences here)</small>"
    if group.latents[0] in result.evidence:
        text, bare = f'<a href="{page}#{anchor(group.latents[0])}">{said(shown.name)}</a>', ""
    left = left_at_equal_length(shown)
    left = f" <small>({left})</small>" if left else ""
    return f"<li><span>{text}: {shown.in_words(sides, bool(page))}{left}{bare}</span>{shown.mini(bool(page))}</li>"


def guesses(result: DiffResult, order: Order, sides: SideNames) -> str:
    """The findings that no name explains, as a list; "" when none has a card."""
    there = [group for group in order.guesses if group.latents[0] in result.evidence]
    lines = []
    for group in there[:GUESSES]:
        latent, shown = group.latents[0], shares_of(result, group, sides)
        what = f'<a href="#{anchor(latent)}">{guess(result.row(latent), result.evidence[latent], "")}</a>'
        lines.append(f"<li><span>a feature active in {shown.in_words(sides)}; {what}</span>{shown.mini()}</li>")
    return f'<ul class="short">{"".join(lines)}</ul>' if lines else ""


def _compared(result: DiffResult, sides: SideNames) -> str:
    sizes = [f"{side['documents']:,}" for side in result.sides]
    one_by_one = " and ".join(f"{n} of {sides.drawn(i)}" for i, n in enumerate(sizes) if i)
    others = sides.others() if len(sizes) > 4 else one_by_one
    used = result.parameters
    key = name(str(used["pair_on"]))
    paired = f", always for the same {key} ({used['n_pairs']:,} of them)" if used["pair_on"] else ""
    return f"{sizes[0]} texts of {sides.drawn(0)} were compared with {others}{paired}."


def how_to_read(result: DiffResult) -> str:
    """The page's words, for who sees such a page for the first time."""
    lines = {
        "search": "a program looks in every text for the words, marks or form that the name says; after a colon stand "
        "those that it finds most. What it finds is marked in the sentences.",
        "points": "percentage points: 40% against 6% are 34 points more.",
        "bars": "the share of texts on each side; the dark line is its 95% interval.",
        "fresh texts": "texts that had no part in choosing what to look at.",
        "marked words": "what the search finds; where no name holds, or the whole text has it, where the feature is "
        "strongest in that text.",
        "latent": "a feature of text that the encoder has learned; a text has it or not. Findings rest on latents; its "
        "number is only its address. A latent and the search for its name seldom find quite the same texts.",
        "at equal length": "the difference among texts of the lengths that all sides have; a little too large where "
        "texts are few, as only what shows there is listed.",
        "q": "the share of false ones to expect among all findings that are at least as clear: 0.05 is one in twenty.",
    }
    if not result.names.of:
        del lines["search"]
    if not result.parameters.get("halves"):
        del lines["fresh texts"]
    drawn = "".join(f"<dt>{key}</dt><dd>{meaning}</dd>" for key, meaning in lines.items())
    return f"<details><summary>What the words on this page mean</summary><dl>{drawn}</dl></details>"
