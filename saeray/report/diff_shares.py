"""The one set of shares that a finding is shown with: of the texts that have what its name says, as a search finds
them, or, where no name holds, of the texts that have the latent. Both beside each other would be two answers to one
question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from saeray.report.diff_sides import SideNames, colour, interval
from saeray.report.page import bar
from saeray.report.text import name

if TYPE_CHECKING:
    from saeray.analysis.diff.names import Name
    from saeray.analysis.diff.result import DiffResult
    from saeray.labels.groups import LatentGroup

#: Ends of the bars' scale: the first that all bars of a page fit on.
SCALES = (0.05, 0.1, 0.25, 0.5, 1.0)
#: Texts a side from which a tenth of a percent says something.
FINE = 1_000


@dataclass(frozen=True)
class Shares:
    """`of`: (number of a side, its share, and the limits of its 95% interval or None) of each side that is known, the
    target first; `difference`: the target's less the highest other; `name`: what the shares are of, None: the latent.
    """

    of: tuple[tuple[int, float, tuple[float, float] | None], ...]
    difference: float
    name: Name | None
    fine: bool

    @property
    def side(self) -> int:
        """The side that has it more often, 0 or 1."""
        return 0 if self.difference > 0 else 1

    @property
    def top(self) -> float:
        """Where the longest bar or interval ends."""
        return max(limits[1] if limits else share for _, share, limits in self.of)

    def text(self, share: float) -> str:
        """A share in percent, no finer than so few texts know it."""
        return f"{share:.1%}" if self.fine else f"{share:.0%}" if share == 0 or share >= 0.005 else "&lt;1%"

    @property
    def points(self) -> str:
        """The size of the difference in percentage points."""
        return f"{100 * abs(self.difference):.{1 if self.fine else 0}f}"

    def in_words(self, sides: SideNames, target_first: bool = False) -> str:
        """In what share of each side's texts it is, the finding's own first; of several others only the highest is
        named."""
        highest = max(self.of[1:], key=lambda one: one[1])
        own, other = self.text(self.of[0][1]), self.text(highest[1])
        if sides.several:
            return f"{own} of texts, against at most {other} ({sides.drawn(highest[0])})"
        return (
            f"{own} of texts, against {other}" if self.side == 0 or target_first else f"{other} of texts, against {own}"
        )

    def bars(self, sides: SideNames, scale: float) -> str:
        """A bar a side on a track from 0 to `scale`, with its interval where there is one."""
        drawn = (share_bar(sides, side, share, limits, self.text(share), scale) for side, share, limits in self.of)
        return f'<div class="bars">{"".join(drawn)}</div>'

    def mini(self, target_first: bool = False) -> str:
        """The same two as bars, for beside a line that says both in words."""
        both = [("t", self.of[0][1]), ("o", max(share for _, share, _ in self.of[1:]))]
        drawn = (
            f'<span class="track"><b class="{kind}" style="width:{100 * share:.1f}%"></b></span>'
            for kind, share in (both if self.side == 0 or target_first else both[::-1])
        )
        return f'<span class="mini" aria-hidden="true">{"".join(drawn)}</span>'


def share_bar(
    sides: SideNames, side: int, share: float, limits: tuple[float, float] | None, text_html: str, scale: float = 1.0
) -> str:
    """One side's share with its interval, on a track from 0 to `scale`."""
    line = None if limits is None else (limits[0] / scale, min(1.0, limits[1] / scale))
    return bar(name(sides.short[side]), colour(side), share / scale, text_html, line)


def shares_of(result: DiffResult, group: LatentGroup, sides: SideNames) -> Shares:
    """What the finding is shown with."""
    called, row = result.called(group), result.row(group.latents[0])
    if called is not None:
        read = called.read or (0,) * len(called.holds)
        # Texts of one key are alike: an interval of their number would be too narrow.
        keyed = result.several_a_key
        of = tuple(
            (i, share, None if keyed else _limits(share, n))
            for i, (share, n) in enumerate(zip(called.holds, read, strict=True))
        )
        return Shares(of, called.gap, called, min(read) >= FINE)
    known = sides.shares(row)
    if known is not None:
        of = tuple((i, share, (low, high)) for i, (share, low, high) in enumerate(known))
        return Shares(of, row["difference"], None, min(sides.sizes) >= FINE)
    other = next((i for i, side in enumerate(result.sides) if i and side["name"] == row["other"]), 1)
    of = ((0, row["frequency_target"], None), (other, row["frequency_other"], None))
    return Shares(of, row["difference"], None, min(sides.sizes, default=0) >= FINE)


def _limits(share: float, n: int) -> tuple[float, float] | None:
    return interval(round(share * n), n)[1:] if n else None


def scale_of(shown: list[Shares]) -> float:
    """The scale on which all bars fit, so that they compare down the page."""
    highest = max((one.top for one in shown), default=1.0)
    return next((scale for scale in SCALES if scale >= highest), 1.0)
