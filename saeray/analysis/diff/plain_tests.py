"""The plain tests behind names, run on texts: what a search for the name's own words or marks would find."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from saeray.analysis.diff.names import Name, Names
from saeray.analysis.diff.tests import key_limits
from saeray.analysis.sides import Side, spread
from saeray.labels.predict import places, predict_units
from saeray.labels.surface import index, measure
from saeray.labels.units import Units, units
from saeray.stats.intervals import newcombe
from saeray.stats.length import by_stratum, standardise
from saeray.stats.paired import discordant, per_key, tango

Bool = NDArray[np.bool_]
Int64 = NDArray[np.int64]

#: Documents that names are tried on, of all sides together: 1,000 take 10 s, most of it the surface of their texts.
DOCUMENTS = 1_000
#: The least of each side: of many sides a share of 1,000 each would confirm nothing.
LEAST = 250
#: Texts of a side in which it is counted what a form's search finds; of that, strings that are told: how many, how long
#: and in which share of the texts at least.
COUNTED, TOLD, SHORT, OFTEN = 200, 3, 24, 0.15
#: Texts whose surface is remembered: one-versus-rest asks of the same documents once a value. 2 kB each.
REMEMBERED = 16_384


class Texts:
    """Texts to run tests on; `known`: surfaces that were measured already. Others are measured once, when asked for."""

    def __init__(self, texts: Sequence[Units], known: Mapping[str, NDArray[np.float32]] | None = None) -> None:
        self._units, self._known = texts, known or {}
        self._amount: NDArray[np.float32] | None = None
        self._passes: dict[str, Bool] = {}
        self._starts: dict[str, Int64] = {}

    def passes(self, test: Mapping[str, Any]) -> Bool:
        """Which texts pass, bool[documents]."""
        key = json.dumps(test, sort_keys=True)
        if key not in self._passes:
            self._passes[key] = self._run(test)
        return self._passes[key]

    @cached_property
    def ends(self) -> Int64:
        """Where each text ends, a place being a character of all texts one after the other."""
        return np.cumsum([len(one.text) + 1 for one in self._units], dtype=np.int64)

    def starts(self, tests: Sequence[Mapping[str, Any]]) -> list[Int64]:
        """Of each test the places at which what it finds begins, ascending."""
        keys = [json.dumps(test, sort_keys=True) for test in tests]
        new = {key: dict(test) for key, test in zip(keys, tests, strict=True) if key not in self._starts}
        if new:
            # Arrays a text: of 1,000 long texts Python's integers would take half a gigabyte.
            found: list[list[Int64]] = [[np.zeros(0, np.int64)] for _ in new]
            first = 0
            for text in self._units:
                for at, spans in zip(found, places(list(new.values()), text), strict=True):
                    at.append(np.array([first + start for start, _ in spans], np.int64))
                first += len(text.text) + 1
            self._starts |= {key: np.concatenate(at) for key, at in zip(new, found, strict=True)}
        return [self._starts[key] for key in keys]

    def finds(self, tests: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
        """Of each test the commonest strings that it finds in `COUNTED` drawn texts, most frequent first: those that
        are short and in `OFTEN` of the texts where it finds anything."""
        strings: list[Counter[str]] = [Counter() for _ in tests]
        finding = [0] * len(tests)
        for i in np.flatnonzero(spread(len(self._units), COUNTED)).tolist():
            text = self._units[i]
            for j, spans in enumerate(places([dict(test) for test in tests], text)):
                found = {" ".join(text.text[a:b].lower().replace("’", "'").split()) for a, b in spans}
                strings[j].update(one for one in found if 0 < len(one) <= SHORT)
                finding[j] += bool(found)
        first = [sorted(of.items(), key=lambda item: (-item[1], item[0]))[:TOLD] for of in strings]
        return [tuple(one for one, n in of if n >= OFTEN * texts) for of, texts in zip(first, finding, strict=True)]

    def _run(self, test: Mapping[str, Any]) -> Bool:
        if test.get("kind") == "surface" and test.get("name") in index():
            if self._amount is None:
                found = (self._known.get(one.text) for one in self._units)
                each = zip(found, self._units, strict=True)
                self._amount = np.stack([surface(one.text) if known is None else known for known, one in each])
            return np.asarray(self._amount[:, index()[test["name"]]] >= 1)
        return np.asarray(predict_units(dict(test), self._units) >= 0.5)


@lru_cache(maxsize=REMEMBERED)
def surface(text: str) -> NDArray[np.float32]:
    """How much of each surface property a text has."""
    return measure(units(text)).amount


def with_shares(
    names: Names,
    sides: Sequence[Side],
    documents: int,
    keys: Sequence[NDArray[np.int64]] | None = None,
    *,
    inner: Sequence[int] | NDArray[np.int64] = (),
    union: bool = False,
) -> Names:
    """The names with `holds`, `read`, `limits` and `level` of `sides`, which proposed none of them where there are
    halves: of about `documents` drawn ones, and of `LEAST` a side.

    `keys`: of each side the number of each document's key, where the sides share keys: whole keys are drawn then, and
    the limits are of pairs. `inner`: edges of the classes of length. `union`: the limits are against what any other
    side has for the same key. Names that are not borne out keep what the proposing documents said.
    """
    borne_out = [latent for latent, one in names.of.items() if one.borne_out]
    if not borne_out:
        return names
    passing: list[Bool] = []
    searched: list[Texts] = []
    drawn = _drawn(sides, documents, keys)
    for side, keep in zip(sides, drawn, strict=True):
        found = [text for table in side.where(keep).scan(["text"]) for text in table.column("text").to_pylist()]
        texts = Texts([units(text or "") for text in found])
        searched.append(texts)
        tests = [texts.passes(names.of[latent].test) for latent in borne_out]
        passing.append(np.array(tests, np.bool_).reshape(len(tests), len(found)).T)
    own = None if keys is None else [key[keep] for key, keep in zip(keys, drawn, strict=True)]
    limits = difference_limits(passing, own, union=union)
    level = _at_equal_length(passing, [side.lengths[keep] for side, keep in zip(sides, drawn, strict=True)], inner)
    shares = np.array([one.mean(axis=0) if len(one) else np.zeros(len(borne_out)) for one in passing])
    read = tuple(map(len, passing))
    held = {
        latent: replace(
            names.of[latent], holds=tuple(shares[:, i].tolist()), read=read, limits=limits[i], level=level[i]
        )
        for i, latent in enumerate(borne_out)
    }
    held = _with_finds(held, searched)
    return replace(names, of={latent: held.get(latent, one) for latent, one in names.of.items()})


def _with_finds(held: Mapping[int, Name], sides: Sequence[Texts]) -> dict[int, Name]:
    """The names of forms with what their searches find most, on the side that has it more often."""
    told = dict(held)
    for s, texts in enumerate(sides):
        own = [latent for latent, one in held.items() if one.test.get("kind") == "surface" and one.side == s]
        for latent, strings in zip(own, texts.finds([held[latent].test for latent in own]), strict=True):
            told[latent] = replace(held[latent], finds=strings)
    return told


def difference_limits(
    passing: Sequence[Bool], keys: Sequence[NDArray[np.int64]] | None = None, *, union: bool = False
) -> list[tuple[float, float | None] | None]:
    """The 95% interval of each test's share in the first side less the highest other, from bool [documents, tests] of
    each side: Newcombe's, or of pairs Tango's or `key_limits`. Against several the lower end is the smallest and there
    is no upper one; `union`: of the keys that have it, against those where any other side has. None where a side has no
    document."""
    if not all(map(len, passing)):
        return [None] * passing[0].shape[1]
    if keys is None:
        n, counts = [len(one) for one in passing], [one.sum(axis=0) for one in passing]
        found = [newcombe(counts[0], n[0], counts[i], n[i]) for i in range(1, len(n))]
    else:
        numbers = np.unique(np.concatenate(keys), return_inverse=True)[1]
        own = np.split(numbers, np.cumsum([key.size for key in keys])[:-1])
        rows = [csr_array(one.astype(np.int64)) for one in passing]
        (x, t), *others = (per_key(one, key, int(numbers.max()) + 1) for one, key in zip(rows, own, strict=True))
        once = [bool((n == 1).all()) for n in (t, *(n for _, n in others))]
        if union:
            found = [tango(*discordant(x, csr_array(sum(y for y, _ in others))), len(t))]
        else:
            found = [
                tango(*discordant(x, y), len(t)) if once[0] and once[i] else key_limits(x, t, y, u)
                for i, (y, u) in enumerate(others, 1)
            ]
    lower = np.min([low for low, _ in found], axis=0).tolist()
    if len(found) > 1:
        return [(low, None) for low in lower]
    return list(zip(lower, found[0][1].tolist(), strict=True))


def _at_equal_length(
    passing: Sequence[Bool], n_tokens: Sequence[NDArray[np.int64]], inner: Sequence[int] | NDArray[np.int64]
) -> list[float | None]:
    """Each test's share in the first side less the highest other if all sides had texts of the same lengths."""
    stratum = [np.searchsorted(inner, length, side="right") for length in n_tokens]
    found = [by_stratum(one, own, len(inner) + 1) for one, own in zip(passing, stratum, strict=True)]
    rates = standardise(*map(np.array, zip(*found, strict=True)))
    level = rates[0] - rates[1:].max(axis=0)
    return [None if np.isnan(one) else float(one) for one in level]


def _drawn(sides: Sequence[Side], documents: int, keys: Sequence[NDArray[np.int64]] | None) -> list[Bool]:
    """Which documents of each side are read: an equal share of them a side, or all of as many keys as make so many."""
    if keys is None:
        return [spread(side.n_documents, max(LEAST, documents // len(sides))) for side in sides]
    there = np.unique(np.concatenate(keys))
    of_a_key = sum(map(len, keys)) / max(there.size, 1)
    chosen = there[spread(there.size, max(LEAST, int(documents // max(of_a_key, 1))))]
    return [np.isin(key, chosen) for key in keys]
