"""Names that hold here: what a finding is called is put to the very documents that are compared.

A label was found on other text, and where this corpus differs from that it may be wrong. So each finding has two
possible names, its label and one proposed from these documents, and the test behind each name is run on the texts: it
must tell the documents with the latent from those without, and must differ between the sides as the latent does. Of
the 40 strongest latents between two AlpacaEval models half had a label that failed this ("full stops", in 99% of both).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from itertools import product

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import rankdata

from saeray.analysis.diff.names import COMMON_FORMS, GRAMMAR, HERE, LABEL, NO_NAMES, Name, Names, Pair, Test
from saeray.analysis.diff.plain_tests import DOCUMENTS, Texts
from saeray.analysis.diff.sharpen import carried, keeps_company, repeats
from saeray.analysis.sides import Side, spread
from saeray.errors import SaerayError
from saeray.labels.auto import facts_of, label
from saeray.labels.facts import STOP
from saeray.labels.predict import test_in
from saeray.labels.splits import split_of
from saeray.labels.surface import index, tests
from saeray.labels.units import BREAK, Units, units
from saeray.stats.frequency import flat, lengths
from saeray.stats.length import by_stratum, standardise

Bool = NDArray[np.bool_]

#: From here on a name tells where its latent is strong: by chance a document that passes has more of it in 0.5 of
#: pairs. Against mere presence ("dog" finds the strong part of a latent that is faintly in half of all texts) a third
#: fewer names held; of five sets with known differences, 61 names for 46, all of which leaned the right way on the half
#: that proposed none, 45 for 37 by more than chance.
AGREES = 0.65
#: Further latents that names are proposed beside: what all peak on is no latent's own.
BACKGROUND = 256
#: The least part of the latent's difference that its name must show by its own test.
SHARE = 0.25
#: A name proposed here must be this much better than the label, which was found on more text.
BETTER = 0.02

#: Tests of length name nothing: length is a finding of its own, said once.
OF_LENGTH = frozenset(["long_text", "very_short"])
COMMON_MARKS = frozenset([",", ".", ":", BREAK])


def name_latents(
    sides: Sequence[Side],
    differences: Mapping[int, float],
    labels: Mapping[int, tuple[str, Test]],
    inner: NDArray[np.int64],
    others: Sequence[int] = (),
) -> Names:
    """The best name of each latent of `differences` (latent -> its difference at equal length), where one has a test;
    see `Namer`."""
    return Namer(sides, list(differences), labels, inner, others).names(differences, range(len(sides)))


class Namer:
    """Names of `latents` in the documents of `sides`, for one comparison of them or for several.

    `labels`: latent -> what it is called and the test of that. `inner`: edges of the length strata. `others`: further
    latents, of which some are the background. Reads `DOCUMENTS` drawn documents, once. Without texts there
    are no names.
    """

    def __init__(
        self,
        sides: Sequence[Side],
        latents: Sequence[int],
        labels: Mapping[int, tuple[str, Test]],
        inner: NDArray[np.int64],
        others: Sequence[int] = (),
    ) -> None:
        self._sample: _Sample | None = None
        if not latents or any("text" not in side.stored for side in sides):
            return
        background = np.array(sorted(set(others) - set(latents)), np.int64)
        background = background[:: max(1, -(-len(background) // BACKGROUND))]
        self._wanted = np.union1d(np.array(sorted(set(latents)), np.int64), background)
        self._labels = labels
        self._sample = _Sample(sides, self._wanted, inner)
        self._proposed, surfaces = _proposed(self._sample, self._wanted)
        self._texts = Texts(self._sample.units, surfaces)

    def names(self, differences: Mapping[int, float], place: Sequence[int]) -> Names:
        """The best name of each latent of `differences`; `place`: of each side its number in the comparison, the
        target's 0."""
        if self._sample is None or not differences:
            return NO_NAMES
        sample = self._sample.arranged(place)
        found, columns = {}, []
        for latent in sorted(differences):
            i = int(np.searchsorted(self._wanted, latent))
            tried = []
            for source, offered in ((HERE, self._proposed.get(latent)), (LABEL, self._labels.get(latent))):
                if offered and self._may_name(offered[1]):
                    differing = self._differing(sample, differences[latent])
                    text, test = carried(*_tested(offered), partial(self._differs, differing))
                    passes = self._texts.passes(test)
                    named = sample.named(i, text, source, passes, differences[latent])
                    better = named.agreement + (BETTER if source == LABEL else 0.0)
                    tested = replace(named, plain=_plain(test), test=test)
                    tried.append((named.borne_out, better, source, tested, passes))
            if tried:
                *_, named, passes = max(tried, key=lambda one: one[:3])
                found[latent] = named
                columns.append(sparse.csc_matrix(passes[:, None]))
        passing = sparse.hstack(columns).tocsr() if columns else sparse.csr_matrix((len(sample.units), 0), dtype=bool)
        return Names(found, passing, len(sample.units), self._repeats(sample, found, differences))

    def _repeats(self, sample: _Sample, found: Mapping[int, Name], differences: Mapping[int, float]) -> frozenset[Pair]:
        """(latent, other) of names that hold and differ the same way: the other's says nothing beside the latent's."""
        pairs: list[Pair] = []
        for way in (1.0, -1.0):  # apart, and a test once, as it takes 6 s for 200 of them and the square of that
            latents = [one for one, name in found.items() if name.borne_out and way * differences[one] > 0]
            of_test: dict[str, list[int]] = {}
            for latent in latents:
                of_test.setdefault(json.dumps(found[latent].test, sort_keys=True), []).append(latent)
            tests = [found[those[0]].test for those in of_test.values()]
            passes = [self._texts.passes(test) for test in tests]
            differing = self._differing(sample, way)
            same = repeats(self._texts.starts(tests), self._texts.ends, passes, differing)
            those = list(of_test.values())
            pairs += (pair for i, j in zip(*np.nonzero(same), strict=True) for pair in product(those[i], those[j]))
        # A mark or a function word is no behaviour, though every behaviour has some.
        return frozenset(pair for pair in pairs if found[pair[1]].plain or not found[pair[0]].plain)

    def _may_name(self, test: Test) -> bool:
        """Whether a test can say what texts have: one of length or of a mere place says nothing of a text, and terms
        that do not keep company are no topic."""
        assert self._sample is not None
        name = test.get("name")
        if test.get("kind", "none") == "none" or name in OF_LENGTH or (name in index() and tests()[index()[name]].spot):
            return False
        return keeps_company(test, *self._fresh)

    @cached_property
    def _fresh(self) -> tuple[list[Units], NDArray[np.int64]]:
        """The sampled texts that proposed no name, and their strata: what proposes words has them together."""
        assert self._sample is not None
        fresh = np.flatnonzero(self._sample.held_out)
        return [self._sample.units[i] for i in fresh.tolist()], self._sample.stratum[fresh]

    def _differs(self, differing: Callable[[Bool], float], test: Test) -> float:
        return differing(self._texts.passes(test))

    def _differing(self, sample: _Sample, difference: float) -> Callable[[Bool], float]:
        """By how much documents, bool[documents], are more on the side where the latent is."""
        return lambda there: float(np.sign(difference) * sample.differs(there)[1])


class _Sample:
    """Some documents of all sides: their units, side, stratum, how strong each wanted latent is in them, and which of
    them propose no names."""

    def __init__(self, sides: Sequence[Side], wanted: NDArray[np.int64], inner: NDArray[np.int64]) -> None:
        self.sides, self.wanted, self.n_sides = sides, wanted, len(sides)
        self.keep = [spread(side.n_documents, max(1, DOCUMENTS // len(sides))) for side in sides]
        texts: list[str] = []
        rows: list[tuple[list[int], list[float]]] = []
        of_side, n_tokens = [], []
        for s in range(len(sides)):
            for table in self.scan(s, ["text", "n_tokens", "latents", "max"]):
                texts += [text or "" for text in table.column("text").to_pylist()]
                n_tokens += table.column("n_tokens").to_pylist()
                of_side += [s] * table.num_rows
                rows += zip(table.column("latents").to_pylist(), table.column("max").to_pylist(), strict=True)
        self.units = [units(text) for text in texts]
        self.held_out = np.array([split_of(text) != "propose" for text in texts], bool)
        self.side = np.array(of_side, np.int64)
        self.stratum = np.searchsorted(inner, np.array(n_tokens, np.int64), side="right")
        self.n_strata = len(inner) + 1
        self.strength = np.zeros((len(texts), len(wanted)), np.float32)
        for row, (found, strongest) in enumerate(rows):
            self.strength[row, found] = strongest

    def scan(self, s: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The sampled documents of side `s`; of their latents the wanted ones, numbered by their place in `wanted`."""
        first = 0
        for table in self.sides[s].scan(columns):
            for batch in table.to_batches():
                keep = np.flatnonzero(self.keep[s][first : first + batch.num_rows])
                first += batch.num_rows
                yield pa.Table.from_batches([_narrowed(batch.take(pa.array(keep)), self.wanted)])

    def arranged(self, place: Sequence[int]) -> _Sample:
        """The sample with its sides numbered anew; several may have one number."""
        other = copy(self)
        other.side, other.n_sides = np.asarray(place, np.int64)[self.side], max(place) + 1
        return other

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
        """How often latent `i` is stronger in a document that passes than in one that does not, ties as half, on
        documents that proposed nothing. `passes` bool[documents]. Mann & Whitney 1947, Ann. Math. Stat. 18:50."""
        strength, hit = self.strength[self.held_out, i], passes[self.held_out]
        n, m = int(hit.sum()), int((~hit).sum())
        if not n or not m:
            return 0.5
        return float((rankdata(strength)[hit].sum() - n * (n + 1) / 2) / (n * m))

    def named(self, i: int, text: str, source: str, passes: Bool, difference: float) -> Name:
        """The name of latent `i` with what its test says of each side."""
        holds, own = self.differs(passes)
        agreement = self.agreement(i, passes)
        shows = own * np.sign(difference) >= SHARE * abs(difference) > 0
        read = tuple(int((self.side == s).sum()) for s in range(self.n_sides))
        return Name(text, source, agreement, holds, own, bool(shows and agreement >= AGREES), read=read)

    def differs(self, passes: Bool) -> tuple[tuple[float, ...], float]:
        """The share of each side's documents that pass, and the target's less the highest other at equal length, where
        there is one."""
        n = self.n_sides
        x, size = by_stratum(passes[:, None], self.side * self.n_strata + self.stratum, n * self.n_strata)
        x, size = x.reshape(n, self.n_strata, 1), size.reshape(n, self.n_strata, 1)
        holds = tuple((x.sum(axis=1) / np.maximum(size.sum(axis=1), 1)).ravel().tolist())
        level = standardise(x, size)[:, 0]
        rates = np.array(holds) if np.isnan(level).any() else level
        return holds, float(rates[0] - rates[1:].max())


def _proposed(
    sample: _Sample, wanted: NDArray[np.int64]
) -> tuple[dict[int, tuple[str, Test]], dict[str, NDArray[np.float32]]]:
    """Names that the sampled documents themselves propose, and the surface of the texts that were read for them."""
    try:
        facts = facts_of(sample.as_side(), len(wanted))
    except SaerayError:  # too few texts to propose from: the labels stand alone
        return {}, {}
    named: dict[int, tuple[str, Test]] = {}
    table = label(facts, of_texts=True)
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
    if test["kind"] == "words":
        return all(word in STOP | COMMON_MARKS for word in test["words"])
    return test.get("name") in GRAMMAR | COMMON_FORMS


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
