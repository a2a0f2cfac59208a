"""The sets of documents an analysis reads: fixed, of one channel, and no row on two sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from saeray.errors import SaerayError, UsageError
from saeray.store import Dataset, Selector, Store

#: `REST` as the other side: all rows of the target's dataset that the target leaves out.
REST = "rest"


@dataclass(frozen=True)
class Side:
    """Rows of one dataset and one channel; `scan(columns)` yields them, the same rows in the same order every time.

    `lengths` int64[documents]: pooled tokens, in scan order. `doc_ids`: string, in scan order. `stored` the columns
    there are. `source`: what it was read from, for reports.
    """

    name: str
    dataset: str
    channel: str
    doc_ids: pa.ChunkedArray
    lengths: NDArray[np.int64]
    stored: frozenset[str]
    source: dict[str, Any]
    scan: Callable[[Sequence[str]], Iterator[pa.Table]]

    @property
    def n_documents(self) -> int:
        return len(self.lengths)

    def where(self, keep: NDArray[np.bool_], name: str | None = None) -> Side:
        """The rows of a mask, bool[n_documents] in scan order, as a side of its own; `name`: this side's by default.

        Raises ValueError for a mask of another length.
        """
        mask = np.asarray(keep, np.bool_)
        if mask.shape != (self.n_documents,):
            raise ValueError(f"a mask of {mask.shape} for {self.n_documents} documents")

        def scan(columns: Sequence[str]) -> Iterator[pa.Table]:
            first = 0
            for table in self.scan(columns):
                own = mask[first : first + table.num_rows]
                first += table.num_rows
                if own.any():
                    yield table if own.all() else table.filter(pa.array(own))

        doc_ids = self.doc_ids.filter(pa.array(mask))
        return replace(self, name=name or self.name, doc_ids=doc_ids, lengths=self.lengths[mask], scan=scan)

    def facts(self) -> dict[str, Any]:
        """What a report says of this side: its size and how long its documents are."""
        return {
            "name": self.name,
            "channel": self.channel,
            "documents": self.n_documents,
            "tokens": int(self.lengths.sum()),
            "mean_tokens": round(float(self.lengths.mean()), 1),
            "median_tokens": float(np.median(self.lengths)),
            **self.source,
        }


def open_side(store: Store, text: str, channel: str | None = None) -> Side:
    """The rows that selector `text` chooses. UsageError when there are none or when they are of several channels."""
    dataset, selector = store.select(text)
    dataset.require(selector)
    return _survey(dataset, selector, text, channel)


def open_sides(store: Store, target: str, others: Sequence[str], channel: str | None = None) -> list[Side]:
    """Target first, then each other side; refuses sides that share a row."""
    if not others:
        raise UsageError("a diff needs another side: a selector such as NAME:column=value, or the word rest")
    sides = [open_side(store, target, channel)]
    for other in others:
        if other == REST:
            dataset, selector = store.select(target)
            rest = selector.rest()
            if not dataset.count(rest):
                raise UsageError(f"{target} takes all of {dataset.name} and leaves no rest; give it a condition")
            sides.append(_survey(dataset, rest, f"the rest of {dataset.name}", channel))
        else:
            sides.append(open_side(store, other, channel))
    for i, a in enumerate(sides):
        for b in sides[i + 1 :]:
            _check_apart(a, b)
    return sides


def spread(n: int, most: int) -> NDArray[np.bool_]:
    """Some `most` of n documents, always the same ones. Drawn at random: every k-th is of one model alone where the
    models of a prompt take turns."""
    keep = np.zeros(n, np.bool_)
    keep[np.random.default_rng(0).permutation(n)[:most]] = True
    return keep


def pooled(sides: Sequence[Side], name: str) -> Side:
    """Several sides as one, one after the other."""
    if len(sides) == 1:
        return replace(sides[0], name=name)

    # Ids tell documents of one dataset apart, not those of two.
    several = len({side.dataset for side in sides}) > 1

    def own(side: Side, ids: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.binary_join_element_wise(side.dataset, ids, ":") if several else ids

    def scan(columns: Sequence[str]) -> Iterator[pa.Table]:
        for side in sides:
            for table in side.scan(columns):
                at = table.schema.get_field_index("doc_id")
                yield table if at < 0 else table.set_column(at, "doc_id", own(side, table.column("doc_id")))

    # Sides of one dataset were read from the same commits unless it grew between two openings.
    sources = {(side.dataset, side.source["commits"]): side.source for side in sides}
    source = dict(sides[0].source)
    if len(sources) > 1:
        source |= {
            "dataset": " and ".join(dict.fromkeys(side.dataset for side in sides)),
            "plans": sorted({plan for one in sources.values() for plan in one["plans"]}),
            "commits": "; ".join(f"{one['dataset']} {one['commits']}" for one in sources.values()),
            "shards_missing": sum(one["shards_missing"] for one in sources.values()),
        }
    chunks = [chunk for side in sides for chunk in own(side, side.doc_ids).chunks]
    return Side(
        name,
        source["dataset"],
        sides[0].channel,
        pa.chunked_array(chunks, pa.string()),
        np.concatenate([side.lengths for side in sides]),
        frozenset.intersection(*(side.stored for side in sides)),
        source,
        scan,
    )


def provenance(store: Store) -> dict[str, Any]:
    """What a result was made with: `saeray` version, `store` URI, the encoder's `fingerprint` and `d_sae`."""
    encoder = store.encoder()
    if encoder is None:
        raise SaerayError(f"{store.uri} has no encoder yet; encode something into it first")
    d_sae = encoder["sae"]["d_sae"]
    return {"saeray": version("saeray"), "store": store.uri, "fingerprint": store.fingerprint(), "d_sae": d_sae}


def _survey(dataset: Dataset, selector: Selector, name: str, channel: str | None) -> Side:
    """One cheap pass over ids, channels and lengths of the shards committed now; later commits are not seen."""
    shards = dataset.committed()

    def scan(columns: Sequence[str]) -> Iterator[pa.Table]:
        wanted = [*columns] if channel is None or "channel" in columns else [*columns, "channel"]
        for shard in shards:
            for table in dataset.scan_shard(shard, selector, wanted):
                yield table if channel is None else table.filter(pc.equal(table.column("channel"), channel))

    # Rows of every channel here, so that a refusal can name the channels there are.
    every = [t for s in shards for t in dataset.scan_shard(s, selector, ["doc_id", "channel", "n_tokens"])]
    rows = pa.concat_tables(every)
    channels = sorted(rows.column("channel").unique().to_pylist())
    if channel is None and len(channels) > 1:
        raise UsageError(f"{name} has several channels; choose one with --channel: {', '.join(channels)}")
    if channel is not None and channel not in channels:
        raise UsageError(f"{name} has no rows of channel {channel!r}; it has {', '.join(channels)}")
    own = channel or channels[0]
    rows = rows.filter(pc.equal(rows.column("channel"), own))
    lengths = rows.column("n_tokens").to_numpy().astype(np.int64)
    source = {
        "dataset": dataset.name,
        "plans": [plan.number for plan in dataset.plans()],
        "commits": ranges(shards),
        "shards_missing": len(dataset.shards()) - len(shards),
    }
    stored = frozenset(dataset.schema().names)
    return Side(name, dataset.name, own, rows.column("doc_id"), lengths, stored, source, scan)


def _check_apart(a: Side, b: Side) -> None:
    if (a.dataset, a.channel) != (b.dataset, b.channel):
        return
    shared = pc.sum(pc.is_in(a.doc_ids, value_set=b.doc_ids)).as_py() or 0
    if shared:
        raise UsageError(
            f"{a.name} and {b.name} share {shared:,} documents ({a.n_documents:,} and {b.n_documents:,}); "
            "a document can be on one side only, so narrow one of them or use rest"
        )


def ranges(numbers: Sequence[int]) -> str:
    """'0-3,7' for [0, 1, 2, 3, 7]; `numbers` ascending."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
