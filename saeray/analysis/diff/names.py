"""What latents are called in the documents that are compared, and what of that holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scipy import sparse

Test = dict[str, Any]

#: A name of function words or common marks ("the word ‘an’", "commas") is as true as another and tells less, so it
#: counts as half of one; a name of the whole text, not of where the latent peaks, as four fifths.
PLAIN, WHOLE = 0.5, 0.8

#: Where a name is from: found on other text, or proposed by the documents that are compared.
LABEL, HERE = "label", "these documents"


@dataclass(frozen=True)
class Name:
    """What a latent is called here. `source`: `LABEL` or `HERE`. `agreement`: balanced accuracy of its test on
    documents that proposed nothing; `holds`: the share of each side's documents that pass the test, target first;
    `difference`: of these, target less the highest other, at equal length where there is one; `borne_out`: the test
    agrees and differs as the latent does; `plain`: it is of function words or common marks alone; `test`: its test, as
    `labels.predict` runs it."""

    text: str
    source: str
    agreement: float
    holds: tuple[float, ...]
    difference: float
    borne_out: bool
    plain: bool = False
    test: Test = field(default_factory=dict)

    @property
    def weight(self) -> float:
        """How much of a difference the name accounts for: that of its test, less what the test misses of the latent."""
        told = PLAIN if self.plain else WHOLE if self.text.startswith("texts with") else 1.0
        return abs(self.difference) * (2 * self.agreement - 1) * told


@dataclass(frozen=True)
class Names:
    """`of`: latent -> its name. `passing`: bool CSR [documents, len(of)], which sampled documents pass each name's
    test, columns in the order of `of`; `documents`: how many were read."""

    of: Mapping[int, Name]
    passing: sparse.csr_matrix
    documents: int

    def columns(self, latents: Sequence[int]) -> sparse.csr_matrix:
        """The columns of some named latents, in their order."""
        place = {latent: i for i, latent in enumerate(self.of)}
        return self.passing[:, [place[latent] for latent in latents]]


NO_NAMES = Names({}, sparse.csr_matrix((0, 0), dtype=bool), 0)
