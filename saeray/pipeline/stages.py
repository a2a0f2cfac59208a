"""The three stages of an encode run, as Ray Data calls them: read, encode, write. One row in and out is one shard.

No stage raises for what is wrong with one shard: it puts the reason in the row's `error`, the later stages let the row
pass, and the driver reports it at the end with the rest done. What no shard would get past (no such GPU) is `fatal` and
ends the run, unless a shard is done already: then others encode, and the worker that cannot ends itself, as does one
whose GPU is lost. Ray starts it anew, wherever there is a GPU, and gives the shard to whoever is free; once that is
done the row's `note` says what had happened. Files that are not those that the store was claimed with are fatal
whatever is done: the next worker would find no others.

torch and transformers are imported where they are used: seconds of a core, which writers and the driver are spared.
"""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NoReturn

import pyarrow as pa
import ray

from saeray.config import EncoderConfig
from saeray.errors import ChangedFiles, DeviceLost, SaerayError
from saeray.pipeline.attempts import MOST_ATTEMPTS, given_up
from saeray.pipeline.rows import documents_of, documents_table, from_bytes, to_bytes, tokenize
from saeray.readers.tokens import DocumentTokenizer
from saeray.store import Dataset, Plan, Shard, ShardInput, Store, commit_shard, read_shard

log = logging.getLogger(__name__)
# A worker that could not load its encoder is free at once: without a pause it would take and use up shard after shard.
WAIT_SECONDS = 30
Row = dict[str, Any]

READ_SCHEMA = pa.schema(
    [
        ("shard", pa.int64()),
        ("documents", pa.large_binary()),
        ("tokenized", pa.large_binary()),
        ("rejects", pa.large_binary()),
        ("error", pa.string()),
        ("fatal", pa.bool_()),
    ]
)
ENCODED_SCHEMA = pa.schema(
    [
        ("shard", pa.int64()),
        ("table", pa.large_binary()),
        ("rejects", pa.large_binary()),
        ("seconds", pa.float64()),
        ("note", pa.string()),
        ("error", pa.string()),
        ("fatal", pa.bool_()),
    ]
)
DONE_SCHEMA = pa.schema(
    [
        ("shard", pa.int64()),
        ("documents", pa.int64()),
        ("tokens", pa.int64()),
        ("rejects", pa.int64()),
        ("bytes", pa.int64()),
        ("seconds", pa.float64()),
        ("note", pa.string()),
        ("error", pa.string()),
        ("fatal", pa.bool_()),
    ]
)


# What follows is kept for one run. Worker processes outlive it, and by the next the dataset may have a further plan, or
# the directory another reader.
@lru_cache(maxsize=4)
def _dataset(store: str, name: str, run: str) -> tuple[Dataset, dict[int, tuple[Plan, Shard]]]:
    dataset = Store.open(store).dataset(name)
    return dataset, {shard.shard: (plan, shard) for plan in dataset.plans() for shard in plan.shards}


@lru_cache(maxsize=4)
def _tokenizer(store: str, name: str, run: str, encoder: str) -> DocumentTokenizer:
    from saeray.description import claimed_tokenizer

    return claimed_tokenizer(_claimed(store, name, run), EncoderConfig.model_validate_json(encoder))


def _claimed(store: str, name: str, run: str) -> dict[str, Any]:
    """What the store was claimed with."""
    return _dataset(store, name, run)[0].store.encoder() or {}


def _guarded(schema: pa.Schema, work: Callable[[Row], Row]) -> Callable[[pa.Table], pa.Table]:
    """`work` on the single row of a batch; what it raises becomes the row's error."""

    def call(batch: pa.Table) -> pa.Table:
        rows = []
        for row in batch.to_pylist():
            if row.get("error"):
                result: Row = {name: row[name] for name in ("shard", "error", "fatal")}
            else:
                try:
                    result = work(row)
                except ChangedFiles as error:
                    result = {"shard": row["shard"], "error": f"{error} ({_here()})", "fatal": True}
                except SaerayError as error:
                    result = {"shard": row["shard"], "error": str(error)}
                except Exception as error:  # reported with the shard, so that one bad shard does not stop a corpus
                    log.error("shard %s: %s", row["shard"], traceback.format_exc())
                    line = (str(error).splitlines() or [""])[0][:200]
                    result = {"shard": row["shard"], "error": f"{type(error).__name__}: {line}"}
            rows.append(result)
        return pa.Table.from_pylist(rows, schema)

    return call


def read(batch: pa.Table, *, store: str, dataset: str, run: str, encoder: str) -> pa.Table:
    """Shard descriptors {shard, uri} -> READ_SCHEMA: documents judged, framed and tokenized, on a CPU worker."""

    def work(row: Row) -> Row:
        _, shards = _dataset(store, dataset, run)
        plan, shard = shards[row["shard"]]
        config = EncoderConfig.model_validate_json(encoder)
        found = read_shard(plan, shard, row["uri"])
        name = plan.input_of(shard).name
        tokenized, rejects = tokenize(found, name, _tokenizer(store, dataset, run, encoder), config.long, config.window)
        return {
            "shard": shard.shard,
            "documents": found.to_bytes(),
            "tokenized": to_bytes(tokenized),
            "rejects": to_bytes(rejects),
        }

    return _guarded(READ_SCHEMA, work)(batch)


class Encode:
    """READ_SCHEMA -> ENCODED_SCHEMA, in an actor that holds a reader and an SAE for the whole run.

    Its arguments are small: Ray keeps constructor arguments in the object store and fails to restart an actor whose
    arguments were evicted (ray issue 53727).
    """

    def __init__(
        self,
        store: str,
        dataset: str,
        run: str,
        encoder: str,
        device: str,
        threads: int | None,
        attempts: Any,
        packed: bool = False,
        gpus: int = 1,
    ) -> None:
        import torch

        from saeray.description import claimed_encoder

        if threads:
            torch.set_num_threads(threads)  # Ray sets OMP_NUM_THREADS=1 for actors that declare a GPU and no CPU
        config = EncoderConfig.model_validate_json(encoder)
        self.unable: SaerayError | None = None
        try:
            self.encoder = claimed_encoder(_claimed(store, dataset, run), config, device, packed=packed, gpus=gpus)
        except SaerayError as error:  # what a constructor raises reaches the terminal as pages of Ray's own traces
            self.unable = type(error)(str(error))  # whose traceback does not keep what was loaded
        self.attempts = attempts
        self.dataset, self.shards = _dataset(store, dataset, run)
        self._call = _guarded(ENCODED_SCHEMA, self._encode)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return self._call(batch)

    def _encode(self, row: Row) -> Row:
        number = row["shard"]
        times, said = ray.get(self.attempts.begin.remote(number))
        if isinstance(self.unable, ChangedFiles):
            raise self.unable
        refused = self.unable is not None and not isinstance(self.unable, DeviceLost)
        if refused and not ray.get(self.attempts.any_finished.remote()):
            return {"shard": number, "error": str(self.unable), "fatal": True}
        if times > MOST_ATTEMPTS:
            raise SaerayError(given_up(MOST_ATTEMPTS, said))
        if self.unable is not None:
            time.sleep(WAIT_SECONDS)
            self._leave(number, self.unable)
        begin = time.monotonic()
        plan, shard = self.shards[number]
        tokenized = from_bytes(row["tokenized"])
        documents = documents_of(tokenized)
        try:
            encoded = self.encoder.encode(documents)
        except DeviceLost as error:
            self._leave(number, error)
        table, rejects = documents_table(
            self.dataset.schema(),
            ShardInput.from_bytes(row["documents"]),
            tokenized,
            documents,
            encoded,
            from_bytes(row["rejects"]),
            plan.input_of(shard).name,
        )
        ray.get(self.attempts.finish.remote(number))
        return {
            "shard": number,
            "table": to_bytes(table),
            "rejects": to_bytes(rejects),
            "seconds": time.monotonic() - begin,
            "note": f"{said}; it was encoded by another worker" if said else None,
        }

    def _leave(self, number: int, why: SaerayError) -> NoReturn:
        """Ends this process, which cannot encode (any more), so that another takes the shard.

        An actor that ends more mildly is not restarted.
        """
        ray.get(self.attempts.leave.remote(number, f"{why} ({_here()})"))
        os._exit(1)


def _here() -> str:
    """Where this process is."""
    gpus = ", ".join(str(gpu) for gpu in ray.get_gpu_ids())
    return f"node {ray.util.get_node_ip_address()}{f', GPU {gpus}' if gpus else ''}"


def write(batch: pa.Table, *, store: str, dataset: str, run: str) -> pa.Table:
    """ENCODED_SCHEMA -> DONE_SCHEMA: the shard's part, rejects and commit, while the next is encoded."""

    def work(row: Row) -> Row:
        target, shards = _dataset(store, dataset, run)
        _, shard = shards[row["shard"]]
        commit = commit_shard(target, shard, from_bytes(row["table"]), from_bytes(row["rejects"]), row["seconds"])
        return {
            "shard": shard.shard,
            "documents": commit.documents,
            "tokens": commit.tokens,
            "rejects": commit.rejects,
            "bytes": commit.bytes,
            "seconds": commit.seconds,
            "note": row["note"],
        }

    return _guarded(DONE_SCHEMA, work)(batch)


def encoder_json(config: EncoderConfig) -> str:
    """The encoder's configuration as it travels to workers."""
    return json.dumps(config.model_dump(), sort_keys=True)
