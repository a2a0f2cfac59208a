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
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.errors import UsageError
from saeray.evaluate.encoded import all_encoded, encode_tables
from saeray.evaluate.tasks import Retrieval, Tasks

#: The dataset of a store that holds every sample, one input file each.
DATASET = "eval"
#: Relevant rows a query needs, 12 a half: below that the best of 32,768 latents is often best by chance alone.
LEAST_RELEVANT = 24
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
    tables = {f"{sample.name}.parquet": sample.table for sample in samples}
    encode_tables(tables, DATASET, KEPT, store, out, encoder, encode, on_progress, store_sum=True)


def is_encoded(samples: Iterable[Sample], store: str) -> bool:
    """Whether every shard of every sample is committed; needs neither reader nor cluster."""
    return all_encoded((f"{sample.name}.parquet" for sample in samples), DATASET, store)


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
