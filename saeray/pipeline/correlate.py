"""`saeray correlate`: the pairs are counted on Ray, what they mean is worked out here, from the same index."""

from __future__ import annotations

from collections.abc import Callable

from saeray.analysis.correlate.evidence import examples_of
from saeray.analysis.correlate.indexed import parts_of
from saeray.analysis.correlate.options import CorrelateConfig
from saeray.analysis.correlate.run import CorrelateResult
from saeray.analysis.correlate.run import correlate as analyse
from saeray.labels.meanings import Meanings
from saeray.pipeline.cooccur import CooccurProgress, cooccur
from saeray.store import Store
from saeray.store.chosen import Chosen
from saeray.store.index import Index


def correlate(config: CorrelateConfig, on_progress: Callable[[CooccurProgress], None] | None = None) -> CorrelateResult:
    """Brings index and counts of `config.selection` up to date and finds what travels together in it.

    Raises UsageError for an empty selection or band, or channels that are not there.
    """
    store = Store.open(config.store)
    counts = cooccur(
        store,
        config.selection,
        channels=config.channels,
        band=config.band,
        min_support=config.min_support,
        floor=config.floor,
        num_gpus=config.num_gpus,
        width=config.width,
        on_progress=on_progress,
    )
    dataset, selector = store.select(config.selection)
    chosen = Chosen(Index.open(store, dataset.name), selector, counts.channels)
    return analyse(
        counts,
        parts_of(chosen),
        Meanings.of(store),
        config,
        counts.selection,
        counts.made_with,
        lambda pairs: examples_of(chosen, pairs),
    )
