"""Counts how often each shard was begun, in an actor of its own that outlives the workers.

It stands alone because its process would otherwise import torch and transformers: two seconds of a core a run.
"""

from __future__ import annotations

# A document that takes its worker down with it would do so for ever; a shard that has been begun this often without
# being finished is given up and reported. Five leaves room for real preemptions.
MOST_ATTEMPTS = 5


class Attempts:
    """How often each shard was begun and not finished in this run."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}

    def begin(self, shard: int) -> int:
        self._begun[shard] = self._begun.get(shard, 0) + 1
        return self._begun[shard]

    def finish(self, shard: int) -> None:
        self._begun.pop(shard, None)
