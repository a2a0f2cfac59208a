"""The one way to ask a model: cache, cap, rate, retries, validation and ledger around any backend.

    with Client(backend, cache=Cache(store.root / "llm" / "cache"), cap=Cap(money=2.0)) as client:
        replies = client.complete_many(requests, stage="verify")

A reply comes back for every request, in order. What cannot be had is `missing` with its reason; only what ends the run
(a dead key, the cap, a service that is away) is raised, after the calls in flight have come back and been kept.
Threads, not asyncio: the service libraries, the store and everything that calls this are synchronous, and 64 threads
that wait cost nothing that matters beside a call of a second.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from saeray.llm.base import Backend, Refused, Reply, Request, Stop, Transient, Usage, Vectors, digest
from saeray.llm.budget import Cap
from saeray.llm.cache import Cache
from saeray.llm.ledger import Ledger
from saeray.llm.prices import Prices, prices
from saeray.llm.records import record_of, reply_of, to_reply
from saeray.llm.sender import Sender
from saeray.llm.throttle import Limits

T = TypeVar("T")

# Paid replies that cannot be used are asked for once more.
SECOND_CHANCES = 1
EMBED_TEXTS = 100  # the most texts that Gemini takes in one call


@dataclass(frozen=True)
class Progress:
    """How far `complete_many` is. tokens: paid so far, in all stages."""

    done: int
    total: int
    tokens: int


class Client:
    """Asks `backend`. Safe to use from many threads; use it as a context, or close it, so that replies are kept.

    cache: None keeps replies in memory alone. table: prices. ask_again: requests whose cached reply is missing are
    asked once more, where otherwise a rerun is free. Once it has raised Stop it sends nothing more. batches: whether
    many requests at once are asked in a batch job (`saeray.llm.batch`), which is cheaper and takes hours: who can ask
    everything in one go then does.
    """

    batches = False

    def __init__(
        self,
        backend: Backend,
        *,
        cache: Cache | None = None,
        cap: Cap | None = None,
        limits: Limits | None = None,
        table: Prices | None = None,
        ask_again: bool = False,
    ) -> None:
        self.backend = backend
        self.cache = Cache(None) if cache is None else cache
        self.sender = Sender(backend, cap or Cap(), limits or Limits(), table or prices())
        self._ask_again = ask_again
        self._flights: dict[str, Future[Reply]] = {}
        self._booked: set[str] = set()  # keys whose cost this run's ledger has already
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            self.sender.end(error)
        self.close()

    def close(self) -> None:
        """Waits for what is in flight and writes the cache."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        self.cache.close()
        self.backend.close()

    @property
    def ledger(self) -> Ledger:
        """What was spent so far."""
        return self.sender.ledger

    def complete(self, request: Request, stage: str) -> Reply:
        """The reply to one request."""
        return self.complete_many([request], stage)[0]

    def complete_many(
        self, requests: Iterable[Request], stage: str, on_progress: Callable[[Progress], None] | None = None
    ) -> list[Reply]:
        """A reply a request, in order; equal requests are asked once. Raises Stop and what the store raises."""
        futures: list[Future[Reply]] = []
        try:
            futures.extend(self._start(request, stage) for request in requests)
        except BaseException as error:
            self._abandon(futures, error)
            raise

        def show(done: int) -> None:
            if on_progress is not None:
                on_progress(Progress(done, len(futures), self.ledger.totals().total))

        return self.gather(futures, show)

    def gather(self, futures: Sequence[Future[T]], show: Callable[[int], None]) -> list[T]:
        """What the futures give; `show` is told how many are done. When one fails, the others come back first."""
        waiting = set(futures)
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_EXCEPTION)
                show(len(futures) - len(waiting))
                for future in done:
                    future.result()
        except BaseException as error:
            self._abandon(futures, error)
            raise
        self.cache.flush()
        return [future.result() for future in futures]

    def embed(self, model: str, texts: Sequence[str], stage: str) -> NDArray[np.float32]:
        """Embeddings [texts, dimensions] float32, cached a text. Raises Stop when a text cannot be embedded."""
        keys = [digest(f"embed\n{self.backend.name}\n{model}\n{text}") for text in texts]
        found: dict[str, NDArray[np.float32]] = {}
        for key in dict.fromkeys(keys):
            record = self.cache.get(key)
            if record is not None:
                found[key] = np.frombuffer(base64.b64decode(record["vector"]), "<f4")
                self._book_saved(key, stage, model, Usage(int(record["tokens"])))
        todo = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        order = list(todo)
        for start in range(0, len(order), EMBED_TEXTS):
            found |= self._embed(model, {key: todo[key] for key in order[start : start + EMBED_TEXTS]}, stage)
        self.cache.flush()
        return np.stack([found[key] for key in keys]) if keys else np.empty((0, 0), np.float32)

    def cached(self, request: Request, stage: str) -> Reply | None:
        """The reply that is there already, booked as saved; None when the request has to be asked."""
        key = request.key(self.backend.name)
        record = self.record(key)
        if record is None:
            return None
        reply = reply_of(record)
        self._book_saved(key, stage, request.model, reply.usage, self.sender.table.batch if reply.batch else 1.0)
        if reply.missing is not None:
            self.ledger.missed(stage, request.model, reply.missing)
        return reply

    def record(self, key: str) -> dict[str, Any] | None:
        """What the cache has under the key of a request; None when it has to be asked."""
        record = self.cache.get(key)
        again = record is not None and self._ask_again and record["missing"] is not None and key not in self._booked
        return None if again else record

    def keep(self, replies: Mapping[str, Reply], also: Mapping[str, dict[str, Any]] | None = None) -> None:
        """Puts paid replies by the keys of their requests, and further records, into the cache, in one file, so that a
        kill keeps all or none of them.

        Failures that cost nothing are not kept: a rerun asks them again.
        """
        self._booked |= replies.keys()
        self.cache.put({**{key: record_of(reply) for key, reply in replies.items()}, **(also or {})})

    def ask(self, request: Request, stage: str) -> Reply:
        """Asks now, past the cache, until there is a value, a reason why there is none, or the run ends."""
        try:
            return self._ask(request, stage)
        except BaseException as error:
            self.sender.end(error)  # here and not where it is awaited: no other thread is to send one call more
            raise

    def _ask(self, request: Request, stage: str) -> Reply:
        spent, chances = Usage(), SECOND_CHANCES
        while True:
            try:
                raw, seconds = self.sender.send(
                    request, stage, lambda: self.backend.complete(request), lambda raw: raw.usage
                )
            except (Transient, Refused) as error:
                self.ledger.missed(stage, request.model, error.kind)
                return Reply("", None, error.kind, error.detail, spent)
            spent += raw.usage
            reply = replace(to_reply(request, raw), usage=spent, seconds=seconds)
            if reply.missing in ("cut", "not json", "wrong schema", "empty") and chances:
                chances -= 1
                self.ledger.retried(stage, request.model, reply.missing)
                continue
            if reply.missing is not None:
                self.ledger.missed(stage, request.model, reply.missing)
            self.keep({request.key(self.backend.name): reply})
            return reply

    def _start(self, request: Request, stage: str) -> Future[Reply]:
        key = request.key(self.backend.name)
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                there = self.cached(request, stage)
                if there is not None:
                    done: Future[Reply] = Future()
                    done.set_result(there)
                    return done
                if self._pool is None:
                    workers = min(self.sender.limits.concurrency, self.backend.concurrency)
                    self._pool = ThreadPoolExecutor(workers, thread_name_prefix="saeray-llm")
                mine = self._flights[key] = self._pool.submit(self.ask, request, stage)
        if flight is not None:
            return self._share(flight, request, stage)
        mine.add_done_callback(lambda _: self._landed(key))
        return mine

    def _abandon(self, futures: Sequence[Future[T]], error: BaseException) -> None:
        """Ends the run; what is in flight is paid for, so it comes back and is kept."""
        self.sender.end(error)
        wait(futures)
        self.cache.flush()

    def _landed(self, key: str) -> None:
        with self._lock:
            self._flights.pop(key, None)

    def _share(self, flight: Future[Reply], request: Request, stage: str) -> Future[Reply]:
        """The same answer for another who asks for it while it is out, who has it for nothing."""
        other: Future[Reply] = Future()

        def pass_on(done: Future[Reply]) -> None:
            error = done.exception()
            if error is not None:
                other.set_exception(error)
                return
            reply = replace(done.result(), cached=True)
            self.ledger.saved(stage, request.model, Usage(), 0)
            if reply.missing is not None:
                self.ledger.missed(stage, request.model, reply.missing)
            other.set_result(reply)

        flight.add_done_callback(pass_on)
        return other

    def _embed(self, model: str, texts: dict[str, str], stage: str) -> dict[str, NDArray[np.float32]]:
        """One call for at most EMBED_TEXTS texts. Where a service does not say tokens, bytes stand for them."""
        request = Request(model, "".join(texts.values()), max_output_tokens=1)
        lengths = np.array([len(text.encode("utf-8", "replace")) for text in texts.values()])

        def usage_of(got: Vectors) -> Usage:
            return Usage(int(lengths.sum()) if got.tokens is None else got.tokens)

        try:
            got, _ = self.sender.send(request, stage, lambda: self.backend.embed(model, list(texts.values())), usage_of)
        except (Transient, Refused) as error:
            raise Stop(f"cannot embed with {model}: {error.kind}, {error.detail}") from None
        shares = np.floor(lengths * (usage_of(got).total / max(1, int(lengths.sum())))).astype(int)
        vectors = got.vectors.astype("<f4")
        packed = [base64.b64encode(vector.tobytes()).decode() for vector in vectors]
        records = {
            key: {"vector": vector, "tokens": int(share)}
            for key, vector, share in zip(texts, packed, shares, strict=True)
        }
        self._booked |= records.keys()
        self.cache.put(records)
        return dict(zip(texts, vectors, strict=True))

    def _book_saved(self, key: str, stage: str, model: str, usage: Usage, factor: float = 1.0) -> None:
        """Books a cached reply; its cost only the first time in this run, so that paid + saved is what it all cost."""
        usage = Usage() if key in self._booked else usage
        self._booked.add(key)
        self.ledger.saved(stage, model, usage, self.sender.cost(model, usage, factor))
