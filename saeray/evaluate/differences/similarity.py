"""How near the first names come to the known difference, by an LLM: the score of the method's authors.

The first five names against the description of the difference: 1 the same, 0.5 related, 0 neither; five answers at
temperature 0.7, their mean. A failed call is missing, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from saeray.evaluate.differences.run import SCHEMA, DifferencesResult
from saeray.evaluate.differences.ways import RANDOM
from saeray.llm.base import Request
from saeray.llm.client import Client
from saeray.llm.prompts import similarity

#: Names that are shown, answers that are asked for, and how freely.
SHOWN, SAMPLES, TEMPERATURE = 5, 5, 0.7
SCORES = {"same": 1.0, "related": 0.5, "none": 0.0}


def with_similarity(result: DifferencesResult, client: Client, model: str) -> DifferencesResult:
    """The result with the column `similarity`, 0..1: null for latents at random and where every call failed. A list
    without a name is 0 and costs nothing."""
    rows = result.rows.to_pylist()
    asked: list[tuple[int, Request]] = []
    for i, row in enumerate(rows):
        names = _first(row)
        known = row["known_difference"]
        for sample in range(SAMPLES) if names else ():
            asked.append((i, similarity(model, known, names, sample=sample, temperature=TEMPERATURE)))
    replies = client.complete_many([request for _, request in asked], "similarity")
    answers: dict[int, list[float]] = {}
    for (i, _), reply in zip(asked, replies, strict=True):
        if reply.value is not None:
            answers.setdefault(i, []).append(SCORES[reply.value["verdict"]])
    for i, row in enumerate(rows):
        row["similarity"] = _score(row, answers.get(i))
    parameters = dict(result.parameters) | {
        "llm": model,
        "similarity_missing": sum(reply.value is None for reply in replies),
    }
    cost = client.ledger.summary()
    return replace(result, rows=pa.Table.from_pylist(rows, SCHEMA), parameters=parameters, cost=cost)


def _first(row: Mapping[str, Any]) -> list[str]:
    return [name for name in row["names"] if name][:SHOWN]


def _score(row: Mapping[str, Any], answers: Sequence[float] | None) -> float | None:
    if answers:
        return float(np.mean(answers))
    return None if _first(row) or row["way"] == RANDOM else 0.0
