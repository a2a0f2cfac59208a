"""Guards that a GPU which is lost costs a worker and not a shard: a new process encodes it, and the words are torch's;
and that a shard which takes its worker down every time is given up, as memory that runs out on one document does.

There is no GPU here: the reader raises what torch raises when the CUDA context is gone.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import assert_whole, contents, encode_config

from saeray.pipeline import encode as pipeline
from saeray.pipeline import stages
from saeray.pipeline.encode import encode

pytestmark = pytest.mark.usefixtures("ray_address")
ONCE, ALWAYS, DEADLY = 1, 3, 5


def test_lost_workers_cost_no_shard_but_the_one_that_takes_them_down(
    encoder: Path,
    texts: Path,
    undisturbed: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One shard's worker loses its GPU once and the shard is committed by another; one's does every time, and the shard
    is given up in one line with torch's reason; one's dies without a word each time. The rest is done, and a later run
    tries both once more and completes the same bytes.
    """
    pids = tmp_path / "pids"
    pids.mkdir()

    class Encode(stages.Encode):
        def _encode(self, row: dict[str, Any]) -> dict[str, Any]:
            number = row["shard"]
            stages.MOST_ATTEMPTS = 1 if number == ALWAYS else 2  # every attempt is a new process and a model loaded
            (pids / f"{number}-{os.getpid()}").touch()
            if number == DEADLY:
                self.encoder.encode = lambda documents: os._exit(1)
            self.encoder.reader.__dict__.pop("take", None)
            if number == ALWAYS or (number == ONCE and len(list(pids.glob(f"{number}-*"))) == 1):
                self.encoder.reader.take = self.launch_failure
            result = super()._encode(row)
            assert ("device cpu was lost: CUDA error" in (result["note"] or "")) == (number == ONCE)
            return result

        def launch_failure(self, *_: Any) -> None:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors might be")

    monkeypatch.setattr(pipeline, "Encode", Encode)
    store = tmp_path / "store"
    config = encode_config(texts, store, encoder)
    result = encode(config)
    assert sorted(result.failed) == [ALWAYS, DEADLY]
    assert result.failed[DEADLY].startswith("its worker died 2 times while encoding it; run again")
    reason = result.failed[ALWAYS]
    assert reason.startswith("its worker died 1 times while encoding it, the last time because the reader's device cpu")
    assert "was lost: CUDA error: unspecified launch failure (node " in reason
    assert reason.endswith("run again to try it once more")
    assert len(list(pids.glob(f"{ONCE}-*"))) == 2
    assert len(list(pids.glob(f"{ALWAYS}-*"))) == 2
    assert result.missing == 2
    assert result.encoded == result.shards - 2
    said = [record.message for record in caplog.records if record.message.startswith(f"shard {ONCE}: ")]
    assert len(said) == 1
    assert said[0].endswith("); it was encoded by another worker")

    monkeypatch.undo()
    assert encode(config).encoded == 2
    assert contents(store) == undisturbed
    assert_whole(store)
