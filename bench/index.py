"""The latent-major index: documents and postings a second of one core, memory, and bytes a posting beside the entropy.

    python bench/index.py                                  # synthetic rows, 1,000 latents a document of 16,384
    python bench/index.py --store STORE --dataset NAME     # what is stored there; nothing is written into it

The entropy is what no code goes below that takes latents, documents and values as independent: of a latent in n of N
documents N H(n / N) bits, of maxima and peaks that of their distribution. The index is not compressed: it is read at
memory's speed, from where it lies.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import report
from numpy.typing import NDArray

from saeray.store import Dataset, PlanSettings, Store, commit_shard, list_inputs, location, read_shard
from saeray.store.block import Block
from saeray.store.builder import blocks_of, make_block, spans_of
from saeray.store.postings import build_block


def profile(d_sae: int, latents: int) -> NDArray[np.float64]:
    """Document frequencies as heavy-tailed as a real dataset's, of which `latents` are present a document."""
    weights = np.exp(np.random.default_rng(1).normal(0, 2, d_sae))
    scale = latents / weights.sum()
    for _ in range(50):
        scale *= latents / np.minimum(weights * scale, 0.95).sum()
    return np.minimum(weights * scale, 0.95)


def rows(frequency: NDArray[np.float64], count: int, seed: int) -> dict[str, Any]:
    """Random rows: latents by their frequency, lognormal maxima, uniform peaks in 300 tokens."""
    rng = np.random.default_rng(seed)
    drawn = (rng.random(len(frequency), np.float32) < frequency for _ in range(count))
    latents = [np.flatnonzero(present).astype(np.int32) for present in drawn]
    offsets = np.cumsum([0, *map(len, latents)])
    values = rng.lognormal(0, 0.7, offsets[-1]).astype(np.float16).astype(np.float32)
    peaks = rng.integers(0, 300, offsets[-1]).astype(np.int32)
    return {"offsets": offsets, "latents": np.concatenate(latents), "max": values, "peak": peaks}


def synthetic(directory: Path, documents: int, latents: int, d_sae: int) -> Dataset:
    """A dataset of random rows, 1,024 a shard."""
    (directory / "a.jsonl").write_text('{"text": "x"}\n' * documents)
    store = Store.open(str(directory / "store"), create=True)
    store.claim_encoder({"sae": {"d_sae": d_sae}})
    dataset = store.dataset("synthetic", create=True)
    dataset.add_plan(list_inputs([str(directory / "a.jsonl")]), PlanSettings(shard_tokens=1024, store_text=False))
    frequency = profile(d_sae, latents)
    for shard in dataset.shards():
        read = read_shard(dataset.plan_of(shard), shard)
        table = _table(read.documents["doc_id"], frequency, shard.shard, dataset.schema())
        commit_shard(dataset, shard, table, read.rejects, 0.0)
    return dataset


def _table(doc_ids: pa.ChunkedArray, frequency: NDArray[np.float64], seed: int, schema: pa.Schema) -> pa.Table:
    count = len(doc_ids)
    made = rows(frequency, count, seed)
    offsets = pa.array(made["offsets"].astype(np.int32))
    ones = np.ones(len(made["latents"]), np.int32)
    lists = {name: made[name] for name in ("latents", "max", "peak")} | {"count": ones}
    columns = {name: pa.ListArray.from_arrays(offsets, pa.array(values)) for name, values in lists.items()}
    columns |= {"doc_id": doc_ids, "channel": pa.array(["text"] * count), "token_starts": pa.array([[]] * count)}
    columns |= {"n_tokens": pa.array([300] * count), "n_windows": pa.array([1] * count)}
    columns["truncated"] = pa.array([False] * count)
    return pa.table({name: columns[name] for name in schema.names})


def measure(dataset: Dataset, directory: Path) -> dict[str, Any]:
    """Makes the index of `dataset` below `directory`, block after block, and reads it."""
    d_sae = dataset.store.encoder()["sae"]["d_sae"]
    commits = dataset.commits()
    begin, cpu = time.perf_counter(), time.process_time()
    spans = [span for commit in commits for span in spans_of(dataset, commit, 0, commit.rows)]
    root = location(str(directory / "index"))
    made = [make_block(dataset, root, block, d_sae) for block in blocks_of(spans)]
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    documents = sum(one.documents for one in made)
    channels = [(Block(root, i, one, d_sae, dataset.name), name) for i, one in enumerate(made) for name in one.channels]
    postings = sum(one.channels[name].postings for one in made for name in one.channels)
    size = sum(size for one in made for size, _ in one.files().values())
    return {
        "documents": documents,
        "postings": postings,
        "latents_a_document": postings / documents,
        "blocks": len(made),
        "documents_per_second": documents / seconds,
        "postings_per_second": postings / seconds,
        "postings_per_cpu_second": postings / cpu,
        "bytes_per_posting": size / postings,
        **entropy(channels, postings),
        **reading(channels, d_sae),
        "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def entropy(channels: list[tuple[Block, str]], postings: int) -> dict[str, float]:
    """Bytes a posting that ids, maxima and peaks need at the least."""
    d_sae = len(channels[0][0].frequency(channels[0][1]))
    bits = dict.fromkeys(("documents", "max", "peak"), 0.0)
    for block, name in channels:
        share = block.frequency(name) / max(int((block.n_tokens(name) >= 0).sum()), 1)
        share = share[(share > 0) & (share < 1)]
        per_latent = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
        bits["documents"] += float(per_latent.sum()) * int((block.n_tokens(name) >= 0).sum())
        everything = block.postings(name, np.arange(d_sae))
        for column, values in (("max", everything.max.view(np.uint16)), ("peak", everything.peak)):
            counts = np.bincount(values)
            counts = counts[counts > 0]
            bits[column] += float((counts * -np.log2(counts / counts.sum())).sum())
    found = {f"entropy_{column}": value / 8 / postings for column, value in bits.items()}
    return found | {"entropy_bound": sum(found.values())}


def reading(channels: list[tuple[Block, str]], d_sae: int) -> dict[str, float]:
    """How fast postings of 100 latents are found and summed up by document, as a search does."""
    frequency = sum(block.frequency(name) for block, name in channels)
    latents = np.sort(np.argsort(-frequency, kind="stable")[100:200]) if d_sae >= 200 else np.arange(d_sae)
    for _ in range(2):  # the first pass maps the pages
        begin, found = time.perf_counter(), 0
        for block, name in channels:
            postings = block.postings(name, latents)
            np.bincount(postings.documents, weights=postings.max, minlength=block.documents)
            found += len(postings.documents)
        seconds = time.perf_counter() - begin
    return {"search_postings": found, "search_postings_per_second": found / seconds}


def sorting(latents: int, d_sae: int, documents: int) -> dict[str, float]:
    """The transposition alone, in memory, beside a stable sort by latent; CPU seconds."""
    made = rows(profile(d_sae, latents), documents, 0)
    packed = made["max"].astype(np.float16).view(np.uint16).astype(np.uint32)
    lengths = np.diff(made["offsets"])
    found: dict[str, float] = {}
    for name, action in (
        ("build_block", lambda: build_block(lengths, made["latents"], packed, d_sae)),
        ("argsort", lambda: packed[np.argsort(made["latents"], kind="stable")]),
    ):
        begin = time.process_time()
        action()
        found[f"{name}_postings_per_cpu_second"] = len(packed) / (time.process_time() - begin)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", help="a real store; synthetic rows without it")
    parser.add_argument("--dataset")
    parser.add_argument("--documents", type=int, default=8192)
    parser.add_argument("--latents", type=int, default=1000, help="active a document")
    parser.add_argument("--d-sae", type=int, default=16_384)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        if options.store:
            figures = measure(Store.open(options.store).dataset(options.dataset), Path(directory))
        else:
            dataset = synthetic(Path(directory), options.documents, options.latents, options.d_sae)
            figures = sorting(options.latents, options.d_sae, options.documents) | measure(dataset, Path(directory))
    report("index", figures)


if __name__ == "__main__":
    main()
