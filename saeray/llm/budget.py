"""The cap: what a request could cost at worst is set aside before it is sent, and the difference given back after.

Spent plus set aside never passes the cap, so the cap holds whatever is in flight. A request that does not fit waits
while others are in flight, since most give back much of what was set aside for them; it is refused only when nothing
is left that could give anything back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from saeray.errors import UsageError
from saeray.llm.base import CapReached
from saeray.llm.prices import PICO, dollars

# How often a waiting request looks whether the run was stopped meanwhile.
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Cap:
    """Most US dollars and most tokens that may be spent; None: no cap of that kind."""

    money: float | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        if (self.money is not None and not self.money >= 0) or (self.tokens is not None and self.tokens < 0):
            raise UsageError("a cap is a number of dollars or tokens, not below zero")

    def __str__(self) -> str:
        parts = [] if self.money is None else [f"{self.money:.2f} dollars"]
        return " and ".join(parts + ([] if self.tokens is None else [f"{self.tokens:,} tokens"]))


@dataclass(frozen=True)
class Worst:
    """What a request can cost at most. pico: picodollars; None where the price is unknown."""

    tokens: int
    pico: int | None


class Budget:
    """Tokens and money spent and set aside, safe to use from many threads."""

    def __init__(self, cap: Cap) -> None:
        self.cap = cap
        self._limits = (cap.tokens, None if cap.money is None else round(cap.money * PICO))
        self._spent, self._held = (0, 0), (0, 0)
        self._live = 0
        self._changed = threading.Condition()

    def reserve(
        self, worst: Worst, tighter: Callable[[], Worst | None] | None = None, check: Callable[[], None] | None = None
    ) -> Worst:
        """Sets `worst` aside and returns what was set aside, waiting while it does not fit and others are in flight.

        tighter: gives a better bound (a count by the service), asked once and only when nothing else can make room.
        check: raises when the run was stopped. Raises CapReached.
        """
        if self._limits[1] is not None and worst.pico is None:
            raise UsageError(
                "a cap in dollars needs the price of the model, which is unknown: give a price table or cap the tokens"
            )
        while True:
            with self._changed:
                while True:
                    if check is not None:
                        check()
                    if self._fits(worst):
                        self._hold(worst, +1)
                        return worst
                    if not self._live:
                        break
                    self._changed.wait(_LOOK_SECONDS)
            better = tighter() if tighter is not None else None  # outside the lock: it asks the service
            tighter = None
            if better is None:
                raise CapReached(self._refusal(worst))
            worst = better

    def settle(self, held: Worst, tokens: int, pico: int | None) -> None:
        """Gives `held` back and books what was really spent."""
        with self._changed:
            self._hold(held, -1)
            self._spent = (self._spent[0] + tokens, self._spent[1] + (pico or 0))
            self._changed.notify_all()

    def _hold(self, worst: Worst, sign: int) -> None:
        self._held = (self._held[0] + sign * worst.tokens, self._held[1] + sign * (worst.pico or 0))
        self._live += sign

    def _fits(self, worst: Worst) -> bool:
        wanted = (worst.tokens, worst.pico or 0)
        every = zip(self._limits, self._spent, self._held, wanted, strict=True)
        return all(limit is None or spent + held + more <= limit for limit, spent, held, more in every)

    def _refusal(self, worst: Worst) -> str:
        money = f"{dollars(self._spent[1]):.4f} dollars, " if self._limits[1] is not None else ""
        could = f"{dollars(worst.pico):.4f} dollars, " if self._limits[1] is not None else ""
        return (
            f"the cap of {self.cap} would be passed: {money}{self._spent[0]:,} tokens are spent and the next call "
            f"could cost {could}{worst.tokens:,} tokens; what was paid for is kept: raise the cap and run again"
        )
