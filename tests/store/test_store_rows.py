"""Hostile input rows become rejects with a reason, hostile files one clear line, and memory stays bounded."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saeray.errors import SaerayError, UsageError
from saeray.store import PlanSettings, ShardInput, cells, list_inputs, plan_inputs, read_shard, rows

GOOD = b'{"text": "fine"}'


def read_all(path: Path, **settings: object) -> tuple[list[dict], dict[int, str]]:
    """Documents and {row: reason} of every shard of `path`, checked to be all its rows."""
    plan, _ = plan_inputs(list_inputs([str(path)]), PlanSettings(**settings))  # type: ignore[arg-type]
    documents, rejects = [], {}
    for shard in plan.shards:
        content = ShardInput.from_bytes(read_shard(plan, shard).to_bytes())
        assert content.documents.num_rows + content.rejects.num_rows == shard.rows
        documents += content.documents.to_pylist()
        rejects.update({one["row"]: one["reason"] for one in content.rejects.to_pylist()})
        assert all(one["input"] == plan.input_of(shard).name for one in content.rejects.to_pylist())
    return documents, rejects


HOSTILE = {
    "not JSON": (b"{nope", "line is not JSON"),
    "a scalar": (b"3", "line is not a JSON object"),
    "not UTF-8": (b'{"text": "\xff\xfe"}', "line is not UTF-8"),
    "lone surrogate": (b'{"text": "a\\ud800b"}', "column text is not UTF-8"),
    "no such column": (b'{"other": "x"}', "no column text"),
    "null": (b'{"text": null}', "column text is null"),
    "empty": (b'{"text": ""}', "column text is empty"),
    "a number": (b'{"text": 5}', "column text is not a string"),
    "a list": (b'{"text": ["a"]}', "column text is not a string"),
    "nested too deep": (b'{"text": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "line is not JSON"),
    "a huge integer": (b'{"text": ' + b"9" * 10_000 + b"}", "line is not JSON"),
    "nul bytes": (b"\0\0\0", "line is not JSON"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_line_is_one_reject(tmp_path: Path, case: str) -> None:
    line, reason = HOSTILE[case]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([GOOD, line, GOOD]) + b"\n")
    documents, rejects = read_all(tmp_path / "a.jsonl")
    assert [one["doc_id"] for one in documents] == ["a.jsonl:0", "a.jsonl:2"]
    assert rejects == {1: reason}


def test_what_looks_odd_but_is_text_is_kept(tmp_path: Path) -> None:
    odd = [
        "a\0b",
        "\u2028line\u2029",
        "🎉" * 3,
        " ",
        "\ufeff",
        "=cmd()|'/c calc'!A0",
        "</script>",
        "../../etc/passwd",
        "x\r\ny",
    ]
    lines = [json.dumps({"text": text}, ensure_ascii=number % 2 == 0) for number, text in enumerate(odd)]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())  # BOM, CRLF, no final newline
    documents, rejects = read_all(tmp_path / "a.jsonl")
    assert [one["text"] for one in documents] == odd
    assert rejects == {}


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n \n" + GOOD + b"\n\n" + GOOD + b"\n\n")
    documents, rejects = read_all(tmp_path / "a.jsonl", shard_tokens=1)
    assert [one["row"] for one in documents] == [0, 1]
    assert rejects == {}


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst", "csv", "csv.gz", "parquet"])
def test_every_format_gives_the_same_documents(tmp_path: Path, suffix: str) -> None:
    texts = [f"text {i} " + "é" * (i % 50) for i in range(700)]
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"text": texts, "n": list(range(700))}), path, row_group_size=97)
    else:
        out = io.StringIO(newline="")
        if "csv" in suffix:
            csv.writer(out).writerows([["text", "n"], *zip(texts, range(700), strict=True)])
        else:
            out.write("".join(json.dumps({"text": text, "n": i}) + "\n" for i, text in enumerate(texts)))
        data = out.getvalue().encode()
        if suffix.endswith("gz"):
            data = gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])
        elif suffix.endswith("zst"):
            data = pa.compress(data, codec="zstd", asbytes=True)
        path.write_bytes(data)
    for tokens in (50, 100_000):
        documents, rejects = read_all(path, keep=("n",), shard_tokens=tokens)
        assert [one["text"] for one in documents] == texts
        assert [one["n"] for one in documents] == list(range(700))
        assert rejects == {}


def test_parquet_text_that_is_not_utf8_is_a_reject_of_its_row(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"\xff\xfe", None, b"", b"good"], pa.binary())
    table = pa.table({"text": pa.Array.from_buffers(pa.string(), 5, raw.buffers())})
    pq.write_table(table, tmp_path / "a.parquet")
    documents, rejects = read_all(tmp_path / "a.parquet")
    assert [one["text"] for one in documents] == ["fine", "good"]
    assert rejects == {1: "column text is not UTF-8", 2: "column text is null", 3: "column text is empty"}


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.binary()])
def test_parquet_text_of_any_string_type_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"text": pa.array(["one", "two"]).cast(kind)})
    pq.write_table(table, tmp_path / "a.parquet")
    assert [one["text"] for one in read_all(tmp_path / "a.parquet")[0]] == ["one", "two"]


def test_a_ragged_or_undecodable_csv_row_is_a_reject(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'id,text\n1,"two\nlines, ""quoted"""\n2\n3,a,b\n\n4,\xff\n5,\n6,nul\0char\n')
    documents, rejects = read_all(tmp_path / "a.csv")
    assert [(one["row"], one["text"]) for one in documents] == [(0, 'two\nlines, "quoted"'), (5, "nul\0char")]
    assert rejects == {
        1: "row has 1 fields where the header has 2",
        2: "row has 3 fields where the header has 2",
        3: "column text is not UTF-8",
        4: "column text is empty",
    }


def test_long_lines_are_read_up_to_a_limit_and_memory_stays_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With limits a sixteenth of the real ones: a text of 2 MB is a document; one beyond the limit of a cell is a
    reject, and so is a line that is longer than a line may be, of which only a piece is ever held."""
    monkeypatch.setattr(cells, "MAX_CELL_BYTES", 4 << 20)
    monkeypatch.setattr(rows, "MAX_LINE_BYTES", 8 << 20)
    with open(tmp_path / "a.jsonl", "wb") as file:
        file.write(GOOD + b"\n")
        file.write(b'{"text": "' + b"x" * (2 << 20) + b'"}\n')
        file.write(b'{"text": "' + b"y" * ((4 << 20) + 1) + b'"}\n')
        file.write(b"z" * (100 << 20) + b"\n")
        file.write(GOOD + b"\n")
    tracemalloc.start()
    documents, rejects = read_all(tmp_path / "a.jsonl")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(one["text"]) for one in documents] == [4, 2 << 20, 4]
    assert rejects == {2: "column text is longer than 64 MiB", 3: "line is longer than 128 MiB"}
    assert peak < 64 << 20


@pytest.mark.parametrize("suffix", ["jsonl.gz", "jsonl.zst", "csv.gz", "parquet"])
@pytest.mark.parametrize("damage", ["cut", "junk"])
def test_a_damaged_file_is_one_line_naming_it(tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"a.{suffix}"
    lines = b"text\n" + b"".join(b'{"text": "%d"}\n' % (i * 7919) for i in range(5000))
    if suffix == "parquet":
        pq.write_table(pa.table({"text": [str(i) for i in range(5000)]}), path)
    elif suffix.endswith("gz"):
        path.write_bytes(gzip.compress(lines))
    else:
        path.write_bytes(pa.compress(lines, codec="zstd", asbytes=True))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"this is no such file " * 50)
    with pytest.raises(SaerayError, match=rf"cannot read input a\.{suffix}") as caught:
        read_all(path)
    assert "\n" not in str(caught.value)


def test_parquet_pages_that_are_spoilt_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [str(i) * 50 for i in range(5000)]}), path, compression="zstd")
    data = bytearray(path.read_bytes())
    data[1000:3000] = bytes(2000)
    path.write_bytes(data)
    with pytest.raises(SaerayError, match=r"cannot read input a\.parquet"):
        read_all(path)


def _messages(value: object) -> bytes:
    return json.dumps({"chat": value}).encode()


CHATS = {
    "role with spaces": ([{"role": "a b", "content": "x"}], "the role is not"),
    "no role": ([{"content": "x"}], "the role is not"),
    "role is a path": ([{"role": "../x", "content": "x"}], "the role is not"),
    "content null": ([{"role": "user", "content": None}], "column content is null"),
    "content is parts": ([{"role": "user", "content": [{"type": "text"}]}], "column content is not a string"),
    "not messages": (["x"], "is not a {role, content}"),
    "not a list": ({"role": "user"}, "is not a list of messages"),
    "a string that is not JSON": ("hello", "not JSON"),
    "none": ([], "is empty"),
    "only empty ones": ([{"role": "user", "content": ""}], "is empty"),
    "null": (None, "is null"),
}


@pytest.mark.parametrize("case", CHATS)
def test_a_hostile_chat_is_one_reject(tmp_path: Path, case: str) -> None:
    good = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}]
    value, words = CHATS[case]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([_messages(good), _messages(value), _messages(json.dumps(good))]))
    documents, rejects = read_all(tmp_path / "a.jsonl", text_column=None, messages_column="chat")
    assert [one["messages"] for one in documents] == [good, good]
    assert list(rejects) == [1]
    assert words in rejects[1]


def test_chats_of_parquet(tmp_path: Path) -> None:
    good = [{"role": "user", "content": "hi", "name": "ignored"}, {"role": "tool_1", "content": "yo"}]
    pq.write_table(pa.table({"chat": [good, None, []]}), tmp_path / "a.parquet")
    documents, rejects = read_all(tmp_path / "a.parquet", text_column=None, messages_column="chat")
    assert documents[0]["messages"] == [{"role": "user", "content": "hi"}, {"role": "tool_1", "content": "yo"}]
    assert sorted(rejects) == [1, 2]


def test_a_column_of_the_wrong_type_is_refused_at_once(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"column text of a\.parquet is int64, not text"):
        read_all(tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="not messages"):
        read_all(tmp_path / "a.parquet", text_column=None, messages_column="text")
