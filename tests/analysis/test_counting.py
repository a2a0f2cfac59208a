"""Promise: a count that is killed goes on where it stopped, and ends with the files of one that was left alone."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from toy_encoder import encode_missing, new_dataset, processes, write_inputs

from saeray.analysis import counting
from saeray.analysis.counting import added, ask, here
from saeray.errors import SaerayError, UsageError
from saeray.store import Dataset, Store


@pytest.fixture
def toy(tmp_path: Path) -> Dataset:
    """Some twenty shards of a stand-in encoder."""
    made = new_dataset(str(tmp_path / "store"), write_inputs(tmp_path / "in"), shard_tokens=70)
    encode_missing(made)
    assert len(made.committed()) > 16
    return made


def partials(dataset: Dataset) -> dict[str, bytes]:
    """Every partial result by its name."""
    root = Path(dataset.store.uri) / "stats"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.parquet"))}


def fresh(dataset: Dataset) -> Store:
    return Store.open(dataset.store.uri)


def test_killed_in_the_middle_again_and_again_ends_with_the_same_bytes(
    toy: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run is killed (SIGKILL) at its fifth shard; nothing that was counted before is counted again."""
    undisturbed = ask(fresh(toy), "toy", None, None, fan=4)
    here(undisturbed, undisturbed.partials.missing())
    expected = partials(toy)
    for path in (Path(toy.store.uri) / "stats").rglob("*.parquet"):
        path.unlink()
    monkeypatch.setattr(counting, "THREADS", 1)
    notes = Path(toy.store.uri).parent / "counted"
    real = counting.count_shard

    def mortal(*arguments: object) -> object:
        with notes.open("a") as file:
            file.write(f"{arguments[2]} {os.getpid()}\n")
        if sum(line.endswith(f" {os.getpid()}") for line in notes.read_text().splitlines()) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)  # type: ignore[arg-type]

    def run() -> None:
        counting.count_shard = mortal
        asked = ask(fresh(toy), "toy", None, None, fan=4)
        here(asked, asked.partials.missing())

    kills = 0
    while True:
        child = processes().Process(target=run)
        child.start()
        child.join(60)
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        kills += 1
    assert kills >= 3
    assert partials(toy) == expected
    counted = Counter(int(line.split()[0]) for line in notes.read_text().splitlines())
    assert set(counted) == set(toy.committed())
    assert sum(counted.values()) == len(counted) + kills


def test_a_partial_that_cannot_be_read_is_named(toy: Dataset) -> None:
    """A file that was spoilt on disk is never added up."""
    asked = ask(fresh(toy), "toy", None, None, fan=4)
    here(asked, asked.partials.missing())
    spoilt = sorted((Path(toy.store.uri) / "stats").rglob("*.parquet"))[0]
    spoilt.write_bytes(spoilt.read_bytes()[:100])
    with pytest.raises(SaerayError, match=f"{spoilt.name}.*delete it and run again"):
        asked.total()


def test_partials_that_another_run_merged_away_are_asked_for_again(toy: Dataset) -> None:
    """Two runs may count at once: one whose files are gone starts over instead of adding up the rest."""
    asked = ask(fresh(toy), "toy", None, None, fan=4)
    here(asked, asked.partials.missing())
    root = asked.partials.roots[-1]
    (asked.partials.place / root.name).delete()
    assert asked.total() is None
    assert [node.name for node in asked.partials.missing()] == [root.name]
    assert added([]) == counting.Counted({}, {})


def test_an_empty_selection_and_an_empty_dataset_leave_the_store_as_it_was(toy: Dataset) -> None:
    for selector, channel in (("toy:model=Z", None), ("toy", "user"), ("toy:n_tokens>=100000", None)):
        with pytest.raises(UsageError, match=r"nothing is selected|no rows of channel 'user'"):
            ask(fresh(toy), selector, channel, None)
    new_dataset(toy.store.uri, Path(toy.store.uri).parent / "in", "none")
    with pytest.raises(UsageError, match="it has no rows"):
        ask(fresh(toy), "none", None, None)
    assert not (Path(toy.store.uri) / "stats").exists()
