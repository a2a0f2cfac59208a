"""Replies held against a JSON schema, and the schemas that may be asked for.

Services promise replies of a schema and do not always keep it, so every reply is checked here. The subset is what
Gemini and OpenAI-compatible servers both accept; a schema with anything else is refused when it is written, because a
keyword that nobody enforces is worse than none. An own validator of fifty lines, since `jsonschema` is only here
through Ray; the tests hold the two against each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"enum"},
    "integer": {"minimum", "maximum", "enum"},
    "number": {"minimum", "maximum"},
    "boolean": set[str](),
}
_ALWAYS = {"type", "description", "title"}
_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)


class NotJson(ValueError):
    """The text is not JSON. cut: it stops before its end."""

    def __init__(self, cut: bool) -> None:
        super().__init__("the reply is cut" if cut else "the reply is not JSON")
        self.cut = cut


def check_schema(schema: Mapping[str, Any], path: str = "$") -> None:
    """Raises ValueError for a schema that is not in the subset: it is a mistake in the code that wrote it."""
    kind = schema.get("type")
    if kind not in _KEYWORDS:
        raise ValueError(f"{path}: type must be one of {', '.join(_KEYWORDS)}")
    unknown = set(schema) - _KEYWORDS[kind] - _ALWAYS
    if unknown:
        raise ValueError(f"{path}: {sorted(unknown)[0]} is not checked for type {kind}")
    for name, part in schema.get("properties", {}).items():
        check_schema(part, f"{path}.{name}")
    if not set(schema.get("required", ())) <= set(schema.get("properties", {})):
        raise ValueError(f"{path}: required names a property that is not described")
    if kind == "array":
        check_schema(schema["items"], f"{path}[]")


def parse(text: str) -> Any:
    """The JSON value of a reply, a code fence around the whole of it taken off. Raises NotJson."""
    fenced = _FENCE.match(text)
    body = fenced[1] if fenced else text
    try:
        return json.loads(body, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        # A cut reply fails at its very end, or in a string that never closes.
        cut = error.pos >= len(body.rstrip()) or error.msg.startswith("Unterminated string")
        raise NotJson(cut and bool(body.strip())) from None
    except (ValueError, RecursionError):
        raise NotJson(cut=False) from None


def mismatch(value: Any, schema: Mapping[str, Any], path: str = "$") -> str | None:
    """Where `value` first differs from `schema`, as one line without the value itself (it may quote a document);
    None when it fits."""
    kind = schema["type"]
    if not _is(value, kind):
        return f"{path} should be of type {kind}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{path} should be one of {', '.join(map(str, schema['enum']))}"
    if kind == "object":
        return _object_mismatch(value, schema, path)
    if kind == "array":
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return f"{path} has {len(value)} items"
        found = (mismatch(item, schema["items"], f"{path}[{i}]") for i, item in enumerate(value))
        return next((one for one in found if one is not None), None)
    if kind in ("integer", "number") and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return f"{path} is out of its range"
    return None


def _object_mismatch(value: dict[str, Any], schema: Mapping[str, Any], path: str) -> str | None:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            return f"{path}.{name} is not there"
    if schema.get("additionalProperties") is False and not set(value) <= set(properties):
        return f"{path} has a property that it should not have"
    found = (mismatch(value[name], part, f"{path}.{name}") for name, part in properties.items() if name in value)
    return next((one for one in found if one is not None), None)


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    types: dict[str, tuple[type, ...]] = {"object": (dict,), "array": (list,), "string": (str,), "number": (int, float)}
    return isinstance(value, types.get(kind, ()))


def _no_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are Python's, not JSON's
