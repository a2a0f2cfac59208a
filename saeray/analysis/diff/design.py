"""The set-up of a diff: which documents are compared with which, what pairs them, and which half proposes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from saeray.analysis.sides import Side

Against = Literal["max", "rest", "union"]


@dataclass(frozen=True)
class Design:
    """`sides`: target first; with `rest` the others are one pooled side. `keys`: of each side the number of each
    document's key, int64[documents] in scan order, 0..n_keys-1, or None when nothing is paired (`n_keys` is 0 then);
    every key has documents on every side. `proposing`: of each side which documents propose, bool[documents] in scan
    order; None when there are no halves and everything comes from all documents.
    """

    sides: tuple[Side, ...]
    against: Against = "max"
    keys: tuple[NDArray[np.int64], ...] | None = None
    n_keys: int = 0
    proposing: tuple[NDArray[np.bool_], ...] | None = None

    def proposers(self) -> Design:
        """The proposing half as a design without halves; itself when there are none."""
        return self if self.proposing is None else self._only(self.proposing)

    def verifiers(self) -> Design:
        """The other half as a design without halves; itself when there are none."""
        return self if self.proposing is None else self._only(tuple(~mask for mask in self.proposing))

    def _only(self, masks: tuple[NDArray[np.bool_], ...]) -> Design:
        sides = tuple(side.where(mask) for side, mask in zip(self.sides, masks, strict=True))
        if self.keys is None:
            return Design(sides, self.against)
        own = [key[mask] for key, mask in zip(self.keys, masks, strict=True)]
        # All rows of a key are in one half, so each half numbers its own keys from 0.
        there, numbers = np.unique(np.concatenate(own), return_inverse=True)
        cuts = np.cumsum([key.size for key in own])[:-1]
        return Design(sides, self.against, tuple(np.split(numbers.astype(np.int64), cuts)), there.size)


#: Of a result that was not made from sides (one read back, or a test's).
NO_DESIGN = Design(())
