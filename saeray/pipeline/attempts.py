"""Counts how often each shard was begun, in an actor of its own that outlives the workers.

It stands alone because its process would otherwise import torch and transformers: two seconds of a core a run.
"""

from __future__ import annotations

# A document that takes its worker down with it would do so for ever; a shard that has been begun this often without
# being finished is given up and reported. Five leaves room for real preemptions.
MOST_ATTEMPTS = 5


class Attempts:
    """How often each shard was begun and not finished in this run, and what its last worker said before it left."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}
        self._said: dict[int, str] = {}
        self._any_finished = False

    def begin(self, shard: int) -> tuple[int, str | None]:
        """(how often it was begun, this time included; the last words of a worker that left it, if any)."""
        self._begun[shard] = self._begun.get(shard, 0) + 1
        return self._begun[shard], self._said.get(shard)

    def leave(self, shard: int, said: str) -> None:
        """Keeps what a worker says that is about to end itself."""
        self._said[shard] = said

    def finish(self, shard: int) -> None:
        self._any_finished = True
        self._begun.pop(shard, None)
        self._said.pop(shard, None)

    def any_finished(self) -> bool:
        """Whether this run has a worker, or had one, that encodes."""
        return self._any_finished


def given_up(times: int, said: str | None) -> str:
    """The line about a shard that was begun too often."""
    why = f", the last time because {said}" if said else ""
    return f"its worker died {times} times while encoding it{why}; run again to try it once more"
