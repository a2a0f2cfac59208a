"""What was spent, stage by stage: every token and every dollar, cached replies and lost calls beside them.

Three sums that are never mixed: *paid* (answered calls of this run), *saved* (what cached replies cost when they were
first asked) and *uncertain* (the worst case of calls that broke off, which the service may or may not charge for).
Paid + saved is what the analysis cost in all, but for paid answers that no cached reply holds: those of a batch job
that could not be used and were asked again one by one are in the paid sum of their run alone.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from saeray.llm.base import Usage
from saeray.llm.prices import dollars


@dataclass
class Stage:
    """One stage's counts for one model. batched: of the calls those in batch jobs. pico: picodollars; None once a call
    of unknown price was paid for."""

    calls: int = 0
    batched: int = 0
    cached: int = 0
    paid: Usage = field(default_factory=Usage)
    pico: int | None = 0
    saved: Usage = field(default_factory=Usage)
    saved_pico: int | None = 0
    uncertain_calls: int = 0
    uncertain_tokens: int = 0
    uncertain_pico: int | None = 0
    retries: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)


class Ledger:
    """Counts by (stage, model), safe to use from many threads."""

    def __init__(self) -> None:
        self._stages: dict[tuple[str, str], Stage] = {}
        self._lock = threading.Lock()

    def paid(self, stage: str, model: str, usage: Usage, pico: int | None, *, batch: bool = False) -> None:
        """An answered call."""
        with self._lock:
            one = self._of(stage, model)
            one.calls += 1
            one.batched += batch
            one.paid += usage
            one.pico = _plus(one.pico, pico)

    def saved(self, stage: str, model: str, usage: Usage, pico: int | None) -> None:
        """A reply that was there already."""
        with self._lock:
            one = self._of(stage, model)
            one.cached += 1
            one.saved += usage
            one.saved_pico = _plus(one.saved_pico, pico)

    def uncertain(self, stage: str, model: str, tokens: int, pico: int | None, *, calls: int = 1) -> None:
        """A call that broke off, or a batch job of `calls`, at its worst."""
        with self._lock:
            one = self._of(stage, model)
            one.uncertain_calls += calls
            one.uncertain_tokens += tokens
            one.uncertain_pico = _plus(one.uncertain_pico, pico)

    def retried(self, stage: str, model: str, kind: str) -> None:
        """A call that came to nothing and is made again."""
        with self._lock:
            self._of(stage, model).retries[kind] += 1

    def missed(self, stage: str, model: str, kind: str) -> None:
        """A request that ends without a value."""
        with self._lock:
            self._of(stage, model).missing[kind] += 1

    def totals(self) -> Usage:
        """Tokens paid in all stages of this run."""
        with self._lock:
            return sum((one.paid for one in self._stages.values()), Usage())

    def rows(self) -> list[dict[str, Any]]:
        """One row a stage and model, sorted; money in dollars, None where the price is unknown."""
        with self._lock:
            return [_row(stage, model, one) for (stage, model), one in sorted(self._stages.items())]

    def summary(self) -> dict[str, Any]:
        """All stages in one: what a report prints. `price_unknown` names the models whose money is not known."""
        rows = self.rows()
        money = ("dollars", "saved_dollars", "uncertain_dollars")
        whole: dict[str, Any] = {}
        for name in _row("", "", Stage()):
            values = [row[name] for row in rows]
            if name in ("stage", "model"):
                continue
            if name in ("retries", "missing"):
                whole[name] = dict(sorted(sum((Counter(value) for value in values), Counter()).items()))
            elif name in money and any(value is None for value in values):
                whole[name] = None
            else:
                whole[name] = round(sum(values), 12) if name in money else sum(values)
        unknown = {row["model"] for row in rows if any(row[name] is None for name in money)}
        return {**whole, "price_unknown": sorted(unknown), "stages": rows}

    def _of(self, stage: str, model: str) -> Stage:
        return self._stages.setdefault((stage, model), Stage())


def _row(stage: str, model: str, one: Stage) -> dict[str, Any]:
    return {
        "stage": stage,
        "model": model,
        "calls": one.calls,
        "batched": one.batched,
        "tokens_in": one.paid.tokens_in,
        "tokens_out": one.paid.tokens_out,
        "tokens_thinking": one.paid.tokens_thinking,
        "dollars": dollars(one.pico),
        "cached": one.cached,
        "saved_tokens": one.saved.total,
        "saved_dollars": dollars(one.saved_pico),
        "uncertain_calls": one.uncertain_calls,
        "uncertain_tokens": one.uncertain_tokens,
        "uncertain_dollars": dollars(one.uncertain_pico),
        "retries": dict(sorted(one.retries.items())),
        "missing": dict(sorted(one.missing.items())),
    }


def _plus(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else left + right
