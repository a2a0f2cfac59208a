"""The plain tests behind names, run on texts: what a search for the name's own words or marks would find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from saeray.analysis.diff.names import Names
from saeray.analysis.diff.tests import key_limits
from saeray.analysis.sides import Side, spread
from saeray.labels.predict import predict_units
from saeray.labels.surface import index, measure
from saeray.labels.units import Units, units
from saeray.stats.intervals import newcombe
from saeray.stats.paired import discordant, per_key, tango

Bool = NDArray[np.bool_]

#: Documents that names are tried on, of all sides together: 1,000 take 10 s, most of it the surface of their texts.
DOCUMENTS = 1_000
#: Texts whose surface is remembered: one-versus-rest asks of the same documents once a value. 2 kB each.
REMEMBERED = 4_096


class Texts:
    """Texts to run tests on; `known`: surfaces that were measured already. Others are measured once, when asked for."""

    def __init__(self, texts: Sequence[Units], known: Mapping[str, NDArray[np.float32]] | None = None) -> None:
        self._units, self._known = texts, known or {}
        self._amount: NDArray[np.float32] | None = None

    def passes(self, test: Mapping[str, Any]) -> Bool:
        """Which texts pass, bool[documents]."""
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
    names: Names, sides: Sequence[Side], documents: int, keys: Sequence[NDArray[np.int64]] | None = None
) -> Names:
    """The names with `holds`, `read` and `limits` of `sides`, which proposed none of them: `documents` drawn ones.

    `keys`: of each side the number of each document's key, where the sides share keys: whole keys are drawn then, and
    the limits are of pairs. Names that are not borne out keep what the proposing documents said.
    """
    borne_out = [latent for latent, one in names.of.items() if one.borne_out]
    if not borne_out:
        return names
    passing: list[Bool] = []
    drawn = _drawn(sides, max(1, documents // len(sides)), keys)
    for side, keep in zip(sides, drawn, strict=True):
        found = [text for table in side.where(keep).scan(["text"]) for text in table.column("text").to_pylist()]
        texts = Texts([units(text or "") for text in found])
        tests = [texts.passes(names.of[latent].test) for latent in borne_out]
        passing.append(np.array(tests, np.bool_).reshape(len(tests), len(found)).T)
    own = None if keys is None else [key[keep] for key, keep in zip(keys, drawn, strict=True)]
    limits = difference_limits(passing, own)
    shares = np.array([one.mean(axis=0) if len(one) else np.zeros(len(borne_out)) for one in passing])
    read = tuple(map(len, passing))
    held = {
        latent: replace(names.of[latent], holds=tuple(shares[:, i].tolist()), read=read, limits=limits[i])
        for i, latent in enumerate(borne_out)
    }
    return replace(names, of={latent: held.get(latent, one) for latent, one in names.of.items()})


def difference_limits(
    passing: Sequence[Bool], keys: Sequence[NDArray[np.int64]] | None = None
) -> list[tuple[float, float | None] | None]:
    """The 95% interval of each test's share in the first side less the highest other, from bool [documents, tests] of
    each side: Newcombe's, or of pairs Tango's or `key_limits`. Against several the lower end is the smallest and there
    is no upper one; None where a side has no document."""
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
        found = [
            tango(*discordant(x, y), len(t)) if once[0] and once[i] else key_limits(x, t, y, u)
            for i, (y, u) in enumerate(others, 1)
        ]
    lower = np.min([low for low, _ in found], axis=0).tolist()
    if len(found) > 1:
        return [(low, None) for low in lower]
    return list(zip(lower, found[0][1].tolist(), strict=True))


def _drawn(sides: Sequence[Side], each: int, keys: Sequence[NDArray[np.int64]] | None) -> list[Bool]:
    """Which documents of each side are read: `each` of them, or those of as many keys."""
    if keys is None:
        return [spread(side.n_documents, each) for side in sides]
    there = np.unique(np.concatenate(keys))
    chosen = there[spread(there.size, each)]
    return [np.isin(key, chosen) for key in keys]
