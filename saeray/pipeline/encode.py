"""The main job: text in, committed shards of sparse latents out.

Ray Data streams shard descriptors through three stages; the store decides what is still to do. A shard is done when its
commit is there, so any run may be killed at any point and run again: nothing that was committed is encoded again, and
whatever a dead run left half done is taken up or left behind by the store's conditional creates. Rejected: Ray's own
checkpointing (row ids of the whole corpus in every filter actor's memory, lost everything on small files) and Ray's
Parquet writer (its file names change from run to run, so a rerun duplicates rows).
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

from saeray.config import EncodeConfig, EncoderConfig, encoder_config
from saeray.errors import SaerayError, UsageError
from saeray.pipeline.attempts import Attempts
from saeray.pipeline.cluster import available_cpus, connected, result_of
from saeray.pipeline.lease import hold_lease
from saeray.pipeline.replicas import check_gpus, device_of, reading_of, replicas_of_gpus
from saeray.pipeline.selfcheck import self_checked
from saeray.pipeline.settings import plan_settings
from saeray.pipeline.stages import Encode, encoder_json, read, write
from saeray.readers.memory import Plan
from saeray.store import Dataset, Input, Shard, Store, adopt_shard, list_inputs, location
from saeray.store.commits import part_name

log = logging.getLogger(__name__)

# A run stops when this many shards have failed: by then it is the disk, the network or the settings, not the shards.
MOST_FAILED = 10
MOST_REASONS = 3


@dataclass
class EncodeResult:
    """What a run did. failed: shard number -> reason; missing: shards without a commit after the run.

    reasons: the commonest reasons of the dataset's rejects with their counts, when this run added any.
    """

    dataset: str
    store: str
    shards: int = 0
    encoded: int = 0
    documents: int = 0
    tokens: int = 0
    rejects: int = 0
    bytes: int = 0
    seconds: float = 0.0
    failed: dict[int, str] = field(default_factory=dict)
    missing: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    self_check: dict[str, Any] | None = None

    def summary(self) -> dict[str, Any]:
        """JSON-ready figures of the run."""
        return {
            "dataset": self.dataset,
            "store": self.store,
            "shards": self.shards,
            "encoded_shards": self.encoded,
            "documents": self.documents,
            "tokens": self.tokens,
            "rejects": self.rejects,
            "reject_reasons": self.reasons,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "tokens_per_second": round(self.tokens / self.seconds, 1) if self.seconds else None,
            "failed_shards": {str(shard): reason for shard, reason in sorted(self.failed.items())},
            "missing_shards": self.missing,
            "self_check": self.self_check,
        }


@dataclass(frozen=True)
class Progress:
    """Where a run stands: shards of this run, documents and tokens committed by it, seconds since its start."""

    done: int
    total: int
    documents: int
    tokens: int
    seconds: float


def encode(config: EncodeConfig, on_progress: Callable[[Progress], None] | None = None) -> EncodeResult:
    """Plans what is new in the inputs, encodes every shard without a commit, and says what is left.

    Raises SaerayError for everything that concerns the whole run; what concerns one shard is in the result.
    """
    encoder = encoder_config(config.encoder)
    store = Store.open(config.store, create=True)
    inputs = _outside(store, list_inputs(config.inputs))
    dataset = store.dataset(config.dataset, create=True)
    settings = plan_settings(config, inputs, dataset)
    # The lease comes first: a second run is told at once, not after a cluster and a reader have started.
    with hold_lease(dataset), connected() as own_cluster:
        check_gpus(config.num_gpus, own_cluster)
        described = _describe(encoder)
        if settings.messages_column and not described["reader"]["template"]["enabled"]:
            raise UsageError(f"the reader {encoder.reader.model} has no chat template, which messages need")
        if store.encoder() is not None:
            store.claim_encoder(described)
        _say_plan(config, encoder)
        checked = self_checked(config, encoder, dataset, inputs, settings)
        dataset.sweep()
        plan = dataset.add_plan(inputs, settings)
        store.claim_encoder(described)  # after the plan: input that is refused leaves the store as it was
        if plan:
            log.info("planned %d inputs as %d shards", len(plan.inputs), len(plan.shards))
        if checked:
            dataset.record_self_check(checked)
        result = EncodeResult(config.dataset, config.store, shards=len(dataset.shards()), self_check=checked)
        todo = _adopt(dataset, dataset.missing(), result)
        if todo:
            where = {source.name: source.uri for source in inputs}
            _run(config, encoder, dataset, todo, where, own_cluster, result, on_progress)
        result.missing = len(dataset.missing())
        if result.rejects:
            result.reasons = dict(Counter(dataset.rejects()["reason"].to_pylist()).most_common(MOST_REASONS))
    return result


def _outside(store: Store, inputs: list[Input]) -> list[Input]:
    """The inputs that are not files of the store itself, which may lie in the directory that is encoded."""
    inside = store.root.path.rstrip("/") + "/"
    outside = [one for one in inputs if not location(one.uri).path.startswith(inside)]
    if not outside:
        raise UsageError(f"every input lies inside the store {store.uri}: give other inputs, or another --store")
    return outside


def _adopt(dataset: Dataset, missing: list[Shard], result: EncodeResult) -> list[Shard]:
    """Commits whole parts that a killed run left without a commit; returns the shards that remain to be encoded.

    A part that is not whole fails its shard alone.
    """
    there = set((dataset.root / "documents").names())
    todo = []
    for shard in missing:
        try:
            if part_name(shard.shard) not in there or adopt_shard(dataset, shard) is None:
                todo.append(shard)
        except SaerayError as error:
            result.failed[shard.shard] = str(error)
    return todo


def _describe(encoder: EncoderConfig) -> dict[str, Any]:
    """The encoder's description, made on a worker: a cluster's head may have neither room nor need for the weights."""

    def described_there() -> dict[str, Any]:
        from saeray.description import describe  # torch and transformers: seconds of a core that the driver is spared

        return describe(encoder)

    task = ray.remote(num_cpus=1)(described_there)
    described: dict[str, Any] = result_of(task.remote(), "the worker that was to describe the encoder died")
    return described


def _say_plan(config: EncodeConfig, encoder: EncoderConfig) -> None:
    """Says how a replica of several GPUs will lie on them, before anything loads, as a worker with such GPUs has it."""
    gpus = reading_of(config)["gpus"]
    if gpus == 1:
        return

    def planned(device: str) -> Plan:
        from saeray.loading import memory_plan, source_of

        return memory_plan(encoder, source_of(encoder, weights=False), device, gpus)

    task = ray.remote(num_cpus=1, num_gpus=config.num_gpus)(planned)
    plan: Plan = result_of(task.remote(device_of(config)), "the worker that was to plan the reader's memory died")
    for line in plan.lines():
        log.info(line)
    if idle := plan.idle():
        log.warning(idle)


def _run(
    config: EncodeConfig,
    encoder: EncoderConfig,
    dataset: Dataset,
    todo: list[Shard],
    where: dict[str, str],
    own_cluster: bool,
    result: EncodeResult,
    on_progress: Callable[[Progress], None] | None,
) -> None:
    workers = min(config.workers or _default_workers(config, own_cluster), len(todo))
    threads = config.threads or _threads(workers, own_cluster)
    device = device_of(config)
    _configure_ray_data()
    encoder_text = encoder_json(encoder)
    attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
    # The whole path of the store: on a cluster a worker's working directory is another.
    shared = {"store": dataset.store.uri, "dataset": dataset.name, "run": secrets.token_hex(4)}
    descriptors = [
        {"shard": shard.shard, "uri": where.get(dataset.plan_of(shard).input_of(shard).name)} for shard in todo
    ]
    schema = pa.schema([("shard", pa.int64()), ("uri", pa.string())])
    tables = [pa.Table.from_pylist([row], schema) for row in descriptors]
    ahead = TaskPoolStrategy(size=min(max(2, workers), len(todo)))  # of the encoders, never the whole corpus
    stream = (
        ray.data.from_arrow(tables)
        .map_batches(
            read,
            batch_size=1,
            batch_format="pyarrow",
            fn_kwargs=shared | {"encoder": encoder_text},
            num_cpus=0.5,
            compute=ahead,
        )
        .map_batches(
            Encode,
            batch_size=1,
            batch_format="pyarrow",
            fn_constructor_kwargs=shared
            | {"encoder": encoder_text, "device": device, "threads": threads, "attempts": attempts}
            | reading_of(config),
            num_cpus=1,
            num_gpus=config.num_gpus or None,
            compute=ActorPoolStrategy(size=workers),  # fixed: growing pools get stuck at one actor (ray issue 59144)
        )
        .map_batches(
            write,
            batch_size=1,
            batch_format="pyarrow",
            fn_kwargs=shared,
            num_cpus=0.25,
            compute=ahead,
        )
    )
    begin = time.monotonic()
    done = 0
    for batch in stream.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in batch.to_pylist():
            done += 1
            if row["fatal"]:
                raise SaerayError(row["error"])
            if row["error"]:
                result.failed[row["shard"]] = row["error"]
                log.warning("shard %d: %s", row["shard"], row["error"])
            else:
                if row["note"]:
                    log.warning("shard %d: %s", row["shard"], row["note"])
                result.encoded += 1
                for name in ("documents", "tokens", "rejects", "bytes"):
                    setattr(result, name, getattr(result, name) + row[name])
            result.seconds = time.monotonic() - begin
            if on_progress:
                on_progress(Progress(done, len(todo), result.documents, result.tokens, result.seconds))
            if len(result.failed) >= MOST_FAILED:
                first = next(iter(result.failed.values()))
                raise SaerayError(f"{MOST_FAILED} shards failed, so the run stopped; the first reason: {first}")


def _default_workers(config: EncodeConfig, own_cluster: bool) -> int:
    if config.num_gpus:
        return max(1, replicas_of_gpus(config.num_gpus))
    # On CPUs a matrix product already uses every core of a machine, so one encoder a node.
    return 1 if own_cluster else max(1, len([node for node in ray.nodes() if node["Alive"]]))


def _threads(workers: int, own_cluster: bool) -> int:
    """An encoder's share of its node's cores. Ray would give it one (OMP_NUM_THREADS), whatever the node has."""
    if own_cluster:  # its CPUs are logical ones
        return max(1, available_cpus() // workers)
    cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    cpus = [count for count in cpus if count]
    encoders_a_node = -(-workers // max(1, len(cpus)))
    return max(1, min(cpus, default=1) // encoders_a_node)


def _configure_ray_data() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = False
    context.execution_no_progress_timeout_s = -1  # waiting for scarce GPUs is not an error
    context.retried_map_errors = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
