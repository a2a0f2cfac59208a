"""Which properties travel together? What an LLM names when it is shown the texts alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saeray.llm.base import Request
from saeray.llm.prompts.framing import fence, framed

_SURPRISING = (
    "You look for surprising correlations in a batch of texts: two properties of a text, far apart in meaning, that "
    "stand together in the same texts more often than chance would have it. Properties may be about content, form, "
    "style or behaviour. Leave out pairs that everyone expects, and pairs that say one thing twice. Write each "
    "property as a short phrase that can be understood without the texts, and put the most surprising pairs first."
)


def surprising(model: str, texts: Sequence[str], channels: Sequence[str], most: int, **options: Any) -> Request:
    """At most `most` pairs of properties that go together in the texts. The value is {"pairs": [{"first", "second",
    "reason"}]}; of two channels the first property is of the one, the second of the other."""
    item = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("first", "second", "reason")},
        "required": ["first", "second", "reason"],
        "additionalProperties": False,
    }
    schema = {
        "type": "object",
        "properties": {"pairs": {"type": "array", "maxItems": most, "items": item}},
        "required": ["pairs"],
        "additionalProperties": False,
    }
    asked = f"Name at most {most} surprising pairs."
    if len(channels) > 1:
        asked += f" The first property of a pair is of the {channels[0]}'s part, the second of the {channels[1]}'s."
    prompt = "\n\n".join([*map(fence, texts), asked])
    return framed(model, _SURPRISING, prompt, schema, {"max_output_tokens": 2048, **options})
