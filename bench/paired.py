"""Paired diffs of many documents: how often the rows are read, seconds of one core, and memory.

    python bench/paired.py                                 # 100,000 synthetic documents, two values that share prompts
    python bench/paired.py --documents 300000 --values 4

A pass reads the latents of every document once. The tests take some 4,000,000 cells (documents x latents) at a time,
so the number of `pieces` grows with the documents; the number of passes must not.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from common import report
from index import profile, rows

from saeray.analysis.diff.each import diff_each
from saeray.analysis.diff.options import Options
from saeray.analysis.diff.presence import CELLS, POSTINGS
from saeray.analysis.diff.series import diff_ordered
from saeray.labels.meanings import Meanings
from saeray.store import Dataset, PlanSettings, Store, commit_shard, list_inputs, read_shard

NAME = "paired"


def synthetic(directory: Path, documents: int, latents: int, d_sae: int, values: int) -> Store:
    """A store of random rows, 1,024 a shard; each prompt is answered by every value of `model`."""
    with (directory / "a.jsonl").open("w") as file:
        for i in range(documents):
            file.write(json.dumps({"text": "x", "model": f"m{i % values}", "prompt": i // values}) + "\n")
    store = Store.open(str(directory / "store"), create=True)
    store.claim_encoder({"sae": {"d_sae": d_sae}})
    dataset = store.dataset(NAME, create=True)
    settings = PlanSettings(shard_tokens=1024, store_text=False, keep=("model", "prompt"))
    dataset.add_plan(list_inputs([str(directory / "a.jsonl")]), settings)
    frequency = profile(d_sae, latents)
    for shard in dataset.shards():
        read = read_shard(dataset.plan_of(shard), shard)
        made = rows(frequency, read.documents.num_rows, shard.shard)
        table = _table(read.documents, made, dataset.schema())
        commit_shard(dataset, shard, table, read.rejects, 0.0)
    return store


def _table(documents: pa.Table, made: dict[str, Any], schema: pa.Schema) -> pa.Table:
    count, offsets = documents.num_rows, pa.array(made["offsets"].astype("int32"))
    made["count"] = made["peak"] * 0 + 1
    columns = {name: pa.ListArray.from_arrays(offsets, pa.array(made[name])) for name in schema.names if name in made}
    columns |= {name: documents[name] for name in ("doc_id", "model", "prompt")}
    columns |= {"channel": pa.array(["text"] * count), "token_starts": pa.array([[]] * count)}
    # Lengths that differ, so that there are classes of length.
    columns |= {"n_tokens": pa.array(100 + made["offsets"][1:] % 400), "n_windows": pa.array([1] * count)}
    columns["truncated"] = pa.array([False] * count)
    return pa.table({name: columns[name] for name in schema.names})


def measure(store: Store, run: Callable[[], Any]) -> dict[str, Any]:
    """Passes over the latents, seconds and CPU seconds of one diff."""
    scans: Counter[bool] = Counter()
    real = Dataset.scan_shard

    def scan_shard(self: Dataset, shard: int, selector: Any = None, columns: Any = None) -> Any:
        scans["latents" in (columns or ())] += 1
        return real(self, shard, selector, columns)

    begin, cpu = time.perf_counter(), time.process_time()
    Dataset.scan_shard = scan_shard  # type: ignore[method-assign, assignment]
    try:
        result = run()
    finally:
        Dataset.scan_shard = real  # type: ignore[method-assign]
    return {
        "passes": scans[True] / len(store.dataset(NAME).shards()),
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu,
        "tested": len({*result.rows.column("latent").to_pylist()}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--latents", type=int, default=100, help="of a document")
    parser.add_argument("--d-sae", type=int, default=4_096)
    parser.add_argument("--values", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        store = synthetic(Path(directory), options.documents, options.latents, options.d_sae, options.values)
        asked, none = Options(pair_on="prompt", against="rest"), Meanings()
        by = measure(store, lambda: diff_each(store, NAME, "model", asked, none))
        ordered = measure(store, lambda: diff_ordered(store, NAME, "model", Options(pair_on="prompt"), meanings=none))
    report(
        "paired",
        {
            "documents": options.documents,
            "postings": options.documents * options.latents,
            "held_at_a_time": POSTINGS,
            "values": options.values,
            "pieces": -(-by["tested"] // max(1, CELLS // options.documents)),
            **{f"by_{name}": value for name, value in by.items()},
            **{f"ordered_{name}": value for name, value in ordered.items()},
            "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        },
    )


if __name__ == "__main__":
    main()
