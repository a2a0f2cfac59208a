"""Selectors pick exactly the rows their conditions say, by the column's own type, and name what is wrong."""

from __future__ import annotations

import datetime
import operator

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saeray.errors import UsageError
from saeray.store import Selector, parse
from saeray.store.selectors import OPERATORS, Condition

ROWS = [
    {"model": "A", "n": 5, "score": 0.5, "good": True, "tags": ["x", "y"], "day": datetime.date(2026, 1, 1)},
    {"model": "B", "n": 10, "score": 2.0, "good": False, "tags": [], "day": datetime.date(2026, 1, 2)},
    {"model": "A,B|C", "n": 15, "score": None, "good": None, "tags": None, "day": None},
    {"model": None, "n": -3, "score": -1.0, "good": True, "tags": ["y", None], "day": datetime.date(2025, 1, 1)},
    {"model": "Ab", "n": None, "score": 1e9, "good": False, "tags": ["a\"b"], "day": datetime.date(2026, 1, 1)},
]  # fmt: skip
TABLE = pa.Table.from_pylist(
    ROWS,
    pa.schema(
        {"model": pa.string(), "n": pa.int32(), "score": pa.float64(), "good": pa.bool_(), "day": pa.date32(),
         "tags": pa.list_(pa.string())}
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ("model=A", [0]),
        ("model=A|B", [0, 1]),
        ("model!=A", [1, 2, 3, 4]),
        ("model!=A|B", [2, 3, 4]),
        ("model^=A", [0, 2, 4]),
        ("model^=A|B", [0, 1, 2, 4]),
        ('model="A,B|C"', [2]),
        ("n>=10", [1, 2]),
        ("n<=5", [0, 3]),
        ("n=5|-3", [0, 3]),
        ("n>=5,n<=10", [0, 1]),
        ("score>=0.5,model=A|Ab", [0, 4]),
        ("good=true", [0, 3]),
        ("good!=true", [1, 2, 4]),
        ("tags*=y", [0, 3]),
        ("tags*=x|y", [0, 3]),
        ('tags*="a\\"b"', [4]),
        ("day=2026-01-01", [0, 4]),
        ("day>=2026-01-01", [0, 1, 4]),
        ("model = A , n >= 1", [0]),
        ("model>=B", [1]),
        ('model=""', []),
    ],
)
def test_conditions_pick_rows(conditions: str, expected: list[int]) -> None:
    selector = parse(f"data:{conditions}")
    selector.check(TABLE.schema)
    chosen = [row for row, is_in in enumerate(selector.mask(TABLE).to_pylist()) if is_in]
    assert chosen == expected
    assert selector.rest().mask(TABLE).to_pylist() == [row not in expected for row in range(len(ROWS))]
    chunked = pa.concat_tables([TABLE.slice(0, 2), TABLE.slice(2, 0), TABLE.slice(2)])
    assert selector.mask(chunked).equals(selector.mask(TABLE))


def test_no_condition_is_every_row() -> None:
    assert parse("data") == Selector("data")
    assert parse("data").mask(TABLE).to_pylist() == [True] * 5
    assert parse("data").rest().mask(TABLE).to_pylist() == [False] * 5
    assert parse("data:tags*=x").mask(TABLE.slice(0, 0)).to_pylist() == []


values = st.text(st.characters(codec="utf-8"), max_size=12)
names = values.filter(lambda name: name.strip() != "")
conditions = st.builds(
    Condition, names, st.sampled_from(OPERATORS), st.lists(values, min_size=1, max_size=3).map(tuple)
)


@given(st.lists(conditions, max_size=4).map(tuple))
def test_a_selector_survives_its_text(several: tuple[Condition, ...]) -> None:
    selector = Selector("data-1.x_y", several)
    assert parse(str(selector)) == selector


@given(
    st.lists(st.one_of(st.none(), st.integers(-5, 5)), max_size=30),
    st.sampled_from(["<=", ">=", "=", "!="]),
    st.integers(-5, 5),
)
def test_numbers_compare_as_numbers(column: list, sign: str, value: int) -> None:
    compare = {"<=": operator.le, ">=": operator.ge, "=": operator.eq, "!=": operator.ne}[sign]
    table = pa.table({"n": pa.array(column, pa.int16())})
    expected = [sign == "!=" if one is None else compare(one, value) for one in column]
    assert parse(f"d:n{sign}{value}").mask(table).to_pylist() == expected


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", "a..b", ".x", "a b", "x" * 101, "a\0", "é", "s3//b", "-x"])
def test_a_dataset_name_holds_no_path(name: str) -> None:
    with pytest.raises(UsageError, match="not a dataset name"):
        parse(f"{name}:a=b")


@pytest.mark.parametrize(
    "text",
    ["d:", "d:,", "d:model", "d:model=", "d:=x", "d:model=A,", "d:model=A||B", 'd:model="A', "d:model<5", "d:model==A",
     'd:model="A"B', "d:model=|A", 'd:"model', "d:model>5", "d: =x", "d:model=A;n=5,,"],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text).check(TABLE.schema)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("d:nope=1", "no such column nope in dataset d; it has: model, n, score, good, day, tags"),
        ("d:n=abc", "column n is int32"),
        ("d:n>=99999999999", "column n is int32"),
        ("d:n^=1", "only text starts with"),
        ("d:tags=x", r"compare it by \*="),
        ("d:model*=x", "compare it by ="),
        ("d:n>=1|2", "with one value"),
        ("d:good>=true", "with one value"),
        ("d:good=maybe", "column good is bool"),
        ("d:day=yesterday", "column day is date32"),
    ],
)
def test_a_comparison_the_column_does_not_have_is_named(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(text).check(TABLE.schema)
