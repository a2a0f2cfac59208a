"""`saeray cooccur` on Ray: a task a tile, each safe to repeat.

The driver brings the index up to date, lists the latents in the band and plans the tiles; workers count those that are
missing from the blocks of the index; the driver replaces the manifest when all are there. A run that was killed leaves
whole tiles, which the next one finds. New documents are new blocks, which are added to what was counted; latents that
newly enter the band lengthen the last range of tiles, and only their strips are counted over the old blocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
import torch

from saeray.analysis.cooccurrence import CooccurResult, in_band
from saeray.analysis.sides import provenance, ranges
from saeray.config import CooccurConfig
from saeray.errors import SaerayError, UsageError
from saeray.pipeline.cluster import connected, memory_of_a_node, result_of
from saeray.pipeline.index import index
from saeray.pipeline.tiles import FOLDER, Counter, TileTask, extended, plan_tiles
from saeray.store import Dataset, Store, location
from saeray.store.chosen import Chosen
from saeray.store.index import Index
from saeray.store.tiles import Manifest, Tiles, folder

# A worker may die of anything but its task: a tile that kills five is a fault of its own.
MAX_RETRIES = 5
# A CPU's caches and 150 MB a task are well used by 2,048 x 2,048; a GPU is kept busy by 4,096 x 4,096.
WIDTH_CPU, WIDTH_GPU = 2048, 4096
# Python with torch, a tile, and the postings of two ranges of a block.
TASK_BYTES = 3 << 29
# The defaults of every way in are the config's.
_FIELDS = CooccurConfig.model_fields


@dataclass(frozen=True)
class CooccurProgress:
    """Where a run stands: tiles made of those that were missing, seconds since its start."""

    done: int
    total: int
    seconds: float


def cooccur(
    store: Store,
    selection: str,
    *,
    channels: Sequence[str] = (),
    band: tuple[float, float] = _FIELDS["band"].default,
    min_support: int = _FIELDS["min_support"].default,
    floor: float = _FIELDS["floor"].default,
    num_gpus: float = 0,
    width: int | None = None,
    on_progress: Callable[[CooccurProgress], None] | None = None,
) -> CooccurResult:
    """Counts in how many documents of `selection` (NAME or NAME:cond,cond) two latents of the band are together.

    `channels`: none where there is one only; one; or two, whose pairs are then counted within the same documents.
    `band`: least and largest document frequency of a latent. `min_support`, `floor`: least documents and NPMI of the
    result's edges. `width` of the tiles is that of the first run of this selection from then on. Raises UsageError for
    an empty selection or band.
    """
    begin = time.monotonic()
    _check(channels, band, min_support, floor)
    dataset, selector = store.select(selection)
    if selector.conditions:
        dataset.require(selector)
    with ExitStack() as stack:
        if not _is_fresh(store, dataset.name):
            stack.enter_context(connected())
            index(store, dataset.name)
        opened = Index.open(store, dataset.name)
        chosen = Chosen(opened, selector, channels)
        sides = (chosen.channels[0], chosen.channels[-1])
        frequencies = [chosen.frequency(channel) for channel in chosen.channels]
        frequencies = [frequencies[0], frequencies[-1]]
        bands = [in_band(frequency, chosen.documents, band, min_support) for frequency in frequencies]
        for channel, found in zip(sides, bands, strict=True):
            if not len(found):
                raise UsageError(
                    f"no latent of {channel} is in {band[0]:g} to {band[1]:g} of the {chosen.documents:,} documents of "
                    f"{selector} and in at least {min_support}: widen --band or lower --min-support"
                )
        tiles = Tiles(store.root / FOLDER / dataset.name / folder(str(selector), chosen.channels))
        before = tiles.manifest()
        orders = [extended(before.latents[side] if before else (), bands[side], frequencies[side]) for side in (0, 1)]
        manifest = Manifest(
            selection=str(selector),
            channels=chosen.channels,
            width=before.width if before else width or (WIDTH_GPU if num_gpus else WIDTH_CPU),
            latents=(orders[0], orders[1]),
            tiles=(),
        )
        tasks = plan_tiles(tiles, manifest, before, bands, opened.blocks)
        todo = [task for task in tasks if task.missing]
        if todo:
            own = stack.enter_context(connected())
            _check_gpu(num_gpus, own)
            _count(store, chosen, tiles, todo, num_gpus, begin, on_progress)
    needed = {(task.facts.row, task.facts.column): task.facts for task in tasks}
    # Tiles without a latent of today's band stay as they were counted, for a band that is wider again.
    settled = {block.digest for block in opened.blocks}
    other = [
        replace(one, tail=None)
        for one in (before.tiles if before else ())
        if (one.row, one.column) not in needed and one.settled is not None and set(one.settled.blocks) <= settled
    ]
    manifest = replace(manifest, tiles=tuple(sorted((*needed.values(), *other), key=lambda one: (one.row, one.column))))
    tiles.publish(manifest)
    return CooccurResult(
        manifest=manifest,
        tiles=tiles,
        documents=chosen.documents,
        bands=(bands[0], bands[1]),
        frequencies=(frequencies[0], frequencies[1]),
        needed=needed,
        band=band,
        min_support=min_support,
        floor=floor,
        selection=_facts(dataset, selection, chosen),
        made_with=provenance(store),
        work={"tiles": len(tasks), "made": len(todo), "seconds": round(time.monotonic() - begin, 3)},
    )


def run(config: CooccurConfig, on_progress: Callable[[CooccurProgress], None] | None = None) -> CooccurResult:
    """`cooccur` as a config says; with its `tiles` the full counts are written below `out` too."""
    result = cooccur(
        Store.open(config.store),
        config.selection,
        channels=config.channels,
        band=config.band,
        min_support=config.min_support,
        floor=config.floor,
        num_gpus=config.num_gpus,
        width=config.width,
        on_progress=on_progress,
    )
    if config.tiles:
        result.write_tiles(location(config.out) / "tiles")
    return result


def _check(channels: Sequence[str], band: tuple[float, float], min_support: int, floor: float) -> None:
    if len(channels) > 2 or len(set(channels)) != len(channels):
        raise UsageError("pairs are counted within one channel or between two different ones")
    if not 0 <= band[0] < band[1] <= 1:
        raise UsageError(
            f"not a band: {band[0]:g} to {band[1]:g}; give two shares, the smaller first, such as 0.001,0.5"
        )
    if min_support < 1 or not -1 <= floor <= 1:
        raise UsageError("--min-support is at least 1, and --floor from -1 to 1")


def _is_fresh(store: Store, name: str) -> bool:
    try:
        return not Index.open(store, name).refresh_needed()
    except SaerayError:
        return False


def _check_gpu(num_gpus: float, own_cluster: bool) -> None:
    if num_gpus and own_cluster and not ray.cluster_resources().get("GPU"):
        raise SaerayError("a GPU was asked for and this machine has none; leave out --num-gpus")


def _count(
    store: Store,
    chosen: Chosen,
    tiles: Tiles,
    todo: Sequence[TileTask],
    num_gpus: float,
    begin: float,
    on_progress: Callable[[CooccurProgress], None] | None,
) -> None:
    """Makes the missing tiles by tasks."""
    task = ray.remote(max_retries=MAX_RETRIES)(_make_tile)
    memory = min(TASK_BYTES, memory_of_a_node())
    masks = ray.put({name: np.packbits(mask).tobytes() for name, mask in chosen.masks.items() if mask is not None})
    about = (store.uri, chosen.index.dataset.name, chosen.channels, tiles.place.uri, "cuda" if num_gpus else "cpu")
    started = task.options(num_cpus=1, num_gpus=num_gpus or None, memory=memory)
    pending = [started.remote(about, one, masks) for one in todo]
    died = (
        f"workers died counting a tile of {chosen.index.dataset.name}, {MAX_RETRIES} times: see that a node has "
        f"{TASK_BYTES / 1e9:.1f} GB free a core, then run the same command again"
    )
    while pending:
        ready, pending = ray.wait(pending, num_returns=1)
        result_of(ready[0], died)
        if on_progress:
            on_progress(CooccurProgress(len(todo) - len(pending), len(todo), time.monotonic() - begin))


def _make_tile(about: tuple[str, str, tuple[str, ...], str, str], task: TileTask, masks: dict[str, bytes]) -> None:
    uri, name, channels, place, device = about
    if device == "cpu":
        torch.set_num_threads(1)  # tiles are many, and each core has its own
    store = Store.open(uri)
    Counter(store, name, channels, masks, device).make(Tiles(location(place)), task)


def _facts(dataset: Dataset, selection: str, chosen: Chosen) -> dict[str, Any]:
    """What a report says of the documents."""
    committed = dataset.committed()
    return {
        "name": selection,
        "dataset": dataset.name,
        "channel": " x ".join(chosen.channels),
        "documents": chosen.documents,
        "plans": [plan.number for plan in dataset.plans()],
        "commits": ranges(committed),
        "shards_missing": len(dataset.shards()) - len(committed),
    }
