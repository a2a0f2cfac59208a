"""Fixtures for the whole tree: the S3 server, and one torch thread for a test that uses torch.

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
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running server with its bucket: .endpoint .env .bucket .pid .kill() .start() .restart()."""
    server = S3Server(tmp_path_factory.mktemp("weed"))
    try:
        server.start()
        server.make_bucket()
        yield server
    finally:
        server.kill()


@pytest.fixture
def s3_uri(s3_server: S3Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An s3:// URI of this test's own, with the environment set for it."""
    if s3_server.pid is None:
        s3_server.start()
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.bucket}/{request.node.name.replace('[', '-').replace(']', '')}"
