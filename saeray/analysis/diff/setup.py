"""From what a user asked for to a design: sides opened, pooled, paired and halved, and what to say of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saeray.analysis.diff.design import Design
from saeray.analysis.diff.given import Partner
from saeray.analysis.diff.halving import halve
from saeray.analysis.diff.options import Options
from saeray.analysis.diff.pairing import pair
from saeray.analysis.sides import Side, open_sides, pooled
from saeray.store import Store


@dataclass(frozen=True)
class SetUp:
    """`partners`: of each side its documents in the other channel, when one is given. `facts`: parameters of the
    result: n_pairs, left_out (documents without a shared key, a side each), halves, halves_by, why_no_halves. `kept`:
    of each side given which documents have a shared key; None when nothing is paired."""

    design: Design
    partners: tuple[Partner, ...] | None
    facts: Mapping[str, Any]
    kept: tuple[NDArray[np.bool_], ...] | None = None


def set_up(store: Store, target: str, others: Sequence[str], options: Options) -> SetUp:
    """The design of a diff. Raises UsageError for what cannot be compared as asked."""
    options.check()
    sides = open_sides(store, target, others, options.channel)
    given = None if options.given is None else open_sides(store, target, others, options.given)
    return arrange(sides, given, options)


def arrange(sides: Sequence[Side], given: Sequence[Side] | None, options: Options) -> SetUp:
    """The design of opened sides, target first; `given`: the same in the other channel."""
    if options.against == "rest" and len(sides) > 2:
        sides = [sides[0], pooled(sides[1:], _joined(sides[1:]))]
        given = None if given is None else [given[0], pooled(given[1:], _joined(given[1:]))]
    names, kept = None, None
    facts: dict[str, Any] = {"n_pairs": None, "left_out": None}
    design = Design(tuple(sides), options.against)
    if options.pair_on is not None:
        pairs = pair(sides, options.pair_on)
        names, kept = pairs.names, pairs.kept
        design = Design(pairs.sides, options.against, pairs.keys, len(names))
        facts = {"n_pairs": len(names), "left_out": [int((~keep).sum()) for keep in pairs.kept]}
    design, halves = halve(design, names, options.halves)
    partners = None
    if given is not None:
        partners = tuple(Partner.of(side, other) for side, other in zip(design.sides, given, strict=True))
    return SetUp(design, partners, facts | halves, kept)


def _joined(sides: Sequence[Side]) -> str:
    names = [side.name for side in sides]
    return f"{', '.join(names[:-1])} and {names[-1]}"
