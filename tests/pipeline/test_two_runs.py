"""Guards what people do to a run: stop it, start it again while it runs, or run it twice at once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from clusters import raylet_of
from ray.cluster_utils import Cluster
from runs import (
    LONG_SHARD_TOKENS,
    Driver,
    assert_whole,
    committed,
    contents,
    encode_config,
    encoders_below,
    shards_in,
)

from saeray.errors import SaerayError
from saeray.pipeline.encode import encode


def said(driver: Driver) -> list[str]:
    """The lines on stderr, without those of Ray's own logging and of its raylet (the shared Ray has many workers)."""
    ray_s = ("logging.cc", "(raylet)")
    return [line for line in driver.stderr.splitlines() if line and not any(mark in line for mark in ray_s)]


def test_ctrl_c_leaves_a_store_to_go_on_from_and_two_runs_at_once_agree(
    ray_cluster: Cluster, long_texts: Path, encoder: Path, long_undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    one_worker = (long_texts, store, encoder, "--workers", "1")
    with Driver(*one_worker, ray_address=ray_cluster.address) as first:
        first.wait_for_commits(2)
        os.kill(first.pid, signal.SIGINT)
        assert first.wait() == 1
    stopped = "stopped; what was committed stays, and the same command goes on from there"
    assert said(first) == [stopped]
    assert json.loads(first.stdout) == {"error": stopped}
    assert not list(store.rglob("lease.json"))
    assert 2 <= committed(str(store)) < shards_in(long_undisturbed)

    with Driver(*one_worker, ray_address=ray_cluster.address) as again:
        before = committed(str(store))
        again.wait_for_commits(before + 1)
        config = encode_config(long_texts, store, encoder, shard_tokens=LONG_SHARD_TOKENS)
        with pytest.raises(SaerayError, match=rf"another run \(.*:{again.pid}\) is encoding texts; if it is dead"):
            encode(config)

        # Without its lease nothing keeps a second run out. Its encoder sleeps until the second run has done a shard, so
        # that they work on the same ones.
        asleep = encoders_below(raylet_of(ray_cluster.head_node).pid)
        assert asleep
        for process in asleep:
            process.suspend()

        def wake(_: object = None) -> None:
            for process in asleep:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

        lease = store / "datasets/texts/lease.json"
        lost, over = threading.Event(), threading.Event()

        def lose_lease() -> None:
            while not over.wait(0.01):
                with contextlib.suppress(FileNotFoundError):
                    if str(again.pid) in lease.read_text():
                        lease.unlink()
                        lost.set()

        thread = threading.Thread(target=lose_lease)
        thread.start()
        try:
            assert lost.wait(60)
            result = encode(config, wake)
        finally:
            wake()
            over.set()
            thread.join()
        assert not result.failed
        assert result.encoded > 0
        assert result.missing == 0
        assert again.wait() == 0, again.stderr
    assert contents(store) == long_undisturbed
    assert_whole(store)
