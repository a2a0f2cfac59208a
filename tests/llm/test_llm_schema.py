"""Replies against schemas, held against the reference implementation of JSON schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saeray.llm.schema import NotJson, check_schema, mismatch, parse

LEAVES = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "string"}),
    st.lists(st.sampled_from("abc"), min_size=1, unique=True).map(lambda words: {"type": "string", "enum": words}),
    st.tuples(st.integers(-3, 3), st.integers(0, 3)).map(
        lambda two: {"type": "integer", "minimum": two[0], "maximum": sum(two)}
    ),
    st.integers(-2, 2).map(lambda low: {"type": "number", "minimum": low}),
)


def _object(properties: dict[str, Any], closed: bool) -> dict[str, Any]:
    required = sorted(properties)[:1]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": not closed}


def _array(items: Any, least: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": least + 1}


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(_object, st.dictionaries(st.sampled_from("pqr"), inner, max_size=3), st.booleans()),
        st.builds(_array, inner, st.integers(0, 2)),
    ),
    max_leaves=4,
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-4, 6), st.sampled_from([0.5, 2.0, -1.5]), st.sampled_from("abcd")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("pqrs"), inner, max_size=3)),
    max_leaves=6,
)


@given(SCHEMAS, VALUES)
def test_the_same_verdict_as_jsonschema(schema: dict[str, Any], value: Any) -> None:
    """Our fifty lines say of every value what the reference says."""
    check_schema(schema)
    assert (mismatch(value, schema) is None) == jsonschema.Draft202012Validator(schema).is_valid(value)


@given(SCHEMAS, st.data())
def test_fitting_values_fit(schema: dict[str, Any], data: st.DataObject) -> None:
    """And of values made to fit, so that the test above is not all refusals."""
    value = data.draw(_fitting(schema))
    assert jsonschema.Draft202012Validator(schema).is_valid(value)
    assert mismatch(value, schema) is None


def _fitting(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    kind = schema["type"]
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if kind == "object":
        return st.fixed_dictionaries({name: _fitting(part) for name, part in schema["properties"].items()})
    if kind == "array":
        return st.lists(_fitting(schema["items"]), min_size=schema["minItems"], max_size=schema["maxItems"])
    simple = {"boolean": st.booleans(), "string": st.text(max_size=3), "number": st.integers(2, 9)}
    return simple.get(kind, st.just(schema.get("minimum")))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "a+"}, {"type": "object", "properties": {"a": {"type": "null"}}}, {},
        {"type": "object", "properties": {}, "required": ["a"]}, {"type": "array", "items": {"type": "text"}},
        {"type": "object", "properties": {"a": {"anyOf": []}}},
    ],
)  # fmt: skip
def test_a_keyword_that_is_not_checked_is_refused(schema: dict[str, Any]) -> None:
    """A schema that is half enforced would be worse than none."""
    with pytest.raises(ValueError, match=r"\$"):
        check_schema(schema)


@given(VALUES, st.data())
def test_every_beginning_of_a_json_object_is_called_cut(value: Any, data: st.DataObject) -> None:
    """A cut reply is told from one that was never JSON."""
    text = json.dumps({"a": value, "b": "ü"}, ensure_ascii=False)
    assert parse(text) == {"a": value, "b": "ü"}
    assert parse(f"```json\n{text}\n```\n") == {"a": value, "b": "ü"}
    at = data.draw(st.integers(1, len(text) - 1))
    with pytest.raises(NotJson) as raised:
        parse(text[:at])
    # A cut inside of a word such as `tru` cannot be told from a wrong word.
    assert raised.value.cut or text[:at].rstrip().endswith(tuple("tfnrualse-."))


@pytest.mark.parametrize("text", ["yes", "", "{'a': 1}", '{"a": NaN}', "[" * 100_000, '{"a": 1} and so on'])
def test_what_is_not_json(text: str) -> None:
    """Prose, Python, constants of no standard and bombs are missing replies, not crashes."""
    with pytest.raises(NotJson):
        parse(text)


def test_a_mismatch_does_not_quote_the_reply() -> None:
    """Replies may quote documents, which are never logged."""
    schema = {"type": "object", "properties": {"a": {"type": "string", "enum": ["x"]}}, "required": ["a"]}
    assert mismatch({"a": "secret words"}, schema) == "$.a should be one of x"
