"""Batch jobs: many requests handed over at once, at half the price, answered within a day.

A job is called by the hash of the requests in it, and looked for before it is submitted, so a run that was killed at
any moment finds its job again and pays nothing twice. What a batch could not answer, or answered unusably, is asked
once more one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from saeray.errors import UsageError
from saeray.llm.base import Backend, RawReply, Refused, Reply, Request, Stop, digest
from saeray.llm.budget import Worst
from saeray.llm.client import Client
from saeray.llm.records import to_reply

BatchAnswer: TypeAlias = RawReply | Refused
# Gemini takes 20 MB of requests inline; prompts grow a little when they are written as JSON.
MOST_BYTES = 15_000_000
MOST_REQUESTS = 5_000
POLL_SECONDS = 30.0


@dataclass(frozen=True)
class BatchState:
    """How a job stands: `answers` when it is done, in the order of its requests, or why it `failed`."""

    state: str
    answers: Sequence[BatchAnswer | None] | None = None
    failed: str | None = None


class BatchBackend(Backend, Protocol):
    """A backend that takes batch jobs."""

    def submit_batch(self, name: str, requests: Sequence[Request]) -> str:
        """Submits a job called `name`; returns the service's name of it."""

    def find_batch(self, name: str) -> str | None:
        """The service's name of a job called `name` that has not failed."""

    def poll_batch(self, job: str, requests: Sequence[Request]) -> BatchState:
        """How the job stands."""


def complete_batch(
    client: Client,
    backend: BatchBackend,
    requests: Sequence[Request],
    stage: str,
    *,
    poll_seconds: float = POLL_SECONDS,
    on_state: Callable[[str, str], None] | None = None,
) -> list[Reply]:
    """Like `client.complete_many`, through batch jobs of `backend`, which is the client's.

    on_state: called with (job, state) at every look. Interrupt it at will: the same call later goes on with its jobs.
    """
    if backend is not client.backend:
        raise UsageError("a batch goes to the client's own backend")
    keys = [request.key(backend.name) for request in requests]
    replies: dict[str, Reply] = {}
    todo: dict[str, Request] = {}
    for key, request in zip(keys, requests, strict=True):
        if key not in replies and key not in todo:
            there = client.cached(request, stage)
            if there is None:
                todo[key] = request
            else:
                replies[key] = there
    jobs = [_Job(client, backend, part, stage) for part in _parts(todo)]
    try:
        for job in jobs:
            job.start()
        while waiting := [job for job in jobs if not job.done]:
            for job in waiting:
                state = job.look()
                if on_state is not None:
                    on_state(job.name, state)
            if any(not job.done for job in jobs):
                client.sender.sleep(poll_seconds)
    finally:
        for job in jobs:
            job.release()
        client.cache.flush()
    for job in jobs:
        replies |= job.replies
    again = [key for key in todo if key not in replies]
    replies |= zip(again, client.complete_many([todo[key] for key in again], stage), strict=True)
    return [replies[key] for key in keys]


class _Job:
    def __init__(self, client: Client, backend: BatchBackend, requests: dict[str, Request], stage: str) -> None:
        self._client, self._backend, self._requests, self._stage = client, backend, requests, stage
        self._factor = client.sender.table.batch
        self._held: Worst | None = None
        self.name = f"saeray-{digest(chr(10).join(requests))[:40]}"
        self.job = ""
        self.done = False
        self.replies: dict[str, Reply] = {}

    def start(self) -> None:
        """Sets the worst case aside, then finds the job or submits it."""
        worst = self._sum([self._client.sender.worst(one, factor=self._factor) for one in self._requests.values()])
        self._held = self._client.sender.budget.reserve(worst, self._counted, self._client.sender.check)
        found = self._backend.find_batch(self.name)
        self.job = found or self._backend.submit_batch(self.name, list(self._requests.values()))

    def look(self) -> str:
        """Asks how the job stands and takes its answers in."""
        state = self._backend.poll_batch(self.job, list(self._requests.values()))
        if state.failed is not None:
            raise Stop(f"the batch job {self.job} failed ({state.failed}): run the same again, or without batches")
        if state.answers is not None:
            self._take(state.answers)
        return state.state

    def release(self) -> None:
        """Gives back what is still set aside."""
        if self._held is not None:
            held, self._held = self._held, None
            self._client.sender.budget.settle(held, 0, 0)

    def _take(self, answers: Sequence[BatchAnswer | None]) -> None:
        self.done = True
        tokens, pico, kept = 0, 0, []
        for (key, request), answer in zip(self._requests.items(), answers, strict=True):
            if not isinstance(answer, RawReply):
                self._client.ledger.retried(self._stage, request.model, "batch")
                continue
            cost = self._client.sender.cost(request.model, answer.usage, self._factor)
            self._client.ledger.paid(self._stage, request.model, answer.usage, cost)
            tokens, pico = tokens + answer.usage.total, pico + (cost or 0)
            reply = replace(to_reply(request, answer), usage=answer.usage)
            if reply.missing is None or reply.missing == "blocked":
                self.replies[key] = reply
                kept.append((request, reply))
                if reply.missing is not None:
                    self._client.ledger.missed(self._stage, request.model, reply.missing)
            else:
                self._client.ledger.retried(self._stage, request.model, reply.missing)
        assert self._held is not None
        held, self._held = self._held, None
        self._client.sender.budget.settle(held, tokens, pico)
        self._client.keep(kept, batch=True)

    def _counted(self) -> Worst | None:
        requests = list(self._requests.values())
        with ThreadPoolExecutor(min(16, len(requests))) as pool:
            counts = list(pool.map(lambda one: self._client.sender.counted(one, self._factor), requests))
        exact = [one for one in counts if one is not None]
        return self._sum(exact) if len(exact) == len(counts) else None

    @staticmethod
    def _sum(parts: Sequence[Worst]) -> Worst:
        known = [one.pico for one in parts if one.pico is not None]
        return Worst(sum(one.tokens for one in parts), sum(known) if len(known) == len(parts) else None)


def _parts(requests: dict[str, Request]) -> list[dict[str, Request]]:
    """Cut by model, number and size; which requests are together depends on nothing but the requests."""
    parts: list[dict[str, Request]] = []
    sizes: dict[str, tuple[dict[str, Request], int]] = {}
    for key, request in requests.items():
        part, size = sizes.get(request.model, ({}, 0))
        size += request.worst_input()
        if not part or len(part) >= MOST_REQUESTS or size > MOST_BYTES:
            part, size = {}, request.worst_input()
            parts.append(part)
        part[key] = request
        sizes[request.model] = (part, size)
    return parts
