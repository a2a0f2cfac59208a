"""Labels from elsewhere: every layout reads to the same labels, what is broken or another SAE's is one line, and what
is written in Neuronpedia's layout reads back equal."""

from __future__ import annotations

import csv
import gzip
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from saeray.errors import SaerayError, UsageError
from saeray.labels import LabelStore, export_labels, import_labels
from saeray.labels.formats import detect_format
from saeray.labels.formats.delphi import balanced_accuracy
from saeray.store import Store

Stores = Callable[..., Store]
TEXTS = {
    0: "the word “sorry”",
    5: "line, with comma",
    17: 'a "quoted" <b>tag</b>',
    65_535: "日本語のテキスト",
    9: "007",
}

EMBEDDING = json.dumps({"embedding": [0.5] * 256})[1:]


def write_json(here: Path, texts: dict[int, str] = TEXTS) -> Path:
    """Goodfire's: one object."""
    path = here / "Llama-3.3-70B-Instruct.json"
    path.write_text(json.dumps({str(latent): text for latent, text in texts.items()}))
    return path


def write_neuronpedia(here: Path, texts: dict[int, str] = TEXTS, batch: int = 2, **fields: Any) -> Path:
    """An export's directory, batches of uneven number, descriptions with a space before."""
    (here / "np" / "explanations").mkdir(parents=True, exist_ok=True)
    (here / "np" / "model.jsonl").write_text("{}\n")
    items = list(texts.items())
    for number, start in enumerate(range(0, len(items), batch)):
        lines = [
            {
                "id": f"c{latent}",
                "modelId": "llama3.3-70b-it",
                "layer": "50-resid-post-gf",
                "index": str(latent),
                "description": f" {text}",
                "typeName": "np_acts-logits-general",
                "explanationModelName": "gemini-2.5-flash-lite",
                "authorId": "someone",
                "notes": None,
                "createdAt": "2025-07-12T10:11:12.345Z",
            }
            | fields
            for latent, text in items[start : start + batch]
        ]
        data = "".join(f"{json.dumps(line)[:-1]}, {EMBEDDING}\n" for line in lines).encode()
        (here / "np" / "explanations" / f"batch-{number}.jsonl.gz").write_bytes(gzip.compress(data, 1))
    return here / "np"


def write_delphi(here: Path, texts: dict[int, str] = TEXTS, hookpoint: str = "layers.19") -> Path:
    """delphi's results: a JSON string a file."""
    (here / "run" / "explanations").mkdir(parents=True, exist_ok=True)
    for latent, text in texts.items():
        (here / "run" / "explanations" / f"{hookpoint}_latent{latent}.txt").write_text(json.dumps(text))
    return here / "run"


def write_csv(here: Path, texts: dict[int, str] = TEXTS) -> Path:
    """A table with people's own column names."""
    path = here / "My labels.CSV"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["note", "Feature_ID", "Explanation"], *(["x", i, text] for i, text in texts.items())]
        )
    return path


def write_parquet(here: Path, texts: dict[int, str] = TEXTS) -> Path:
    """A pandas frame."""
    path = here / "labels.parquet"
    pd.DataFrame({"index": list(texts), "label": list(texts.values())}).to_parquet(path)
    return path


LAYOUTS = {
    "index_json": write_json,
    "neuronpedia": write_neuronpedia,
    "delphi": write_delphi,
    "csv": write_csv,
    "parquet": write_parquet,
}
SOURCES = {"index_json": "llama-3.3-70b-instruct", "csv": "my-labels", "parquet": "labels"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_reads_to_the_same_labels(tmp_path: Path, store_for: Stores, layout: str) -> None:
    """The layout is found from the files, each text belongs to its latent, and figures count what was read."""
    path = LAYOUTS[layout](tmp_path)
    store = store_for()
    found = import_labels(store, str(path), date="2026-11-01")
    name = "table" if layout in ("csv", "parquet") else layout
    source = SOURCES.get(layout, layout)
    assert found == {"format": name, "sources": [source], "labels": 5, "latents": 5, "skipped": 0}
    assert detect_format(str(path)) == name
    assert LabelStore.of(store).best() == dict(sorted(TEXTS.items()))
    days = set(LabelStore.of(store).table(source).column("date").to_pylist())
    assert days == {"2025-07-12" if layout == "neuronpedia" else "2026-11-01"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_labels_of_another_sae_are_refused_with_their_count(tmp_path: Path, store_for: Stores, layout: str) -> None:
    """A file for a wider SAE would name wrong latents: one line with the count, and the store is as it was."""
    path = LAYOUTS[layout](tmp_path, {1: "fits", 65_536: "one above", 70_001: "more"})
    store = store_for()
    with pytest.raises(SaerayError) as error:
        import_labels(store, str(path))
    name = {"neuronpedia": "explanations", "delphi": "explanations"}.get(layout, path.name)
    assert str(error.value) == (
        f"{name} names 2 latents of 65,536 or above (highest 70,001); this store's encoder has 65,536: "
        "it is for another SAE"
    )
    assert LabelStore.of(store).sources() == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_texts_without_content_are_skipped_and_counted(tmp_path: Path, store_for: Stores, layout: str) -> None:
    """Unlabelled latents have empty texts in many files; they are not labels."""
    path = LAYOUTS[layout](tmp_path, {1: "one", 2: "", 3: "  ", 4: "\u200b"})
    found = import_labels(store_for(), str(path), source="Mine")
    assert (found["sources"], found["labels"], found["latents"], found["skipped"]) == (["mine"], 1, 1, 3)
    path = LAYOUTS[layout](tmp_path, {1: "", 2: "", 3: "", 4: ""})
    with pytest.raises(SaerayError, match=r"holds no labels \(4 rows, all without text\)"):
        import_labels(store_for(), str(path), source="mine")


@pytest.mark.parametrize("layout", ["index_json", "neuronpedia", "parquet", "csv"])
def test_sixty_thousand_labels_take_seconds(tmp_path: Path, store_for: Stores, layout: str) -> None:
    """A published SAE's labels are read at once, each to its latent: under 10 s of one core, embeddings and all."""
    texts = {latent: f"label of {latent * 7919 % 65_536}: “text” number {latent}" for latent in range(60_000)}
    path = LAYOUTS[layout](tmp_path, texts, *([128] if layout == "neuronpedia" else []))
    store = store_for()
    began = time.process_time()
    found = import_labels(store, str(path))
    took = time.process_time() - began
    assert found["labels"] == found["latents"] == 60_000
    assert LabelStore.of(store).best() == texts
    assert took < 10


def test_neuronpedia_provenance_is_kept(tmp_path: Path, store_for: Stores) -> None:
    """Explainer, type and day differ within one family of SAEs, so each label keeps its own; several explanations of
    one latent all stay; the explainer asked for fills gaps only."""
    path = write_neuronpedia(tmp_path, {3: "a", 4: "b", 5: "c"})
    extra = {"modelId": "llama3.3-70b-it", "layer": "50-resid-post-gf", "index": "3", "description": "other"}
    (path / "explanations" / "batch-77.jsonl.gz").write_bytes(gzip.compress(json.dumps(extra).encode()))
    store = store_for()
    assert import_labels(store, str(path), model="unknown")["labels"] == 4
    rows = LabelStore.of(store).table("neuronpedia").to_pylist()
    assert [(row["latent"], row["text"]) for row in rows] == [(3, "a"), (3, "other"), (4, "b"), (5, "c")]
    assert rows[0]["model"] == "gemini-2.5-flash-lite"
    assert json.loads(rows[0]["evidence"]) == {"type": "np_acts-logits-general"}
    assert (rows[1]["model"], rows[1]["evidence"], rows[1]["date"]) == ("unknown", None, None)
    assert {row["score"] for row in rows} == {None}


@pytest.mark.parametrize("where", ["np/explanations", "np/explanations/batch-0.jsonl.gz"])
def test_neuronpedia_inner_paths_and_numbers_for_indices(tmp_path: Path, store_for: Stores, where: str) -> None:
    """The inner directory or one batch does too, and so do indices written as numbers."""
    write_neuronpedia(tmp_path, {3: "a"}, index=3)
    store = store_for()
    assert import_labels(store, str(tmp_path / where))["format"] == "neuronpedia"
    assert LabelStore.of(store).best() == {3: "a"}


def test_several_saes_in_one_directory_are_refused(tmp_path: Path, store_for: Stores) -> None:
    """Latent 5 of one layer is not latent 5 of the next: the SAEs are named, and a hookpoint can be picked."""
    path = write_delphi(tmp_path, {5: "of nineteen"})
    write_delphi(tmp_path, {5: "of twenty", 6: "too"}, hookpoint="layers.20")
    store = store_for()
    with pytest.raises(UsageError, match=r"holds the labels of 2 SAEs \(layers\.19, layers\.20\): name those of one"):
        import_labels(store, str(path))
    assert import_labels(store, str(path / "explanations" / "layers.20"))["labels"] == 2
    assert LabelStore.of(store).best() == {5: "of twenty", 6: "too"}

    write_neuronpedia(tmp_path, {1: "a"})
    other = {"modelId": "llama3.3-70b-it", "layer": "49", "index": "1", "description": "b"}
    (tmp_path / "np" / "explanations" / "batch-1.jsonl.gz").write_bytes(gzip.compress(json.dumps(other).encode()))
    with pytest.raises(UsageError, match=r"2 SAEs \(llama3\.3-70b-it/49, llama3\.3-70b-it/50-resid-post-gf\)"):
        import_labels(store, str(tmp_path / "np"))


def test_delphi_detection_becomes_balanced_accuracy(tmp_path: Path, store_for: Stores) -> None:
    """Of 4 active examples 3 were told, of 2 silent ones 1: 0.625; what did not parse is left out, never a miss."""
    path = write_delphi(tmp_path, {1: "scored", 2: "one kind only", 3: "no file"})
    told = [(True, True)] * 3 + [(True, False), (False, False), (False, True), (True, None), (False, None)]
    (path / "scores" / "detection").mkdir(parents=True)
    for latent, pairs in ((1, told), (2, told[:4])):
        examples = [{"activating": a, "prediction": p, "str_tokens": ["x"]} for a, p in pairs]
        (path / "scores" / "detection" / f"layers.19_latent{latent}.txt").write_text(json.dumps(examples))
    store = store_for()
    import_labels(store, str(path))
    assert LabelStore.of(store).table().column("score").to_pylist() == [0.625, None, None]
    assert balanced_accuracy([{"activating": True}, "x", None]) is None


def test_tables_keep_what_else_they_say(tmp_path: Path, store_for: Stores) -> None:
    """A table with sources, scores and days fills those columns; texts that look like numbers stay texts; quoted
    line breaks are one label's."""
    path = tmp_path / "mine.csv"
    path.write_text(
        "latent,text,source,model,date,score,kind,evidence\n"
        '1,007,Auto,gpt,2026-01-02T03:04:05Z,0.75,word,"{""a"": 1}"\n'
        '2,"two\nlines",,,,,,\n'
        "2,true,auto,,not a day,1,,\n"
    )
    store = store_for()
    assert import_labels(store, str(path))["sources"] == ["auto", "mine"]
    auto = LabelStore.of(store).table("auto").to_pylist()
    one = {"latent": 1, "text": "007", "model": "gpt", "date": "2026-01-02", "score": 0.75, "kind": "word"}
    assert auto[0] == one | {"source": "auto", "evidence": '{"a": 1}'}
    assert (auto[1]["text"], auto[1]["date"], auto[1]["score"]) == ("true", None, 1.0)
    assert [row["text"] for row in LabelStore.of(store).table("mine").to_pylist()] == ["two lines"]


def test_two_labels_of_one_latent_in_json_both_stay(tmp_path: Path, store_for: Stores) -> None:
    """A JSON object may name a latent twice, which a dict would hide; halves of surrogates become '?'."""
    path = tmp_path / "labels.json"
    path.write_text('\ufeff{"1": "a", "1": "b", "2": "c\\ud800", "3": null}')
    store = store_for()
    assert import_labels(store, str(path))["skipped"] == 1
    assert LabelStore.of(store).table().column("text").to_pylist() == ["a", "b", "c?"]


def broken(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(here: Path) -> Path:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(content)
        return here / name.split("/")[0]

    return write


LINE = b'{"modelId": "m", "layer": "l", "index": "1", "description": "x"}\n'


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda here: here / "none.json", "there are no labels at"),
        (lambda here: here, "is in no format of labels that is read (it holds no files)"),
        (broken("d/readme.md", b"x"), "(it holds readme.md): give a JSON object"),
        (broken("labels.txt", b"x"), "is in no format of labels that is read: give"),
        (broken("a.json", b'{"1": "x"'), "a.json is not JSON"),
        (broken("a.json", b"\xff{}"), "a.json is not JSON"),
        (broken("a.json", b"[" * 200_000), "a.json is not JSON"),
        (broken("a.json", b'[{"index": "1"}]'), "a.json is not one JSON object"),
        (broken("a.json", b"{}"), "holds no labels (0 rows"),
        (broken("a.json", b'{"one": "x", "2": "y"}'), "1 labels whose latent is not a whole number, e.g. 'one'"),
        (broken("a.json", b'{"-1": "x", "1.5": "y"}'), "2 labels whose latent is not a whole number, e.g. '-1'"),
        (broken("a.json", b'{"99999999999999999999": "x"}'), "1 labels whose latent is not a whole number"),
        (broken("a.json", b'{"123456789012": "x"}'), "names 1 latents of 65,536 or above (highest 123,456,789,012)"),
        (broken("a.json", b'{"1": "x", "2": {"label": "y"}}'), "1 labels that are not text (the first: object)"),
        (broken("a.json", b'{"1": 5, "2": true}'), "2 labels that are not text (the first: int)"),
        (broken("a.json.gz", gzip.compress(b'{"1": "x"}')[:-6]), "is not whole as a gzip file"),
        (broken("np/batch-0.jsonl.gz", b"not gzip"), "is not whole as a gzip file"),
        (broken("np/batch-0.jsonl.gz", gzip.compress(LINE * 9)[:40]), "is not whole as a gzip file"),
        (broken("np/batch-0.jsonl", LINE + b'{"index": "2", "descr'), "batch-0.jsonl is not lines of explanations"),
        (broken("np/batch-0.jsonl", b'{"index": "1", "description": 5}\n'), "batch-0.jsonl is not lines"),
        (broken("np/batch-0.jsonl", b"5\n"), "batch-0.jsonl is not lines of explanations"),
        (broken("np/batch-0.jsonl", b'{"description": "\xff", "index": "1"}\n'), "batch-0.jsonl is not lines"),
        (broken("np/batch-0.jsonl", b'{"description": "x"}\n'), "latent is not a whole number, e.g. 'nothing'"),
        (broken("np/batch-0.jsonl", b""), "holds no labels"),
        (broken("np/batch-0.jsonl", LINE[:-2] + b', "notes": "{\\"saeray\\":5}"}'), "notes of saeray's"),
        (broken("run/l_latent1.txt", b'"x'), "l_latent1.txt is not JSON, as delphi writes it"),
        (broken("run/l_latent1.txt", b"[1]"), "1 labels that are not text (the first: list)"),
        (broken("a.csv", b""), "a.csv cannot be read as a table"),
        (broken("a.csv", b"latent,text\n1,a,b\n"), "a.csv cannot be read as a table"),
        (broken("a.csv", b"latent,text\n1,\xff\n"), "a.csv cannot be read as a table"),
        (
            broken("a.csv", b"latent,words\n1,a\n"),
            "no column for the text: call it text or label; it has latent, words",
        ),
        (broken("a.csv", b"latent,text\n,a\n"), "1 labels whose latent is not a whole number, e.g. 'nothing'"),
        (broken("a.csv", b"latent,text,score\n1,a,7\n"), "a.csv has 1 scores outside 0..1 (from 7 to 7)"),
        (broken("a.csv", b"latent,text,score\n1,a,good\n"), "column 'score' does not hold float"),
        (broken("a.csv", b"latent,text,source\n1,a,ok\n2,b,../x\n"), "not a name for a source of labels: '../x'"),
        (broken("a.csv", b"latent,text,source,kind\n1,a,ok,\n2,b,zz,mood\n"), "a.csv has labels of kind 'mood'"),
        (broken("a.parquet", b"PAR1"), "a.parquet cannot be read as a table"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_changes_nothing(
    tmp_path: Path, store_for: Stores, write: Callable[[Path], Path], reason: str
) -> None:
    """Each kind of broken or hostile file is refused in a line that names it, before anything is written."""
    (tmp_path / "in").mkdir()
    store = store_for()
    with pytest.raises(SaerayError, match=re.escape(reason)) as error:
        import_labels(store, str(write(tmp_path / "in")))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
    assert LabelStore.of(store).sources() == []


def test_parquet_text_that_is_not_utf8_is_refused(tmp_path: Path, store_for: Stores) -> None:
    """Parquet readers do not check text; a label that no page can show is refused here."""
    bad = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    pq.write_table(pa.table({"latent": [1], "text": bad}), tmp_path / "a.parquet")
    with pytest.raises(SaerayError, match=r"a\.parquet cannot be read as a table"):
        import_labels(store_for(), str(tmp_path / "a.parquet"))


def test_wrong_asks_are_usage_errors(tmp_path: Path, store_for: Stores) -> None:
    """A day that is none, a format nobody knows, a source that is no name, an export of nothing."""
    path, store = str(write_json(tmp_path)), store_for()
    for wrong in ({"date": "1.2.2026"}, {"format": "yaml"}, {"source": "a/b"}):
        with pytest.raises(UsageError):
            import_labels(store, path, **wrong)
    with pytest.raises(UsageError, match="no labels to export"):
        export_labels(store, str(tmp_path / "out"), model_id="m", source_id="s")


@pytest.fixture
def labelled(store_for: Stores, label_rows: Callable[..., pa.Table]) -> Store:
    """A store with two sources that use every column, and more labels than one batch."""
    store = store_for()
    labels = LabelStore.of(store)
    evidence = json.dumps({"test": {"kind": "words", "words": ["sorry", "“x”"]}, "documents": 4}, ensure_ascii=False)
    rows = [
        {"latent": i, "text": f"label {i} <&> “q”", "model": "contrast-1", "date": "2026-11-22"} for i in range(1500)
    ]
    rows += [{"latent": 7, "text": "scored", "score": 0.1, "kind": "form", "evidence": evidence}]
    labels.add(label_rows(*rows), "auto")
    labels.add(label_rows({"latent": 7, "text": "said", "evidence": '{"type": "np_max-act"}'}), "goodfire")
    return store


def test_an_export_reads_back_equal(tmp_path: Path, labelled: Store, store_for: Stores) -> None:
    """Every column of every source survives Neuronpedia's layout, and the same labels are the same bytes."""
    found = export_labels(labelled, str(tmp_path / "out"), model_id="smollm2", source_id="19-res")
    assert found == {"files": 2, "labels": 1502, "latents": 1500, "uri": str(tmp_path / "out" / "explanations")}
    other = store_for(uri=str(tmp_path / "other"))
    assert import_labels(other, str(tmp_path / "out"))["sources"] == ["auto", "goodfire"]
    assert LabelStore.of(other).table().equals(LabelStore.of(labelled).table())
    export_labels(other, str(tmp_path / "again"), model_id="smollm2", source_id="19-res")
    for name in ("batch-0.jsonl.gz", "batch-1.jsonl.gz"):
        both = [(tmp_path / out / "explanations" / name).read_bytes() for out in ("out", "again")]
        assert both[0] == both[1]
        assert both[0][4:8] == bytes(4), "no time in the gzip header"


def test_an_export_is_what_neuronpedia_writes(tmp_path: Path, labelled: Store) -> None:
    """Records have Neuronpedia's fields and types: index a string, one SAE, ids that differ."""
    export_labels(labelled, str(tmp_path), sources=["goodfire", "auto"], model_id="smollm2", source_id="19-res")
    records = []
    for path in sorted((tmp_path / "explanations").iterdir()):
        with gzip.open(path, "rt") as lines:
            records += [json.loads(line) for line in lines]
    assert len(records) == len({record["id"] for record in records}) == 1502
    assert {(record["modelId"], record["layer"]) for record in records} == {("smollm2", "19-res")}
    one = next(record for record in records if record["index"] == "8")
    assert one["description"] == "label 8 <&> “q”"
    assert one["explanationModelName"] == "contrast-1"
    assert one["createdAt"] == "2026-11-22T00:00:00.000Z"
    types = {record["description"]: record["typeName"] for record in records if record["index"] == "7"}
    assert types == {"label 7 <&> “q”": "saeray-auto", "scored": "saeray-auto", "said": "np_max-act"}


def test_an_export_never_mixes_with_another(tmp_path: Path, labelled: Store) -> None:
    """Batches of a longer export would be read as part of this one; a repeated export is fine."""
    for sources in (None, None):
        export_labels(labelled, str(tmp_path), sources=sources, model_id="m", source_id="s")
    with pytest.raises(UsageError, match=r"holds other batches \(batch-1\.jsonl\.gz, 1 in all\)"):
        export_labels(labelled, str(tmp_path), sources=["goodfire"], model_id="m", source_id="s")


def test_labels_from_and_to_object_storage(s3_uri: str, labelled: Store, store_for: Stores, tmp_path: Path) -> None:
    """Files, batches and the store itself may lie in a bucket."""
    there = store_for(uri=f"{s3_uri}/store")
    export_labels(labelled, f"{s3_uri}/np", model_id="m", source_id="s")
    assert import_labels(there, f"{s3_uri}/np")["labels"] == 1502
    assert LabelStore.of(there).table().equals(LabelStore.of(labelled).table())
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"latent": [3], "text": ["three"]}), sink)
    (there.root / "x.parquet").replace(sink.getvalue().to_pybytes())
    assert import_labels(there, f"{s3_uri}/store/x.parquet")["sources"] == ["x"]
    table = LabelStore.of(there).table("x")
    assert pc.equal(table.column("text"), "three").to_pylist() == [True]
    with pytest.raises(UsageError, match="there are no labels at s3://"):
        import_labels(there, f"{s3_uri}/none.json")
