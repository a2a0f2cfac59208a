"""Guards the first promise on object storage: the S3 server itself may be killed under a run, and comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runs import LONG_SHARD_TOKENS, assert_whole, contents, encode_config
from s3_server import S3Server

from saeray.pipeline.encode import Progress, encode

pytestmark = pytest.mark.usefixtures("ray_address")


def test_a_server_killed_under_a_run_costs_nothing(
    long_texts: Path, encoder: Path, long_undisturbed: dict[str, Any], s3_server: S3Server, s3_uri: str
) -> None:
    """The run waits for the server and goes on by itself; the store is byte for byte the local one."""
    restarts: list[int] = []

    def strike(progress: Progress) -> None:
        if progress.done == 3:
            s3_server.restart()  # four seconds, in which the workers go on
            restarts.append(progress.total)

    result = encode(encode_config(long_texts, s3_uri, encoder, shard_tokens=LONG_SHARD_TOKENS), strike)
    assert restarts == [result.shards]
    assert not result.failed
    assert contents(s3_uri) == long_undisturbed
    assert_whole(s3_uri)
