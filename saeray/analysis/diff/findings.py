"""From latents that differ to findings: one for each meaning, those that can be named and checked first."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.analysis.diff.names import Names
from saeray.analysis.sides import Side
from saeray.labels.groups import LatentGroup, groups_of_side
from saeray.labels.groups import group as group_latents
from saeray.labels.meanings import Meanings

#: Groups of each direction that names are sought for: of GPT-4 against Vicuna the most telling one, bold marks, is the
#: 60th to 100th by strength.
NAMED = 100
#: Latents of a finding that names are sought for, strongest first: the clearest name may be that of the second.
MEMBERS = 4

#: Why a finding is part of another: where it differs, both searches find the same places.
SAME_PLACES = "same places"

Groups = tuple[LatentGroup, ...]


@dataclass(frozen=True)
class Candidates:
    """Groups of latents more in the target and more in the other, strongest first; `strength`: of every tested latent
    its proposed difference, signed."""

    more: Groups
    less: Groups
    strength: Mapping[int, float]

    @property
    def leaders(self) -> dict[int, float]:
        """The latents that are to be named, with their differences: those that may come to lead a finding."""
        members = (latent for side in self._both for group in side[:NAMED] for latent in group.latents[:MEMBERS])
        return {latent: self.strength[latent] for latent in members}

    def findings(
        self, names: Names, meanings: Meanings, standing: Container[int] | None = None
    ) -> tuple[Groups, Groups]:
        """Those of either direction as findings, by their names. `standing`: the latents whose names hold in the
        documents that measure, all by default; what repeats another name is part of that only where it stands."""
        more, less = (_named_first(groups, names, self.strength, meanings, standing) for groups in self._both)
        return more, less

    @property
    def _both(self) -> tuple[Groups, Groups]:
        return self.more, self.less


def candidates(
    sides: Sequence[Side],
    latents: tuple[NDArray[np.int64], NDArray[np.int64]],
    strength: Mapping[int, float],
    meanings: Meanings,
) -> Candidates:
    """`latents`: those more frequent in the target and those more in the other, strongest first."""
    more, less = (
        grouped(side, found.tolist(), _sizes(strength), meanings)
        for side, found in zip(sides[:2], latents, strict=True)
    )
    return Candidates(more, less, strength)


def row_of(rows: pa.Table, latent: int) -> dict[str, Any]:
    """The row of one tested latent."""
    at = int(np.flatnonzero(rows.column("latent").to_numpy() == latent)[0])
    found: dict[str, Any] = rows.slice(at, 1).to_pylist()[0]
    return found


def borne_out(names: Names, group: LatentGroup) -> bool:
    """Whether the finding's leading latent has a name that holds in these documents."""
    name = names.of.get(group.latents[0])
    return name is not None and name.borne_out


def leading(groups: Sequence[LatentGroup], names: Names, most: int) -> list[int]:
    """The leading latents to show: of the findings with a name that holds those that are read first (`Name.told`), and
    as many of those without one: a page that is full of names still shows what has none."""
    named = [group.latents[0] for group in groups if borne_out(names, group)]
    first = sorted(named, key=lambda latent: -names.of[latent].told)[:most]
    return first + [group.latents[0] for group in groups if group.latents[0] not in named][:most]


def grouped(side: Side, latents: Sequence[int], size: Mapping[int, float], meanings: Meanings) -> Groups:
    """Latents with one meaning as one group, led by the one that differs most."""
    if not latents:
        return ()
    return tuple(
        groups_of_side(
            side,
            latents,
            labels=meanings.labels,
            embeddings=meanings.embeddings(latents),
            near=meanings.near or 1.0,
            weight=[size[latent] for latent in latents],
        )
    )


def _named_first(
    groups: Groups,
    names: Names,
    strength: Mapping[int, float],
    meanings: Meanings,
    standing: Container[int] | None,
) -> Groups:
    """Findings with names that hold, by how much of a difference each accounts for; those whose names hold in the same
    documents are one. Then all others, strongest first."""
    led = [_led(group, names, strength) for group in groups]
    known = {group.latents[0]: group for group in led if borne_out(names, group)}
    others = sorted(
        (group for group in led if group.latents[0] not in known), key=lambda group: -abs(strength[group.latents[0]])
    )
    if not known:
        return tuple(others)
    latents = list(known)
    texts = {latent: names.of[latent].text for latent in latents}
    merged = group_latents(
        latents,
        labels=texts,
        embeddings=meanings.embed([texts[latent] for latent in latents]),
        documents_csr=names.columns(latents),
        near=meanings.near or 1.0,
        weight=[names.weight(latent, strength[latent]) for latent in latents],
    )
    found: list[LatentGroup] = []
    for one in merged:
        finding = _joined([known[latent] for latent in one.latents], one)
        leaders = [earlier.latents[0] for earlier in found]
        repeated = ((leader, one.latents[0]) in names.same for leader in leaders)
        stands = (standing is None or leader in standing for leader in leaders)
        first = next((i for i, both in enumerate(zip(repeated, stands, strict=True)) if all(both)), None)
        if first is None:
            found.append(finding)
        else:
            found[first] = _joined([found[first], finding], replace(found[first], why=SAME_PLACES))
    return (*found, *others)


def _led(group: LatentGroup, names: Names, strength: Mapping[int, float]) -> LatentGroup:
    """The group led by the latent whose name accounts for most; by the strongest where no name holds."""
    named = [latent for latent in group.latents if latent in names.of and names.of[latent].borne_out]
    if not named:
        return group
    first = max(named, key=lambda latent: names.weight(latent, strength[latent]))
    return replace(group, latents=(first, *(latent for latent in group.latents if latent != first)))


def _joined(groups: Sequence[LatentGroup], by: LatentGroup) -> LatentGroup:
    reasons = ", ".join(text for text in (by.why, *(group.why for group in groups)) if text)
    latents = tuple(latent for group in groups for latent in group.latents)
    return LatentGroup(by.name, latents, ", ".join(dict.fromkeys(reasons.split(", "))))


def _sizes(strength: Mapping[int, float]) -> dict[int, float]:
    return {latent: abs(value) for latent, value in strength.items()}
