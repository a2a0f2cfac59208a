"""Guards what people do to a run: stop it, start it again while it runs, or run it twice at once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from runs import LONG_SHARD_TOKENS, Driver, assert_whole, committed, contents, encode_config, shards_in

from saeray.errors import SaerayError
from saeray.pipeline.encode import encode


def said(driver: Driver) -> list[str]:
    """The lines on stderr, without those of Ray's own logging."""
    return [line for line in driver.stderr.splitlines() if line and "logging.cc" not in line]


def test_ctrl_c_leaves_a_store_to_go_on_from_and_two_runs_at_once_agree(
    ray_address: str, long_texts: Path, encoder: Path, long_undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with Driver(long_texts, store, encoder, ray_address=ray_address) as first:
        first.wait_for_commits(2)
        os.kill(first.pid, signal.SIGINT)
        assert first.wait() == 1
    stopped = "stopped; what was committed stays, and the same command goes on from there"
    assert said(first) == [stopped]
    assert json.loads(first.stdout) == {"error": stopped}
    assert not list(store.rglob("lease.json"))
    assert 2 <= committed(str(store)) < shards_in(long_undisturbed)

    with Driver(long_texts, store, encoder, ray_address=ray_address) as again:
        before = committed(str(store))
        again.wait_for_commits(before + 1)
        config = encode_config(long_texts, store, encoder, shard_tokens=LONG_SHARD_TOKENS)
        with pytest.raises(SaerayError, match=rf"another run \(.*:{again.pid}\) is encoding texts; if it is dead"):
            encode(config)

        # Without its lease nothing keeps a second run out; both work on the same shards.
        lease = store / "datasets/texts/lease.json"
        over = threading.Event()

        def lose_lease() -> None:
            while not over.wait(0.01):
                with contextlib.suppress(FileNotFoundError):
                    if str(again.pid) in lease.read_text():
                        lease.unlink()

        thread = threading.Thread(target=lose_lease)
        thread.start()
        try:
            result = encode(config)
        finally:
            over.set()
            thread.join()
        assert not result.failed
        assert result.missing == 0
        assert again.wait() == 0, again.stderr
    assert contents(store) == long_undisturbed
    assert_whole(store)
