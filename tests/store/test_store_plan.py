"""Plans fix shards once: they tile every input, survive a JSON round trip, and refuse what has changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_encoder import encode_missing, new_dataset, processes, write_inputs

from saeray.errors import SaerayError, UsageError
from saeray.store import Plan, PlanSettings, Store, list_inputs, plan_inputs, read_shard
from saeray.store.cells import parse_type, type_name
from saeray.store.infer import TypeGuess, join_types


def _lines(path: Path, rows: list[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.text(max_size=60), min_size=1, max_size=60),
    tokens=st.integers(1, 60),
)
def test_shards_tile_the_rows_and_keep_to_their_size(tmp_path_factory, texts: list[str], tokens: int) -> None:
    path = _lines(tmp_path_factory.mktemp("p") / "a.jsonl", [{"text": text} for text in texts])
    plan, _ = plan_inputs(list_inputs([str(path)]), PlanSettings(shard_tokens=tokens))
    assert [shard.start for shard in plan.shards] == [0, *(shard.stop for shard in plan.shards)][:-1]
    assert plan.shards[-1].stop == len(texts)
    estimates = [max(1, -(-len(text.encode("utf-8", "surrogatepass")) // 4)) for text in texts]
    for shard in plan.shards:
        assert shard.rows == 1 or sum(estimates[shard.start : shard.stop]) <= tokens
        content = read_shard(plan, shard)
        assert content.documents.column("text").to_pylist() == [
            text for text in texts[shard.start : shard.stop] if text
        ]
    assert Plan.from_json(plan.to_json()) == plan
    assert Plan.from_json(plan.to_json()).to_json() == plan.to_json()


def test_shard_numbers_and_ids_go_on_over_plans(tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    _lines(inputs / "a.jsonl", [{"id": i, "text": "x" * 40} for i in range(10)])
    dataset = new_dataset(str(tmp_path / "s"), inputs, keep=(), id_column="id", shard_tokens=30)
    _lines(inputs / "b.jsonl", [{"id": str(i), "text": "y" * 40} for i in (9, 10, 11, 10)])
    second = dataset.add_plan(list_inputs([str(inputs)]), PlanSettings(id_column="id", shard_tokens=10_000))
    assert second is not None
    assert [one.name for one in second.inputs] == ["b.jsonl"]
    assert [shard.shard for shard in dataset.shards()] == list(range(len(dataset.shards())))
    assert [row for shard in second.shards for row in shard.duplicate_rows] == [0, 3]
    encode_missing(dataset)
    assert {(one["doc_id"], one["reason"]) for one in dataset.rejects().to_pylist()} == {
        ("9", "an earlier row has this id"),
        ("10", "an earlier row has this id"),
    }
    assert dataset.count() == 12
    assert dataset.verify().ok
    assert dataset.add_plan(list_inputs([str(inputs)]), PlanSettings(id_column="id")) is None


BAD_IDS = [None, "", "x" * 1025, [1], 1.5, True, "\ud800"]


def test_a_bad_id_is_a_reject_and_no_duplicate_of_another(tmp_path: Path) -> None:
    rows = [{"id": bad, "text": "t"} for bad in [*BAD_IDS, *BAD_IDS]]
    path = _lines(tmp_path / "a.jsonl", [*rows, {"text": "t"}, {"id": 7, "text": "t"}, {"id": "x" * 1024, "text": "t"}])
    plan, hashes = plan_inputs(list_inputs([str(path)]), PlanSettings(id_column="id"))
    content = read_shard(plan, plan.shards[0])
    assert content.documents.column("doc_id").to_pylist() == ["7", "x" * 1024]
    assert content.rejects.num_rows == 2 * len(BAD_IDS) + 1
    assert plan.shards[0].duplicate_rows == ()
    assert all("id" in one["reason"] and "\n" not in one["reason"] for one in content.rejects.to_pylist())
    assert len(hashes) == 2


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_no_such_column_says_what_there_is(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "jsonl":
        _lines(path, [{"a": "1", "b": "2"}])
    elif suffix == "csv":
        path.write_text("a,b\n1,2\n")
    else:
        pq.write_table(pa.table({"a": ["1"], "b": ["2"]}), path)
    for wrong in (
        {"text_column": "nope"},
        {"text_column": "a", "keep": ("nope",)},
        {"text_column": "a", "id_column": "nope"},
        {"text_column": None, "messages_column": "nope"},
    ):
        with pytest.raises(UsageError, match=rf"no such column nope in a\.{suffix}; it has: a, b$"):
            plan_inputs(list_inputs([str(path)]), PlanSettings(**wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "hold no rows"), (b"\n\n", "hold no rows"), (b'["a",\n"b"]\n', "no line of a.jsonl is a JSON object")],
)
def test_a_file_with_nothing_to_encode_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(UsageError, match=words):
        plan_inputs(list_inputs([str(tmp_path / "a.jsonl")]), PlanSettings())


@pytest.mark.parametrize(
    "wrong",
    [
        {"text_column": None},
        {"messages_column": "m"},
        {"keep": ("latents",)},
        {"keep": ("a", "a")},
        {"keep": ("",)},
        {"shard_tokens": 0},
        {"text_column": "\udcff"},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        PlanSettings(**wrong)


def test_a_changed_input_is_refused_by_name_and_the_store_stays(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "in")
    dataset = new_dataset(str(tmp_path / "s"), inputs)
    before = sorted(str(path) for path in (tmp_path / "s").rglob("*"))
    status = os.stat(inputs / "a.jsonl")
    for change in ("touched", "longer"):
        if change == "touched":
            os.utime(inputs / "a.jsonl", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        else:
            (inputs / "a.jsonl").write_text((inputs / "a.jsonl").read_text() + '{"text": "more"}\n')
        with pytest.raises(SaerayError, match=r"input a\.jsonl changed after it was planned"):
            dataset.add_plan(list_inputs([str(inputs)]), PlanSettings(keep=("model",)))
        with pytest.raises(SaerayError, match=r"input a\.jsonl changed after it was planned"):
            read_shard(dataset.plans()[0], dataset.shards()[0])
    assert sorted(str(path) for path in (tmp_path / "s").rglob("*")) == before
    (inputs / "a.jsonl").unlink()
    with pytest.raises(SaerayError, match=r"input a\.jsonl is gone"):
        read_shard(dataset.plans()[0], dataset.shards()[0])


def test_other_settings_are_refused_but_another_shard_size_is_not(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "in")
    dataset = new_dataset(str(tmp_path / "s"), inputs)
    write_inputs(inputs, name="b.jsonl")
    found = list_inputs([str(inputs)])
    for other in ({}, {"keep": ("model",), "store_text": False}, {"keep": ("model",), "id_column": "model"}):
        with pytest.raises(UsageError, match="the dataset was begun with"):
            dataset.add_plan(found, PlanSettings(**other))  # type: ignore[arg-type]
    assert dataset.add_plan(found, PlanSettings(keep=("model",), shard_tokens=9999)) is not None


def test_a_moved_input_is_read_where_it_lies_now(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "in")
    dataset = new_dataset(str(tmp_path / "s"), inputs)
    (inputs / "a.jsonl").rename(tmp_path / "elsewhere.jsonl")
    content = read_shard(dataset.plans()[0], dataset.shards()[0], str(tmp_path / "elsewhere.jsonl"))
    assert content.documents.column("doc_id")[0].as_py() == "a.jsonl:0"


def _plan(uri: str, pattern: str, barrier) -> None:
    dataset = Store.open(uri).dataset("toy", create=True)
    inputs = list_inputs([pattern])
    barrier.wait()
    dataset.add_plan(inputs, PlanSettings(keep=("model",), shard_tokens=200))


def test_racing_planners_plan_every_input_once(tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    for number in range(4):
        write_inputs(inputs, 30, name=f"{number}.jsonl")
    store = Store.open(str(tmp_path / "s"), create=True)
    store.claim_encoder({"a": 1})
    context = processes()
    patterns = [str(inputs / "[01].jsonl"), str(inputs / "[12].jsonl"), str(inputs / "[23].jsonl"), str(inputs)]
    barrier = context.Barrier(len(patterns))
    workers = [context.Process(target=_plan, args=(store.uri, pattern, barrier)) for pattern in patterns]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    dataset = store.dataset("toy")
    assert sorted(one.name for plan in dataset.plans() for one in plan.inputs) == [f"{i}.jsonl" for i in range(4)]
    assert [shard.shard for shard in dataset.shards()] == list(range(len(dataset.shards())))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None, 2], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([True, False], pa.bool_()),
        (["a", None], pa.string()),
        ([None, None], pa.string()),
        ([["a"], [], None], pa.list_(pa.string())),
        ([[1], [2]], pa.list_(pa.int64())),
        ([1, "a"], pa.string()),
        ([True, 1], pa.string()),
        ([{"a": 1}], pa.string()),
        ([2**70], pa.string()),
        ([2**60, 0.5], pa.string()),
        ([["a"], "b"], pa.string()),
    ],
)
def test_kept_columns_of_jsonl_get_a_type_that_loses_nothing(tmp_path: Path, values: list, kind: pa.DataType) -> None:
    path = _lines(tmp_path / "a.jsonl", [{"text": "t", "v": value} for value in values])
    plan, _ = plan_inputs(list_inputs([str(path)]), PlanSettings(keep=("v",)))
    assert plan.keep_types["v"] == kind
    kept = read_shard(plan, plan.shards[0]).documents.column("v").to_pylist()
    if pa.types.is_string(kind):
        for value, original in zip(kept, values, strict=True):
            assert value == original if original is None or isinstance(original, str) else json.loads(value) == original
    else:
        assert kept == values


def test_kept_columns_of_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,n,f,b,zip,s\nt,1,0.5,true,01234,x\nt,,3,False,99,\n")
    keep = ("n", "f", "b", "zip", "s")
    plan, _ = plan_inputs(list_inputs([str(tmp_path / "a.csv")]), PlanSettings(keep=keep))
    assert [type_name(plan.keep_types[name]) for name in keep] == ["int64", "double", "bool", "string", "string"]
    rows = read_shard(plan, plan.shards[0]).documents.select(keep).to_pylist()
    assert rows == [
        {"n": 1, "f": 0.5, "b": True, "zip": "01234", "s": "x"},
        {"n": None, "f": 3.0, "b": False, "zip": "99", "s": ""},
    ]


def test_a_later_value_that_does_not_fit_its_recorded_type_is_a_reject(tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    _lines(inputs / "a.jsonl", [{"text": "t", "v": 1}])
    dataset = new_dataset(str(tmp_path / "s"), inputs, keep=("v",))
    values = [2, None, "3", "x", 1.5, True, 2**70, [1]]
    _lines(inputs / "b.jsonl", [{"text": "t", "v": value} for value in values])
    dataset.add_plan(list_inputs([str(inputs)]), PlanSettings(keep=("v",)))
    encode_missing(dataset)
    assert [value for table in dataset.scan(None, ["v"]) for value in table.column("v").to_pylist()] == [1, 2, None, 3]
    assert {one["row"]: one["reason"] for one in dataset.rejects().to_pylist()} == dict.fromkeys(
        range(3, 8), "column v is not int64"
    )


def test_kept_columns_of_parquet_keep_their_types(tmp_path: Path) -> None:
    kinds = {
        "i": pa.int8(), "u": pa.uint64(), "f": pa.float32(), "d": pa.date32(), "t": pa.timestamp("us", tz="UTC"),
        "c": pa.decimal128(10, 2), "l": pa.list_(pa.int32()),
    }  # fmt: skip
    values = {"i": [-5], "u": [2**63], "f": [0.1], "d": [0], "t": [1], "c": ["1.25"], "l": [[1, 2]]}
    loose = {"d": pa.int32(), "t": pa.int64(), "c": pa.string()}
    columns = {name: pa.array(values[name], loose.get(name, kind)).cast(kind) for name, kind in kinds.items()}
    table = pa.table({"text": ["t"], **columns, "category": pa.array(["x"]).dictionary_encode(), "s": [{"a": 1}]})
    pq.write_table(table, tmp_path / "a.parquet")
    plan, _ = plan_inputs(list_inputs([str(tmp_path / "a.parquet")]), PlanSettings(keep=(*kinds, "category", "s")))
    assert plan.keep_types == {**kinds, "category": pa.string(), "s": pa.string()}
    assert Plan.from_json(plan.to_json()).keep_types == plan.keep_types
    documents = read_shard(plan, plan.shards[0]).documents
    assert documents.select(list(kinds)).to_pylist() == table.select(list(kinds)).to_pylist()
    assert documents.column("s").to_pylist() == ['{"a": 1}']


scalars = st.sampled_from(
    [pa.bool_(), pa.int8(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(), pa.string(), pa.date32(),
     pa.timestamp("ns"), pa.timestamp("ms", tz="Europe/Berlin"), pa.decimal128(38, 9)]
)  # fmt: skip
kinds = st.one_of(scalars, scalars.map(pa.list_), scalars.map(pa.list_).map(pa.list_))


@given(kinds)
def test_types_survive_their_names(kind: pa.DataType) -> None:
    assert parse_type(type_name(kind)) == kind


@given(st.lists(kinds, min_size=1, max_size=4), st.randoms())
def test_joining_types_does_not_depend_on_the_order_of_two(several: list[pa.DataType], random) -> None:
    one, other = several[0], several[-1]
    assert join_types(one, other) == join_types(other, one)
    assert join_types(one, None) == one


@given(st.lists(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text()))))
def test_a_guess_does_not_depend_on_the_order_of_values(values: list) -> None:
    forward, backward = TypeGuess(), TypeGuess()
    for value in values:
        forward.see_json(value)
    for value in reversed(values):
        backward.see_json(value)
    assert forward.type() == backward.type()


def test_a_spoilt_plan_is_one_line(tmp_path: Path) -> None:
    dataset = new_dataset(str(tmp_path / "s"), write_inputs(tmp_path / "in"))
    plan = tmp_path / "s/datasets/toy/plans/00000.json"
    for content in (b"", b"{}", b'{"version": 99}', b"[]", plan.read_bytes()[:100]):
        plan.write_bytes(content)
        with pytest.raises(SaerayError, match=r"plans/00000\.json"):
            dataset.store.dataset("toy").plans()
