"""Promise: a finding is led by the latent whose name accounts for most of a difference, and goes by that name."""

from dataclasses import dataclass, field, replace

from scipy import sparse

from saeray.analysis.diff.findings import MEMBERS, SAME_PLACES, Candidates, leading
from saeray.analysis.diff.names import HERE, Name, Names
from saeray.labels.groups import LatentGroup
from saeray.labels.meanings import Meanings


@dataclass
class Made:
    """Names by hand; no two hold in the same documents."""

    of: dict[int, Name] = field(default_factory=dict)

    def names(self) -> Names:
        n = len(self.of)
        return Names(self.of, sparse.csr_matrix((40, n), dtype=bool), 40)


def name(text: str, difference: float, agreement: float = 0.9, borne_out: bool = True) -> Name:
    return Name(text, HERE, agreement, (0.5 + difference, 0.5), difference, borne_out)


def leaders(groups: list[tuple[int, ...]], strength: dict[int, float], of: dict[int, Name]) -> list[tuple[int, ...]]:
    found = Candidates(tuple(LatentGroup(str(g[0]), g, "same documents") for g in groups), (), strength)
    more, _ = found.findings(Made(of).names(), Meanings())
    return [group.latents for group in more]


def test_the_second_latent_leads_where_its_name_is_the_one_that_holds():
    """The strongest latent's label fails here; that of the next does not."""
    of = {1: name("chairs", 0.4, borne_out=False), 2: name("tables", 0.3)}
    assert leaders([(1, 2, 3)], {1: 0.4, 2: 0.35, 3: 0.3}, of) == [(2, 1, 3)]


def test_a_faint_latent_with_a_broad_name_does_not_lead():
    """The name of a latent accounts for no more than the latent differs: "the word ‘you’" of a faint one is far more
    frequent than the latent."""
    of = {1: name("questions", 0.25), 2: name("the word ‘you’", 0.4)}
    assert leaders([(1, 2)], {1: 0.3, 2: 0.1}, of) == [(1, 2)]
    assert leaders([(1, 2)], {1: -0.3, 2: -0.1}, {i: name(one.text, -one.difference) for i, one in of.items()}) == [
        (1, 2)
    ]


def test_without_a_name_the_strongest_leads_and_comes_after_the_named():
    assert leaders([(1, 2), (3,)], {1: 0.4, 2: 0.3, 3: 0.1}, {3: name("tables", 0.1)}) == [(3,), (1, 2)]


def test_names_are_sought_for_the_first_members_of_a_finding():
    """Not for all: a finding of 50 latents would cost 50 searches."""
    strength = {i: 0.5 - i / 100 for i in range(20)}
    found = Candidates((LatentGroup("a", tuple(range(12)), ""),), (LatentGroup("b", (12, 13), ""),), strength)
    assert found.leaders == {i: strength[i] for i in (*range(MEMBERS), 12, 13)}


def test_a_finding_that_says_nothing_beside_another_is_part_of_it():
    """One that the first repeats joins it, and says why; where the second repeats the first, both stand."""
    of = {1: name("opens with agreement", 0.4), 2: name("the word ‘sure’", 0.2), 3: name("lists", 0.1)}
    strength = {1: 0.4, 2: 0.2, 3: 0.1}
    found = Candidates(tuple(LatentGroup(str(i), (i,), "") for i in of), (), strength)

    def groups(*same: tuple[int, int], standing: set[int] | None = None) -> list[tuple[tuple[int, ...], str]]:
        more, _ = found.findings(replace(Made(of).names(), same=frozenset(same)), Meanings(), standing)
        return [(group.latents, group.why) for group in more]

    assert groups((1, 2)) == [((1, 2), SAME_PLACES), ((3,), "")]
    assert groups((2, 1)) == groups() == [((1,), ""), ((2,), ""), ((3,), "")]
    assert groups((1, 2), (1, 3)) == [((1, 2, 3), SAME_PLACES)]
    assert groups((1, 2), standing={2, 3}) == groups(), "under one that fresh texts refuse it would be lost"
    assert groups((1, 2), standing={1}) == groups((1, 2))


def test_what_is_read_first_is_shown_first():
    """The largest of what was measured, not of what was proposed; as many again that have no name."""
    of = {1: name("chairs", 0.1), 2: name("tables", 0.3), 3: name("lamps", 0.2), 4: name("doors", 0.5, borne_out=False)}
    groups = [LatentGroup(str(i), (i,), "") for i in (*of, 5, 6)]
    assert leading(groups, Made(of).names(), 2) == [2, 3, 4, 5]
