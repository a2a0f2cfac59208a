"""Results that add up, kept by shard: what was counted once is not read again.

A partial is a file of one committed shard, or of 16 neighbouring ones that are all committed, or of 16 such, and so on.
When a whole range is there, its partial is made from the 16 below it, which are then removed: a corpus of a million
shards is some 70 files to add up, not a million, and a night's new shards cost what is new.

A partial's name carries the digest of the commits it was made from. It is created only if absent; one of other commits
(a shard that was deleted and encoded anew) has another name and is not looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from saeray.store.files import Location

#: Partials that become one. At most 15 a level are added up at the end: some 70 files for a million shards.
FAN = 16


@dataclass(frozen=True)
class Node:
    """A range of shards, `start` to `stop` without it, whose commits have `digest`; `below`: what it is made of."""

    start: int
    stop: int
    digest: str
    below: tuple[Node, ...] = ()

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.start:05d}-{self.stop:05d}-{self.digest[:16]}.parquet"


class Partials:
    """The partials of one question below `place`, for the commits (shard -> digest of what it committed) there are."""

    def __init__(self, place: Location, commits: Mapping[int, str], fan: int = FAN) -> None:
        self.place, self._commits, self._fan = place, dict(sorted(commits.items())), fan

    @cached_property
    def roots(self) -> tuple[Node, ...]:
        """The fewest partials that hold every commit once, ascending."""
        nodes = [Node(shard, shard + 1, digest) for shard, digest in self._commits.items()]
        width = 1
        while True:
            merged = list(self._merged(nodes, width))
            if len(merged) == len(nodes):
                return tuple(nodes)
            nodes, width = merged, width * self._fan

    def missing(self) -> list[Node]:
        """The partials to make, each after those it is made of. Removes what a killed run left of merged ones."""
        names = set(self.place.names())
        wanted: list[Node] = []

        def visit(node: Node) -> None:
            if node.name in names:
                self._remove(tuple(one for below in node.below for one in _walk(below) if one.name in names))
                return
            for below in node.below:
                visit(below)
            wanted.append(node)

        for root in self.roots:
            visit(root)
        return wanted

    def read(self, node: Node) -> bytes | None:
        """The bytes of a partial, or None when it is not there."""
        return (self.place / node.name).read_if_there()

    def keep(self, node: Node, data: bytes) -> None:
        """Writes a partial, and then removes what it was made of."""
        (self.place / node.name).create(data)
        self._remove(node.below)

    def _remove(self, nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            (self.place / node.name).delete()

    def _merged(self, nodes: list[Node], width: int) -> Iterator[Node]:
        """`nodes`, each run of `fan` of this width that fills an aligned range as one."""
        at = 0
        while at < len(nodes):
            run = nodes[at : at + self._fan]
            start, stop = run[0].start, run[0].start + width * self._fan
            whole = start % (width * self._fan) == 0 and len(run) == self._fan and run[-1].stop == stop
            if whole and all(one.stop - one.start == width for one in run):
                digest = hashlib.sha256("\n".join(one.digest for one in run).encode()).hexdigest()
                yield Node(start, stop, digest, tuple(run))
                at += self._fan
            else:
                yield nodes[at]
                at += 1


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for below in node.below:
        yield from _walk(below)
