"""What hypotheses cost: every token of every stage, of the encoder and of the LLM, a method each and side by side.

The published comparison leaves the tokens of verification out, and the reference code those of relabelling. Here a
method's cost is all that had to be worked for its statements, whether it was paid for now or is in the cache from an
earlier run; what two methods share (the readers' notes) is in both, and once in the total.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saeray.analysis.sides import Side
from saeray.llm import Client, Progress, Reply, Request
from saeray.llm.prices import PICO
from saeray.store import Store

Row = dict[str, Any]

_KINDS = ("retries", "missing")
_MONEY = ("dollars", "saved_dollars", "uncertain_dollars")


class Meter:
    """Reads the ledgers of some clients from one point to the next."""

    def __init__(self, clients: Iterable[Client]) -> None:
        self._clients = list({id(client): client for client in clients}.values())
        self._seen = self._rows()

    def since(self) -> list[Row]:
        """What was spent since the meter was made or last asked, a row a stage and model."""
        now, before = self._rows(), self._seen
        self._seen = now
        spent = [_less(row, before.get(key)) for key, row in now.items()]
        return [row for row in spent if any(row[name] for name in ("calls", "cached", "uncertain_calls", *_KINDS))]

    def _rows(self) -> dict[tuple[int, str, str], Row]:
        return {
            (number, row["stage"], row["model"]): row
            for number, client in enumerate(self._clients)
            for row in client.ledger.rows()
        }


class Tally(Client):
    """A client as one method sees it: the same calls, cache, cap and ledger, and beside them what every reply cost when
    it was first asked, whoever asked: a method that judges what another has judged before it is no cheaper for that.

    Equal requests count once, as they would were the method alone. `pico`: picodollars, None where a price is unknown.
    """

    def __init__(self, client: Client) -> None:
        self._client, self._counted = client, set[str]()
        self.backend, self.cache, self.sender = client.backend, client.cache, client.sender
        self.batches = client.batches
        self.tokens = 0
        self.pico: int | None = 0

    def complete_many(
        self, requests: Iterable[Request], stage: str, on_progress: Callable[[Progress], None] | None = None
    ) -> list[Reply]:
        """The client's replies."""
        asked = list(requests)
        replies = self._client.complete_many(asked, stage, on_progress)
        for request, reply in zip(asked, replies, strict=True):
            key = request.key(self.backend.name)
            if key not in self._counted:
                self._counted.add(key)
                factor = self.sender.table.batch if reply.batch else 1.0
                self._add(reply.usage.total, self.sender.cost(request.model, reply.usage, factor))
        return replies

    def embed(self, model: str, texts: Sequence[str], stage: str) -> NDArray[np.float32]:
        """The client's embeddings, counted by what the ledger says of them."""
        meter = Meter([self._client])
        found = self._client.embed(model, texts, stage)
        cost = llm_cost(meter.since())
        money = cost["all_dollars"]
        self._add(cost["all_tokens"], None if money is None else round(money * PICO))
        return found

    def _add(self, tokens: int, pico: int | None) -> None:
        self.tokens += tokens
        self.pico = None if pico is None or self.pico is None else self.pico + pico


def llm_cost(rows: Sequence[Row]) -> dict[str, Any]:
    """The stages and their sums. `batched`: of the calls those in batch jobs. `tokens` and `dollars` are paid now;
    `all_tokens` and `all_dollars` are with what cached replies cost when they were first asked; money is None where a
    price is unknown."""
    whole: dict[str, Any] = {name: sum(row[name] for row in rows) for name in ("calls", "batched", "cached")}
    for name in ("tokens_in", "tokens_out", "tokens_thinking", "saved_tokens", "uncertain_calls", "uncertain_tokens"):
        whole[name] = sum(row[name] for row in rows)
    whole["tokens"] = whole["tokens_in"] + whole["tokens_out"] + whole["tokens_thinking"]
    whole["all_tokens"] = whole["tokens"] + whole["saved_tokens"]
    for name in _MONEY:
        whole[name] = _sum(row[name] for row in rows)
    whole["all_dollars"] = _sum([whole["dollars"], whole["saved_dollars"]])
    for name in _KINDS:
        counts = sum((Counter(row[name]) for row in rows), Counter[str]())
        whole[name] = dict(sorted(counts.items()))
    return {**whole, "stages": [dict(row) for row in rows]}


def encoder_cost(store: Store, sides: Sequence[Side]) -> dict[str, Any]:
    """What encoding the sides' documents took: pooled tokens, and the workers' seconds as their commits state them, of
    each dataset the share that the sides' tokens have in it. seconds is None where no commit states any."""
    documents = sum(side.n_documents for side in sides)
    tokens = Counter[str]()
    for side in sides:
        tokens[side.dataset] += int(side.lengths.sum())
    seconds = [_seconds(store, name, count) for name, count in tokens.items()]
    known = [one for one in seconds if one is not None]
    return {
        "documents": documents,
        "tokens": tokens.total(),
        "seconds": round(sum(known), 3) if known and len(known) == len(seconds) else None,
    }


def method_cost(
    rows: Sequence[Row],
    encoder: Mapping[str, Any] | None,
    shared: Sequence[Row] = (),
    tallies: Sequence[Tally] = (),
) -> dict[str, Any]:
    """One method's cost. encoder: that of its documents, None for one that needs no latents. shared: rows that other
    methods use too. tallies: what was asked for it; `all_tokens` and `all_dollars` are what it would cost alone."""
    money = [None if one.pico is None else one.pico / PICO for one in tallies]
    alone = {"all_tokens": sum(one.tokens for one in tallies), "all_dollars": _sum(money)}
    read = dict(encoder) if encoder else None
    stages = sorted({row["stage"] for row in shared})
    return {**llm_cost([*shared, *rows]), **alone, "encoder": read, "shared_stages": stages}


def total_cost(rows: Sequence[Row], encoder: Mapping[str, Any] | None) -> dict[str, Any]:
    """All stages of all methods once, in the form of `Ledger.summary`, and what the encoder read."""
    return {**llm_cost(merged(rows)), "encoder": dict(encoder) if encoder else None}


def told(cost: Mapping[str, Any]) -> str:
    """A cost in a few words: "2,431 calls and 1,204,332 tokens, 0.53 dollars (0.12 of them saved by the cache)"."""
    money = cost["all_dollars"]
    price = "price unknown" if money is None else f"{money:.2f} dollars"
    calls = f"{cost['calls'] + cost['cached']:,} calls and {cost['all_tokens']:,} tokens"
    saved = f", {cost['cached']:,} of the calls from the cache" if cost["cached"] else ""
    jobs = f", {cost['batched']:,} of the calls in batch jobs" if cost["batched"] else ""
    return f"{calls}, {price}{saved}{jobs}"


def merged(rows: Iterable[Row]) -> list[Row]:
    """Rows of one stage and model as one."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = row["stage"], row["model"]
        found[key] = _joined(found[key], row, lambda a, b: a + b) if key in found else dict(row)
    return [found[key] for key in sorted(found)]


def _less(row: Row, before: Row | None) -> Row:
    return dict(row) if before is None else _joined(row, before, lambda a, b: a - b)


def _joined(left: Row, right: Row, by: Callable[[Any, Any], Any]) -> Row:
    found: Row = {"stage": left["stage"], "model": left["model"]}
    for name, value in left.items():
        if name in _KINDS:
            counts = {kind: by(value.get(kind, 0), right[name].get(kind, 0)) for kind in {*value, *right[name]}}
            found[name] = {kind: count for kind, count in sorted(counts.items()) if count}
        elif name in _MONEY:
            found[name] = None if value is None or right[name] is None else round(by(value, right[name]), 12)
        elif name not in found:
            found[name] = by(value, right[name])
    return found


def _sum(values: Iterable[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return round(total, 12)


def _seconds(store: Store, name: str, tokens: int) -> float | None:
    dataset = store.dataset(name)
    commits = dataset.commits()
    whole = sum(commit.tokens for commit in commits)
    worked = sum(commit.seconds for commit in commits)
    return worked * tokens / whole if whole and worked else None
