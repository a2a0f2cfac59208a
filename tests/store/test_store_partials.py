"""Promise: partial results hold every commit once, in few files, whatever was killed or committed anew."""

from __future__ import annotations

import random
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from saeray.store import location
from saeray.store.partials import Node, Partials


def shards_of(node: Node) -> list[int]:
    return [shard for below in node.below for shard in shards_of(below)] if node.below else [node.start]


@settings(max_examples=200, deadline=None)
@given(st.sets(st.integers(0, 70)), st.integers(2, 4))
def test_roots_hold_every_commit_once_and_are_as_few_as_can_be(tmp_path_factory, shards, fan):
    """A whole aligned range is one partial; nothing is left out, and nothing is counted twice."""
    partials = Partials(location("/nowhere"), {shard: f"{shard:064d}" for shard in shards}, fan)
    assert [shard for root in partials.roots for shard in shards_of(root)] == sorted(shards)
    starts = {(root.start, root.stop - root.start) for root in partials.roots}
    for start, width in starts:
        siblings = range(start - start % (width * fan), start - start % (width * fan) + width * fan)
        assert not set(siblings) <= shards, "a range that is whole was not merged"


def made(partials: Partials, nodes: list[Node], stop_after: int | None = None) -> list[str]:
    """Makes partials as a run does: a shard's is its number, a merged one the numbers of those below."""
    for node in nodes[:stop_after]:
        parts = [partials.read(below) for below in node.below]
        assert None not in parts, "a partial was to be made before those below it"
        partials.keep(node, b" ".join(p for p in parts if p is not None) or str(node.start).encode())
    return partials.place.names()


def test_a_run_that_is_stopped_anywhere_ends_with_the_same_files(tmp_path: Path) -> None:
    """Stopped between any two files, also between a merged one and the removal of what it was made of."""
    commits = {shard: f"{shard:064d}" for shard in range(22) if shard != 13}
    whole = Partials(location(str(tmp_path / "whole")), commits, 4)
    expected = made(whole, whole.missing())
    assert [name.rsplit("-", 1)[0] for name in expected] == [
        "00000-00004", "00004-00008", "00008-00012", "00012-00013", "00014-00015", "00015-00016", "00016-00020",
        "00020-00021", "00021-00022",
    ]  # fmt: skip
    chance = random.Random(0)
    partials = Partials(location(str(tmp_path / "killed")), commits, 4)
    while missing := partials.missing():
        leftover = next((node for node in missing if node.below), None)
        made(partials, missing, chance.randint(0, 4))
        if leftover is not None and (partials.place / leftover.name).exists():
            for below in leftover.below:
                (partials.place / below.name).create(b"not removed")
    assert partials.place.names() == expected
    assert b" ".join(partials.read(root) or b"" for root in partials.roots) == b" ".join(
        str(shard).encode() for shard in commits
    )


def test_what_is_new_is_all_that_is_made_and_another_commit_is_made_anew(tmp_path: Path) -> None:
    """A night's shards cost themselves and the ranges that they fill; a shard with another digest is counted again."""
    place = location(str(tmp_path))
    commits = {shard: f"{shard:064d}" for shard in range(6)}
    partials = Partials(place, commits, 4)
    made(partials, partials.missing())
    assert Partials(place, commits, 4).missing() == []
    grown = Partials(place, commits | {6: "6" * 64, 7: "7" * 64}, 4)
    assert [(node.start, node.stop) for node in grown.missing()] == [(6, 7), (7, 8), (4, 8)]
    changed = Partials(place, commits | {5: "a" * 64}, 4)
    assert [(node.start, node.stop) for node in changed.missing()] == [(5, 6)]
    within = Partials(place, commits | {1: "a" * 64}, 4)
    assert [(node.start, node.stop) for node in within.missing()] == [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)]
