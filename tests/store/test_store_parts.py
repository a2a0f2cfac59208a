"""A part is deterministic, says what it is, proves that it is whole, keeps every value, and is small."""

from __future__ import annotations

import io
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saeray.store import Plan, PlanSettings, parts
from saeray.store.parts import BrokenPart, PartInfo, check_part, documents_schema, fit, write_part

SCHEMA = documents_schema(Plan(0, PlanSettings(store_sum=True), (), ()))
LISTS = ("latents", "max", "count", "peak", "sum")


def about(rows: int, rejects: tuple = ()) -> PartInfo:
    return PartInfo(1, "toy", 3, "f" * 64, "a.jsonl", 0, rows + len(rejects), rows, rows, 5 * rows, rejects)


def table(rows: list[dict[int, tuple[float, int, int]]], **columns: list) -> pa.Table:
    """Documents whose latents are {latent: (max, count, peak)}."""
    made = {
        "doc_id": [f"a.jsonl:{i}" for i in range(len(rows))],
        "channel": ["text"] * len(rows),
        "text": [f"text\0 {i} é" for i in range(len(rows))],
        "n_tokens": [5] * len(rows),
        "n_windows": [1] * len(rows),
        "truncated": [False] * len(rows),
        "token_starts": [[0, 2, 4, 7, 9]] * len(rows),
        "latents": [sorted(row) for row in rows],
        "max": [[row[one][0] for one in sorted(row)] for row in rows],
        "count": [[row[one][1] for one in sorted(row)] for row in rows],
        "peak": [[row[one][2] for one in sorted(row)] for row in rows],
        "sum": [[row[one][0] * row[one][1] for one in sorted(row)] for row in rows],
        **columns,
    }
    wide = {"max": pa.list_(pa.float32()), "sum": pa.list_(pa.float32())}
    fields = [pa.field(field.name, wide.get(field.name, field.type)) for field in SCHEMA]
    return pa.Table.from_pydict(made, pa.schema(fields))


floats = st.floats(min_value=2.0**-40, max_value=2.0**100, width=32, allow_subnormal=False)
latents = st.dictionaries(
    st.integers(0, 2**31 - 1), st.tuples(floats, st.integers(1, 9), st.integers(0, 4)), max_size=20
)


@settings(max_examples=60, deadline=None)
@given(st.lists(latents, max_size=12))
def test_what_is_written_is_read(rows: list[dict[int, tuple[float, int, int]]]) -> None:
    """Ids and counts exactly, maxima as the nearest half within (0, 65504], sums within 2**-11."""
    fitted = fit(table(rows), SCHEMA)
    data = write_part(fitted, SCHEMA, about(len(rows)))
    back = pq.read_table(pa.BufferReader(data))
    assert back.schema.equals(SCHEMA, check_metadata=False)
    for column in ("doc_id", "text", "latents", "count", "peak", "token_starts"):
        assert back.column(column).to_pylist() == table(rows).column(column).to_pylist()
    for row, maxima, sums in zip(rows, back.column("max").to_pylist(), back.column("sum").to_pylist(), strict=True):
        for one, held, total in zip(sorted(row), maxima, sums, strict=True):
            value, count, _ = row[one]
            assert held > 0
            assert held == np.float16(held)
            if 2.0**-14 <= value <= 65504:
                assert abs(held - value) <= value * 2.0**-11
            elif value > 65504:
                assert held == 65504
            else:
                assert held == max(2.0**-24, round(value * 2**24) * 2.0**-24)
            wanted = np.float32(np.float64(value) * count)
            assert total == np.inf or abs(total - wanted) <= wanted * 2.0**-11


def test_the_same_rows_give_the_same_bytes_however_they_came() -> None:
    rng = np.random.default_rng(0)
    rows = [{int(i): (float(rng.random()) + 0.1, 1, 0) for i in rng.choice(999, 50, replace=False)} for _ in range(300)]
    whole = table(rows)
    pieces = pa.concat_tables([whole.slice(start, 37) for start in range(0, 300, 37)])
    first = write_part(fit(whole, SCHEMA), SCHEMA, about(300))
    again = write_part(fit(pieces.select(reversed(whole.column_names)), SCHEMA), SCHEMA, about(300))
    rounded = whole.set_column(8, "max", fit(whole, SCHEMA).column("max"))
    assert first == again == write_part(fit(rounded, SCHEMA), SCHEMA, about(300))


def test_a_part_says_what_it_is_and_carries_its_rejects() -> None:
    info = about(2, ((2, "a.jsonl:2", "line is not JSON"), (3, 'id "\0é', "why")))
    data = write_part(fit(table([{1: (1.0, 1, 0)}, {}]), SCHEMA), SCHEMA, info)
    assert check_part(data, "x") == info


def test_any_change_to_a_part_is_found() -> None:
    """Every byte before the footer, the footer's note, and every cut."""
    info = about(3, ((3, "a.jsonl:3", "why"),))
    data = write_part(fit(table([{1: (1.0, 1, 0), 5: (2.0, 1, 0)}] * 3), SCHEMA), SCHEMA, info)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    note = data.index(b'"reason"') if b'"reason"' in data else data.index(b"why")
    for at in [*range(footer), note]:
        spoilt = bytearray(data)
        spoilt[at] ^= 1
        with pytest.raises(BrokenPart, match=r"^part x"):
            check_part(bytes(spoilt), "part x")
    for stop in range(0, len(data), 7):
        with pytest.raises(BrokenPart):
            check_part(data[:stop], "part x")
    other = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), other)
    with pytest.raises(BrokenPart):
        check_part(other.getvalue(), "part x")


@pytest.mark.parametrize(
    "wrong",
    [
        {"latents": [[2, 1]]},
        {"latents": [[1, 1]]},
        {"latents": [[-1, 1]]},
        {"max": [[1.0]]},
        {"max": [[0.0, 1.0]]},
        {"max": [[float("nan"), 1.0]]},
        {"peak": [[1, 2, 3]]},
        {"count": [None]},
        {"doc_id": [None]},
    ],
)
def test_rows_that_no_encoder_makes_are_a_bug(wrong: dict) -> None:
    good = [{1: (1.0, 1, 0), 2: (1.0, 1, 0)}]
    fit(table(good), SCHEMA)
    with pytest.raises(ValueError):
        fit(table(good, **wrong), SCHEMA)


def test_row_groups_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_GROUP_LATENTS", 100)
    monkeypatch.setattr(parts, "MAX_GROUP_ROWS", 7)
    rows = [dict.fromkeys(range(i % 60), (1.0, 1, 0)) for i in range(100)]
    data = write_part(fit(table(rows), SCHEMA), SCHEMA, about(100))
    metadata = pq.read_metadata(pa.BufferReader(data))
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sum(groups) == 100
    assert max(groups) <= 7
    start = 0
    for count in groups:
        assert count == 1 or sum(i % 60 for i in range(start, start + count)) <= 100
        start += count
    assert check_part(data, "x").rows == 100
    assert pq.read_table(pa.BufferReader(data)).column("latents").to_pylist() == [sorted(row) for row in rows]


def test_pandas_polars_and_duckdb_open_it(tmp_path: Path) -> None:
    rows = [{7: (0.5, 2, 1), 300_000: (1.25, 1, 0)}, {}, {1: (32768.0, 3, 2), 2: (65504.0, 1, 0)}]
    path = tmp_path / "part-00000.parquet"
    path.write_bytes(write_part(fit(table(rows), SCHEMA), SCHEMA, about(3)))
    expected = {
        "latents": [[7, 300_000], [], [1, 2]],
        "max": [[0.5, 1.25], [], [32768.0, 65504.0]],
        "count": [[2, 1], [], [3, 1]],
        "peak": [[1, 0], [], [2, 0]],
        "sum": [[1.0, 1.25], [], [98304.0, 65504.0]],
    }
    frame = pd.read_parquet(path)
    polars = pl.read_parquet(path)
    relation = duckdb.sql(f"select * from '{path}'").to_arrow_table()
    for name, values in expected.items():
        assert [list(map(float, row)) for row in frame[name]] == [list(map(float, row)) for row in values]
        assert [list(map(float, row)) for row in polars[name].to_list()] == [list(map(float, row)) for row in values]
        assert relation.column(name).to_pylist() == values
    texts = ["text\0 0 é", "text\0 1 é", "text\0 2 é"]
    assert frame["text"].tolist() == polars["text"].to_list() == relation.column("text").to_pylist() == texts
    query = f"select sum(list_sum(\"max\")), max(n_tokens) from '{path}' where list_contains(latents, 7)"
    assert duckdb.sql(query).fetchall() == [(1.75, 5)]


@pytest.mark.parametrize(("active", "documents", "most"), [(1000, 300, 2.8), (3000, 150, 2.5)])
def test_latents_and_maxima_are_small(active: int, documents: int, most: float) -> None:
    """Heavy-tailed rows of 65,536 latents: Pareto frequencies, a scale a latent, exponential above a threshold."""
    rng, width = np.random.default_rng(1), 65_536
    weight = rng.pareto(1.0, width) + 0.02
    low, high = 0.0, 1e9
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 - np.exp(-weight * middle)).sum() < active else (low, middle)
    frequency, scale = 1 - np.exp(-weight * low), rng.lognormal(0, 0.5, width)
    ids = [np.flatnonzero(rng.random(width) < frequency) for _ in range(documents)]
    values = [(scale[one] * (0.3 + rng.exponential(size=len(one)))).astype(np.float32) for one in ids]
    total = sum(map(len, ids))
    made = table([{}] * documents)
    offsets = pa.array(np.cumsum([0, *map(len, ids)]).astype(np.int32))
    flat = {
        "latents": np.concatenate(ids).astype(np.int32),
        "max": np.concatenate(values),
        "count": rng.geometric(0.4, total).astype(np.int32),
        "peak": rng.integers(0, 500, total).astype(np.int32),
        "sum": np.concatenate(values),
    }
    for name in LISTS:
        lists = pa.ListArray.from_arrays(offsets, pa.array(flat[name]))
        made = made.set_column(made.column_names.index(name), name, lists)
    metadata = pq.read_metadata(pa.BufferReader(write_part(fit(made, SCHEMA), SCHEMA, about(documents))))
    size = dict.fromkeys(LISTS, 0)
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(index)
            name = chunk.path_in_schema.split(".")[0]
            if name in size:
                size[name] += chunk.total_compressed_size
    assert (size["latents"] + size["max"]) / total <= most
