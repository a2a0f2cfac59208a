"""Names that hold here: what a finding is called is put to the very documents that are compared.

A label was found on other text, and where this corpus differs from that it may be wrong. So each finding has two
possible names, its label and one proposed from these documents, and the test behind each name is run on the texts: it
must tell the documents with the latent from those without, and must differ between the sides as the latent does. Of
the 40 strongest latents between two AlpacaEval models half had a label that failed this ("full stops", in 99% of both).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from saeray.analysis.sides import Side
from saeray.errors import SaerayError
from saeray.labels.auto import facts_of, label
from saeray.labels.facts import STOP
from saeray.labels.predict import predict_units, test_in
from saeray.labels.splits import split_of
from saeray.labels.surface import index, measure
from saeray.labels.units import BREAK, Units, units
from saeray.stats.frequency import Frequencies, flat, lengths
from saeray.stats.length import standardise

Test = dict[str, Any]
Bool = NDArray[np.bool_]

#: Documents that names are tried on, of all sides together: 1,000 take 10 s, most of it the surface of their texts.
DOCUMENTS = 1_000
#: Balanced accuracy from which a name tells where its latent is. Of 86 names read beside their sentences, those of 0.65
#: and more were right but for 3; below it two thirds were of words that stand in nearly every text.
AGREES = 0.65
#: Further latents that names are proposed beside: what all peak on is no latent's own.
BACKGROUND = 256
#: The least part of the latent's difference that its name must show by its own test.
SHARE = 0.25
#: A name proposed here must be this much better than the label, which was found on more text.
BETTER = 0.02

#: A name of function words or common marks ("the word ‘an’", "commas") is as true as another and tells less, so it
#: counts as half of one; a name of the whole text, not of where the latent peaks, as four fifths.
PLAIN, WHOLE = 0.5, 0.8
COMMON_MARKS = frozenset([",", ".", ":", BREAK])

LABEL, HERE = "label", "these documents"


@dataclass(frozen=True)
class Name:
    """What a latent is called here. `source`: `LABEL` or `HERE`. `agreement`: balanced accuracy of its test on
    documents that proposed nothing; `holds`: the share of each side's documents that pass the test, target first;
    `difference`: of these, target less the highest other, at equal length where there is one; `borne_out`: the test
    agrees and differs as the latent does; `plain`: it is of function words or common marks alone."""

    text: str
    source: str
    agreement: float
    holds: tuple[float, ...]
    difference: float
    borne_out: bool
    plain: bool = False

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


def name_latents(
    sides: Sequence[Side],
    differences: Mapping[int, float],
    labels: Mapping[int, tuple[str, Test]],
    inner: NDArray[np.int64],
    others: Sequence[int] = (),
) -> Names:
    """The best name of each latent of `differences` (latent -> its difference at equal length), where one has a test.

    `labels`: latent -> what it is called and the test of that. `inner`: edges of the length strata. `others`: further
    latents, of which some are the background. Reads every k-th document, `DOCUMENTS` in all. Without texts there are
    no names.
    """
    if not differences or any("text" not in side.stored for side in sides):
        return NO_NAMES
    background = np.array(sorted(set(others) - set(differences)), np.int64)
    background = background[:: max(1, -(-len(background) // BACKGROUND))]
    wanted = np.union1d(np.array(sorted(differences), np.int64), background)
    sample = _Sample(sides, wanted, inner)
    proposed, surfaces = _proposed(sample, wanted)
    texts = _Texts(sample.units, surfaces)
    found, columns = {}, []
    for latent in sorted(differences):
        i = int(np.searchsorted(wanted, latent))
        tried = []
        for source, offered in ((HERE, proposed.get(latent)), (LABEL, labels.get(latent))):
            if offered and offered[1].get("kind", "none") != "none":
                passes = texts.passes(offered[1])
                agreement = sample.agreement(i, passes) + (BETTER if source == LABEL else 0.0)
                tried.append((agreement, source, _tested(offered), passes))
        if tried:
            _, source, (text, test), passes = max(tried, key=lambda one: one[:2])
            found[latent] = replace(sample.named(i, text, source, passes, differences[latent]), plain=_plain(test))
            columns.append(sparse.csc_matrix(passes[:, None]))
    passing = sparse.hstack(columns).tocsr() if columns else sparse.csr_matrix((len(sample.units), 0), dtype=bool)
    return Names(found, passing, len(sample.units))


class _Sample:
    """Some documents of all sides: their units, side, stratum, which of the wanted latents they have, and which of
    them propose no names."""

    def __init__(self, sides: Sequence[Side], wanted: NDArray[np.int64], inner: NDArray[np.int64]) -> None:
        self.sides, self.wanted = sides, wanted
        self.strides = [max(1, -(-side.n_documents * len(sides) // DOCUMENTS)) for side in sides]
        texts: list[str] = []
        of_side, rows, n_tokens = [], [], []
        for s in range(len(sides)):
            for table in self.scan(s, ["text", "n_tokens", "latents"]):
                texts += [text or "" for text in table.column("text").to_pylist()]
                n_tokens += table.column("n_tokens").to_pylist()
                of_side += [s] * table.num_rows
                rows += table.column("latents").to_pylist()
        self.units = [units(text) for text in texts]
        self.held_out = np.array([split_of(text) != "propose" for text in texts], bool)
        self.side = np.array(of_side, np.int64)
        self.stratum = np.searchsorted(inner, np.array(n_tokens, np.int64), side="right")
        self.n_strata = len(inner) + 1
        self.present = np.zeros((len(texts), len(wanted)), bool)
        for row, found in enumerate(rows):
            self.present[row, found] = True

    def scan(self, s: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The sampled documents of side `s`; of their latents the wanted ones, numbered by their place in `wanted`."""
        first, stride = 0, self.strides[s]
        for table in self.sides[s].scan(columns):
            for batch in table.to_batches():
                keep = np.arange(batch.num_rows)[(np.arange(batch.num_rows) + first) % stride == 0]
                first += batch.num_rows
                yield pa.Table.from_batches([_narrowed(batch.take(pa.array(keep)), self.wanted)])

    def as_side(self) -> Side:
        """The sample as a side of its own, for what labels are proposed from."""
        first = self.sides[0]

        def scan(columns: Sequence[str]) -> Iterator[pa.Table]:
            for s in range(len(self.sides)):
                yield from self.scan(s, columns)

        n_tokens = np.zeros(len(self.units), np.int64)
        ids = pa.chunked_array([], pa.string())
        return Side("sample", first.dataset, first.channel, ids, n_tokens, first.stored, first.source, scan)

    def agreement(self, i: int, passes: Bool) -> float:
        """Balanced accuracy of `passes` bool[documents] for latent `i`, on documents that proposed nothing."""
        has, hit = self.present[self.held_out, i], passes[self.held_out]
        if has.all() or not has.any():
            return 0.5
        return float((hit[has].mean() + 1 - hit[~has].mean()) / 2)

    def named(self, i: int, text: str, source: str, passes: Bool, difference: float) -> Name:
        """The name of latent `i` with what its test says of each side."""
        n = len(self.sides)
        counts = [[self._counts(passes, s, j) for j in range(self.n_strata)] for s in range(n)]
        holds = tuple(float(passes[self.side == s].mean()) if (self.side == s).any() else 0.0 for s in range(n))
        level = standardise(counts).rates[:, 0]
        rates = np.array(holds) if np.isnan(level).any() else level
        own = float(rates[0] - rates[1:].max())
        agreement = self.agreement(i, passes)
        shows = own * np.sign(difference) >= SHARE * abs(difference) > 0
        return Name(text, source, agreement, holds, own, bool(shows and agreement >= AGREES))

    def _counts(self, passes: Bool, s: int, stratum: int) -> Frequencies:
        there = (self.side == s) & (self.stratum == stratum)
        one = np.array([(passes & there).sum()], np.int64)
        return Frequencies(int(there.sum()), 0, one, one, np.zeros(1, np.float32), np.zeros(1))


class _Texts:
    """What the tests of names say of the sampled texts; surfaces are measured once a text."""

    def __init__(self, texts: Sequence[Units], known: Mapping[str, NDArray[np.float32]]) -> None:
        self._units = texts
        self._amount = np.stack([known[t.text] if t.text in known else measure(t).amount for t in texts])

    def passes(self, test: Test) -> Bool:
        """bool[documents]."""
        if test.get("kind") == "surface" and test.get("name") in index():
            return np.asarray(self._amount[:, index()[test["name"]]] >= 1)
        return np.asarray(predict_units(test, self._units) >= 0.5)


def _proposed(
    sample: _Sample, wanted: NDArray[np.int64]
) -> tuple[dict[int, tuple[str, Test]], dict[str, NDArray[np.float32]]]:
    """Names that the sampled documents themselves propose, and the surface of the texts that were read for them."""
    try:
        facts = facts_of(sample.as_side(), len(wanted))
    except SaerayError:  # too few texts to propose from: the labels stand alone
        return {}, {}
    named: dict[int, tuple[str, Test]] = {}
    table = label(facts)
    columns = (table.column(name).to_pylist() for name in ("latent", "text", "kind", "evidence"))
    for latent, text, kind, evidence in zip(*columns, strict=True):
        if kind != "unclear" and (test := test_in(evidence)):
            named[int(wanted[latent])] = text, test
    parts = (facts.corpus.propose, facts.corpus.choose)
    return named, {text: part.amount[i] for part in parts for i, text in enumerate(part.texts)}


def _tested(offered: tuple[str, Test]) -> tuple[str, Test]:
    """A label without what its test does not ask ("the word ‘this’ near help")."""
    text, test = offered
    return text.split(" near ")[0], test


def _plain(test: Test) -> bool:
    return test["kind"] == "words" and all(word in STOP | COMMON_MARKS for word in test["words"])


def _narrowed(batch: pa.RecordBatch, wanted: NDArray[np.int64]) -> pa.RecordBatch:
    """`batch` with the wanted latents alone in its lists of latents, by their place in `wanted`."""
    latents = flat(batch, "latents").astype(np.int64)
    keep = np.flatnonzero(np.isin(latents, wanted))
    row = np.repeat(np.arange(batch.num_rows), lengths(batch, "latents"))[keep]
    ends = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=batch.num_rows))]).astype(np.int32)
    columns = []
    for name in batch.schema.names:
        if name in ("latents", "max", "peak", "count", "sum"):
            values = np.searchsorted(wanted, latents[keep]) if name == "latents" else flat(batch, name)[keep]
            columns.append(pa.ListArray.from_arrays(pa.array(ends), pa.array(values)))
        else:
            columns.append(batch.column(name))
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)
