"""What the long runs share: 150 shards, and what an undisturbed run over them leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters import quiet_ray
from runs import SOAK_SHARD_TOKENS, Driver, contents, random_texts, write_jsonl


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with quiet_ray(tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten files of 60 documents of some 6,000 words, four documents a shard."""
    directory = tmp_path_factory.mktemp("corpus")
    for number in range(10):
        write_jsonl(directory / f"{number}.jsonl", random_texts(number, 60, (5500, 6500)))
    return directory


@pytest.fixture(scope="session")
def undisturbed(corpus: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    store = tmp_path_factory.mktemp("undisturbed")
    with Driver(corpus, store, encoder, shard_tokens=SOAK_SHARD_TOKENS) as driver:
        assert driver.wait() == 0, driver.stderr
    return contents(store)
