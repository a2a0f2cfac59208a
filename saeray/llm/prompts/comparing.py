"""How do two sets of texts differ? Statements from measured differences or from notes, and the notes themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from saeray.llm.base import Request
from saeray.llm.prompts.framing import fence, framed

_HYPOTHESES = (
    "You turn measured differences between two sets of texts, the target and the others, into a few statements. Each "
    "difference is a detector with its label, the share of texts in which it is active in either set, and sometimes a "
    "passage. Labels can be wrong or too narrow. Merge differences that are the same finding, leave out what is noise, "
    "and put the clearest and largest first. A statement describes one property of a single text, begins with the "
    "words 'The text', can be checked on a text alone by someone who knows neither set, names neither set nor any "
    "model, and is no vaguer than its evidence. Name the numbers of the differences each statement rests on."
)
_STATEMENT = (
    "A statement describes one property of a single text, begins with the words 'The text', can be checked on a text "
    "alone by someone who knows neither group, names neither group nor any model, and compares with nothing."
)
_READERS = (
    "Readers compared a few texts of two groups at a time and wrote down what texts of the one have and those of the "
    "other lack. Turn their notes into a few statements: merge notes of the same thing, leave out what was seen once, "
    f"and put what was seen most first. {_STATEMENT} Name the numbers of up to twenty notes each statement rests on."
)
_MERGE = (
    "Statements on how two groups of texts differ were written in batches, so that some say the same. Merge those into "
    "one as specific as they are, keep the clearest, and put the largest differences first, where shares are given. "
    f"{_STATEMENT} Name the numbers of all statements that each of yours stands for."
)
_PROPERTIES = (
    "You compare two groups of texts. Find what texts of the one group have and those of the other lack, in content, "
    "form, style or behaviour; of texts that answer the same question, what sets the answers apart and not the "
    "question. Write each as a short statement, the clearest first, and none where there is no difference. "
    f"{_STATEMENT}"
)


@dataclass(frozen=True)
class Difference:
    """A labelled difference. target, others: document frequencies in 0..1, None where nobody counted. passage: where it
    is active, or empty."""

    number: int
    label: str
    target: float | None = None
    others: float | None = None
    passage: str = ""


def hypotheses(
    model: str,
    differences: Sequence[Difference],
    *,
    most: int = 10,
    question: str = "",
    source: Literal["detectors", "readers", "statements"] = "detectors",
    **options: Any,
) -> Request:
    """At most `most` statements on how the target differs. The value is {"hypotheses": [{"statement", "numbers",
    "reason"}]}. question: what the user wants to know of the differences. source: whether the labels are detectors',
    notes of `properties`, or statements that are to be merged."""
    item = {
        "type": "object",
        "properties": {
            "statement": {"type": "string"},
            "numbers": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
            "reason": {"type": "string"},
        },
        "required": ["statement", "numbers", "reason"],
        "additionalProperties": False,
    }
    schema = {
        "type": "object",
        "properties": {"hypotheses": {"type": "array", "items": item, "maxItems": most}},
        "required": ["hypotheses"],
        "additionalProperties": False,
    }
    lines = [f"Difference {one.number}{_shares(one)}\n{fence(_with_passage(one))}" for one in differences]
    asked = question or "What are the largest and most interesting differences of the target from the others?"
    prompt = "\n\n".join([*lines, f"The question:\n{fence(asked)}\n\nGive at most {most} statements."])
    task = {"detectors": _HYPOTHESES, "readers": _READERS, "statements": _MERGE}[source]
    return framed(model, task, prompt, schema, {"max_output_tokens": 4096, **options})


def properties(
    model: str, first: Sequence[str], second: Sequence[str], *, both: bool, most: int = 5, **options: Any
) -> Request:
    """What sets two groups of texts apart, at most `most` of each. The value is {"properties": [{"property", "group":
    "first" | "second"}]}. both: what the second has and the first lacks is asked for too."""
    groups = ["first", "second"] if both else ["first"]
    item = {
        "type": "object",
        "properties": {"property": {"type": "string"}, "group": {"type": "string", "enum": groups}},
        "required": ["property", "group"],
        "additionalProperties": False,
    }
    schema = {
        "type": "object",
        "properties": {"properties": {"type": "array", "items": item, "maxItems": most * len(groups)}},
        "required": ["properties"],
        "additionalProperties": False,
    }
    asked = "of either group that the other lacks" if both else "of the first group that the second lacks"
    parts = ["The first group:", *map(fence, first), "The second group:", *map(fence, second)]
    prompt = "\n\n".join([*parts, f"Give at most {most} properties {asked}."])
    return framed(model, _PROPERTIES, prompt, schema, {"max_output_tokens": 1024, **options})


def _shares(one: Difference) -> str:
    if one.target is None or one.others is None:
        return ":"
    return f": target {one.target:.1%}, others {one.others:.1%}."


def _with_passage(one: Difference) -> str:
    return f"{one.label}\nA passage: {one.passage}" if one.passage else one.label
