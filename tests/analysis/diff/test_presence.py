"""Promise: however many documents a paired diff has, its rows are read once, and what memory does not hold waits in
files without moving a figure."""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from corpus_words import WORDS

from saeray.analysis.diff import presence
from saeray.analysis.diff.each import diff_each
from saeray.analysis.diff.options import Options
from saeray.analysis.diff.run import diff
from saeray.analysis.diff.series import diff_ordered
from saeray.errors import SaerayError
from saeray.labels.meanings import Meanings
from saeray.store import Dataset

PAIRED = Options(pair_on="prompt")
#: A diff of two sides also reads each once for groups of latents alike; --by and --ordered do so in a sample.
PASSES = {"two sides": 4}
RUNS = {
    "by": lambda store: diff_each(store, "d", "model", PAIRED, Meanings()),
    "by, against rest": lambda store: diff_each(
        store, "d", "model", Options(pair_on="prompt", against="rest"), Meanings()
    ),
    "ordered": lambda store: diff_ordered(store, "d", "model", PAIRED, meanings=Meanings()),
    "two sides": lambda store: diff(store, "d:model=A", ["d:model=B"], pair_on="prompt", meanings=Meanings()),
}


def rows(n: int, models: str = "ABC") -> list[dict]:
    """Answers to `n` prompts; each of eight words is a model's own to some degree."""
    rng = np.random.default_rng(0)
    rate = {model: rng.uniform(0.2, 0.8, 8) for model in models}
    return [
        {"doc_id": f"{model}{i}", "model": model, "prompt": i,
         "text": " ".join([f"{model}{i}", *(w for w, r in zip(WORDS, rate[model], strict=False) if rng.random() < r)])}
        for i in range(n)
        for model in models
    ]  # fmt: skip


@pytest.fixture
def passes(monkeypatch) -> Counter:
    """How often each shard's latents alone were read: what presence reads, and nothing else."""
    seen: Counter = Counter()
    real = Dataset.scan_shard

    def scan_shard(self, shard, selector=None, columns=None):
        if list(columns or ()) == ["latents"]:
            seen[shard] += 1
        return real(self, shard, selector, columns)

    monkeypatch.setattr(Dataset, "scan_shard", scan_shard)
    return seen


@pytest.mark.parametrize("name", RUNS)
def test_the_rows_are_read_once_for_all_pieces_and_the_figures_stay(store_of, monkeypatch, passes, name):
    """With two latents a piece: one pass a side, the same figures as in one piece (but for the order of sums), and not
    a bit moved by files."""
    store = store_of(rows(60), keep=("model", "prompt"), store_text=False)
    whole = RUNS[name](store)
    monkeypatch.setattr(presence, "CELLS", 400)
    found = []
    for held in (1 << 26, 150):
        monkeypatch.setattr(presence, "POSTINGS", held)
        passes.clear()
        found.append(RUNS[name](store))
        assert set(passes.values()) == {PASSES.get(name, 1)}
    assert found[0].rows.equals(found[1].rows)
    assert found[0].summary() == found[1].summary()
    for column in {"p", "q", "lower", "difference", "change"} & set(whole.rows.column_names):
        np.testing.assert_allclose(found[0].rows.column(column), whole.rows.column(column), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("held", [1 << 26, 40])
def test_a_piece_is_what_a_loop_over_the_texts_finds(side_of, monkeypatch, tmp_path, held):
    """Cell by cell, across batches; and no file stays behind."""
    found = rows(40)
    side = side_of(found, step=7)
    wanted = [0, 2, 3, 5, 7]
    truth = np.array([[WORDS[latent] in row["text"].split() for latent in wanted] for row in found])
    monkeypatch.setattr(presence, "CELLS", 2 * len(found))
    monkeypatch.setattr(presence, "POSTINGS", held)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    taken = presence.runs(truth.sum(axis=0), len(found))
    assert [cut for run in taken for cut in run] == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert len(taken) == (1 if held > 1_000 else 3)
    given = presence.rows_of(side, np.array(wanted), taken, np.array([3, 9]))
    pieces = list(given)
    np.testing.assert_array_equal(np.hstack([one.here.toarray() for one in pieces]), truth)
    edges = np.searchsorted([3, 9], side.lengths, side="right")
    assert all((one.length[:, 0] == edges).all() for one in pieces)
    assert list(tmp_path.iterdir()) == []


def test_runs_hold_no_more_than_they_may():
    """A run begins anew before it would pass the limit by more than a piece."""
    postings = np.random.default_rng(0).integers(0, 1 << 22, 300)
    taken = presence.runs(postings, presence.CELLS // 3)
    assert [i for run in taken for cut in run for i in range(cut.start, cut.stop)] == list(range(300))
    assert len(taken) > 3
    largest = max(sum(int(postings[cut].sum()) for cut in run) for run in taken)
    piece = max(int(postings[cut].sum()) for run in taken for cut in run)
    assert largest <= presence.POSTINGS + piece


def test_a_disk_without_room_says_what_to_do(side_of, monkeypatch, tmp_path):
    """One line that names the directory and the mend."""
    monkeypatch.setattr(presence, "POSTINGS", 1)
    monkeypatch.setattr(presence, "CELLS", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def full(self, mode):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    side = side_of(rows(20))
    taken = presence.runs(np.array([5, 5]), side.n_documents)
    with pytest.raises(SaerayError, match=f"no room in {tmp_path}.*set TMPDIR"):
        list(presence.rows_of(side, np.array([0, 1]), taken, np.array([9])))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("known", ["gone", None])
def test_a_missing_place_for_temporary_files_says_what_to_do(side_of, monkeypatch, tmp_path, known):
    """The same line where the directory itself cannot be made, or where there is no place at all."""
    monkeypatch.setattr(presence, "POSTINGS", 1)
    monkeypatch.setattr(presence, "CELLS", 1)
    monkeypatch.setattr(tempfile, "tempdir", known and str(tmp_path / known))
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", list)
    side = side_of(rows(20))
    taken = presence.runs(np.array([5, 5]), side.n_documents)
    with pytest.raises(SaerayError, match=r"no room in (.*gone|any temporary directory) for.*set TMPDIR"):
        list(presence.rows_of(side, np.array([0, 1]), taken, np.array([9])))
