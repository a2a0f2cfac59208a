"""What an LLM adds to correlations: which labels are of form alone, whether findings hold in the texts, and the pairs
that it would have named itself.

Everything is asked after the counting, of the few pairs that pass the other filters, within a cap, and only when a
model is given: without one a result is what it always was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.analysis.correlate.asking import AskConfig, Asked, Verified
from saeray.analysis.correlate.evidence import PairExample, examples_of
from saeray.analysis.correlate.groups import group_pairs
from saeray.analysis.correlate.indexed import parts_of
from saeray.analysis.correlate.labels import ReadLabels
from saeray.analysis.correlate.options import CorrelateConfig
from saeray.analysis.correlate.pairs import Part
from saeray.analysis.correlate.run import CorrelateResult, numbered
from saeray.analysis.correlate.verified import Texts, judge_pairs, kept_documents, plain_sample, sample_of
from saeray.errors import UsageError
from saeray.labels.detection import mixed
from saeray.labels.llm.relabel import tidy
from saeray.labels.meanings import Meanings
from saeray.llm import Client, connect
from saeray.llm.prompts import kinds_of, surprising
from saeray.llm.prompts import syntactic as ask_kinds
from saeray.store import Store
from saeray.store.chosen import Chosen
from saeray.store.index import Index

Int64 = NDArray[np.int64]

#: Labels in one question, and most labels that are asked about, those of the strongest pairs first: 40 calls.
BATCH, MOST_LABELS = 50, 2_000
#: Pairs asked for in a prompt of the baseline, and characters shown of each of its texts: some 250 tokens.
NAMED, SHOWN = 10, 1_000
#: The filter by the LLM in a report's list of filters.
FILTER = "neither label is of form, says the LLM"


def with_llm(config: CorrelateConfig, run: Callable[[], CorrelateResult]) -> CorrelateResult:
    """What `run` finds for `config`, with what the LLM of `config.llm` says of it where there is one.

    Raises SaerayError for a missing key or texts that were not stored, before anything is counted, and Stop (the cap, a
    dead key): what was paid for is kept.
    """
    if config.llm is None:
        return run()
    store = Store.open(config.store)
    dataset, selector = store.select(config.selection)
    if "text" not in dataset.schema().names:
        raise UsageError(f"{dataset.name} was stored without its texts, and an LLM judges texts: leave --llm out")
    client, model = connect(config.llm, store.root)
    with client:
        result = run()
        chosen = Chosen(Index.open(store, dataset.name), selector, result.channels)
        parts = parts_of(chosen)
        return asked(
            result,
            config,
            parts,
            ReadLabels(Meanings.of(store), result.made_with["d_sae"], config.label_quantile),
            lambda side, documents: texts_of(chosen, parts, side, documents),
            (client, model),
            lambda pairs: examples_of(chosen, pairs),
        )


def asked(
    result: CorrelateResult,
    config: CorrelateConfig,
    parts: Sequence[Part],
    labels: ReadLabels,
    texts: Texts,
    llm: tuple[Client, str],
    examples: Callable[[list[tuple[int, int]]], Sequence[Sequence[PairExample]]] | None = None,
) -> CorrelateResult:
    """As `with_llm`, from the documents themselves. `llm`: a client and its model."""
    (client, model), options = llm, config.llm
    assert options is not None
    kinds: dict[str, str] = {}
    wanted: list[str] = []
    if not config.keep_syntactic:
        wanted = _labels_of(result.rows)
        kinds = kinds_by_llm(wanted[:MOST_LABELS], client, model)
        result = _without_form(result, config, parts, labels, kinds, examples)
    channels = 1 if len(result.channels) == 1 else 2
    rows = {number: result.row(number) for number in range(min(options.findings, len(result.findings)))}
    shown = {number: row for number, row in rows.items() if row["label_i"] and row["label_j"]}
    samples = [
        sample_of(parts, row["i"], row["j"], (row["label_i"], row["label_j"]), options.documents)
        for row in shown.values()
    ]
    found = judge_pairs(samples, texts, client, model, "verify pairs")
    baseline: tuple[Verified, ...] | None = None
    named: list[tuple[str, str, str]] = []
    if options.baseline:
        named = pairs_by_llm(parts, texts, result.channels[:channels], client, model, options)
        tried = [plain_sample(parts, (a, b), options.documents, why) for a, b, why in named[: max(1, options.findings)]]
        baseline = tuple(judge_pairs(tried, texts, client, model, "verify baseline"))
    added = Asked(
        options.model,
        len(wanted),
        len(kinds),
        dict(zip(shown, found, strict=True)),
        baseline,
        len(named),
        client.ledger.summary(),
        options.model_dump(include={"findings", "documents", "baseline", "batches", "batch"}),
    )
    return replace(result, asked=added)


def kinds_by_llm(labels: Sequence[str], client: Client, model: str) -> dict[str, str]:
    """label -> "form" or "meaning", of the labels that came back with one answer."""
    batches = [dict(enumerate(labels[at : at + BATCH], 1)) for at in range(0, len(labels), BATCH)]
    requests = [ask_kinds(model, batch, thinking_budget=0) for batch in batches]
    found: dict[str, str] = {}
    for batch, reply in zip(batches, client.complete_many(requests, "sort labels"), strict=True):
        if reply.missing is None:
            found |= {batch[number]: kind for number, kind in kinds_of(reply.value, batch).items()}
    return found


def pairs_by_llm(
    parts: Sequence[Part], texts: Texts, channels: Sequence[str], client: Client, model: str, options: AskConfig
) -> list[tuple[str, str, str]]:
    """What the LLM names when it is shown batches of documents drawn by hash: (first, second, reason), each pair once,
    those named in most batches first. A batch that fails names none; the ledger says so."""
    every = kept_documents(parts)
    drawn = every[np.argsort(mixed(every.astype(np.uint64)), kind="stable")][: options.batches * options.batch]
    requests = []
    for at in range(0, len(drawn), options.batch):
        own = drawn[at : at + options.batch]
        sides = [[one[:SHOWN] for one in texts(side, own)] for side in range(len(channels))]
        shown = [_joined(channels, one) for one in zip(*sides, strict=True)]
        requests.append(surprising(model, shown, channels, NAMED, thinking_budget=0))
    times: dict[tuple[str, str], int] = {}
    said: dict[tuple[str, str], tuple[str, str, str]] = {}
    for reply in client.complete_many(requests, "baseline"):
        for pair in reply.value["pairs"] if reply.missing is None else ():
            first, second = tidy(pair["first"]), tidy(pair["second"])
            if first and second:
                folded = (first.casefold(), second.casefold())
                key = folded if len(channels) > 1 else (min(folded), max(folded))
                times[key] = times.get(key, 0) + 1
                said.setdefault(key, (first, second, " ".join(pair["reason"].split())))
    return [said[key] for key in sorted(said, key=lambda key: -times[key])]


def texts_of(chosen: Chosen, parts: Sequence[Any], side: int, documents: Int64) -> list[str]:
    """Texts of documents, numbered through all parts, in the first channel (side 0) or the last. A shard is read
    once."""
    channel = chosen.channels[0 if side == 0 else -1]
    starts = np.concatenate([[0], np.cumsum([part.documents for part in parts], dtype=np.int64)])
    rows: dict[int, tuple[int, int]] = {}
    for number, part in enumerate(parts):
        own = documents[(documents >= starts[number]) & (documents < starts[number + 1])]
        if len(own):
            at = part.block.rows(channel).take(pa.array(own - starts[number]))
            places = zip(own.tolist(), at["shard"].to_pylist(), at["row"].to_pylist(), strict=True)
            rows |= {document: (shard, row) for document, shard, row in places}
    found: dict[tuple[int, int], str] = {}
    for shard in sorted({shard for shard, _ in rows.values()}):
        own_rows = sorted({row for one, row in rows.values() if one == shard})
        table = pa.concat_tables(chosen.index.dataset.scan_shard(shard, None, ["text"]))
        read = table.column("text").take(pa.array(own_rows)).to_pylist()
        found |= {(shard, row): text or "" for row, text in zip(own_rows, read, strict=True)}
    return [found[rows[document]] for document in documents.tolist()]


def _labels_of(rows: pa.Table) -> list[str]:
    """Different labels of the pairs, the strongest pair's first."""
    pairs = zip(rows.column("label_i").to_pylist(), rows.column("label_j").to_pylist(), strict=True)
    return list(dict.fromkeys(label for pair in pairs for label in pair if label))


def _without_form(
    result: CorrelateResult,
    config: CorrelateConfig,
    parts: Sequence[Part],
    labels: ReadLabels,
    kinds: Mapping[str, str],
    examples: Callable[[list[tuple[int, int]]], Sequence[Sequence[PairExample]]] | None,
) -> CorrelateResult:
    """`result` without the pairs of which a label is of form; where the LLM gave no answer, by the rule."""
    rows = result.rows.drop_columns("finding")
    latents = sorted({one for side in ("i", "j") for one in rows.column(side).to_pylist()})
    form = {one for one in latents if _is_form(labels.texts.get(one), bool(labels.syntactic[one]), kinds)}
    keep = [not form & {i, j} for i, j in zip(rows["i"].to_pylist(), rows["j"].to_pylist(), strict=True)]
    rows = rows.filter(pa.array(keep, pa.bool_()))
    groups = group_pairs(rows, parts, labels, config.top)
    leaders = [rows.slice(group.members[0], 1).to_pylist()[0] for group in groups]
    pairs = [(row["i"], row["j"]) for row in leaders]
    return replace(
        result,
        rows=numbered(rows, groups),
        findings=groups,
        toll=(*result.toll, (FILTER, rows.num_rows)),
        examples=dict(enumerate(examples(pairs))) if examples and pairs else {},
    )


def _is_form(label: str | None, by_rule: bool, kinds: Mapping[str, str]) -> bool:
    kind = kinds.get(label or "")
    return by_rule if kind is None else kind == "form"


def _joined(channels: Sequence[str], texts: Sequence[str]) -> str:
    if len(channels) == 1:
        return texts[0]
    return "\n\n".join(f"{channel}:\n{text}" for channel, text in zip(channels, texts, strict=True))
