"""Promise: a tasks file is read whole or refused in one line that names the entry and what is wrong with it."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saeray.errors import UsageError
from saeray.evaluate.tasks import Condition, read_tasks

TABLE = pa.table(
    {
        "n": pa.array([1, 2, None, 4], pa.int32()),
        "f": [0.5, 1.0, 1.5, None],
        "s": ["Humour, dry", "Horror", None, "Humour"],
        "b": [True, False, None, True],
        "l": [["Action", "War"], ["War"], None, []],
    }
)


@pytest.mark.parametrize(
    ("column", "operator", "value", "met"),
    [
        ("n", "==", 2, [0, 1, 0, 0]),
        ("n", ">=", 2, [0, 1, 0, 1]),
        ("n", "<=", 2, [1, 1, 0, 0]),
        ("f", ">=", 1, [0, 1, 1, 0]),
        ("s", "in", ["Horror", "Humour"], [0, 1, 0, 1]),
        ("s", "startswith", "Humour", [1, 0, 0, 1]),
        ("b", "==", True, [1, 0, 0, 1]),
        ("b", "==", False, [0, 1, 0, 0]),
        ("l", "has", "War", [1, 1, 0, 0]),
        ("l", "has", "Western", [0, 0, 0, 0]),
    ],
)
def test_every_operator_means_what_it_says(column, operator, value, met):
    """A label is what the tasks file says of the row; a null is never relevant, in chunks or whole."""
    chunked = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)])
    for table in (TABLE, chunked):
        np.testing.assert_array_equal(Condition(column, operator, value).mask(table), np.array(met, bool))


@pytest.mark.parametrize(
    ("column", "operator", "value"), [("n", "==", "two"), ("s", "has", "x"), ("n", "startswith", "x"), ("z", "==", 1)]
)
def test_a_comparison_the_column_does_not_have_is_refused_by_name(column, operator, value):
    """The person sees which column it is, never a traceback of Arrow's."""
    with pytest.raises(UsageError, match=f"column '{column}'") as raised:
        Condition(column, operator, value).mask(TABLE)
    assert "\n" not in str(raised.value)


WHOLE = {
    "retrieval": [{"file": "a.parquet", "text_column": "t", "query": "q", "relevant_when": ["x", "==", 1]}],
    "diff": [
        {"name": "d", "file": "a.parquet", "text_column": "t", "A": ["x", "==", 1], "B": "all other rows",
         "pair_by": None, "known_difference": "k"}
    ],
    "clustering": [{"file": "a.parquet", "text_column": "t", "axes": {"x": 2}}],
    "correlation": [
        {"file": "a.parquet", "text_column": "t", "x": ["x", "==", 1], "y": ["y", ">=", 1], "npmi": 0.2}
    ],
}  # fmt: skip


def test_all_four_kinds_are_read(tmp_path):
    """Later members of the command find their tasks here too."""
    (tmp_path / "t.json").write_text(json.dumps(WHOLE))
    tasks = read_tasks(str(tmp_path / "t.json"))
    assert tasks.retrieval[0].relevant_when == Condition("x", "==", 1)
    assert tasks.retrieval[0].kind == "other"
    assert (tasks.diff[0].b, tasks.diff[0].pair_by) == (None, None)
    assert tasks.clustering[0].axes == {"x": 2}
    assert tasks.correlation[0].observed == {"npmi": 0.2}


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("retrieval", {"query": None}, r"retrieval\[0\]: query"),
        ("retrieval", {"query": ""}, r"retrieval\[0\]: query"),
        ("retrieval", {"relevant_when": ["x", "=", 1]}, r"retrieval\[0\]: relevant_when .*startswith"),
        ("retrieval", {"relevant_when": ["x", "in", 1]}, "only `in` takes a list"),
        ("retrieval", {"relevant_when": ["x", "==", None]}, "takes null"),
        ("retrieval", {"n_relevant": "7"}, "n_relevant must be int"),
        ("diff", {"B": 3}, r"diff\[0\]: B"),
        ("clustering", {"axes": {"x": 1}}, "groups above 1"),
        ("correlation", {"npmi": "high"}, "npmi must be float"),
    ],
)
def test_what_is_wrong_with_an_entry_is_named(tmp_path, kind, change, message):
    """One clear line with the entry's place in the file."""
    (tmp_path / "t.json").write_text(json.dumps(WHOLE | {kind: [WHOLE[kind][0] | change]}))
    with pytest.raises(UsageError, match=message) as raised:
        read_tasks(str(tmp_path / "t.json"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"retrieval": {}}', '{"retrieval": [3]}'])
def test_what_is_no_tasks_file_is_refused(tmp_path, content):
    """JSON of another form is a wrong argument, not a crash."""
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(UsageError, match=r"t\.json"):
        read_tasks(str(tmp_path / "t.json"))


def test_files_are_relative_to_the_tasks_file(tmp_path, monkeypatch):
    """A tasks file can be moved with its sets, and named from anywhere."""
    (tmp_path / "t.json").write_text(json.dumps(WHOLE))
    pq.write_table(pa.table({"t": ["x"]}), tmp_path / "a.parquet")
    for name in (str(tmp_path / "t.json"), "t.json"):
        monkeypatch.chdir(tmp_path)
        assert read_tasks(name).table("a.parquet").num_rows == 1
    with pytest.raises(UsageError, match=r"b\.parquet, which is not beside it"):
        read_tasks(str(tmp_path / "t.json")).table("b.parquet")
    (tmp_path / "c.parquet").write_bytes(b"no")
    with pytest.raises(UsageError, match="as Parquet"):
        read_tasks(str(tmp_path / "t.json")).table("c.parquet")
    with pytest.raises(UsageError, match="no tasks file"):
        read_tasks(str(tmp_path / "other.json"))
