"""Promise: counts are the same bytes on Ray and in one process, and a commit that was counted is not read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from toy_encoder import D_SAE, encode_missing, new_dataset, write_inputs

from saeray.analysis.counting import ask, here
from saeray.analysis.frequencies import stats
from saeray.config import StatsConfig, load_yaml
from saeray.pipeline.stats import fill, spread
from saeray.pipeline.stats import stats as job
from saeray.store import Dataset, Store
from saeray.store import dataset as dataset_module
from saeray.store.store import Store as StoreType


@pytest.fixture
def toy(tmp_path: Path) -> Dataset:
    """Twenty-odd shards of a stand-in encoder, with sums."""
    made = new_dataset(str(tmp_path / "store"), write_inputs(tmp_path / "in"), shard_tokens=70, store_sum=True)
    encode_missing(made)
    assert len(made.committed()) > 16
    return made


def partials(store: StoreType) -> dict[str, bytes]:
    """Every partial result by its name."""
    root = Path(store.uri) / "stats"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.parquet"))}


def fresh(dataset: Dataset) -> Store:
    return Store.open(dataset.store.uri)


def dense(dataset: Dataset) -> dict[str, np.ndarray]:
    """The plain sums of every row."""
    rows = [row for table in dataset.scan() for row in table.to_pylist()]
    found = {name: np.zeros(D_SAE) for name in ("documents", "tokens", "max", "max_sum", "sum")}
    for row in rows:
        at = row["latents"]
        found["documents"][at] += 1
        found["tokens"][at] += row["count"]
        found["max"][at] = np.maximum(found["max"][at], row["max"])
        found["max_sum"][at] += row["max"]
        found["sum"][at] += row["sum"]
    return found


def test_only_new_commits_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shards whose latents are read: all, then none, then those that came after; and the whole is right."""
    inputs = write_inputs(tmp_path / "in")
    dataset = new_dataset(str(tmp_path / "store"), inputs, shard_tokens=70)
    encode_missing(dataset)
    old = set(dataset.committed())
    read: list[int] = []
    real = dataset_module.scan_part

    def noted(place, selector, columns):  # type: ignore[no-untyped-def]
        if "count" in columns:
            read.append(int(place.path[-13:-8]))
        return real(place, selector, columns)

    monkeypatch.setattr(dataset_module, "scan_part", noted)
    config = StatsConfig(selector="toy", store=dataset.store.uri)
    first = job(config)
    assert (sorted(read), first.total.n_documents) == (sorted(old), 120)
    read.clear()
    assert job(config).rows.equals(first.rows)
    assert read == []
    write_inputs(tmp_path / "in", documents=40, name="b.jsonl")
    grown = new_dataset(dataset.store.uri, inputs, shard_tokens=70)
    encode_missing(grown)
    second = job(config)
    assert sorted(read) == sorted(set(grown.committed()) - old)
    assert second.total.n_documents == 160
    for path in (tmp_path / "store" / "stats").rglob("*.parquet"):
        path.unlink()
    assert job(config).rows.equals(second.rows)


def test_few_shards_are_counted_without_ray(toy: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting Ray takes longer than counting a small dataset."""
    monkeypatch.setattr("saeray.pipeline.stats.spread", lambda *_: pytest.fail("Ray for some kilobytes"))
    asked = ask(fresh(toy), "toy", None, None)
    fill(asked, asked.partials.missing())
    assert asked.total() is not None


def test_the_yaml_of_a_job_is_checked(tmp_path: Path) -> None:
    """The fields are those of the command, and a percentile that is none is named."""
    file = tmp_path / "stats.yaml"
    file.write_text(yaml.safe_dump({"selector": "toy", "store": "s", "percentiles": [50, 99.9]}))
    assert load_yaml(file, StatsConfig).percentiles == [50, 99.9]
    file.write_text(yaml.safe_dump({"selector": "toy", "store": "s", "percentiles": [0]}))
    with pytest.raises(Exception, match=r"percentiles\.0"):
        load_yaml(file, StatsConfig)


def test_ray_and_one_process_leave_the_same_bytes_and_right_counts(toy: Dataset, ray_address: str) -> None:
    """Tasks in any order, four shards a merged partial, against the same in this process and against plain sums."""
    assert ray_address
    asked = ask(fresh(toy), "toy", None, "model", fan=4)
    spread(asked, asked.partials.missing(), workers=3)
    by_ray = partials(toy.store)
    assert len(by_ray) == len(asked.partials.roots) < len(toy.committed())
    for path in (Path(toy.store.uri) / "stats").rglob("*.parquet"):
        path.unlink()
    here(asked, asked.partials.missing())
    assert partials(toy.store) == by_ray
    result = stats(fresh(toy), "toy")
    for name, expected in dense(toy).items():
        np.testing.assert_allclose(result.rows.column(name).to_numpy(), expected, rtol=1e-12, err_msg=name)
    assert result.groups == {}
    assert sum(one["documents"] for one in result.lengths()) == 120
