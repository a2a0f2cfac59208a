"""Guards the first promise on object storage: the S3 server itself may be killed under a run, and comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runs import Driver, assert_whole, contents
from s3_server import S3Server


def test_a_server_killed_under_a_run_costs_nothing(
    long_texts: Path, encoder: Path, long_undisturbed: dict[str, Any], s3_server: S3Server, s3_uri: str
) -> None:
    """The run waits for the server and goes on by itself; the store is byte for byte the local one."""
    with Driver(long_texts, s3_uri, encoder) as driver:
        driver.wait_for_commits(3)
        s3_server.restart()
        assert driver.wait() == 0, driver.stderr
    assert contents(s3_uri) == long_undisturbed
    assert_whole(s3_uri)
