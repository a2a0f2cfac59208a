"""The cap and the rate by themselves, without a service."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saeray.errors import UsageError
from saeray.llm import Cap, CapReached, Limits
from saeray.llm.budget import Budget, Worst
from saeray.llm.failures import scrub, server_wait
from saeray.llm.prices import PICO, dollars, prices
from saeray.llm.throttle import Throttle


def test_spent_and_held_never_pass_the_cap() -> None:
    """64 threads that set aside, spend some of it and give the rest back, at every moment within the cap."""
    budget, limit = Budget(Cap(tokens=10_000)), 10_000
    lock, most, out, spent, refused = threading.Lock(), [0], [0], [0], [0]

    def one(seed: int) -> None:
        draw = random.Random(seed)
        worst = draw.randint(50, 400)
        try:
            held = budget.reserve(Worst(worst, None))
        except CapReached:
            with lock:
                refused[0] += 1
            return
        with lock:
            out[0] += worst
            most[0] = max(most[0], spent[0] + out[0])
        time.sleep(draw.random() / 500)
        used = draw.randint(0, worst)
        with lock:
            out[0] -= worst
            spent[0] += used
        budget.settle(held, used, None)

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(one, range(300)))
    assert limit - 2_000 < most[0] <= limit
    assert limit - 400 < spent[0] <= limit
    assert refused[0] > 0


def test_a_request_waits_for_what_others_give_back() -> None:
    """A cap that is full only for the moment refuses nobody."""
    budget = Budget(Cap(money=1.0))
    held = budget.reserve(Worst(10, PICO))
    threading.Timer(0.1, lambda: budget.settle(held, 5, PICO // 2)).start()
    began = time.monotonic()
    budget.reserve(Worst(10, PICO // 2))
    assert time.monotonic() - began >= 0.09


def test_a_tighter_bound_is_asked_for_only_at_the_end() -> None:
    """Counting costs a call, so it is done only when the cheap bound no longer fits."""
    budget, asked = Budget(Cap(tokens=100)), []

    def tighter() -> Worst:
        asked.append(1)
        return Worst(40, None)

    budget.settle(budget.reserve(Worst(50, None), tighter), 50, None)
    assert asked == []
    assert budget.reserve(Worst(60, None), tighter).tokens == 40
    assert asked == [1]
    with pytest.raises(UsageError, match="price"):
        Budget(Cap(money=1.0)).reserve(Worst(1, None))


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60), st.integers(1, 600), st.integers(100, 50_000))
def test_no_minute_holds_more_than_its_limit(sizes: list[int], requests: int, tokens: int) -> None:
    """In any 60 seconds at most the allowed requests start; tokens pass their limit by no more than one request."""
    now = [0.0]
    throttle = Throttle(Limits(requests_per_minute=requests, tokens_per_minute=tokens), clock=lambda: now[0])
    starts = []
    for size in sizes:
        now[0] += throttle.slot(size)
        starts.append((now[0], size))
    for begin, _ in starts:
        within = [size for at, size in starts if begin <= at < begin + 60 - 1e-6]
        assert len(within) <= requests
        assert sum(within) - within[-1] <= tokens + 1e-6


def test_a_correction_moves_the_next_slot() -> None:
    """What was booked on a guess is put right once the service has counted."""
    throttle = Throttle(Limits(tokens_per_minute=60), clock=lambda: 0.0)
    assert throttle.slot(10) == 0
    throttle.correct(-4)
    assert throttle.slot(1) == pytest.approx(6)


def test_backoff_doubles_with_full_jitter() -> None:
    """Retries spread over the whole interval, which doubles up to its bound."""
    limits = Limits(backoff=1.0, backoff_most=8.0)
    for attempt, most in enumerate([1, 2, 4, 8, 8]):
        waits = [limits.wait_after(attempt) for _ in range(400)]
        assert 0 <= min(waits) < 0.1 * most
        assert 0.9 * most < max(waits) <= most


def test_what_servers_ask_to_wait() -> None:
    """Every form of it is understood, and the longest is kept."""
    info = {"details": [{"retryDelay": "34.5s"}, {"reason": "x"}]}
    assert server_wait(info, {}) == 34.5
    assert server_wait(info, {"retry-after": "60"}) == 60
    assert server_wait({}, {"retry-after-ms": "250"}) == 0.25
    assert server_wait({}, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert server_wait({"details": "?"}, {"retry-after": "soon"}) is None


@pytest.mark.parametrize(
    "text",
    [
        "bad key hunter2hunter2 given", "Authorization: Bearer abc.def", "AIzaSyA1234567890", "sk-proj-12345abc",
        "sk-ab***cdef", "https://me:hunter3@host/v1", "https://host/v1?key=hunter4", "AQ.Ab8RN6abc",
    ],
)  # fmt: skip
def test_keys_are_scrubbed(text: str) -> None:
    """Our own key wherever it stands, and anything that looks like somebody's."""
    clean = scrub(text, "hunter2hunter2", None)
    assert not any(secret in clean for secret in ("hunter", "abc", "12345"))
    assert len(scrub("x" * 1000)) == 200
    assert scrub("one\ntwo") == "one two"


def test_price_tables(tmp_path: object) -> None:
    """The shipped table says when and where it was read; a user's own goes over it; an unknown model has no price."""
    shipped = prices()
    assert shipped.read
    assert shipped.source
    assert shipped.of("models/gemini-2.5-flash") == shipped.of("gemini-2.5-flash") is not None
    assert shipped.of("gpt-unheard-of") is None
    own = f"{tmp_path}/prices.yaml"
    with open(own, "w") as file:
        file.write("read: today\nmodels:\n  mine: {input: 1, output: 2}\n  gemini-2.5-flash: {input: 9, output: 9}\n")
    table = prices(own)
    assert table.of("mine").output == 2
    assert table.of("gemini-2.5-flash").input == 9
    assert table.of("gemini-2.5-pro") == shipped.of("gemini-2.5-pro")
    assert table.batch == shipped.batch < 1  # an own table without a factor does not make batches dear
    Path(own).write_text("read: today\nbatch: 0.75\nmodels:\n  mine: {input: 1, output: 2}\n")
    assert prices(own).batch == 0.75
    with pytest.raises(UsageError, match="no price table"):
        prices(f"{tmp_path}/none.yaml")
    with open(own, "a") as file:
        file.write("  other: {input: -1, output: 2}\n")
    with pytest.raises(UsageError, match=r"models\.other\.input"):
        prices(own)
    assert dollars(None) is None
