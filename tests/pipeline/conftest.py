"""One tiny encoder and one Ray for all tests of the pipeline: starting Ray takes ten seconds, a run on it three."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from runs import DATASET, LONG_SHARD_TOKENS, contents, encode_config, random_texts, write_jsonl
from tiny import make_encoder_yaml

from saeray.pipeline.encode import encode


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Workers that are not pushed aside by whatever else the machine does, and a cache of the tests' own."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_worker_niceness", "0")
    patch.setenv("RAY_prestart_worker_first_driver", "0")  # an idle worker costs a second of a core; most stay idle
    patch.setenv("SAERAY_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
    patch.delenv("RAY_ADDRESS", raising=False)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def ray_address(_environment: None) -> Iterator[str]:
    """A Ray of this test run's own, which runs in this process use; other processes reach it by the address.

    Its CPUs and its GPU are what Ray is told, for scheduling.
    """
    context = ray.init(
        address="local", num_cpus=6, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="error"
    )
    yield context.address_info["gcs_address"]
    ray.shutdown()


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML of a tiny reader and SAE."""
    return make_encoder_yaml(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of 36 documents in all, eight to ten shards, with an empty text in each: a reject."""
    directory = tmp_path_factory.mktemp("texts")
    for name, seed in (("a.jsonl", 1), ("b.jsonl", 2)):
        documents = [*random_texts(seed, 17, (20, 120)), ""]
        write_jsonl(directory / name, documents, model=["A", "B"] * 9)
    return directory


@pytest.fixture(scope="session")
def undisturbed(
    ray_address: str, texts: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, object]:
    """What a run of one worker over `texts` leaves when nothing happens to it."""
    assert ray_address
    store = tmp_path_factory.mktemp("undisturbed")
    result = encode(encode_config(texts, store, encoder, workers=1))
    assert not result.failed
    assert not result.missing
    assert result.encoded == result.shards > 6
    assert result.documents == 34
    assert result.rejects == 2
    return contents(store, DATASET)


@pytest.fixture(scope="session")
def long_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some twenty shards of four documents and half a second each, so that kills land inside them."""
    directory = tmp_path_factory.mktemp("long_texts")
    for name, seed in (("a.jsonl", 3), ("b.jsonl", 4)):
        write_jsonl(directory / name, random_texts(seed, 40, (5500, 6500)), model=["A", "B"] * 20)
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
    assert result.documents == 80
    return contents(store, DATASET)
