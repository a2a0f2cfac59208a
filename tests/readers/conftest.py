"""What tests of readers share: a cache of a test's own, and a checkpoint in pieces."""

import pytest
from tiny import make_reader_dir


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAERAY_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return make_reader_dir(tmp_path_factory.mktemp("reader"))
