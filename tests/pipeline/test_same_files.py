"""Guards the first promise where nothing dies: the store's files are a function of the documents and the encoder alone,
whatever the number of workers and threads, the order of shards, and where a run was broken off."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from runs import assert_whole, contents, encode_config

from saeray.pipeline import encode as pipeline
from saeray.pipeline.encode import Progress, encode

pytestmark = pytest.mark.usefixtures("ray_address")


class Interrupted(Exception):
    """What breaks a run off in the middle."""


def test_three_workers_two_threads_and_another_order_write_the_same(
    texts: Path, encoder: Path, undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt = pipeline._adopt

    def shuffled(*arguments: Any) -> list[Any]:
        todo = adopt(*arguments)
        assert len(todo) > 6
        return random.Random(3).sample(todo, len(todo))

    monkeypatch.setattr(pipeline, "_adopt", shuffled)
    result = encode(encode_config(texts, tmp_path, encoder, workers=3, threads=2))
    assert result.encoded == result.shards
    assert contents(tmp_path) == undisturbed
    assert_whole(tmp_path)


def test_a_run_broken_off_goes_on_where_it_stopped(
    texts: Path, encoder: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """What is committed is neither encoded nor touched again, and the whole is as if nothing had happened."""

    def stop(progress: Progress) -> None:
        if progress.done == 3:
            raise Interrupted

    config = encode_config(texts, tmp_path, encoder)
    with pytest.raises(Interrupted):
        encode(config, stop)
    commits = {path: path.stat().st_mtime_ns for path in tmp_path.glob("datasets/*/commits/*.json")}
    assert len(commits) >= 3
    rest = encode(config)
    # A writer of the broken run may still have been at work when the commits were counted.
    assert 0 < rest.encoded <= rest.shards - len(commits)
    assert {path: path.stat().st_mtime_ns for path in commits} == commits
    assert contents(tmp_path) == undisturbed
    assert_whole(tmp_path)
