"""How near `saeray stats` comes to a plain scan: GB/s of Parquet, beside pyarrow reading the same columns and no more.

    python bench/stats.py --documents 4000 --active 1500

Synthetic heavy-tailed rows of 65,536 latents: Pareto frequencies, a scale a latent, exponential maxima above a
threshold, lengths log-normal. Both sides read the same part, in this process, taking turns; the best of some rounds
counts. Seconds are of one core (CPU time), so that a machine that others use too spoils them less. `grouped` is what
the diff counts with, `stats_kept` includes the writing of the partial result.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import report

from saeray.analysis.counting import ALL, Counted, Question, as_bytes
from saeray.stats.frequency import COLUMNS, frequencies
from saeray.stats.tally import tally
from saeray.store.partials import Node
from saeray.store.parts import PartInfo, fit, write_part

D_SAE = 65_536
SCHEMA = pa.schema(
    [("doc_id", pa.string()), ("channel", pa.string()), ("n_tokens", pa.int32())]
    + [(name, pa.list_(pa.field("element", pa.int32()))) for name in ("latents", "count", "peak")]
    + [("max", pa.list_(pa.field("element", pa.float32())))]
)


def rows(documents: int, active: int) -> pa.Table:
    """Documents of `active` latents on average."""
    rng = np.random.default_rng(1)
    weight = rng.pareto(1.0, D_SAE) + 0.02
    low, high = 0.0, 1e9
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 - np.exp(-weight * middle)).sum() < active else (low, middle)
    frequency, scale = 1 - np.exp(-weight * low), rng.lognormal(0, 0.5, D_SAE)
    n_tokens = np.clip(rng.lognormal(6, 0.8, documents), 8, 8192).astype(np.int32)
    ids = [np.flatnonzero(rng.random(D_SAE, np.float32) < frequency).astype(np.int32) for _ in range(documents)]
    flat = np.concatenate(ids)
    offsets = pa.array(np.cumsum([0, *map(len, ids)]).astype(np.int32))
    lists = {
        "latents": flat,
        "count": rng.geometric(0.4, len(flat)).astype(np.int32),
        "peak": rng.integers(0, 500, len(flat)).astype(np.int32),
        "max": (scale[flat] * (0.3 + rng.exponential(size=len(flat)))).astype(np.float32),
    }
    columns = [pa.array([str(i) for i in range(documents)]), pa.array(["text"] * documents), pa.array(n_tokens)]
    columns += [pa.ListArray.from_arrays(offsets, pa.array(lists[name])) for name in SCHEMA.names[3:]]
    return pa.Table.from_arrays(columns, names=SCHEMA.names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=4000)
    parser.add_argument("--active", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of pyarrow, for both sides")
    options = parser.parse_args()
    pa.set_cpu_count(options.threads)
    made = fit(rows(options.documents, options.active), SCHEMA)
    about = PartInfo(1, "bench", 0, "none", "none", 0, options.documents, options.documents, options.documents, 0, ())
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "part.parquet"
        path.write_bytes(write_part(made, SCHEMA, about))
        read_bytes = sum(
            group.column(i).total_compressed_size
            for group in (pq.read_metadata(path).row_group(g) for g in range(pq.read_metadata(path).num_row_groups))
            for i in range(group.num_columns)
            if group.column(i).path_in_schema.split(".")[0] in COLUMNS
        )
        values = int(made.column("latents").combine_chunks().flatten().__len__())
        figures = measure(path, options.rounds)
    report(
        "stats",
        {
            "documents": options.documents,
            "values": values,
            "parquet_bytes": read_bytes,
            "threads": options.threads,
            **{f"{name}_gb_per_second": read_bytes / seconds / 1e9 for name, seconds in figures.items()},
            **{f"{name}_ns_a_value": seconds / values * 1e9 for name, seconds in figures.items()},
            "stats_share_of_scan": figures["scan"] / figures["stats"],
            "kept_share_of_scan": figures["scan"] / figures["stats_kept"],
        },
    )


def measure(path: Path, rounds: int) -> dict[str, float]:
    """CPU seconds of each way, the best of `rounds`; they take turns, so that a busy moment hits all."""

    def scan() -> Any:
        with pq.ParquetFile(path) as file:
            return [file.read_row_group(g, columns=list(COLUMNS)) for g in range(file.num_row_groups)]

    def count() -> Any:
        batches = [batch for table in scan() for batch in table.to_batches()]
        return sum((tally(batch, D_SAE) for batch in batches[1:]), tally(batches[0], D_SAE))

    def keep() -> bytes:
        return as_bytes(Counted({ALL: count()}, {"text": 1}), Question("bench", "text", None), Node(0, 1, "0" * 64))

    ways: dict[str, Callable[[], Any]] = {
        "scan": scan,
        "stats": count,
        "stats_kept": keep,
        "grouped": lambda: frequencies(scan(), D_SAE),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            begin = time.process_time()
            way()
            best[name] = min(best[name], time.process_time() - begin)
    return best


if __name__ == "__main__":
    main()
