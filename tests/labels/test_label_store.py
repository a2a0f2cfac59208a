"""The label store: many labels a latent from many sources, cleaned, refused when they are another SAE's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saeray.errors import SaerayError, UsageError
from saeray.labels import LABEL_SCHEMA, LabelStore
from saeray.labels import store as module
from saeray.labels.store import MAX_TEXT, SHIPPED, cleaned, ship, source_name
from saeray.saes import sae_digest, save_sae
from saeray.saes.relu import ReLU
from saeray.store import Store, location

Rows = Callable[..., pa.Table]
BUILTIN = sorted((Path(module.__file__).parent.parent / "saes" / "builtin").glob(f"*/{SHIPPED}"))

a_label = st.fixed_dictionaries(
    {
        "latent": st.integers(0, 5),
        "text": st.sampled_from(["a", "b", "c d", "e"]),
        "model": st.sampled_from([None, "m", "n"]),
        "date": st.sampled_from([None, "2026-01-01", "2025-12-31"]),
        "score": st.sampled_from([None, 0.0, 0.5, 1.0]),
        "kind": st.sampled_from([None, "form", "word"]),
        "evidence": st.sampled_from([None, '{"a": 1}']),
    }
)
some_labels = st.dictionaries(st.sampled_from(["auto", "goodfire", "zoo"]), st.lists(a_label, max_size=8), max_size=3)


def labels_with(sources: dict[str, list[dict[str, Any]]], where: str) -> LabelStore:
    labels = LabelStore(location(where), 6)
    for name, rows in sources.items():
        labels.add(pa.Table.from_pylist(rows, pa.schema([f for f in LABEL_SCHEMA if f.name != "source"])), name)
    return labels


@given(some_labels)
@settings(max_examples=25)  # each writes files
def test_table_holds_every_label_in_order(tmp_path_factory: pytest.TempPathFactory, sources: dict[str, Any]) -> None:
    """No label is lost or invented, and rows come by latent, source, highest score (unscored last), text."""
    labels = labels_with(sources, str(tmp_path_factory.mktemp("labels")))
    table = labels.table()
    assert table.schema == LABEL_SCHEMA
    expected = [row | {"source": name} for name, rows in sources.items() for row in rows]
    got = table.to_pylist()
    assert sorted(map(repr, (sorted(row.items()) for row in got))) == sorted(
        map(repr, (sorted(row.items()) for row in expected))
    )
    keys = [(r["latent"], r["source"], -1 if r["score"] is None else r["score"], r["text"]) for r in got]
    assert keys == sorted(keys, key=lambda k: (k[0], k[1], -k[2], k[3]))
    for name in sources:
        assert labels.table(name).to_pylist() == [row for row in got if row["source"] == name]


@given(some_labels, st.permutations(["auto", "goodfire", "zoo"]), st.integers(0, 3))
@settings(max_examples=25)
def test_best_is_one_text_a_latent_by_preference(
    tmp_path_factory: pytest.TempPathFactory, sources: dict[str, Any], order: list[str], wanted: int
) -> None:
    """Sources asked for come first, in that order; then score, date (both known before unknown), source, text."""
    labels = labels_with(sources, str(tmp_path_factory.mktemp("labels")))
    preferred = [name for name in order if sources.get(name)][:wanted]

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        known = preferred.index(row["source"]) if row["source"] in preferred else len(preferred)
        newest = "".join(chr(255 - ord(c)) for c in row["date"]) if row["date"] else chr(256)
        return (known, 1 if row["score"] is None else -row["score"], newest, row["source"], row["text"])

    expected: dict[int, str] = {}
    rows = [row | {"source": name} for name, some in sources.items() for row in some]
    for row in sorted(rows, key=place):
        expected.setdefault(row["latent"], row["text"])
    found = labels.best(preferred or None)
    assert found == expected
    assert list(found) == sorted(expected)


def test_labels_of_a_store_without_labels(store_for: Callable[..., Store]) -> None:
    """A report on a store that nobody labelled has numbers and no error."""
    assert LabelStore.of(store_for()).best() == {}


def test_a_store_without_encoder_has_no_labels(tmp_path: Path) -> None:
    """Labels belong to latents, so there must be an encoder first, and the error says so."""
    with pytest.raises(SaerayError, match="no encoder has claimed"):
        LabelStore.of(Store.open(str(tmp_path), create=True))


def test_latents_of_another_sae_are_refused_with_their_count(store_for: Callable[..., Store], label_rows: Rows) -> None:
    """Labels for another SAE would name the wrong latents; what was there stays."""
    labels = LabelStore.of(store_for(d_sae=1000))
    labels.add(label_rows({"latent": 1, "text": "kept"}), "auto")
    bad = [{"latent": 999, "text": "in"}, {"latent": 1000, "text": "x"}, {"latent": 1000, "text": "y"}]
    with pytest.raises(SaerayError) as error:
        labels.add(label_rows(*bad, {"latent": 70_001, "text": "z"}), "auto")
    assert str(error.value) == (
        "source auto names 2 latents of 1,000 or above (highest 70,001); this store's encoder has 1,000: "
        "it is for another SAE"
    )
    assert labels.best() == {1: "kept"}
    with pytest.raises(SaerayError, match="without a latent's index"):
        labels.add(pa.table({"latent": [-1], "text": ["x"]}), "auto")
    with pytest.raises(SaerayError, match="'latent' does not hold int64"):
        labels.add(pa.table({"latent": ["one"], "text": ["x"]}), "auto")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"score": 1.5}, "1 scores outside 0..1 (from 1.5 to 1.5)"),
        ({"score": -0.1}, "outside 0..1"),
        ({"kind": "mood"}, "kind 'mood'; kinds are form, word, topic, position, unclear"),
        ({"evidence": "[1]"}, "evidence that is not a JSON object"),
        ({"evidence": "{"}, "evidence that is not a JSON object"),
        ({"evidence": "[" * 100_000}, "evidence that is not a JSON object"),
    ],
)
def test_values_that_mean_nothing_are_refused(
    store_for: Callable[..., Store], label_rows: Rows, row: dict[str, Any], reason: str
) -> None:
    """Whoever reads labels may count on shares, known kinds and evidence that parses."""
    labels = LabelStore.of(store_for())
    with pytest.raises(SaerayError, match=re.escape(reason)) as error:
        labels.add(label_rows({"latent": 1, "text": "x"} | row), "auto")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200
    assert labels.sources() == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a b", "-x", "ä", "x" * 65, "a\0b", ".hidden"])
def test_source_names_are_file_names(name: str) -> None:
    """A source's name becomes a file's: nothing that is a path, hidden, or strange."""
    with pytest.raises(UsageError, match="not a name for a source"):
        source_name(name)
    assert source_name(" Llama-3.3_70B ") == "llama-3.3_70b"


@given(st.lists(st.none() | st.text(max_size=60) | st.text("ab \t\u202e\x00\u3000", max_size=1200), max_size=6))
@settings(max_examples=50)
def test_cleaned_text_is_plain_short_and_stays(texts: list[str | None]) -> None:
    """Text from elsewhere holds no control or direction-turning character, no runs of space, at most 500 characters;
    letters stay, in order; and cleaning twice is cleaning once."""
    once = cleaned(pa.array(texts, pa.string()))
    assert cleaned(once).to_pylist() == once.to_pylist()
    for before, after in zip(texts, once.to_pylist(), strict=True):
        before = before or ""
        visible = [c for c in before if not c.isspace() and unicodedata.category(c) not in ("Cc", "Zs", "Zl", "Zp")]
        if after is None:
            assert not [c for c in visible if unicodedata.category(c) != "Cf"]
            continue
        assert 0 < len(after) <= MAX_TEXT
        assert not any(unicodedata.category(c) in ("Cc", "Zl", "Zp") or c in "\u202e\u2066\ufeff" for c in after)
        assert "  " not in after
        assert after == after.strip()
        if len(after) < MAX_TEXT - 1:
            letters = "".join(c for c in before if c.isalnum())
            assert "".join(c for c in after if c.isalnum()) == letters


def test_cleaning_by_example() -> None:
    """What labels in the wild have: a space before, line breaks, escapes, a family of joined emoji, far too much."""
    texts = [
        "  leading",
        "two\r\n lines\tand\u00a0more",
        "es\x1b[31mc\x00",
        "👨\u200d👩\u200d👧 می\u200cخواهم",
        " \u200b ",
        "x" * 501,
    ]
    assert cleaned(pa.array(texts)).to_pylist() == [
        "leading",
        "two lines and more",
        "es[31mc",
        "👨\u200d👩\u200d👧 می\u200cخواهم",
        None,
        "x" * 499 + "…",
    ]


def test_empty_texts_are_dropped_and_counted(store_for: Callable[..., Store], label_rows: Rows) -> None:
    """A label that says nothing is none: `add` tells how many there are."""
    labels = LabelStore.of(store_for())
    rows = [{"latent": 1, "text": t} for t in ("a", "", None, " \n", "b")]
    assert labels.add(label_rows(*rows), "auto") == 2
    assert labels.table().column("text").to_pylist() == ["a", "b"]


def test_a_source_is_replaced_as_a_whole_and_its_file_depends_on_its_labels_alone(
    store_for: Callable[..., Store], label_rows: Rows
) -> None:
    """Rerunning a labeller leaves none of its old labels, and the same labels are the same bytes in any order."""
    labels = LabelStore.of(store_for())
    rows = [{"latent": i % 7, "text": f"t{i}", "score": (i % 5) / 5} for i in range(50)]
    labels.add(label_rows(*rows), "auto")
    labels.add(label_rows({"latent": 9, "text": "other"}), "zoo")
    first = (labels.root / "auto.parquet").read_bytes()
    labels.add(label_rows({"latent": 3, "text": "new"}), "auto")
    assert labels.best() == {3: "new", 9: "other"}
    labels.add(label_rows(*rows[::-1]), "AUTO")
    assert (labels.root / "auto.parquet").read_bytes() == first


def test_sources_are_listed_with_their_figures(store_for: Callable[..., Store], label_rows: Rows) -> None:
    """`labels list` says who labelled what, and how well."""
    labels = LabelStore.of(store_for())
    rows = [
        {"latent": 1, "text": "a", "model": "m2", "score": 0.5},
        {"latent": 1, "text": "b", "model": "m1", "score": 1.0},
        {"latent": 2, "text": "c"},
    ]
    labels.add(label_rows(*rows), "zoo")
    labels.add(label_rows({"latent": 7, "text": "x"}), "auto")
    assert labels.sources() == [
        {"name": "auto", "labels": 1, "latents": 1, "models": [], "mean_score": None, "shipped": False},
        {"name": "zoo", "labels": 3, "latents": 2, "models": ["m1", "m2"], "mean_score": 0.75, "shipped": False},
    ]
    for ask in (lambda: labels.table("none"), lambda: labels.best(["auto", "none"])):
        with pytest.raises(UsageError, match=r"no labels of source none in .*; there are: auto, zoo"):
            ask()


@pytest.mark.parametrize("content", [b"", b"not parquet", None])
def test_a_broken_file_is_named(store_for: Callable[..., Store], content: bytes | None) -> None:
    """A file that is no labels, or another table, is one line that names it."""
    labels = LabelStore.of(store_for())
    if content is None:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"latent": [1]}), sink)
        content = sink.getvalue().to_pybytes()
    (labels.root / "zoo.parquet").replace(content)
    with pytest.raises(SaerayError, match=r"zoo\.parquet is not a file of labels") as error:
        labels.best()
    assert "\n" not in str(error.value)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of an SAE of 8 latents, as if saeray shipped it."""
    here = tmp_path / "package" / "saes" / "builtin" / "tiny"
    here.mkdir(parents=True)
    save_sae(ReLU(torch.ones(4, 8), torch.zeros(8)), str(here), metadata={}, decoder=False)
    monkeypatch.setattr(module.resources, "files", lambda package: tmp_path / "package")
    module._is_for.cache_clear()
    return here


@pytest.mark.parametrize("marked", [True, False])
def test_labels_that_ship_with_an_sae_are_there_without_a_copy(
    shipped: Path, store_for: Callable[..., Store], label_rows: Rows, marked: bool
) -> None:
    """A store of a shipped SAE has its labels at once, marked with the digest or not; no other store has them; one's
    own labels of that source take their place; and the labels do not change what the SAE is."""
    digest = sae_digest(str(shipped))
    rows = [{"latent": 1, "text": "one", "source": "auto"}, {"latent": 7, "text": "seven", "source": "auto"}]
    ship(label_rows(*rows), shipped)
    assert sae_digest(str(shipped)) == digest
    if not marked:
        pq.write_table(pq.read_table(shipped / SHIPPED).replace_schema_metadata(None), shipped / SHIPPED)
    store = store_for(d_sae=8, sha256=digest)
    labels = LabelStore.of(store)
    assert LabelStore.of(store).best() == {1: "one", 7: "seven"}
    assert labels.table("auto").to_pylist() == label_rows(*rows).to_pylist()
    assert [(one["name"], one["shipped"]) for one in labels.sources()] == [("auto", True)]
    assert (store.root / "labels").names() == []
    labels.add(label_rows({"latent": 2, "text": "two"}), "zoo")
    assert LabelStore.of(store).best() == {1: "one", 2: "two", 7: "seven"}
    labels.add(label_rows({"latent": 3, "text": "mine"}), "auto")
    assert LabelStore.of(store).best() == {2: "two", 3: "mine"}


def test_labels_of_one_shipped_sae_are_not_another_s(
    shipped: Path, store_for: Callable[..., Store], label_rows: Rows
) -> None:
    """Two SAEs of one size share no labels."""
    ship(label_rows({"latent": 7, "text": "seven", "source": "auto"}), shipped)
    assert LabelStore.of(store_for(d_sae=8, sha256="f" * 64)).best() == {}


def test_the_mark_of_shipped_labels_spares_loading_torch(shipped: Path, label_rows: Rows, tmp_path: Path) -> None:
    """A report names latents without importing torch, which takes seconds."""
    ship(label_rows({"latent": 7, "text": "seven", "source": "auto"}), shipped)
    Store.open(str(tmp_path / "s"), create=True).claim_encoder(
        {"sae": {"d_sae": 8, "sha256": sae_digest(str(shipped))}}
    )
    code = (
        "import sys, pathlib; from saeray.labels import store as m, LabelStore; from saeray.store import Store;"
        "m.resources.files = lambda name: pathlib.Path(sys.argv[1]);"
        "assert LabelStore.of(Store.open(sys.argv[2])).best() == {7: 'seven'}; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "package"), str(tmp_path / "s")], check=True)


@pytest.mark.skipif(not BUILTIN, reason="no SAE ships with labels yet")
@pytest.mark.parametrize("path", BUILTIN, ids=lambda path: path.parent.name)
def test_shipped_labels_are_of_the_sae_they_lie_beside(path: Path) -> None:
    """An SAE that was replaced without its labels would be named by another one's."""
    mark = (pq.read_schema(path).metadata or {}).get(b"saeray.sae.sha256", b"").decode()
    assert mark in ("", sae_digest(str(path.parent)))
    assert pq.read_table(path).schema.remove_metadata() == LABEL_SCHEMA
    d_sae = json.loads((path.parent / "cfg.json").read_text())["d_sae"]
    assert max(pq.read_table(path).column("latent").to_pylist()) < d_sae
