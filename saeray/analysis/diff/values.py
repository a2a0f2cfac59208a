"""The values of a column as sides of one base: one-versus-rest and ordered series read the rows once for all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from saeray.analysis.diff.counts import Halves, count
from saeray.analysis.diff.given import Partner
from saeray.analysis.diff.pairing import column_of
from saeray.analysis.diff.presence import Rows, Runs, rows_of
from saeray.analysis.diff.setup import SetUp
from saeray.analysis.sides import Side, open_side
from saeray.errors import UsageError, short
from saeray.store import Store
from saeray.store.selectors import Condition, parse

Int64 = NDArray[np.int64]

#: Values with fewer documents are left out: against the highest of the others they would settle every comparison.
SMALLEST_VALUE = 20
#: More values than this are no groups to compare ("no such value" is likelier: an id, a prompt).
MOST_VALUES = 50
#: What a sample holds of each document: some 12 kB at 1,000 latents.
SAMPLED = ("doc_id", "channel", "text", "n_tokens", "token_starts", "latents", "max", "count", "peak")


@dataclass(frozen=True)
class Values:
    """`base`: the documents that have one of `values`; `code` int64[documents]: which; `sides`: the same a value each,
    named by a selector; `left_out`: value -> its documents, of those too small, None being the documents without one.
    """

    base: Side
    column: str
    values: tuple[str, ...]
    code: Int64
    sides: tuple[Side, ...]
    left_out: dict[str | None, int]


def open_values(
    store: Store, target: str, column: str, channel: str | None, order: Sequence[str] | None = None
) -> Values:
    """The documents that `target` selects by the values of `column`, in `order`, which leaves out all others, or as
    numbers or words follow each other. UsageError when fewer than two values are there, or too many."""
    base = open_side(store, target, channel)
    found = column_of(base, column, "to group by")
    sizes = {one["values"]: one["counts"] for one in found.value_counts().to_pylist()}
    there = sorted((value for value in sizes if value is not None), key=_natural)
    if len(there) < 2:
        holds = f"only {short(there[0])}" if there else "no value"
        raise UsageError(f"{column} holds {holds} in {target}; name another side to compare with")
    if order is not None:
        for value in order:
            if value not in sizes:
                raise UsageError(f"{target} has no {column} {short(value)}; it has {', '.join(map(short, there[:10]))}")
        if len(set(order)) < max(len(order), 2):
            raise UsageError("--order names two values or more, each once")
        there = list(order)
    elif len(there) > MOST_VALUES:
        raise UsageError(
            f"{column} has {len(there):,} values in {target}, more than {MOST_VALUES}; group by another column"
        )
    kept = [value for value in there if sizes[value] >= SMALLEST_VALUE]
    if len(kept) < 2:
        raise UsageError(f"fewer than two values of {column} have {SMALLEST_VALUE} documents in {target}")
    number = found.combine_chunks().dictionary_encode()
    place = np.array([kept.index(v) if v in kept else -1 for v in number.dictionary.to_pylist()] + [-1], np.int64)
    code = place[number.indices.fill_null(len(place) - 1).to_numpy()]
    own = base.where(code >= 0)
    code = code[code >= 0]
    names = [str(_with(target, column, value)) for value in kept]
    left = {value: n for value, n in sizes.items() if value not in kept}
    sides = tuple(own.where(code == i, name) for i, name in enumerate(names))
    return Values(own, column, tuple(kept), code, sides, left)


@dataclass(frozen=True)
class Corpus:
    """The documents of a set-up as rows of one base: `code` int64[documents] says whose each is, `proposing`
    bool[documents] its half (None: no halves), `keys` int64[documents] its key when paired."""

    base: Side
    code: Int64
    proposing: NDArray[np.bool_] | None
    keys: Int64 | None
    partner: Partner | None

    @classmethod
    def of(cls, values: Values, made: SetUp, given: Side | None) -> Corpus:
        """`made` is the set-up of the sides of `values`, in order."""
        used = np.ones(values.base.n_documents, np.bool_)
        for i, keep in enumerate(made.kept or ()):
            used[values.code == i] = keep
        base, code = values.base.where(used), values.code[used]

        def spread(parts: Sequence[NDArray[np.generic]] | None) -> NDArray[np.generic] | None:
            if parts is None:
                return None
            whole = np.empty(code.size, parts[0].dtype)
            for i, part in enumerate(parts):
                whole[code == i] = part
            return whole

        partner = None if given is None else Partner.of(base, given)
        design = made.design
        return cls(base, code, spread(design.proposing), spread(design.keys), partner)  # type: ignore[arg-type]

    def count(self, n: int, inner: Int64, d_sae: int) -> Halves:
        """Counts of the proposing and of the verifying half of each of `n` sides, in one pass over all."""
        if self.proposing is None:
            every = tuple(count(self.base, self.code, n, inner, d_sae, self.partner))
            return every, every
        found = count(self.base, self.code * 2 + ~self.proposing, 2 * n, inner, d_sae, self.partner)
        return tuple(found[0::2]), tuple(found[1::2])

    def rows(self, latents: Int64, taken: Runs, inner: Int64) -> Iterator[Rows]:
        """Presence of `latents` in every document, a piece at a time, in one pass (two with a partner)."""
        return rows_of(self.base, latents, taken, inner, self.partner)


def sampled(side: Side, most: int, code: Int64) -> tuple[Side, NDArray[np.bool_]]:
    """Some `most` documents of a side held in memory, of each value every k-th, and which they are."""
    place = np.empty(code.size, np.int64)
    for value in np.unique(code):
        place[code == value] = np.arange((code == value).sum())
    keep = place % max(1, -(-code.size // most)) == 0
    part = side.where(keep)
    tables = list(part.scan([name for name in SAMPLED if name in side.stored]))

    def scan(wanted: Sequence[str]) -> object:
        return (table.select(list(wanted)) for table in tables)

    return replace(part, scan=scan), keep  # type: ignore[arg-type]


def _natural(value: str) -> tuple[int, float, str]:
    """Numbers by size before words by letter."""
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value


def _with(target: str, column: str, value: str) -> object:
    selector = parse(target)
    return replace(selector, conditions=(*selector.conditions, Condition(column, "=", (value,))))
