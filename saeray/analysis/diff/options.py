"""What a user may choose of a diff."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from saeray.analysis.diff.design import Against
from saeray.errors import UsageError


@dataclass(frozen=True)
class Options:
    """A finding has a q-value of at most `q` and a difference beyond `keep`; the `top` strongest of each direction are
    kept. `min_support` documents must have the latent and as many must lack it, all sides pooled; by default no latent
    that could pass `keep` is left out. `pair_on`: a column whose values the sides share; `against`: what several others
    count as; `halves`: None lets their size decide; `given`: the channel whose latents are held equal.
    """

    channel: str | None = None
    pair_on: str | None = None
    against: Against = "max"
    halves: bool | None = None
    given: str | None = None
    min_support: int | None = None
    keep: float = 0.03
    top: int = 200
    q: float = 0.05

    def check(self) -> None:
        """Raises UsageError for choices that do not go together."""
        if self.against not in ("max", "rest", "union"):
            raise UsageError(f"--against is max, rest or union, not {self.against}")
        if self.against == "union" and self.pair_on is None:
            raise UsageError("--against union asks what no other answer to the same key has: name it with --pair-on")
        if self.given is not None and self.given == self.channel:
            raise UsageError(f"--given {self.given} is the channel that is compared; name the other one")

    def support(self, smallest: int) -> int:
        """Least documents that must have a latent, and lack it, when the smallest side has `smallest`."""
        if self.min_support is not None:
            return self.min_support
        # A difference beyond `keep` needs more than keep x n documents with the latent on one side, and without it on
        # another.
        return max(5, ceil(self.keep * smallest))
