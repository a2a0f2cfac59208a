"""What of the labelled sets is encoded: a fixed sample, rich in what the queries ask for, the same on every machine.

A file of many rows costs hours on a laptop and most of them answer none of the queries. Each of a file's Q queries gets
an equal part of the sample in relevant rows, and the last of Q + 1 parts is drawn from all rows. The order of drawing
is a hash of file and row, so a rerun draws the same rows, writes the same bytes, and encodes nothing twice. Figures
hold for the sample as it is: areas under the curve do not depend on the share of relevant documents, average precision
does, and both depend on which others stand beside them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saeray.config import EncodeConfig
from saeray.errors import SaerayError, UsageError
from saeray.evaluate.tasks import Retrieval, Tasks
from saeray.store import Store, location

#: The dataset of a store that holds every sample, one input file each.
DATASET = "eval"
#: Relevant rows a query needs, 12 a half: below that the best of 32,768 latents is often best by chance alone.
LEAST_RELEVANT = 24
#: Every sample has one modification time, so that the store knows a file that was written again for the same.
MADE_NS = 946_684_800 * 10**9
KEPT = ("sample", "source_row", "relevant")


@dataclass(frozen=True)
class Sample:
    """Rows of one file: `text`, `source_row` in the file, `sample` (the name) and `relevant` list<string>, the ids
    `q00`, `q01`, … of the queries, in the order of `queries`. `cut`: texts that were shortened."""

    name: str
    file: str
    queries: tuple[Retrieval, ...]
    table: pa.Table
    cut: int

    @property
    def characters(self) -> int:
        return sum(map(len, self.table.column("text").to_pylist()))


def query_id(index: int) -> str:
    """The name of a file's query number `index` in the column `relevant`."""
    return f"q{index:02d}"


def chosen_files(tasks: Tasks, only: Sequence[str] = (), without: Sequence[str] = ()) -> list[str]:
    """The files with retrieval tasks, in order of appearance; `only` and `without` name some, .parquet or not."""
    files = list(dict.fromkeys(task.file for task in tasks.retrieval))
    stems = {PurePosixPath(file).stem: file for file in files} | {file: file for file in files}
    unknown = [name for name in (*only, *without) if name not in stems]
    if unknown:
        raise UsageError(f"no retrieval task is on {unknown[0]}; there is {', '.join(files)}")
    wanted, unwanted = {stems[name] for name in only or files}, {stems[name] for name in without}
    chosen = [file for file in files if file in wanted - unwanted]
    if not chosen:
        raise UsageError(f"no retrieval task is left of {tasks.uri}: name fewer files to leave out")
    return chosen


def draw(tasks: Tasks, file: str, rows: int = 240, characters: int = 1200) -> Sample:
    """The sample of one file: `rows` of them, more where its queries would get fewer than LEAST_RELEVANT relevant ones.

    A text above `characters` is cut there. Shorter ones are drawn first, because what a label is about may stand at
    the end. Of equal texts one is drawn. UsageError: no such column, no text, labels that are not as the tasks say.
    """
    queries = tuple(task for task in tasks.retrieval if task.file == file)
    column = queries[0].text_column
    if any(task.text_column != column for task in queries):
        raise UsageError(f"{tasks.uri}: the tasks on {file} name several text columns; give each its own file")
    table = tasks.table(file)
    relevant = np.stack([_relevant(task, table, tasks.uri) for task in queries], axis=1)
    if column not in table.column_names:
        raise UsageError(f"{file} has no text column {column!r}; it has {', '.join(table.column_names)}")
    texts = table.column(column).to_pylist()
    order = _order(file, texts, characters)
    if not order:
        raise UsageError(f"column {column!r} of {file} holds no text")
    part = max(LEAST_RELEVANT, rows // (len(queries) + 1))
    taken = sorted(_taken(order, relevant, part, max(rows, part * (len(queries) + 1))))
    found = [
        (texts[row][:characters], row, [query_id(q) for q in np.flatnonzero(relevant[row]).tolist()]) for row in taken
    ]
    digest = hashlib.sha256(json.dumps([file, found]).encode()).hexdigest()[:12]
    stem = re.sub(r"[^A-Za-z0-9_.]+", "-", PurePosixPath(file).stem)
    name = f"{stem}-{digest}"
    columns = {
        "text": pa.array([text for text, _, _ in found], pa.string()),
        "sample": pa.array([name] * len(found), pa.string()),
        "source_row": pa.array(taken, pa.int64()),
        "relevant": pa.array([ids for _, _, ids in found], pa.list_(pa.string())),
    }
    return Sample(name, file, queries, pa.table(columns), sum(len(texts[row]) > characters for row in taken))


def encode_samples(
    samples: Sequence[Sample],
    store: str,
    out: str,
    encoder: str = "smollm2-135m",
    encode: Callable[..., Any] | None = None,
    on_progress: Callable[[Any], None] | None = None,
) -> None:
    """Writes the samples below `out`/inputs and encodes what of them `store` does not hold yet, as one dataset.

    `encode` is `saeray.pipeline.encode.encode` unless given. SaerayError when shards are missing afterwards.
    """
    folder = location(out) / "inputs"
    places = [folder / f"{sample.name}.parquet" for sample in samples]
    for sample, place in zip(samples, places, strict=True):
        sink = pa.BufferOutputStream()
        pq.write_table(sample.table, sink, compression="zstd")
        data = sink.getvalue().to_pybytes()
        if place.read_if_there() != data:
            place.replace(data)
        if place.is_local:
            os.utime(place.path, ns=(MADE_NS, MADE_NS))
    if is_encoded(samples, store):
        return
    config = EncodeConfig(
        inputs=[place.uri for place in places],
        dataset=DATASET,
        store=store,
        encoder=encoder,
        text_column="text",
        keep=list(KEPT),
        store_sum=True,
    )
    (encode or _pipeline())(config, on_progress)
    if not is_encoded(samples, store):
        raise SaerayError(f"the samples are not encoded to their end in {store}; run the same command again")


def _pipeline() -> Callable[..., Any]:
    from saeray.pipeline.encode import encode  # brings Ray, which tests and finished stores do without

    return encode


def is_encoded(samples: Iterable[Sample], store: str) -> bool:
    """Whether every shard of every sample is committed; needs neither reader nor cluster."""
    try:
        here = Store.open(store)
    except SaerayError:
        return False  # not there yet: encoding makes it, and says what is wrong with it otherwise
    if DATASET not in here.datasets():
        return False
    dataset = here.dataset(DATASET)
    wanted = {f"{sample.name}.parquet" for sample in samples}
    missing = {dataset.plan_of(shard).input_of(shard).name for shard in dataset.missing()}
    return wanted <= {one.name for plan in dataset.plans() for one in plan.inputs} - missing


def _relevant(task: Retrieval, table: pa.Table, uri: str) -> NDArray[np.bool_]:
    try:
        relevant = task.relevant_when.mask(table)
    except UsageError as error:
        raise UsageError(f"{uri}: {task.query!r} on {task.file}: {error}") from error
    count = int(relevant.sum())
    if task.n_relevant is not None and count != task.n_relevant:
        raise UsageError(
            f"{uri}: {task.query!r} on {task.file} has {count:,} relevant rows where {task.n_relevant:,} are stated: "
            "the file and the tasks are of different versions"
        )
    if count in (0, len(relevant)):
        raise UsageError(f"{uri}: {task.query!r} on {task.file} is of {'all' if count else 'no'} rows; leave it out")
    return relevant


def _order(file: str, texts: Sequence[Any], characters: int) -> list[int]:
    """Rows with a text, whole ones before those to be cut, else by hash; of equal texts the first."""
    usable = [row for row, text in enumerate(texts) if isinstance(text, str) and text.strip()]

    def place(row: int) -> tuple[bool, bytes]:
        return len(texts[row]) > characters, hashlib.blake2b(f"{file}\0{row}".encode(), digest_size=8).digest()

    return list({texts[row][:characters]: row for row in sorted(usable, key=place, reverse=True)}.values())[::-1]


def _taken(order: Sequence[int], relevant: NDArray[np.bool_], part: int, rows: int) -> set[int]:
    """`part` relevant rows a query, the poorest query first, a row counting for all that it answers; then any rows."""
    left = [[row for row in reversed(order) if relevant[row, q]] for q in range(relevant.shape[1])]
    taken: set[int] = set()
    have = np.zeros(relevant.shape[1], np.int64)
    while hungry := [q for q in range(len(left)) if left[q] and have[q] < part]:
        q = min(hungry, key=lambda q: int(have[q]))
        row = left[q].pop()
        if row not in taken:
            taken.add(row)
            have += relevant[row]
    for row in order:
        if len(taken) >= rows:
            break
        taken.add(row)
    return taken
