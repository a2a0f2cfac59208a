"""Documents whose properties are words, and judges whose truth is known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from stand_in import documents

from saeray.analysis.diff.design import Against, Design
from saeray.analysis.hypotheses.statements import Hypothesis
from saeray.analysis.sides import Side
from saeray.llm.base import RawReply, Refused, Request, Usage, Vectors

APPLES = Hypothesis("The text mentions apples", "latents")
PEARS = Hypothesis("The text mentions pears", "latents")


def side_of(name: str, texts: Sequence[str], ids: Sequence[str] | None = None, stored: bool = True) -> Side:
    """A side of texts in memory, in tables of 7 rows."""
    own = ids or [f"{name}-{i}" for i in range(len(texts))]
    table = pa.table({"doc_id": pa.array(own, pa.string()), "text": pa.array(texts, pa.string())})

    def scan(columns: Sequence[str]) -> Iterator[pa.Table]:
        for at in range(0, table.num_rows, 7):
            yield table.slice(at, 7).select(list(columns))

    lengths = np.array([len(text.split()) for text in texts], np.int64)
    columns = frozenset(table.schema.names if stored else ["doc_id"])
    return Side(name, "d", "text", table.column("doc_id"), lengths, columns, {}, scan)


def worded(name: str, *words: Sequence[bool]) -> list[str]:
    """Texts that mention apples (and pears) where they are told to, each different from all others."""
    named = [("apples", "pears")[i] for i in range(len(words))]
    return [
        f"{name} number {i} {' '.join(word for word, has in zip(named, row, strict=True) if has)}"
        for i, row in enumerate(zip(*words, strict=True))
    ]


def design_of(*sides: Sequence[str], keys: Sequence[Sequence[int]] | None = None, against: Against = "max") -> Design:
    """A design without halves of sides called A, B, C."""
    own = tuple(side_of("ABCDEFGH"[i], texts) for i, texts in enumerate(sides))
    if keys is None:
        return Design(own, against)
    return Design(own, against, tuple(np.array(k, np.int64) for k in keys), int(max(max(k) for k in keys)) + 1)


def paired_of(*sides: Sequence[str], against: Against = "max") -> Design:
    """Document i of each side answers prompt i."""
    return design_of(*sides, keys=[range(len(texts)) for texts in sides], against=against)


def word_judge(system: str, prompt: str, schema: Any) -> dict[str, str]:
    """Yes when the text has the last word of the property, in whichever order the two come."""
    statement, text = sorted(documents(prompt), key=lambda one: not one.startswith("The text"))
    verdict = "yes" if statement.split()[-1] in text else "no"
    return {"reason": "so it is", "verdict": verdict} if "reason" in schema["properties"] else {"verdict": verdict}


def always(rate: float, kind: str, only: str = "") -> Callable[[int, int, str], str | None]:
    """Trouble with that share of the questions, at every attempt; with those whose prompt holds `only`."""

    def trouble(number: int, attempt: int, prompt: str) -> str | None:
        draw = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") / 2**64
        return kind if only in prompt and draw < rate else None

    return trouble


class InProcess:
    """A backend that answers by rule, without a network. `asked`: every request, in order of arrival."""

    name, free, concurrency = "in-process", True, 4

    def __init__(self, rule: Callable[[str, str, Any], Any] = word_judge) -> None:
        self.rule = rule
        self.asked: list[Request] = []

    def complete(self, request: Request) -> RawReply:
        """The rule's answer; a rule that gives None fails."""
        self.asked.append(request)
        value = self.rule(request.system, request.prompt, request.schema)
        if value is None:
            raise Refused("refused", "by the rule")
        return RawReply(json.dumps(value), Usage(len(request.prompt), 10))

    def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """Judges need none."""
        raise NotImplementedError

    def count_tokens(self, request: Request) -> int | None:
        """It does not say."""
        return None

    def close(self) -> None:
        """Nothing is open."""
