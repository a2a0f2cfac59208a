"""What stands beside a finding's examples: the other side's answer to the same prompt, or its own strongest texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from saeray.analysis.diff.design import Design
from saeray.analysis.evidence import Evidence, Example, collect
from saeray.analysis.excerpt import Excerpt
from saeray.analysis.sides import Side

#: Characters of an answer that is shown for contrast, as many as an excerpt has.
WIDTH = 200

Beside = dict[int, tuple[Example | None, ...]]


def beside(design: Design, evidence: Mapping[int, Evidence], held: Mapping[int, tuple[int, int]]) -> Beside:
    """What the other side has, of each latent of `held` (latent -> the side of its examples, the side it is held
    against), which `evidence` has too.

    Paired: in step with the examples, the beginning of the other side's answer to the same key that lacks the latent,
    None where every such answer has it. Unpaired: the other side's own strongest examples. Nothing without texts.
    """
    found: Beside = {}
    for own, other in sorted(set(held.values())):
        examples = {latent: evidence[latent].examples for latent, pair in held.items() if pair == (own, other)}
        if "text" not in design.sides[other].stored:
            continue
        if design.keys is None:
            shown = max((len(one) for one in examples.values()), default=0)
            strongest = collect(design.sides[other], examples, max(1, shown))
            found |= {latent: one.examples for latent, one in strongest.items()}
        else:
            found |= _answers(design, own, other, examples)
    return found


def _answers(design: Design, own: int, other: int, examples: Mapping[int, Sequence[Example]]) -> Beside:
    assert design.keys is not None
    shown = {example.doc_id for found in examples.values() for example in found}
    ids = zip(design.sides[own].doc_ids.to_pylist(), design.keys[own].tolist(), strict=True)
    keys = {doc_id: key for doc_id, key in ids if doc_id in shown}
    answers = _texts(design.sides[other], design.keys[other], list(keys.values()))
    return {
        latent: tuple(_without(answers.get(keys[example.doc_id], []), latent) for example in found)
        for latent, found in examples.items()
    }


def _texts(side: Side, keys: NDArray[np.int64], wanted: Sequence[int]) -> dict[int, list[tuple[str, str, set[int]]]]:
    """(doc_id, text, latents) of the documents of the wanted keys, by doc_id."""
    there = np.isin(keys, np.array(wanted, np.int64))
    rows = (row for table in side.where(there).scan(["doc_id", "text", "latents"]) for row in table.to_pylist())
    found: dict[int, list[tuple[str, str, set[int]]]] = {}
    for key, row in zip(keys[there].tolist(), rows, strict=True):
        found.setdefault(key, []).append((row["doc_id"], row["text"] or "", set(row["latents"])))
    return {key: sorted(answers, key=lambda one: one[0]) for key, answers in found.items()}


def _without(answers: Sequence[tuple[str, str, set[int]]], latent: int) -> Example | None:
    for doc_id, text, latents in answers:
        if latent not in latents:
            start = text if len(text) <= WIDTH else (text[:WIDTH].rsplit(maxsplit=1) or [""])[0]
            return Example(doc_id, 0.0, Excerpt(start, "", "", cut_right=len(start) < len(text)))
    return None
