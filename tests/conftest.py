"""Fixtures for the whole tree: the S3 server, the tiny encoder, and one torch thread for a test that uses torch.

This directory is put on the path, so that tests can import the helper modules that lie in it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from s3_server import S3Server

# A deadline an example fails on a busy machine, and says nothing of the code.
hypothesis.settings.register_profile("saeray", deadline=None)
hypothesis.settings.load_profile("saeray")


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """The machines that run the tests share few cores; torch's own threads would fight over them."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML of a tiny reader and SAE."""
    from tiny import make_encoder_yaml  # torch and transformers: four seconds that most of the tree does without

    return make_encoder_yaml(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def s3_unstarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The server before anything needs it: its address is known, nothing answers there."""
    server = S3Server(tmp_path_factory.mktemp("weed"))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def s3_server(s3_unstarted: S3Server) -> S3Server:
    """A running server with its bucket: .endpoint .env .bucket .pid .kill() .start() .restart()."""
    s3_unstarted.start()
    s3_unstarted.make_bucket()
    return s3_unstarted


@pytest.fixture
def s3_uri(s3_server: S3Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An s3:// URI of this test's own, with the environment set for it."""
    if s3_server.pid is None:
        s3_server.start()
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.bucket}/{request.node.name.replace('[', '-').replace(']', '')}"
