"""What latents are called in the documents that are compared, and what of that holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from scipy import sparse

from saeray.labels.surface import index, tests

Test = dict[str, Any]
Pair = tuple[int, int]
#: What a name is about: how texts are written or what they do; what they are about; which words and marks they use.
Kind = Literal["form", "topic", "words"]
#: Characters that lay a text out, as "**" and "###" do, and are no part of its sentences.
LAYOUT = frozenset("*#`|•~_")
#: Lists of `labels.manner` that are no way of writing: of things that texts are about, and of what every text has.
THINGS = frozenset(["body", "colours", "family", "places"])
GRAMMAR = frozenset(["articles", "be_have", "comparison", "conjunctions", "demonstratives", "possessive_pronouns"])
GRAMMAR |= frozenset(["prepositions", "pronouns", "quantities", "question_words", "relatives"])
GRAMMAR |= frozenset(["months_days", "number_words", "time_words"])
#: Marks and breaks that nearly every text has some of.
COMMON_FORMS = frozenset(["colon", "semicolon", "line_break", "paragraph_break"])

#: A name of function words or common marks ("the word ‘an’", "commas") is as true as another and tells less, so it
#: counts as half of one; a name of the whole text, not of where the latent peaks, as four fifths.
PLAIN, WHOLE = 0.5, 0.8

#: Where a name is from: found on other text, or proposed by the documents that are compared.
LABEL, HERE = "label", "these documents"


@dataclass(frozen=True)
class Name:
    """What a latent is called here. `source`: `LABEL` or `HERE`. `agreement`: how often the latent is stronger where
    its test passes than where not, on documents that proposed nothing; `holds`: the share of each side's documents that
    pass the test, target first; `difference`: of these, target less the highest other, at equal length where there is
    one; `borne_out`: the test agrees and differs as the latent does; `plain`: it is of function words or common marks
    alone; `test`: its test, as `labels.predict` runs it. `read`: the documents of each side that `holds` are shares of;
    `limits`: the 95% interval of `gap`, without an upper end against several; both empty where nobody counted. `level`:
    `gap` at equal length, in the documents that `holds` is of; None where no lengths are common. `finds`: of a form the
    strings that its test finds most often there, where some stand out."""

    text: str
    source: str
    agreement: float
    holds: tuple[float, ...]
    difference: float
    borne_out: bool
    plain: bool = False
    test: Test = field(default_factory=dict)
    read: tuple[int, ...] = ()
    limits: tuple[float, float | None] | None = None
    level: float | None = None
    finds: tuple[str, ...] = ()

    @property
    def gap(self) -> float:
        """Of `holds` the target's less the highest other."""
        return self.holds[0] - max(self.holds[1:])

    def leans(self, sign: float, halves: bool) -> bool:
        """Whether its interval lies on that side of 0, more (1) or less (-1) in the target; where there is none, and
        other documents proposed it (`halves`), whether `gap` does."""
        if self.limits is None:
            return not halves or self.gap * sign > 0
        lower, upper = self.limits
        return lower > 0 if sign > 0 else upper is not None and upper < 0

    @property
    def side(self) -> int:
        """The side that has it most."""
        return max(range(len(self.holds)), key=lambda s: (self.holds[s], -s))

    @property
    def size(self) -> float:
        """How large the difference is that length does not explain: the smaller of `gap` and `level`, 0 where they
        disagree."""
        own = abs(self.gap)
        return own if self.level is None else min(own, max(0.0, self.level * (1 if self.gap > 0 else -1)))

    @property
    def told(self) -> float:
        """`size`, one of function words or common marks as if half as large: what is read first."""
        return self.size * (PLAIN if self.plain else 1.0)

    @property
    def kind(self) -> Kind:
        """What the test asks for: a form or a way of writing, a topic, or words."""
        return kind_of(self.test)

    @property
    def weight(self) -> float:
        """How much of a difference the name accounts for: that of its test, less what the test misses of the latent."""
        told = PLAIN if self.plain else WHOLE if self.text.startswith("texts with") else 1.0
        return abs(self.difference) * (2 * self.agreement - 1) * told


@dataclass(frozen=True)
class Names:
    """`of`: latent -> its name. `passing`: bool CSR [documents, len(of)], which sampled documents pass each name's
    test, columns in the order of `of`; `documents`: how many were read; `same`: (latent, other) of which the
    other's name says nothing beside the latent's: what differs, both tests find at the same places."""

    of: Mapping[int, Name]
    passing: sparse.csr_matrix
    documents: int
    same: frozenset[Pair] = frozenset()

    def columns(self, latents: Sequence[int]) -> sparse.csr_matrix:
        """The columns of some named latents, in their order."""
        place = {latent: i for i, latent in enumerate(self.of)}
        return self.passing[:, [place[latent] for latent in latents]]

    def weight(self, latent: int, strength: float) -> float:
        """How much of a latent's difference `strength` its name accounts for: never more than there is of either. A
        broad name ("the word ‘you’") of a faint latent would else lead the clear one that it stands behind."""
        name = self.of[latent]
        return name.weight * min(1.0, abs(strength) / abs(name.difference)) if name.difference else 0.0


def kind_of(test: Test) -> Kind:
    """What a test asks for: of several tests at once the first that is no word decides."""
    if test.get("kind") == "surface":
        name = str(test.get("name"))
        found = index().get(name)
        if name in THINGS or (found is not None and tests()[found].family == "topic"):
            return "topic"
        return "words" if name in GRAMMAR | COMMON_FORMS else "form"
    if test.get("kind") == "words":
        return "form" if all(LAYOUT.issuperset(word) for word in test["words"]) else "words"
    if test.get("kind") == "all":
        return next((kind for one in test["of"] if (kind := kind_of(one)) != "words"), "words")
    return "topic"


NO_NAMES = Names({}, sparse.csr_matrix((0, 0), dtype=bool), 0)
