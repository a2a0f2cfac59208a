"""`saeray evaluate correlations` from store to result: encode what is missing, index, count the background once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from saeray.analysis.correlate.indexed import IndexedPart, parts_of
from saeray.analysis.correlate.labels import ReadLabels
from saeray.analysis.correlate.options import CorrelateConfig
from saeray.analysis.sides import provenance
from saeray.errors import UsageError
from saeray.evaluate.correlations import CorrelationsResult, Way, evaluate_correlations
from saeray.evaluate.counted import Background
from saeray.evaluate.injected import Injected, encode_injected, read_injected
from saeray.evaluate.injections import KINDS, Kind
from saeray.evaluate.worded import WordedPart, vocabulary_of, word_meanings
from saeray.labels.meanings import Meanings
from saeray.stats.cooccurrence import Costs, calibrate
from saeray.store import Store
from saeray.store.chosen import Chosen
from saeray.store.index import build_missing

#: Findings that are looked through for the injected one; a person reads the first twenty.
FINDINGS = 200


def run_correlations(
    store: str,
    background: str,
    out: str,
    names: Sequence[str],
    sizes: Sequence[int],
    seeds: Sequence[int],
    draws: int,
    words: bool,
    encoder: str = "smollm2-135m",
    on_progress: Callable[[Any], None] | None = None,
    encode: Callable[..., Any] | None = None,
) -> CorrelationsResult:
    """The evaluation of the kinds `names` (all when empty) in the documents that `background` selects.

    UsageError for a kind that there is not, or a background of several channels or, with `words`, without texts.
    """
    kinds = _kinds(names)
    here = Store.open(store)
    dataset, selector = here.select(background)
    dataset.require(selector)
    if words and "text" not in dataset.schema().names:
        raise UsageError(f"{dataset.name} was stored without its texts: leave the words out with --no-words")
    encode_injected(kinds, seeds, store, out, encoder, encode, on_progress)
    chosen = Chosen(build_missing(here, dataset.name), selector, ())
    options = CorrelateConfig(selection=background, store=store, out=out, top=FINDINGS)
    made_with, meanings, costs = provenance(here), Meanings.of(here), calibrate()
    parts, added = parts_of(chosen), read_injected(here, kinds, seeds)
    labels = ReadLabels(meanings, made_with["d_sae"], options.label_quantile)
    ways = [Way("latents", Background(parts, made_with["d_sae"], options, costs), labels, added)]
    if words:
        ways.append(_words(chosen, parts, added, meanings, options, costs))
    facts = {"name": background, "documents": chosen.documents}
    return evaluate_correlations(ways, kinds, seeds, sizes, draws, options, facts, made_with)


def _words(
    chosen: Chosen,
    parts: Sequence[IndexedPart],
    added: Injected,
    meanings: Meanings,
    options: CorrelateConfig,
    costs: Costs,
) -> Way:
    texts = [_texts(chosen, part) for part in parts]
    vocabulary = vocabulary_of([text for own in texts for text in own] + added.texts, options.min_support)
    worded = [WordedPart(own, vocabulary) for own in texts]
    for own, part in zip(worded, parts, strict=True):
        own.kept = part.kept
    labels = ReadLabels(word_meanings(vocabulary, meanings), len(vocabulary), options.label_quantile)
    background = Background(worded, len(vocabulary), options, costs)
    return Way("words", background, labels, replace(added, part=WordedPart(added.texts, vocabulary)))


def _texts(chosen: Chosen, part: IndexedPart) -> list[str]:
    """Every text of a block, in the order of its documents."""
    rows = part.block.rows(part.channels[0])
    dataset = chosen.index.dataset
    found: dict[int, list[str]] = {}
    for shard in sorted(set(rows.column("shard").to_pylist()) - {-1}):
        found[shard] = pa.concat_tables(dataset.scan_shard(shard, None, ["text"])).column("text").to_pylist()
    places = zip(rows.column("shard").to_pylist(), rows.column("row").to_pylist(), strict=True)
    return [found[shard][row] if shard >= 0 else "" for shard, row in places]


def _kinds(names: Sequence[str]) -> list[Kind]:
    known = {kind.name: kind for kind in KINDS}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"no kind of injection is called {unknown[0]!r}; there are: {', '.join(known)}")
    return [known[name] for name in names] or list(KINDS)
