"""From figures to findings: false discoveries bounded, what length explains set aside, names and evidence collected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.analysis.diff.confounders import classes, separable
from saeray.analysis.diff.design import Design
from saeray.analysis.diff.examples import Held, examples
from saeray.analysis.diff.findings import Candidates, Groups, candidates, grouped, leading
from saeray.analysis.diff.measure import Measured
from saeray.analysis.diff.names import Names
from saeray.analysis.diff.options import Options
from saeray.analysis.diff.plain_tests import DOCUMENTS, with_shares
from saeray.analysis.diff.result import DiffResult
from saeray.analysis.sides import Side
from saeray.labels.meanings import Meanings
from saeray.stats.length import edges, probability_longer
from saeray.stats.significance import benjamini_hochberg

Bool = NDArray[np.bool_]
Int64 = NDArray[np.int64]

#: Findings of each direction that get examples and a place on the page, and as many again that have no name.
SHOWN = 30
#: A side counts as longer when a random document of it is longer than one of the other with more than this chance.
NOTICEABLE = 0.55
#: The columns of `rows`, in order. `other`: the other side with the highest frequency; `documents`: the documents
#: (keys, against a union) with the latent on each side, target first. `separable_from_...`: of a latent that passes
#: whether both halves together show more than length explains, or the other channel (`confounders.separable`).
COLUMNS = (
    "latent", "difference", "lower", "upper", "p", "q", "proposed_difference", "confirmed", "frequency_target",
    "frequency_other", "other", "documents", "difference_at_equal_length", "separable_from_length", "difference_given",
    "separable_from_given", "mean_max_target", "mean_max_other", "label", "finding",
)  # fmt: skip


@dataclass(frozen=True)
class Making:
    """How a result was made. `inner`: edges of the classes of length; `facts`: what its set-up adds to the options."""

    options: Options
    support: int
    inner: Int64
    meanings: Meanings
    made_with: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def parameters(self) -> dict[str, Any]:
        """What a result says of its making."""
        none = {"n_pairs": None, "left_out": None, "halves": False, "halves_by": None, "why_no_halves": None}
        used = {name: value for name, value in asdict(self.options).items() if name != "halves"}
        near = {"min_support": self.support, "near_label": self.meanings.near}
        return used | near | none | dict(self.facts)


def length_edges(design: Design) -> Int64:
    """Inner edges of the classes of length: as many as the smallest half allows."""
    smallest = min(side.n_documents for half in (design.proposers(), design.verifiers()) for side in half.sides)
    return edges(np.concatenate([side.lengths for side in design.sides]), classes(smallest))


def correct(measured: Sequence[Measured], options: Options) -> list[dict[str, Any]]:
    """The columns `q`, `separable_from_length` and `separable_from_given` of each comparison.

    False discoveries are counted over all latents of all comparisons together. Of the latents that pass, those are
    separable that differ by more than `keep` within classes of length too, and there by more than chance in documents
    that did not choose them (`confounders.separable`); of a latent that does not pass its size within classes alone is
    looked at.
    """
    q = _together([one.figures.p for one in measured])
    passes = [(own <= options.q) & (np.abs(one.proposed) > options.keep) for own, one in zip(q, measured, strict=True)]
    found = [one.figures for one in measured]
    by_length = [(m.level, f.p_level, f.fresh_level) for m, f in zip(measured, found, strict=True)]
    apart = _separable(measured, passes, by_length, options)
    given: list[Any] = [pa.nulls(one.tested.size, pa.bool_()) for one in measured]
    if options.given is not None:
        by_given = [(m.given, f.p_given, f.fresh_given) for m, f in zip(measured, found, strict=True)]
        given = _separable(measured, passes, by_given, options)
    return [
        {"q": own, "separable_from_length": from_length, "separable_from_given": from_given}
        for own, from_length, from_given in zip(q, apart, given, strict=True)
    ]


@dataclass(frozen=True)
class Chosen:
    """What passes: candidates for findings, and what is not separable; `passing` and `set_aside` count latents before
    the cut to `top`."""

    candidates: Candidates
    passing: tuple[int, int]
    aside: Mapping[str, Groups]
    set_aside: Mapping[str, int]


def choose(reading: Design, measured: Measured, corrected: Mapping[str, Any], making: Making) -> Chosen:
    """The latents that pass, in groups. `reading`: the proposing documents that groups are read from."""
    options, meanings = making.options, making.meanings
    tested, proposed = measured.tested, measured.proposed
    passes = corrected["q"] <= options.q
    apart = np.asarray(corrected["separable_from_length"])
    apart_given = np.ones(tested.size, np.bool_)
    if options.given is not None:
        apart_given = np.asarray(corrected["separable_from_given"])
    up = passes & (proposed > options.keep)
    # Against several others less in the target says nothing: each of them may be a different one.
    down = passes & (proposed < -options.keep) & (len(reading.sides) == 2)
    # Strongest first, equal ones by latent: `tested` ascends and the sort is stable.
    order = np.argsort(-np.abs(proposed), kind="stable")

    def strongest(chosen: Bool) -> Int64:
        return tested[order[chosen[order]]]

    more, less = strongest(up & apart & apart_given), strongest(down & apart & apart_given)
    strength = dict(zip(tested.tolist(), measured.strength().tolist(), strict=True))
    size = dict(zip(tested.tolist(), np.abs(proposed).tolist(), strict=True))
    aside: dict[str, Groups] = {}
    counted: dict[str, int] = {}
    for name, why in (("by_length", ~apart), ("by_given", apart & ~apart_given)):
        of = [strongest(direction & why) for direction in (up, down)]
        counted[name] = sum(map(len, of))
        pairs = zip(reading.sides[:2], of, strict=True)
        aside[name] = sum((grouped(side, one[: options.top].tolist(), size, meanings) for side, one in pairs), ())
    found = candidates(reading.sides, (more[: options.top], less[: options.top]), strength, meanings)
    return Chosen(found, (len(more), len(less)), aside, counted)


def conclude(
    design: Design,
    measured: Measured,
    corrected: Mapping[str, Any],
    making: Making,
    chosen: Chosen,
    names: Names,
) -> DiffResult:
    """The result: findings by their names, evidence from the documents that verify, and a row a tested latent."""
    verify = design.verifiers()
    union = design.against == "union"
    names = with_shares(names, verify.sides, DOCUMENTS, verify.keys, inner=making.inner, union=union)
    more, less = chosen.candidates.findings(names, making.meanings, _standing(names, measured, making))
    leader = {latent: group.latents[0] for group in (*more, *less) for latent in group.latents}
    shown = leading(more, names, SHOWN), leading(less, names, SHOWN) if len(design.sides) == 2 else []
    evidence, contrast = examples(verify, _held(design, names, shown, measured.columns))
    columns = measured.columns | dict(corrected)
    latents = measured.tested.tolist()
    columns["label"] = pa.array([making.meanings.labels.get(latent) for latent in latents], pa.string())
    columns["finding"] = pa.array([leader.get(latent) for latent in latents], pa.uint32())
    largest_first = np.argsort(-measured.proposed, kind="stable")
    return DiffResult(
        rows=pa.table({name: columns[name] for name in COLUMNS}).take(largest_first),
        more=more,
        less=less,
        passing=chosen.passing,
        evidence=evidence,
        sides=_facts(design),
        length=length_facts(design.sides, making.inner),
        parameters=making.parameters(),
        made_with=making.made_with,
        names=names,
        design=design,
        by_length=chosen.aside["by_length"],
        by_given=chosen.aside["by_given"],
        set_aside=chosen.set_aside,
        beside=contrast,
    )


def _standing(names: Names, measured: Measured, making: Making) -> set[int]:
    """The latents whose difference and whose name hold in the documents that measure."""
    halves = bool(making.parameters().get("halves"))
    confirmed = np.asarray(measured.columns["confirmed"]) | (not halves)
    signs = zip(measured.tested.tolist(), confirmed.tolist(), np.sign(measured.proposed).tolist(), strict=True)
    return {
        latent for latent, sure, sign in signs if sure and latent in names.of and names.of[latent].leans(sign, halves)
    }


def _held(
    design: Design, names: Names, shown: tuple[Sequence[int], Sequence[int]], columns: Mapping[str, Any]
) -> dict[int, Held]:
    """Each latent to show, more in the target and less: whose examples it has and which of the others has it most."""
    number = {side.name: i for i, side in enumerate(design.sides)}
    other = dict(zip(columns["latent"].tolist(), columns["other"].to_pylist(), strict=True))
    tests = {latent: one.test for latent, one in names.of.items() if one.borne_out}
    more = {latent: Held(0, number.get(other[latent], 1), tests.get(latent)) for latent in shown[0]}
    return more | {latent: Held(1, 0, tests.get(latent)) for latent in shown[1]}


def length_facts(sides: Sequence[Side], inner: Int64) -> dict[str, Any]:
    """How far lengths differ: the chance that a target document is the longer one, against each other side."""
    longer = [probability_longer(sides[0].lengths, side.lengths) for side in sides[1:]]
    notes = [
        f"{sides[0].name} is {'longer' if chance > 0.5 else 'shorter'} than {side.name}: median "
        f"{np.median(sides[0].lengths):.0f} against {np.median(side.lengths):.0f} tokens, "
        f"{'longer' if chance > 0.5 else 'shorter'} in {max(chance, 1 - chance):.0%} of pairs"
        for side, chance in zip(sides[1:], longer, strict=True)
        if max(chance, 1 - chance) > NOTICEABLE
    ]
    return {
        "probability_target_longer": [round(chance, 4) for chance in longer],
        "differs": notes,
        "stratum_edges": inner.tolist(),
        "share_in_common_strata": round(_overlap(sides, inner), 4),
    }


def _together(p: Sequence[Any]) -> list[Any]:
    return _apart(benjamini_hochberg(np.concatenate(p)), p)


def _apart(joined: NDArray[Any], like: Sequence[Any]) -> list[Any]:
    return np.split(joined, np.cumsum([one.size for one in like])[:-1])


def _separable(
    measured: Sequence[Measured], passes: Sequence[Bool], within: Sequence[tuple[Any, Any, Any]], options: Options
) -> list[Bool]:
    """`within`: of each comparison the difference within classes, the p-value of that, and the fresh one."""
    beyond = np.concatenate(
        [
            np.sign(one.proposed) * np.nan_to_num(level) > options.keep
            for one, (level, _, _) in zip(measured, within, strict=True)
        ]
    )
    passing = np.concatenate(passes)
    p = np.concatenate([one for _, one, _ in within])
    fresh = None if within[0][2] is None else np.concatenate([one for _, _, one in within])
    borne_out = np.concatenate([one.columns["confirmed"] for one in measured])
    found = separable(p, fresh, passing & beyond, borne_out, options.q)
    return _apart(np.where(passing, found, beyond), passes)


def _overlap(sides: Sequence[Side], inner: Int64) -> float:
    """Share of all documents in classes of length that every side has; `stats.length.standardise` takes no others."""
    n = np.array(
        [np.bincount(np.searchsorted(inner, s.lengths, side="right"), minlength=len(inner) + 1) for s in sides]
    )
    return float(n[:, (n > 0).all(axis=0)].sum() / n.sum())


def _facts(design: Design) -> list[dict[str, Any]]:
    masks: Sequence[Any] = design.proposing or [None] * len(design.sides)
    return [
        side.facts() | {"proposing": None if mask is None else int(mask.sum())}
        for side, mask in zip(design.sides, masks, strict=True)
    ]
