"""What is a latent about, and which labels are of form alone?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saeray.llm.base import Request, digest
from saeray.llm.prompts.framing import fence, framed

_MARKS = (("<<", ">>"), ("[[", "]]"), ("{{", "}}"), ("⟦", "⟧"))

_LABEL = (
    "You name what a detector reacts to. You see texts in which it is active, with the place where it reacts most "
    "strongly marked, and texts in which it is silent. Find the one most specific property that the active texts share "
    "and the silent ones lack. Read what stands before the mark too: the detector sees a text from its beginning up to "
    "the mark and nothing after it. Silent texts that look similar show what is not enough. Write the label as a short "
    "phrase that can be understood without the examples, without quoting them, and not as a list of things. If no one "
    "property fits, say so with clear set to false and give the best phrase you have."
)
_SYNTACTIC = (
    "You sort labels of detectors. Kind 'form' is a label about how text is written and nothing else: punctuation, "
    "spelling, grammatical words, parts of words, token position, formatting marks, beginnings or ends. Kind "
    "'meaning' is a label about what is said, done, felt or asked. Where both are there, it is 'meaning'. Answer for "
    "every number once."
)

LABEL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "reason": {"type": "string"},
        "label": {"type": "string"},
        "clear": {"type": "boolean"},
    },
    "required": ["reason", "label", "clear"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Example:
    """A text for the label prompt. peak: characters [start, stop) where the latent is strongest; None: it is silent.
    weaker: it is active, but not among its strongest."""

    text: str
    peak: tuple[int, int] | None = None
    weaker: bool = False


def label(model: str, examples: Sequence[Example], current: str = "", **options: Any) -> Request:
    """What is the latent about? The value is {"reason", "label", "clear"}. Several candidates are several `sample`s at
    a temperature above 0. current: a label to do better than."""
    left, right = _free_marks([one.text for one in examples])
    active = [one for one in examples if one.peak is not None]
    strong, weaker = (
        [_marked(one.text, one.peak, left, right) for one in active if one.weaker is kind] for kind in (False, True)
    )
    silent = [fence(one.text) for one in examples if one.peak is None]
    parts = [
        f"Texts in which the detector is active. {left} and {right} mark where it is strongest:",
        *strong,
        *(["Texts in which it is active, but less strongly:", *weaker] if weaker else []),
        "Texts in which it is silent:",
        *silent,
    ]
    if current:
        parts += ["A label given before, which is not good enough; find a better one or keep it:", fence(current)]
    parts += ["What does the detector react to?"]
    return framed(model, _LABEL, "\n\n".join(parts), LABEL_SCHEMA, {"max_output_tokens": 400, **options})


def syntactic(model: str, labels: Mapping[int, str], **options: Any) -> Request:
    """Which labels are about form alone? The value is {"labels": [{"number", "kind": "form" | "meaning"}]}; hold it
    against `labels` with `kinds_of`."""
    item = {
        "type": "object",
        "properties": {"number": {"type": "integer"}, "kind": {"type": "string", "enum": ["form", "meaning"]}},
        "required": ["number", "kind"],
        "additionalProperties": False,
    }
    schema = {
        "type": "object",
        "properties": {"labels": {"type": "array", "items": item, "minItems": len(labels), "maxItems": len(labels)}},
        "required": ["labels"],
        "additionalProperties": False,
    }
    lines = [f"Label {number}:\n{fence(text)}" for number, text in labels.items()]
    prompt = "\n\n".join([*lines, "Sort every label by its number."])
    return framed(model, _SYNTACTIC, prompt, schema, {"max_output_tokens": 64 + 32 * len(labels), **options})


def kinds_of(value: Any, labels: Mapping[int, str]) -> dict[int, str]:
    """number -> "form" or "meaning" of a `syntactic` reply, for the numbers that were asked and answered one way."""
    answers: dict[int, set[str]] = {}
    for one in value["labels"]:
        answers.setdefault(int(one["number"]), set()).add(one["kind"])
    return {number: kinds.pop() for number, kinds in answers.items() if number in labels and len(kinds) == 1}


def _marked(text: str, peak: tuple[int, int] | None, left: str, right: str) -> str:
    assert peak is not None
    start, stop = peak
    return fence(f"{text[:start]}{left}{text[start:stop]}{right}{text[stop:]}")


def _free_marks(texts: Sequence[str]) -> tuple[str, str]:
    """A pair of marks that no text contains."""
    for left, right in _MARKS:
        if not any(left in text or right in text for text in texts):
            return left, right
    tag = digest("\n".join(texts))[:8]
    return f"<<{tag}:", f":{tag}>>"
