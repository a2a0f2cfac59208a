"""A cluster's own model: a fixed pool of actors that each hold a copy, asked like any other LLM.

    with connect(LLMConfig(model="cluster:/models/llama-70b", workers=4, num_gpus=2), store.root)[0] as client: ...

One request goes to one idle actor, so as many are in flight as there are actors, and a request that an actor takes down
with it is asked again, of another where there is one; the actor loads its copy anew meanwhile. Rejected: Ray Serve (a
second service to deploy and to secure) and Ray Data (a stage's requests hang on the answers to the one before).
"""

from __future__ import annotations

import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ray

from saeray.errors import SaerayError, UsageError, first_line
from saeray.llm.base import RawReply, Refused, Request, Stop, Transient, Vectors
from saeray.llm.connect import LLMConfig, reader_of
from saeray.llm.local import Local, check_there
from saeray.llm.placing import cache_name, defaults
from saeray.pipeline.cluster import available_cpus, connected

log = logging.getLogger(__name__)

# A model that takes its process down with it each time it is loaded does not fit. Three leave room for preemptions.
MOST_DEATHS = 3
AGAIN_SECONDS = 0.5
SAY_SECONDS = 10.0  # a large model takes minutes to load, and a user should know what is waited for
# Seconds that actors may wait for a place on a cluster that others use too, or that has yet to grow.
PLACE_SECONDS = 600.0
# Seconds that all actors may be away at once. A node that dies is noticed within one minute, and 140 GB from a disk of
# 0.5 GB/s are five more.
AWAY_SECONDS = 1_800.0
# Seconds for the first load of all copies: 141 GB at 0.05 GB/s, as of storage far away, are 47 minutes.
LOAD_SECONDS = 3_600.0

_DEATHS = (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError)


class Holder:
    """The actor. It loads its copy when it is first asked, not when it is made: what a constructor raises cannot be
    told from a death."""

    def __init__(self, model: str, device: str, dtype: str, num_gpus: float, threads: int) -> None:
        self._model, self._device, self._dtype = model, device, dtype
        self._num_gpus, self._threads = num_gpus, threads
        self._local: Local | None = None
        self._life = secrets.token_hex(8)

    def life(self) -> str:
        """What tells it from itself before it died. Answered once there is a place for it."""
        return self._life

    def load(self) -> None:
        """Loads the copy, unless it is there. Raises SaerayError."""
        self._copy()

    def complete(self, request: Request) -> RawReply:
        """As the copy does."""
        return self._copy().complete(request)

    def count_tokens(self, request: Request) -> int:
        """As the copy does."""
        return self._copy().count_tokens(request)

    def _copy(self) -> Local:
        if self._local is None:
            import torch

            torch.set_num_threads(self._threads)
            self._local = Local(self._model, device=self._device, dtype=self._dtype, num_gpus=self._num_gpus)
        return self._local


class Actors:
    """A backend of `config.workers` actors with `config.num_gpus` GPUs each; its name, and so its cache, is that of the
    model in one process.

    Connects to Ray as the jobs do: to the cluster of RAY_ADDRESS, or to one of its own for as long as it is open.
    Raises SaerayError when the cluster has no room for the actors or the model cannot be loaded.
    """

    free = True

    def __init__(self, model: str, config: LLMConfig) -> None:
        self._model = model
        self.concurrency = config.workers
        device, dtype = defaults(config.device, config.dtype, config.num_gpus)
        reader = reader_of(model)
        self.name = cache_name(reader, dtype)
        self._idle: queue.Queue[Any] = queue.Queue()
        self._failed: list[Exception] = []  # why actors could not load their copies, one each
        self._stopped = threading.Event()
        own = not os.environ.get("RAY_ADDRESS")
        if own:
            check_there(reader)  # the actors are on this machine, and Ray takes seconds to start
        with ExitStack() as stack:
            stack.enter_context(connected())
            _check_room(config.workers, config.num_gpus, own)
            made = ray.remote(num_cpus=1, num_gpus=config.num_gpus or None, max_restarts=-1)(Holder)
            about = (_whole(reader), device, dtype, config.num_gpus, _threads(config.workers, own))
            self._holders = [made.remote(*about) for _ in range(config.workers)]
            stack.callback(self._kill)
            self._place()
            self._load_all()
            self._stack = stack.pop_all()

    def complete(self, request: Request) -> RawReply:
        """Asks the actor that is idle, or the first to be."""
        found: RawReply = self._ask(lambda holder: holder.complete.remote(request))
        return found

    def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """Raises UsageError: a causal model's own states make poor embeddings."""
        raise UsageError("a cluster's own model gives no embeddings: saeray's own label embeddings need none")

    def count_tokens(self, request: Request) -> int:
        """Exactly what the model will read."""
        return int(self._ask(lambda holder: holder.count_tokens.remote(request)))

    def stop(self) -> None:
        """Has those who wait for an actor raise Stop within a second: the run has ended."""
        self._stopped.set()

    def close(self) -> None:
        """Ends the actors, and Ray where it was started for them."""
        self.stop()
        self._stack.close()

    def _ask(self, call: Callable[[Any], Any]) -> Any:
        holder = self._next()
        try:
            found = _got(call(holder))
        except _DEATHS:
            log.warning("an actor of %s died; it loads its copy anew, and the request is asked again", self._model)
            threading.Thread(target=self._revive, args=(holder,), daemon=True).start()
            raise Transient("server", f"an actor of {self._model} died") from None
        except BaseException as error:
            self._idle.put(holder)
            if isinstance(error, SaerayError) and not isinstance(error, Stop):
                raise Stop(str(error)) from None
            raise
        self._idle.put(holder)
        return found

    def _next(self) -> Any:
        """An idle actor. Raises Stop when none can come back, or none has for long."""
        end = time.monotonic() + AWAY_SECONDS
        while time.monotonic() < end:
            if self._stopped.is_set():
                raise Stop("stopped")
            if len(self._failed) == len(self._holders):
                raise Stop(f"no actor of {self._model} is left: {first_line(self._failed[-1])}")
            try:
                return self._idle.get(timeout=1.0)
            except queue.Empty:
                continue
        raise Stop(
            f"no actor of {self._model} came back in {AWAY_SECONDS / 60:.0f} minutes: see to the cluster's nodes"
        )

    def _place(self) -> None:
        """Waits until every actor has a place."""
        waiting = [holder.life.remote() for holder in self._holders]
        _, missing = ray.wait(waiting, num_returns=len(waiting), timeout=PLACE_SECONDS)
        if missing:
            raise SaerayError(
                f"{len(missing)} of {len(waiting)} actors found no place in {PLACE_SECONDS:,.0f} s: {_resources()}; "
                "ask for fewer --llm-workers or --llm-gpus, or free some"
            )
        try:
            ray.get(waiting)
        except _DEATHS:
            raise SaerayError(f"the actors of {self._model} could not start: see that every node has saeray") from None

    def _load_all(self) -> None:
        """Loads all copies at once; one that cannot be loaded, or not in time, ends it."""
        threads = [threading.Thread(target=self._load, args=(one,), daemon=True) for one in self._holders]
        for thread in threads:
            thread.start()
        begin, told = time.monotonic(), False
        while any(thread.is_alive() for thread in threads) and not self._failed:
            time.sleep(0.1)
            waited = time.monotonic() - begin
            if waited > LOAD_SECONDS:  # a node that is gone for good leaves Ray looking for another without end
                raise SaerayError(
                    f"{self._model} was not loaded by all {len(threads)} actors in {LOAD_SECONDS / 60:.0f} minutes: "
                    f"{_resources()}; see to the cluster's nodes, or ask for fewer --llm-workers"
                )
            if not told and waited > SAY_SECONDS:
                log.warning("%s is being loaded by %d actors", self._model, len(threads))
                told = True
        if self._failed:
            raise self._failed[0]

    def _revive(self, holder: Any) -> None:
        self._load(holder)
        if self._failed:
            left = len(self._holders) - len(self._failed)
            log.warning("an actor is lost, %d go on: %s", left, first_line(self._failed[-1]))

    def _load(self, holder: Any) -> None:
        """Puts an actor among the idle ones once it has loaded its copy, or what it died of among the failed."""
        lives: set[str] = set()
        try:
            while True:
                # Ray counts each time that it finds an actor still starting as a try, so tries say nothing of deaths.
                lives.add(_got(holder.life.options(max_task_retries=-1).remote()))
                try:
                    _got(holder.load.remote())
                    break
                except _DEATHS:
                    if len(lives) >= MOST_DEATHS:
                        raise SaerayError(
                            f"an actor died {MOST_DEATHS} times while it loaded {self._model}: see that a copy fits "
                            "into the memory of its node, or of more GPUs with --llm-gpus"
                        ) from None
                    time.sleep(AGAIN_SECONDS)
        except Exception as error:
            self._failed.append(error)
        else:
            self._idle.put(holder)

    def _kill(self) -> None:
        for holder in self._holders:
            ray.kill(holder, no_restart=True)


def _got(reference: Any) -> Any:
    """What an actor's method returned or raised; a bug keeps its traceback."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, SaerayError | Refused | Transient):
            raise error.cause from None
        raise


def _check_room(workers: int, num_gpus: float, own_cluster: bool) -> None:
    """Raises SaerayError when a cluster that cannot grow has too little; of others it is said that they are waited for.

    One CPU is left over: what else the command counts on Ray would wait for ever.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    free = [ray.available_resources()] if own_cluster else nodes
    gpus = sum(int(node.get("GPU", 0) / num_gpus) for node in free) if num_gpus else workers
    cpus = sum(int(node.get("CPU", 0)) for node in free) - 1
    if min(gpus, cpus) >= workers:
        return
    wanted = f"{workers} x {num_gpus:g} GPU" if num_gpus else f"{workers} x 1 CPU beside the one for other work"
    line = f"no room for a pool of {wanted}: {_resources()}"
    if own_cluster:
        raise SaerayError(f"{line}; ask for fewer --llm-workers or --llm-gpus, or name a cluster with RAY_ADDRESS")
    log.warning("%s; waiting %.0f s for more", line, PLACE_SECONDS)


def _resources() -> str:
    have, free = ray.cluster_resources(), ray.available_resources()
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())
    where = "this machine" if nodes == 1 else f"the cluster of {nodes} nodes"
    gpus, cpus = (f"{have.get(kind, 0):g} {kind}s ({free.get(kind, 0):g} free)" for kind in ("GPU", "CPU"))
    return f"{where} has {gpus} and {cpus}"


def _whole(reader: str) -> str:
    """A model's whole path where it lies on this machine too: an actor's working directory is another."""
    path = Path(reader).expanduser()
    return str(path.resolve()) if path.exists() else reader


def _threads(workers: int, own_cluster: bool) -> int:
    """An actor's share of its node's cores. Ray would give it one (OMP_NUM_THREADS), whatever the node has."""
    if own_cluster:  # its CPUs are logical ones
        return max(1, available_cpus() // workers)
    cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    cpus = [count for count in cpus if count]
    return max(1, min(cpus, default=1) // -(-workers // max(1, len(cpus))))
