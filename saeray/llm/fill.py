"""Answers of a given schema from a causal model's logits, so that the smallest model answers in valid JSON.

The JSON around the values is written by us; the model chooses among the choices of an enum by the logits of the first
token in which they differ (yes or no: the first token of the answer), and writes strings and numbers freely until they
end. Nothing is parsed that a model might get wrong, and a verdict costs one step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from saeray.llm.base import Refused

# The most characters of one string before it is closed for the model: weak ones do not stop by themselves.
MOST_CHARACTERS = 400
_MOST_DIGITS = 12
_MOST_ITEMS = 10


class Steps(Protocol):
    """A model that reads token by token.

    left: tokens that may still be written. written: those that were, by the model or for it.
    """

    left: int
    written: int

    def tokens(self, text: str) -> list[int]:
        """Token ids of a piece of text, without special tokens."""

    def feed(self, ids: Sequence[int]) -> None:
        """Reads tokens."""

    def log_probabilities(self, ids: Sequence[int]) -> list[float]:
        """Of these as the next token."""

    def write(self, stops: str, most: int) -> str:
        """Writes greedily until a character of `stops`, which is left out, the end, or `most` characters."""


def fill(steps: Steps, schema: Mapping[str, Any]) -> tuple[Any, dict[str, float] | None]:
    """A value of `schema`, and the probabilities of the choices of the first enum or boolean in it.

    Raises Refused when the tokens allowed do not reach.
    """
    properties = schema.get("properties", {})
    if len(properties) == 1 and "enum" in (part := next(iter(properties.values()))):
        # One choice and nothing else: the answer's very first token, which small models know best, without JSON.
        number, probabilities = choose(steps, [str(one) for one in part["enum"]])
        named = {str(one): p for one, p in zip(part["enum"], probabilities, strict=True)}
        return {next(iter(properties)): part["enum"][number]}, named
    first: list[dict[str, float]] = []
    value = _fill(steps, schema, first)
    return value, first[0] if first else None


def _fill(steps: Steps, schema: Mapping[str, Any], first: list[dict[str, float]]) -> Any:
    if steps.left <= 0:
        raise Refused("cut", "the answer does not fit into the tokens allowed")
    kind = schema["type"]
    if "enum" in schema or kind == "boolean":
        choices = list(schema.get("enum", [True, False]))
        written = [json.dumps(one) for one in choices]
        number, probabilities = choose(steps, written)
        if not first:
            first.append({str(one): p for one, p in zip(choices, probabilities, strict=True)})
        return choices[number]
    if kind == "object":
        return _object(steps, schema, first)
    if kind == "array":
        return _array(steps, schema, first)
    if kind == "string":
        _say(steps, '"')
        text = steps.write('"\n', MOST_CHARACTERS)
        _say(steps, '"')
        return text.strip()
    return _number(steps, schema, kind)


def _object(steps: Steps, schema: Mapping[str, Any], first: list[dict[str, float]]) -> dict[str, Any]:
    value = {}
    for number, (name, part) in enumerate(schema.get("properties", {}).items()):
        _say(steps, ("{" if number == 0 else ", ") + json.dumps(name) + ": ")
        value[name] = _fill(steps, part, first)
    _say(steps, "}")
    return value


def _array(steps: Steps, schema: Mapping[str, Any], first: list[dict[str, float]]) -> list[Any]:
    least, most = schema.get("minItems", 1), schema.get("maxItems", _MOST_ITEMS)
    _say(steps, "[")
    values: list[Any] = []
    while len(values) < most:
        values.append(_fill(steps, schema["items"], first))
        more = len(values) < least or (len(values) < most and choose(steps, [", ", "]"])[0] == 0)
        if not more:
            break
    return values


def _number(steps: Steps, schema: Mapping[str, Any], kind: str) -> int | float:
    text = steps.write(",}] \n", _MOST_DIGITS).strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        value = 0.0
    value = float(max(value, schema.get("minimum", value)))
    value = float(min(value, schema.get("maximum", value)))
    return round(value) if kind == "integer" else value


def choose(steps: Steps, choices: Sequence[str]) -> tuple[int, list[float]]:
    """The choice that the model's next tokens prefer, and each one's probability among them; it is then read.

    Choices are told apart at the first token in which they differ; of those that go on alike the next one decides.
    """
    ids = [steps.tokens(one) for one in choices]
    weights, alive, depth = [1.0] * len(choices), list(range(len(choices))), 0
    while len(alive) > 1 and all(depth < len(ids[one]) for one in alive):
        heads = sorted({ids[one][depth] for one in alive})
        if len(heads) > 1:
            logs = steps.log_probabilities(heads)
            top = max(logs)
            shares = [math.exp(log - top) for log in logs]
            share = {head: part / sum(shares) for head, part in zip(heads, shares, strict=True)}
            for one in alive:
                weights[one] *= share[ids[one][depth]]
            best = max(heads, key=lambda head: share[head])
            alive = [one for one in alive if ids[one][depth] == best]
        if len(alive) > 1:
            steps.feed([ids[alive[0]][depth]])
            depth += 1
    steps.feed(ids[alive[0]][depth:])
    total = sum(weights[one] for one in range(len(choices)))
    return alive[0], [weight / total for weight in weights]


def _say(steps: Steps, text: str) -> None:
    steps.feed(steps.tokens(text))
