"""Gets one call through to a backend: within the cap, at the rate, as often as it takes, and onto the ledger."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from saeray.errors import SaerayError
from saeray.llm.base import Backend, Refused, Request, Stop, Stoppable, Transient, Usage
from saeray.llm.budget import Budget, Cap, Worst
from saeray.llm.ledger import Ledger
from saeray.llm.prices import Price, Prices
from saeray.llm.throttle import Limits, Throttle

T = TypeVar("T")

# A service that fails this many requests one after another, each with all its retries, is away or asked wrongly.
OUTAGE = 50


class Sender:
    """What the calls of one run share. Safe to use from many threads."""

    def __init__(self, backend: Backend, cap: Cap, limits: Limits, table: Prices) -> None:
        self.backend, self.limits, self.table = backend, limits, table
        self.budget, self.ledger = Budget(cap), Ledger()
        self._throttle = Throttle(limits)
        self._stopped = threading.Event()
        self._stop: BaseException | None = None
        self._failures = 0  # in a row; threads that count at once may miss one, which an outage does not notice

    def send(
        self, request: Request, stage: str, action: Callable[[], T], usage_of: Callable[[T], Usage]
    ) -> tuple[T, float]:
        """What `action` gives, and the seconds its last call took. Raises Refused, the last Transient when it is given
        up, or Stop."""
        began, attempt = time.monotonic(), 0
        while True:
            try:
                result = self._send_once(request, stage, action, usage_of)
            except Transient as error:
                pause = self._pause(error, attempt, began)
                if pause is None:
                    self._failed(error)
                    raise
                self.ledger.retried(stage, request.model, error.kind)
                attempt += 1
                self.sleep(pause)
            except Refused as error:
                self._failed(error)
                raise
            else:
                self._failures = 0
                return result

    def worst(self, request: Request, tokens_in: int | None = None, factor: float = 1.0) -> Worst:
        """What the request can cost at most. tokens_in: the service's own count, where it was asked for."""
        usage = Usage(request.worst_input() if tokens_in is None else tokens_in, request.output_limit)
        price = self._price(request.model)
        return Worst(usage.total, None if price is None else price.worst(usage, factor))

    def counted(self, request: Request, factor: float = 1.0) -> Worst | None:
        """The same from the service's own count of the input, which is asked for only when the cap is near: it is a
        call more. None: the service cannot say."""
        try:
            tokens = self.backend.count_tokens(request)
        except (Transient, Refused):
            return None
        return None if tokens is None else self.worst(request, tokens, factor)

    def cost(self, model: str, usage: Usage, factor: float = 1.0) -> int | None:
        """Picodollars; None: the price is unknown."""
        price = self._price(model)
        return None if price is None else price.cost(usage, factor)

    def end(self, error: BaseException) -> None:
        """Ends the run: nothing more is sent, and whoever waits raises what `error` says."""
        self._stop = self._stop or error
        self._stopped.set()
        if isinstance(self.backend, Stoppable):
            self.backend.stop()

    def check(self) -> None:
        """Raises what ended the run, if anything has."""
        if self._stop is not None:
            raise type(self._stop)(str(self._stop)) if isinstance(self._stop, SaerayError) else Stop("stopped")

    def sleep(self, seconds: float) -> None:
        """Waits, unless the run ends meanwhile: then raises as `check` does."""
        if seconds > 0:
            self._stopped.wait(seconds)
        self.check()

    def _send_once(
        self, request: Request, stage: str, action: Callable[[], T], usage_of: Callable[[T], Usage]
    ) -> tuple[T, float]:
        """One call, with its worst case set aside while it is out."""
        held = self.budget.reserve(self.worst(request), lambda: self.counted(request), self.check)
        estimate = held.tokens // 4
        tokens, pico = 0, None if held.pico is None else 0
        try:
            self.sleep(self._throttle.slot(estimate))
            while (pause := self._throttle.paused()) > 0:
                self.sleep(pause * random.uniform(1.0, 1.1))  # those who waited do not all come back at once
            began = time.monotonic()
            result = action()
            seconds = round(time.monotonic() - began, 3)
            usage = usage_of(result)
            tokens, pico = usage.total, self.cost(request.model, usage)
            self.ledger.paid(stage, request.model, usage, pico)
            self._throttle.correct(tokens - estimate)
            return result, seconds
        except Transient as error:
            if error.billed:
                tokens, pico = held.tokens, held.pico
                self.ledger.uncertain(stage, request.model, tokens, pico)
            raise
        finally:
            self.budget.settle(held, tokens, pico)

    def _pause(self, error: Transient, attempt: int, began: float) -> float | None:
        """Seconds before the next attempt; None: it is given up. Raises Stop when the server asks for too long.

        A wait that the server asks for holds everybody and is bounded by time; other failures are by number.
        """
        backoff = self.limits.wait_after(attempt)
        if error.wait is None:
            return backoff if attempt + 1 < self.limits.attempts else None
        if error.wait > self.limits.patience:
            raise Stop(
                f"the service asks to wait {error.wait:,.0f} s ({error.detail}): its quota is used up, so run the same "
                "again later; what was paid for is kept"
            )
        self._throttle.pause(error.wait)
        pause = 0.0 if error.wait >= 1 else backoff  # "wait 0 s" is no reason to knock without end
        return pause if time.monotonic() - began + error.wait + pause <= self.limits.patience else None

    def _failed(self, error: Transient | Refused) -> None:
        self._failures += 1
        if self._failures >= OUTAGE:
            raise Stop(
                f"{OUTAGE} requests came to nothing one after another, the last with: {error.kind}, {error.detail}; "
                "what was paid for is kept, so mend that and run the same again"
            )

    def _price(self, model: str) -> Price | None:
        return Price(input=0, output=0) if self.backend.free else self.table.of(model)
