"""One Ray for all tests of the pipeline, and stores that are read or copied: starting Ray takes ten seconds, and every
encoder of a run is a process that imports torch and transformers, two to three seconds of a core."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from clusters import quiet_ray
from ray.cluster_utils import Cluster
from runs import DATASET, LONG_SHARD_TOKENS, contents, encode_config, random_texts, write_jsonl
from s3_server import S3Server

from saeray.pipeline.encode import encode


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with quiet_ray(tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture(scope="session")
def ray_cluster(_environment: None, s3_unstarted: S3Server) -> Iterator[Cluster]:
    """A Ray of this test run's own, which runs in this process use and which nodes can be added to.

    Its CPUs and its GPU are what Ray is told, for scheduling. Its workers know the S3 server, started or not.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_unstarted.env.items():
            patch.setenv(name, value)
        made = Cluster(True, head_node_args={"num_cpus": 6, "num_gpus": 1, "include_dashboard": False})
    try:
        ray.init(address=made.address, log_to_driver=False, logging_level="error")
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture(scope="session")
def ray_address(ray_cluster: Cluster) -> str:
    """Where processes other than this one reach the tests' Ray."""
    return str(ray_cluster.address)


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of 36 documents in all, eight to ten shards, with an empty text in each: a reject."""
    directory = tmp_path_factory.mktemp("texts")
    for name, seed in (("a.jsonl", 1), ("b.jsonl", 2)):
        documents = [*random_texts(seed, 17, (20, 120)), ""]
        write_jsonl(directory / name, documents, model=["A", "B"] * 9)
    return directory


@pytest.fixture(scope="session")
def undisturbed_store(ray_address: str, texts: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a strict run of one worker over `texts` to which nothing happened; to be read or copied."""
    assert ray_address
    store = tmp_path_factory.mktemp("undisturbed")
    result = encode(encode_config(texts, store, encoder, strict=True))
    assert not result.failed
    assert not result.missing
    assert result.encoded == result.shards > 6
    assert result.documents == 34
    assert result.rejects == 2
    return store


@pytest.fixture(scope="session")
def undisturbed(undisturbed_store: Path) -> dict[str, object]:
    """What that run left."""
    return contents(undisturbed_store, DATASET)


@pytest.fixture
def copied_store(undisturbed_store: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy of `undisturbed_store` that a test may change, without the shards that it names."""

    def copy(*lost: int) -> Path:
        store = Path(shutil.copytree(undisturbed_store, tmp_path / "store"))
        for shard in lost:
            files = list(store.glob(f"datasets/*/*/*{shard:05d}.*"))
            assert len(files) >= 2  # a part and its commit
            for file in files:
                file.unlink()
        return store

    return copy


@pytest.fixture(scope="session")
def long_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some twenty shards of two documents and a quarter of a second each, so that kills land inside them."""
    directory = tmp_path_factory.mktemp("long_texts")
    for name, seed in (("a.jsonl", 3), ("b.jsonl", 4)):
        write_jsonl(directory / name, random_texts(seed, 20, (5500, 6500)), model=["A", "B"] * 10)
    return directory


@pytest.fixture(scope="session")
def long_undisturbed(
    ray_address: str, long_texts: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, object]:
    """What a run over `long_texts` leaves when nothing happens to it."""
    assert ray_address
    store = tmp_path_factory.mktemp("long_undisturbed")
    result = encode(encode_config(long_texts, store, encoder, shard_tokens=LONG_SHARD_TOKENS))
    assert result.encoded == result.shards > 15
    assert result.documents == 40
    return contents(store, DATASET)
