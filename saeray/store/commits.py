"""How a shard becomes part of a dataset: its file, its rejects, then the commit, each created only if absent.

Any number of workers may do the same shard at the same time, and any of them may be killed anywhere: the first part
stays, later ones adopt it, and the commit is written last, so what is committed is whole and is never changed.
"""

from __future__ import annotations

import builtins
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from saeray.errors import SaerayError
from saeray.store.parts import FORMAT, BrokenPart, PartInfo, check_part, fit, rejects_table, write_part
from saeray.store.plan import Shard
from saeray.store.shard_rows import REJECTS_SCHEMA

if TYPE_CHECKING:
    from saeray.store.dataset import Dataset

VERSION = 1


@dataclass(frozen=True)
class Commit:
    """What `commits/NNNNN.json` holds. `documents` are input rows encoded, `rows` those of the part (one a document
    and channel), `tokens` the sum of n_tokens, `bytes` and `sha256` those of the part file, `seconds` the work's."""

    shard: int
    plan: int
    documents: int
    rows: int
    tokens: int
    rejects: int
    bytes: int
    sha256: str
    rejects_sha256: str | None
    seconds: float
    encoder: str
    extra: dict[str, Any]

    def to_json(self) -> builtins.bytes:
        """The commit file."""
        return (json.dumps({"version": VERSION, **asdict(self)}, ensure_ascii=False, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, data: builtins.bytes, uri: str = "commit") -> Commit:
        """The inverse of `to_json`. Raises SaerayError naming `uri` when the file is not a commit."""
        try:
            content = json.loads(data)
            return cls(**{one.name: content[one.name] for one in fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            raise SaerayError(f"{uri} is not a commit ({error}): delete it and run the same command again") from error


def part_name(shard: int) -> str:
    """The file name of a shard's documents."""
    return f"part-{shard:05d}.parquet"


def commit_shard(
    dataset: Dataset,
    shard: Shard,
    table: pa.Table,
    rejects: pa.Table,
    seconds: float,
    extra: Mapping[str, Any] | None = None,
) -> Commit:
    """Commits the encoded rows of `shard`, or returns the commit that is there already.

    `table` has the columns of `dataset.schema()`, in any order; `rejects` those of REJECTS_SCHEMA, all of the
    shard's. Together they hold every input row of the shard once, else ValueError. Raises SaerayError when a
    part that is not whole, or is of another encoder, lies in the way.
    """
    done = dataset.commit(shard.shard)
    if done is not None:
        return done
    schema = dataset.schema()
    fitted = fit(table, schema)
    about = _about(dataset, shard, fitted, rejects)
    place = dataset.root / "documents" / part_name(shard.shard)
    data = write_part(fitted, schema, about)
    if not place.create(data):
        return _finish(dataset, shard, place.read_bytes(), seconds, extra)
    return _finish(dataset, shard, data, seconds, extra)


def adopt_shard(dataset: Dataset, shard: Shard, extra: Mapping[str, Any] | None = None) -> Commit | None:
    """Commits the part that a killed worker left behind, without encoding again; None when there is none."""
    done = dataset.commit(shard.shard)
    if done is not None:
        return done
    data = (dataset.root / "documents" / part_name(shard.shard)).read_if_there()
    return None if data is None else _finish(dataset, shard, data, 0.0, extra)


def write_rejects(info: PartInfo) -> bytes:
    """The rejects file that follows from a part."""
    sink = io.BytesIO()
    pq.write_table(rejects_table(info, REJECTS_SCHEMA), sink, compression="zstd")
    return sink.getvalue()


def _finish(dataset: Dataset, shard: Shard, data: bytes, seconds: float, extra: Mapping[str, Any] | None) -> Commit:
    """The steps after the part: everything in them follows from the part's bytes."""
    place = dataset.root / "documents" / part_name(shard.shard)
    try:
        info = check_part(data, place.uri)
    except BrokenPart as error:
        raise SaerayError(f"{error} and has no commit: delete it and run the same command again") from error
    source = dataset.plan_of(shard).input_of(shard)
    expected = (dataset.name, shard.shard, dataset.store.fingerprint(), source.name, shard.start, shard.stop)
    found = (info.dataset, info.shard, info.encoder, info.input, info.start, info.stop)
    if found != expected:
        raise SaerayError(f"{place.uri} is of another shard or encoder and has no commit: delete it and run again")
    rejects_digest = None
    if info.rejects:
        file = dataset.root / "rejects" / f"{shard.shard:05d}.parquet"
        content = write_rejects(info)
        if not file.create(content):
            content = file.read_bytes()
            if not _same_rejects(content, info):
                raise SaerayError(f"{file.uri} does not fit its part: delete it and run the same command again")
        rejects_digest = hashlib.sha256(content).hexdigest()
    commit = Commit(
        shard=shard.shard,
        plan=shard.plan,
        documents=info.documents,
        rows=info.rows,
        tokens=info.tokens,
        rejects=len(info.rejects),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        rejects_sha256=rejects_digest,
        seconds=round(seconds, 3),
        encoder=info.encoder,
        extra=dict(extra or {}),
    )
    if (dataset.root / "commits" / f"{shard.shard:05d}.json").create(commit.to_json()):
        return commit
    return dataset.commit(shard.shard) or commit


def _about(dataset: Dataset, shard: Shard, table: pa.Table, rejects: pa.Table) -> PartInfo:
    source = dataset.plan_of(shard).input_of(shard)
    rows = sorted(rejects.select(REJECTS_SCHEMA.names).to_pylist(), key=lambda one: int(one["row"]))
    numbers = [int(one["row"]) for one in rows]
    ids = pc.unique(table.column("doc_id"))
    pairs = table.select(["doc_id", "channel"]).group_by(["doc_id", "channel"]).aggregate([])
    if len(ids) + len(numbers) != shard.rows:
        raise ValueError(f"shard {shard.shard}: {len(ids)} documents + {len(numbers)} rejects of {shard.rows} rows")
    if pairs.num_rows != table.num_rows:
        raise ValueError(f"shard {shard.shard}: a document has two rows of one channel")
    if len(set(numbers)) != len(numbers) or any(not shard.start <= row < shard.stop for row in numbers):
        raise ValueError(f"shard {shard.shard}: a reject twice, or of another shard")
    return PartInfo(
        format=FORMAT,
        dataset=dataset.name,
        shard=shard.shard,
        encoder=dataset.store.fingerprint(),
        input=source.name,
        start=shard.start,
        stop=shard.stop,
        documents=len(ids),
        rows=table.num_rows,
        tokens=int(pc.sum(table.column("n_tokens").cast(pa.int64())).as_py() or 0),
        rejects=tuple((int(one["row"]), str(one["doc_id"]), _one_line(str(one["reason"]))) for one in rows),
    )


def _one_line(reason: str) -> str:
    return " ".join(reason.split())[:300]


def _same_rejects(content: bytes, info: PartInfo) -> bool:
    try:
        table = pq.read_table(pa.BufferReader(content))
    except (OSError, pa.ArrowException):
        return False
    return bool(table.equals(rejects_table(info, REJECTS_SCHEMA)))
