"""Labels without an LLM: a short phrase for every latent, from what the corpus shows of it, and the evidence behind it.

Three contrasts (the word at the peak, the words around it, the document against silent ones) each propose a name from
60% of the documents. The name whose own test tells active documents from silent ones best on another 20% is kept. The
last 20% are never read here, so that a score measured on them is honest. Rejected: naming by the strongest tokens alone
(`saeray.labels.baselines`), which calls a latent of Markdown tables "|" and one of French "de".
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from saeray.analysis.sides import Side
from saeray.labels.candidates import Judge
from saeray.labels.contexts import Corpus, gather
from saeray.labels.contrast import Int64, run_hashes
from saeray.labels.facts import Facts, collect
from saeray.labels.phrase import Held, Listed, Named, Seen, chosen_words, forms_of, name
from saeray.labels.store import LABEL_SCHEMA
from saeray.labels.surface import tests

MODEL = "contrast-1"
#: Tests looked at a latent: the best by accuracy and the best by what holds at the peak.
TESTS = 12

Progress = Callable[[str, int, int], None]


def auto_labels(side: Side, d_sae: int, *, date: str | None = None, progress: Progress | None = None) -> pa.Table:
    """One label for each latent with enough active documents: rows of LABEL_SCHEMA, source "auto", score null.

    `date`: ISO day, kept in the rows. `progress(step, done, of)`. Raises SaerayError when the dataset has no texts.
    """
    return label(facts_of(side, d_sae, progress), date=date, progress=progress)


def facts_of(side: Side, d_sae: int, progress: Progress | None = None) -> Facts:
    """The contrasts that labels are made from; costly, so that several kinds of label can share them."""
    corpus: Corpus = gather(side, d_sae, (lambda done, of: progress("documents", done, of)) if progress else None)
    return collect(corpus, progress)


def label(
    facts: Facts, *, date: str | None = None, progress: Progress | None = None, of_texts: bool = False
) -> pa.Table:
    """Labels from contrasts; see `auto_labels`. `of_texts`: none is a mere place ("word before a comma"), which every
    text has."""
    accuracy = _accuracies(facts)
    rows = []
    for latent in range(facts.corpus.d_sae):
        seen = seen_of(facts, latent, accuracy)
        if of_texts:
            seen = replace(seen, held=[held for held in seen.held if not held.test.spot])
        named = name(seen)
        if named:
            rows.append(
                (latent, named.text, "auto", MODEL, date, None, named.kind, _evidence(facts, latent, seen, named))
            )
        if progress and latent % 1024 == 0:
            progress("phrases", latent, facts.corpus.d_sae)
    return _table(rows)


def _accuracies(facts: Facts) -> dict[str, Any]:
    """Balanced accuracy on the choosing documents, float32[latents], of each candidate that is no surface test."""
    corpus = facts.corpus
    judge = Judge(corpus.choose, corpus.active(corpus.choose), len(facts.vocabulary))
    ids = corpus.vocabulary.ids
    forms = []
    for latent in range(corpus.d_sae):
        listed = facts.listed(facts.words, latent)
        forms.append([ids[w] for w in forms_of(listed, chosen_words(listed))])
    place, size = facts.phrases.place, facts.phrases.size
    hashes = np.zeros(len(place), np.int64)
    for n in np.unique(size[size > 0]).tolist():
        mine = size == n
        hashes[mine] = run_hashes(corpus.propose.unit_word, n)[place[mine]]
    return {
        "words": judge.words(_padded(forms)),
        "phrase": judge.phrases(hashes, size),
        "terms": judge.words(facts.terms.item.astype(np.int64), least=2),
        "near": judge.words(facts.near.item.astype(np.int64), least=2),
    }


def seen_of(facts: Facts, latent: int, accuracy: dict[str, Any]) -> Seen:
    """One latent's share of the arrays."""
    at_peak = 0.25 * np.maximum(facts.spots[latent] - facts.spot_base, 0)
    score = np.where(facts.sure[latent] > 0.5, facts.ba_tests[latent], 0.5) + at_peak
    return Seen(
        int(facts.n_active[latent]),
        facts.listed(facts.words, latent),
        facts.listed(facts.before, latent),
        facts.listed(facts.after, latent),
        facts.phrase(latent),
        facts.listed(facts.terms, latent),
        facts.listed(facts.near, latent),
        [_held(facts, latent, i) for i in np.argsort(-score, kind="stable")[:TESTS].tolist()],
        {which: float(values[latent]) for which, values in accuracy.items()},
        facts.tokens[latent],
        float(facts.inside_word[latent]),
        float(facts.position[latent]),
    )


def _held(facts: Facts, latent: int, test: int) -> Held:
    return Held(
        tests()[test],
        float(facts.ba_tests[latent, test]),
        float(facts.rates.active[latent, test]),
        float(facts.rates.silent[latent, test]),
        float(facts.sure[latent, test]),
        float(facts.spots[latent, test]),
        float(facts.spot_base[test]),
    )


def _evidence(facts: Facts, latent: int, seen: Seen, named: Named) -> str:
    corpus = facts.corpus
    n = corpus.propose.n_documents + corpus.choose.n_documents
    kept: dict[str, Any] = {
        "test": named.test,
        "tokens": facts.tokens[latent],
        "words": _rounded(seen.words, 1),
        "before": _rounded(seen.before, 1),
        "after": _rounded(seen.after, 1),
        "phrase": [seen.phrase[0], round(seen.phrase[1], 3)] if seen.phrase[0] else None,
        "terms": _rounded(seen.terms, 2),
        "near": _rounded(seen.near, 2),
        "surface": [
            [
                h.test.name,
                round((h.active + 0.01) / (h.silent + 0.01), 2),
                round(h.active, 3),
                round(h.silent, 3),
                round(h.spot, 3),
            ]
            for h in seen.held[:5]
        ],
        "accuracy": {which: round(value, 3) for which, value in seen.ba.items()}
        | {h.test.name: round(h.ba, 3) for h in seen.held[:3]},
        "position": round(seen.position, 3),
        "documents": seen.n_active,
        "frequency": round(float(facts.present[latent]) / max(n, 1), 4),
    }
    return json.dumps(kept, ensure_ascii=False)


def _rounded(listed: Listed, which: int) -> list[list[Any]]:
    return [[row[0], round(float(row[which]), 3)] for row in listed]


def _padded(lists: list[list[int]]) -> Int64:
    width = max((len(row) for row in lists), default=1) or 1
    return np.array([row + [-1] * (width - len(row)) for row in lists], np.int64).reshape(len(lists), width)


def _table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [[] for _ in LABEL_SCHEMA]
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, LABEL_SCHEMA, strict=True)], schema=LABEL_SCHEMA
    )
