"""Guards resuming by doing the same again: only what is missing is encoded, new files become the next plan, and what
would make a dataset something else than it was begun as is refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import assert_whole, contents, dataset_of, encode_config, files_below, random_texts, write_jsonl
from tiny import encoder_yaml, make_sae_dir

from saeray.errors import SaerayError, UsageError
from saeray.pipeline.encode import encode

pytestmark = pytest.mark.usefixtures("ray_address")


@pytest.fixture
def own(texts: Path, tmp_path: Path) -> Path:
    """A copy of the texts that a test may change."""
    return Path(shutil.copytree(texts, tmp_path / "in"))


def test_a_rerun_encodes_what_is_missing_and_new_files_only(
    own: Path, encoder: Path, copied_store: Callable[..., Path]
) -> None:
    """Nothing when all is there; a part without its commit is taken up; a new match of a glob is the next plan."""
    store = copied_store()
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*.*")}
    again = encode(encode_config(own, store, encoder))
    assert again.shards > 6
    assert (again.encoded, again.missing) == (0, 0)
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*.*")} == before

    lost = store / "datasets/texts/commits/00002.json"
    lost.unlink()  # as a crash between a part and its commit leaves it
    adopted = encode(encode_config(own, store, encoder))
    assert (adopted.encoded, adopted.missing) == (0, 0)
    assert lost.is_file()

    write_jsonl(own / "c.jsonl", random_texts(3, 9, (20, 120)), model=["C"] * 9)
    write_jsonl(own / "night.jsonl", ["not asked for"], model=["C"])
    more = encode(encode_config(own / "?.jsonl", store, encoder))
    assert more.documents == 9
    assert more.encoded == more.shards - again.shards >= 1
    plans = dataset_of(store).plans()
    assert [[one.name for one in plan.inputs] for plan in plans] == [["a.jsonl", "b.jsonl"], ["c.jsonl"]]
    ids = [row["doc_id"] for table in dataset_of(store).scan(None, ["doc_id"]) for row in table.to_pylist()]
    assert ids[-9:] == [f"c.jsonl:{row}" for row in range(9)]
    kept = {path: stamp for path, stamp in before.items() if path != lost}
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert_whole(store)


def test_what_would_change_a_dataset_is_refused_by_name(
    own: Path, encoder: Path, copied_store: Callable[..., Path], tmp_path: Path
) -> None:
    store = copied_store()
    before = files_below(store)

    with pytest.raises(UsageError, match="begun with keep = model"):
        encode(encode_config(own, store, encoder, keep=[]))
    with pytest.raises(UsageError, match="begun with store_sum = false, not true"):
        encode(encode_config(own, store, encoder, store_sum=True))
    with pytest.raises(UsageError, match="begun with text_column = text, not model"):
        encode(encode_config(own, store, encoder, text_column="model", keep=["model"]))

    other = make_sae_dir(tmp_path / "sae", d_in=32, seed=5)
    another = encoder_yaml(tmp_path / "other.yaml", encoder.parent / "reader", other)
    with pytest.raises(SaerayError, match=r"another encoder's \(sae\.sha256 is .* there, .* asked for"):
        encode(encode_config(own, store, another))
    shallower = encoder_yaml(tmp_path / "shallower.yaml", encoder.parent / "reader", encoder.parent / "sae", layer=1)
    with pytest.raises(SaerayError, match=r"reader\.layer is 2 there, 1 asked for"):
        encode(encode_config(own, store, shallower))

    with (own / "b.jsonl").open("a") as file:
        file.write('{"text": "one more", "model": "A"}\n')
    with pytest.raises(SaerayError, match=r"input b\.jsonl changed after it was planned"):
        encode(encode_config(own, store, encoder))
    assert files_below(store) == before


def test_moved_inputs_and_a_copied_encoder_are_the_same(
    own: Path, encoder: Path, undisturbed: dict[str, Any], copied_store: Callable[..., Path], tmp_path: Path
) -> None:
    """Where files lie is no part of a dataset: not the inputs', not the weights'."""
    store = copied_store(1, 3)
    moved = shutil.move(own, tmp_path / "moved")
    copied = shutil.copytree(encoder.parent, tmp_path / "encoder")
    yaml = encoder_yaml(tmp_path / "copy.yaml", copied / "reader", copied / "sae")
    result = encode(encode_config(Path(moved), store, yaml))
    assert result.encoded == 2
    assert contents(store) == undisturbed
