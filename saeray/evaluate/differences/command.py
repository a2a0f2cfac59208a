"""`saeray evaluate diff` from tasks to result: read the keywords first, encode what is missing, compare set by set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from saeray.analysis.sides import provenance
from saeray.evaluate.differences.documents import Documents, read_units
from saeray.evaluate.differences.keywords import read_keywords
from saeray.evaluate.differences.run import DifferencesResult, evaluate_differences
from saeray.evaluate.differences.sets import DiffSet, Unit, chosen_tasks, draw_sets, encode_units, is_encoded
from saeray.evaluate.differences.similarity import with_similarity
from saeray.evaluate.tasks import read_tasks
from saeray.labels.meanings import Meanings
from saeray.llm.connect import LLMConfig, connect
from saeray.store import Store


def run_differences(
    tasks: str,
    store: str,
    out: str,
    keywords: str | None,
    sizes: Sequence[int],
    tokens: int,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    encoder: str = "smollm2-135m",
    say: Callable[[str], None] = lambda line: None,
    on_progress: Callable[[Any], None] | None = None,
    encode: Callable[..., Any] | None = None,
    llm: LLMConfig | None = None,
) -> DifferencesResult:
    """The evaluation of the diff tasks `only` (all when empty) but those `without`; `say` gets a line before anything
    is spent; `llm`: what scores the similarity of names. UsageError for tasks, keywords or sets that are not as they
    should be."""
    found = read_tasks(tasks)
    chosen = chosen_tasks(found, only, without)
    judged = read_keywords(found, chosen, keywords)
    sets, units = draw_sets(found, chosen, sizes, tokens, judged.where)
    characters, documents = sum(unit.characters for unit in units), sum(unit.table.num_rows for unit in units)
    state = "all encoded" if is_encoded(units, store) else "those that the store does not hold are encoded now"
    say(f"{documents:,} documents of {len(sets)} sets, some {characters // 4:,} tokens; {state}")
    encode_units(units, store, out, encoder, encode, on_progress)
    here = Store.open(store)
    parameters = {"tasks": tasks, "keywords": keywords or "of the tasks", "sizes": list(sizes), "tokens_a_side": tokens}
    result = evaluate_differences(
        _read(here, sets, units), judged, Meanings.of(here), sizes, parameters, provenance(here), say
    )
    if llm is None:
        return result
    client, model = connect(llm, here.root)
    with client:
        return with_similarity(result, client, model)


def _read(store: Store, sets: Sequence[DiffSet], units: Sequence[Unit]) -> Iterator[tuple[DiffSet, Documents]]:
    """Each set with its documents, file by file, so that one file's are in memory at a time."""
    sources = dict.fromkeys((one.task.file, one.task.text_column) for one in sets)
    for file, column in sources:
        documents = read_units(store, [unit for unit in units if (unit.file, unit.column) == (file, column)])
        yield from ((one, documents) for one in sets if (one.task.file, one.task.text_column) == (file, column))
