"""The plain tests behind names, run on texts: what a search for the name's own words or marks would find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saeray.analysis.diff.names import Names
from saeray.analysis.sides import Side, spread
from saeray.labels.predict import predict_units
from saeray.labels.surface import index, measure
from saeray.labels.units import Units, units

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


def with_shares(names: Names, sides: Sequence[Side], documents: int) -> Names:
    """The names with `holds` counted in `sides`, which proposed none of them: `documents` drawn ones.
    Names that are not borne out keep what the proposing documents said."""
    borne_out = [latent for latent, one in names.of.items() if one.borne_out]
    if not borne_out:
        return names
    shares: list[list[float]] = []
    for side in sides:
        every = side.where(spread(side.n_documents, max(1, documents // len(sides))))
        found = (text for table in every.scan(["text"]) for text in table.column("text").to_pylist())
        texts = Texts([units(text or "") for text in found])
        shares.append([float(texts.passes(names.of[latent].test).mean()) for latent in borne_out])
    held = {
        latent: replace(names.of[latent], holds=tuple(column))
        for latent, column in zip(borne_out, zip(*shares, strict=True), strict=True)
    }
    return replace(names, of={latent: held.get(latent, one) for latent, one in names.of.items()})
