"""What the long runs share: a tiny encoder, 150 shards, and what an undisturbed run over them leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runs import Driver, contents, random_texts, write_jsonl
from tiny import make_encoder_yaml


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_worker_niceness", "0")
    patch.setenv("RAY_prestart_worker_first_driver", "0")  # an idle worker costs a second of a core; most stay idle
    patch.setenv("SAERAY_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.delenv("RAY_ADDRESS", raising=False)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML of a tiny reader and SAE."""
    return make_encoder_yaml(tmp_path_factory.mktemp("encoder"))


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
    with Driver(corpus, store, encoder) as driver:
        assert driver.wait() == 0, driver.stderr
    return contents(store)
