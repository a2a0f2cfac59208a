"""Batch jobs: many requests handed over at once, at half the price, answered within a day.

    with BatchClient(Gemini(), cache=...) as client:
        replies = client.complete_many(requests, stage="verify")

A job is called by the hash of the requests that it is made of, and looked for before it is submitted, so a run that was
killed at any moment finds its job again and pays nothing twice. What a job could not answer, or answered unusably, is
asked once more one by one. A job that came to nothing is noted in the cache as spent, and the next run calls its own by
another name: a service that says "done" of a job without answers says so for ever.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, TypeVar

from saeray.llm.base import Backend, RawReply, Refused, Reply, Request, Stop, Transient, Usage, digest
from saeray.llm.budget import Worst
from saeray.llm.client import Client, Progress
from saeray.llm.records import to_reply

log = logging.getLogger(__name__)

T = TypeVar("T")
BatchAnswer: TypeAlias = RawReply | Refused
# Gemini takes 20 MB of requests inline; prompts grow a little when they are written as JSON.
MOST_BYTES = 15_000_000
MOST_REQUESTS = 5_000
# Fewer requests than this are asked at once: half the price of 100 verdicts is two cents, and a job may take a day.
LEAST = 100
POLL_SECONDS = 30.0


@dataclass(frozen=True)
class BatchState:
    """How a job stands: `answers` by the keys of their requests when it is done, or why it `failed`."""

    state: str
    answers: Mapping[str, BatchAnswer] | None = None
    failed: str | None = None


class BatchBackend(Backend, Protocol):
    """A backend that takes batch jobs. A request's key is what its answer is found by."""

    def submit_batch(self, name: str, requests: Mapping[str, Request]) -> str:
        """Submits a job called `name`; returns the service's name of it."""

    def find_batch(self, name: str) -> str | None:
        """The service's name of a job called `name` that has not failed."""

    def poll_batch(self, job: str, keys: Sequence[str]) -> BatchState:
        """How the job stands. keys: of its requests, should the service not give them back."""


class BatchClient(Client):
    """A client that asks `LEAST` requests or more in batch jobs, and fewer as any client does.

    Interrupt it at will: the same call later goes on with its jobs.
    """

    batches = True

    def __init__(self, backend: BatchBackend, **options: Any) -> None:
        super().__init__(backend, **options)
        self._jobs = backend

    def complete_many(
        self, requests: Iterable[Request], stage: str, on_progress: Callable[[Progress], None] | None = None
    ) -> list[Reply]:
        """As of any client. Of equal requests, and of those that the cache holds, none is in a job."""
        asked = list(requests)
        keys = [request.key(self.backend.name) for request in asked]
        every = dict(zip(keys, asked, strict=True))
        if len(every) < LEAST:
            return super().complete_many(asked, stage, on_progress)
        found = self._in_jobs(every, stage, on_progress)
        for key, times in Counter(keys).items():
            for _ in range(times - 1 if key in found else 0):
                self.ledger.saved(stage, every[key].model, Usage(), 0)
        rest = [request for key, request in zip(keys, asked, strict=True) if key not in found]
        others = iter(super().complete_many(rest, stage))
        return [found[key] if key in found else next(others) for key in keys]

    def _in_jobs(
        self, every: Mapping[str, Request], stage: str, on_progress: Callable[[Progress], None] | None
    ) -> dict[str, Reply]:
        """Replies that jobs gave, all jobs at once. They are cut from all requests, those in the cache too, so that a
        rerun which has some of the answers already cuts them alike."""
        jobs = [_Job(self, self._jobs, part, stage) for part in _parts(every)]

        def show(_: int) -> None:
            if on_progress is not None:
                there = sum(job.answered for job in jobs)
                on_progress(Progress(there, len(every), self.ledger.totals().total))

        with ThreadPoolExecutor(len(jobs), thread_name_prefix="saeray-batch") as pool:
            replies = self.gather([pool.submit(job.run) for job in jobs], show)
        return {key: reply for some in replies for key, reply in some.items()}


class _Job:
    """One job on its way. `answered`: its requests that have an answer."""

    def __init__(self, client: Client, backend: BatchBackend, part: dict[str, Request], stage: str) -> None:
        self._client, self._backend, self._stage = client, backend, stage
        self._sender, self._factor = client.sender, client.sender.table.batch
        self._name = self._unspent("\n".join(part))
        self._mark = digest(f"batch\n{self._name}")
        self._todo = {key: request for key, request in part.items() if client.record(key) is None}
        self._part, self.answered = part, len(part) - len(self._todo)
        self._there = False  # whether the service may have the job: it then works on it, and charges for it

    def run(self) -> dict[str, Reply]:
        """Its answers, by key. {} where an earlier run has taken them already, and where too few are left to wait for:
        those are for the client."""
        if not self._todo or self._client.cache.get(self._mark) is not None:
            return {}
        try:
            return self._run()
        except BaseException as error:
            self._sender.end(error)
            raise

    def _run(self) -> dict[str, Reply]:
        if len(self._todo) < LEAST and self._until(self._find) is None:
            return {}
        # The whole job is set aside before it is handed over, and what it did not cost comes back with its answers.
        worst = self._sum([self._sender.worst(one, factor=self._factor) for one in self._todo.values()])
        held = self._sender.budget.reserve(worst, self._counted, self._sender.check)
        tokens, pico = 0, 0
        try:
            answers = self._answers(held)
            found, tokens, pico = self._take(answers)
            return found
        except BaseException:
            if self._there:
                tokens, pico = held.tokens, held.pico or 0
            raise
        finally:
            self._sender.budget.settle(held, tokens, pico)

    def _answers(self, held: Worst) -> Mapping[str, BatchAnswer]:
        """Hands the job over and waits for it; one that is not waited for to its end is booked as uncertain, at its
        worst. A rerun that finds it books what it did cost, on a ledger of its own."""
        try:
            job = self._until(self._begin)
            while (answers := self._look(job)) is None:
                self._sender.sleep(POLL_SECONDS)
        except BaseException:
            if self._there:
                model = next(iter(self._todo.values())).model
                self._client.ledger.uncertain(self._stage, model, held.tokens, held.pico, calls=len(self._todo))
            raise
        return answers

    def _unspent(self, keys: str) -> str:
        """The first name for a job of these requests under which none has come to nothing."""
        while True:
            name = f"saeray-{digest(keys)[:40]}"
            if self._client.cache.get(_spent(name)) is None:
                return name
            keys += f"\nnot {name}"

    def _find(self) -> str | None:
        return self._backend.find_batch(self._name)

    def _begin(self) -> str:
        """Looks first every time: a submission that broke off may have arrived."""
        job, what = self._find(), "is found again"
        if job is None:
            try:
                job, what = self._backend.submit_batch(self._name, self._todo), "is handed over"
            except Transient as error:
                self._there = self._there or error.billed
                raise
        self._there = True
        log.warning(
            "%s: the batch job %s of %s calls %s; stop at will, and the same command goes on with it",
            self._stage, job, f"{len(self._todo):,}", what,
        )  # fmt: skip
        return job

    def _look(self, job: str) -> Mapping[str, BatchAnswer] | None:
        state = self._until(lambda: self._backend.poll_batch(job, list(self._todo)))
        log.info("batch job %s: %s", job, state.state)
        if state.failed is not None:
            self._client.keep({}, {_spent(self._name): {"batch job": self._name, "spent": job}})
            raise Stop(
                f"the batch job {job} failed ({state.failed}): run the same again for a new one, or without batches"
            )
        return state.answers

    def _take(self, answers: Mapping[str, BatchAnswer]) -> tuple[dict[str, Reply], int, int]:
        """Usable replies by key, into the cache with the mark that this job was taken; the job's tokens and cost."""
        client, stage = self._client, self._stage
        found: dict[str, Reply] = {}
        tokens, pico = 0, 0
        for key, answer in answers.items():
            request = self._part.get(key)
            if request is None or not isinstance(answer, RawReply):
                continue
            cost = self._sender.cost(request.model, answer.usage, self._factor)
            client.ledger.paid(stage, request.model, answer.usage, cost, batch=True)
            tokens, pico = tokens + answer.usage.total, pico + (cost or 0)
            reply = replace(to_reply(request, answer), batch=True)
            if key in self._todo and reply.missing in (None, "blocked"):
                found[key] = reply
                if reply.missing is not None:
                    client.ledger.missed(stage, request.model, reply.missing)
            elif key in self._todo:
                client.ledger.retried(stage, request.model, reply.missing or "batch")
        for key in self._todo.keys() - {key for key, one in answers.items() if isinstance(one, RawReply)}:
            client.ledger.retried(stage, self._todo[key].model, "batch")
        client.keep(found, {self._mark: {"batch job": self._name}})
        client.cache.flush()
        self.answered += len(found)
        return found, tokens, pico

    def _until(self, action: Callable[[], T]) -> T:
        """What `action` gives; an outage as long as `Limits.patience` is no reason to lose a night's job."""
        began, attempt = time.monotonic(), 0
        while True:
            try:
                return action()
            except Refused as error:
                raise Stop(f"the service takes no batch job ({error}): run the same without batches") from None
            except Transient as error:
                pause = max(error.wait or 0.0, self._sender.limits.wait_after(attempt))
                if time.monotonic() - began + pause > self._sender.limits.patience:
                    raise Stop(
                        f"the service does not answer about a batch job ({error}); what was handed over is worked on "
                        "there: run the same again later"
                    ) from None
                attempt += 1
                self._sender.sleep(pause)

    def _counted(self) -> Worst | None:
        with ThreadPoolExecutor(min(16, len(self._todo))) as pool:
            counts = list(pool.map(lambda one: self._sender.counted(one, self._factor), self._todo.values()))
        exact = [one for one in counts if one is not None]
        return self._sum(exact) if len(exact) == len(counts) else None

    @staticmethod
    def _sum(parts: Sequence[Worst]) -> Worst:
        known = [one.pico for one in parts if one.pico is not None]
        return Worst(sum(one.tokens for one in parts), sum(known) if len(known) == len(parts) else None)


def _spent(name: str) -> str:
    """The key of the note that the job of this name came to nothing."""
    return digest(f"batch spent\n{name}")


def _parts(requests: Mapping[str, Request]) -> list[dict[str, Request]]:
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
