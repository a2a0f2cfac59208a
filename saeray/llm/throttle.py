"""When the next request may go: requests and tokens a minute, and pauses that the server asked for.

Requests are spaced evenly instead of sent in bursts: services look at windows shorter than the minute they name, and an
even spacing keeps every window. What the server says to wait counts for all requests at once, because its quota does.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from saeray.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """How hard a service may be used, and how long its troubles are borne.

    concurrency: requests in flight. patience: seconds a request is tried for when the server asks to wait, and the
    longest single wait that is honoured; a server that asks for more has a day's quota used up. attempts: calls for one
    request that fails otherwise. backoff, backoff_most: seconds, doubled each attempt, of which a random share is
    waited (full jitter).
    """

    concurrency: int = 16
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    attempts: int = 6
    patience: float = 600.0
    backoff: float = 1.0
    backoff_most: float = 60.0

    def __post_init__(self) -> None:
        rates = (self.requests_per_minute, self.tokens_per_minute)
        if self.concurrency < 1 or self.attempts < 1 or any(rate is not None and not rate > 0 for rate in rates):
            raise UsageError("concurrency and attempts are at least 1 and rates above 0")

    def wait_after(self, attempt: int) -> float:
        """Seconds to wait after the attempt of that number (from 0), unless the server says otherwise."""
        return random.uniform(0.0, min(self.backoff_most, self.backoff * 2.0**attempt))


class Throttle:
    """Gives every request its time, safe to use from many threads."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._a_request = 60.0 / limits.requests_per_minute if limits.requests_per_minute else 0.0
        self._a_token = 60.0 / limits.tokens_per_minute if limits.tokens_per_minute else 0.0
        self._clock = clock
        self._next_request = self._next_token = self._paused_until = -float("inf")
        self._lock = threading.Lock()

    def slot(self, tokens: int) -> float:
        """Books a place for a request of about that many tokens and returns the seconds until it."""
        with self._lock:
            now = self._clock()
            at = max(now, self._next_request, self._next_token)
            self._next_request = at + self._a_request
            self._next_token = at + tokens * self._a_token
            return at - now

    def correct(self, tokens: int) -> None:
        """Books `tokens` more (or fewer, below zero) than a slot was asked for."""
        with self._lock:
            self._next_token += tokens * self._a_token

    def pause(self, seconds: float) -> None:
        """Nobody sends for that long."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + seconds)

    def paused(self) -> float:
        """Seconds that the pause still lasts, 0 when there is none."""
        with self._lock:
            return max(0.0, self._paused_until - self._clock())
