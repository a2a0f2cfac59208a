"""What `saeray labels llm` does, apart from the terminal: latents in, labels of source `llm` in the store out.

A label is written where it is better than every other that the latent had, on the same documents. A rerun asks the same
questions, which are in the cache, and leaves the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from saeray.analysis.sides import Side, open_side
from saeray.errors import UsageError
from saeray.labels.detection import mixed
from saeray.labels.llm.relabel import OnProgress, Relabelled, RelabelOptions, each_relabelled
from saeray.labels.store import LABEL_SCHEMA, LLM, LabelStore
from saeray.llm import Client, LLMConfig, Stop, connect
from saeray.stats.frequency import flat
from saeray.store import Store

#: `--top` leaves out what more than this share of the documents has, `--sample` what fewer documents than this have:
#: of 20 documents 4 score a label on average.
MOST_SHARE, LEAST_DOCUMENTS = 0.5, 20

Int64 = NDArray[np.int64]


def make_llm_labels(
    store: Store,
    selector: str,
    channel: str | None,
    llm: LLMConfig,
    date: str,
    *,
    latents: Sequence[int] | None = None,
    top: int | None = None,
    sample: int | None = None,
    options: RelabelOptions = RelabelOptions(),
    told: Callable[[str], None] | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Labels of some latents from the documents of `selector`, into STORE/labels; the summary. One of `latents`, `top`
    (the commonest) and `sample` (drawn by hash) says which.

    When the cap or a dead key ends it, the labels finished so far are written and the Stop says how many.
    """
    labels = LabelStore.of(store)
    side = open_side(store, selector, channel)
    if "text" not in side.stored:
        raise UsageError(f"{side.dataset} was stored without its texts, and an LLM labels from texts: encode it again")
    chosen = _choose(side, labels.d_sae, latents, top, sample)
    current, unseen = _labels_there(labels, chosen)
    done: list[Relabelled] = []
    client, model = connect(llm, store.root)
    with client:
        if told is not None:
            told(_cost(chosen, (current, unseen), options, client))
        try:
            for one in each_relabelled([side], chosen, current, client, model, options, on_progress, unseen):
                done.append(one)
        except Stop as stop:
            written = _write(labels, done, llm.model, date, selector)
            raise type(stop)(f"{stop}. {len(done)} of {len(chosen)} latents are done: {written} new labels") from None
    written = _write(labels, done, llm.model, date, selector)
    return {
        "source": LLM,
        "model": llm.model,
        "selection": side.facts(),
        "latents": len(done),
        "written": written,
        "replaced": sum(one.replaced and one.before is not None for one in done),
        "kept": sum(one.kept for one in done),
        "threshold": options.threshold,
        "missing": sum(one.missing for one in done),
        "results": [asdict(one) for one in done],
        "cost": client.ledger.summary(),
        "out": (labels.root / f"{LLM}.parquet").uri,
    }


def _choose(side: Side, d_sae: int, latents: Sequence[int] | None, top: int | None, sample: int | None) -> list[int]:
    """Which latents, ascending but for `latents`, which come as given."""
    if sum(one is not None for one in (latents, top, sample)) != 1:
        raise UsageError("say which latents with one of --latents 1,2,3, --top N (the commonest) or --sample N (drawn)")
    if outside := [one for one in latents or () if not 0 <= one < d_sae]:
        raise UsageError(f"there is no latent {outside[0]}: the encoder has {d_sae:,}, from 0")
    counts = np.zeros(d_sae, np.int64)
    for table in side.scan(["latents"]):
        for batch in table.to_batches():
            counts += np.bincount(flat(batch, "latents"), minlength=d_sae)
    if latents is not None:
        found = list(dict.fromkeys(latents))
        if not any(counts[one] for one in found):
            named = f"latent {found[0]} is" if len(found) == 1 else f"these {len(found)} latents are"
            raise UsageError(f"{named} active in no document of {side.name}: there is nothing to label from")
        return found
    enough = np.flatnonzero(counts >= LEAST_DOCUMENTS)
    if top is not None:
        enough = enough[counts[enough] <= MOST_SHARE * side.n_documents]
        found = enough[np.argsort(-counts[enough], kind="stable")][:top].tolist()
    else:
        found = enough[np.argsort(mixed(enough.astype(np.uint64)), kind="stable")][:sample].tolist()
    if not found:
        raise UsageError(f"no latent is active in {LEAST_DOCUMENTS} documents of {side.name}: encode more of them")
    return sorted(found)


def _labels_there(labels: LabelStore, latents: Sequence[int]) -> tuple[dict[int, str], dict[int, str]]:
    """The label that each latent has: the best of other sources, unless that says no more than that it is unclear, and
    the one that an earlier run wrote."""
    table = labels.table()
    table = table.filter(pc.is_in(table.column("latent"), value_set=pa.array(latents, pa.uint32())))
    own = pc.equal(table.column("source"), LLM)
    keys = [("score", "descending"), ("date", "descending"), ("source", "ascending"), ("text", "ascending")]
    found: tuple[dict[int, str], dict[int, str]] = ({}, {})
    for first, part in zip(found, (table.filter(pc.invert(own)), table.filter(own)), strict=True):
        for row in part.sort_by(keys).select(["latent", "text", "kind", "source"]).to_pylist():
            if row["kind"] != "unclear" or row["source"] == LLM:
                first.setdefault(row["latent"], row["text"])
    return found


def _cost(latents: Sequence[int], there: Sequence[dict[int, str]], options: RelabelOptions, client: Client) -> str:
    each = [options.calls(len({some[one] for some in there if one in some})) for one in latents]
    half = f"{client.sender.table.batch:g} of the price"
    jobs = f", in three rounds of batch jobs at {half}, each of up to a day" if client.batches else ""
    a_latent = f"{min(each)} to {max(each)}" if min(each) < max(each) else f"{max(each)}"
    return (
        f"{len(latents):,} latents, at most {a_latent} calls each ({options.candidates} propose, the others choose and "
        f"score; retries apart), {sum(each):,} in all{jobs}; cap: {str(client.sender.budget.cap) or 'none'}"
    )


def _write(labels: LabelStore, done: Sequence[Relabelled], model: str, date: str, selector: str) -> int:
    """Puts new labels into source `llm` and takes out those that another was better than; how many are new."""
    there = [one["name"] for one in labels.sources()]
    before = labels.table(LLM).to_pylist() if LLM in there else []
    texts = {row["latent"]: row["text"] for row in before}
    new = {one.latent: _row(one, model, date, selector) for one in done if one.replaced and one.score is not None}
    beaten = {one.latent for one in done if one.score is not None and one.label != texts.get(one.latent)}
    rows = [row for row in before if row["latent"] not in beaten] + list(new.values())
    if new or len(rows) < len(before):
        labels.add(pa.Table.from_pylist(rows, LABEL_SCHEMA), LLM)
    return len(new)


def _row(one: Relabelled, model: str, date: str, selector: str) -> dict[str, Any]:
    assert one.score is not None
    bounds = None if one.bounds is None else [round(bound, 4) for bound in one.bounds]
    evidence = {
        "before": one.before,
        "score_before": one.score_before,
        "bounds": bounds,
        "missing": one.missing,
        "documents": list(one.documents),
        "selection": selector,
    }
    # What tells nothing is no name: reports leave labels of this kind out.
    unclear = one.score <= 0.5 or not (one.clear or one.kept)
    return {
        "latent": one.latent,
        "text": one.label,
        "source": LLM,
        "model": model,
        "date": date,
        "score": one.score,
        "kind": "unclear" if unclear else None,
        "evidence": json.dumps(evidence, ensure_ascii=False),
    }
