"""What does one set of documents do more than others? The latents whose document frequency differs.

freq_target - max over others, a p-value and an interval for every latent that passes a support filter blind to the
sides, Benjamini-Hochberg over all of them before any cut by size, and beside each difference the same at equal length.
One half of the documents says what differs, the other by how much. What is not separable from length is counted, not
listed. Latents that mean the same (near-same label, or present in the same documents) are one finding. A finding's name
is one that holds in these documents; findings whose name does come first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saeray.analysis.diff.conclude import Making, choose, conclude, correct, length_edges
from saeray.analysis.diff.counts import count_design
from saeray.analysis.diff.design import Against, Design
from saeray.analysis.diff.given import Partner
from saeray.analysis.diff.measure import figures, measure, supported_latents
from saeray.analysis.diff.naming import name_latents
from saeray.analysis.diff.options import Options
from saeray.analysis.diff.result import DiffResult
from saeray.analysis.diff.setup import set_up
from saeray.analysis.sides import provenance
from saeray.labels.meanings import Meanings
from saeray.stats.length import edges
from saeray.store import Store


def diff(
    store: Store,
    target: str,
    others: Sequence[str],
    *,
    channel: str | None = None,
    pair_on: str | None = None,
    against: Against = "max",
    halves: bool | None = None,
    given: str | None = None,
    min_support: int | None = None,
    keep: float = 0.03,
    top: int = 200,
    q: float = 0.05,
    meanings: Meanings | None = None,
) -> DiffResult:
    """Compare the documents that `target` selects with those of each of `others` (selectors, or "rest").

    `Options` says what the arguments mean. `meanings`: the labels, those of the store by default. Raises UsageError
    for an empty selection, several channels, sides that share documents, nothing to pair on, or too few documents for
    halves that were asked for.
    """
    options = Options(channel, pair_on, against, halves, given, min_support, keep, top, q)
    made = set_up(store, target, others, options)
    labels = Meanings.of(store) if meanings is None else meanings
    return compare(made.design, provenance(store), options, labels, made.facts, made.partners)


def compare(
    design: Design,
    made_with: Mapping[str, Any],
    options: Options,
    meanings: Meanings,
    facts: Mapping[str, Any] | None = None,
    partners: Sequence[Partner] | None = None,
) -> DiffResult:
    """The diff of a design. `facts`: further parameters of the result; `partners`: of each side its documents in the
    other channel, when one is given."""
    inner = length_edges(design)
    halves = count_design(design, inner, made_with["d_sae"], partners)
    support = options.support(min(side.n_documents for side in design.proposers().sides))
    tested = supported_latents(halves, support)
    measured = measure(design, halves, tested, figures(design, halves, tested, inner, partners))
    making = Making(options, support, inner, meanings, made_with, facts or {})
    corrected = correct([measured], options)[0]
    propose = design.proposers()
    chosen = choose(propose, measured, corrected, making)
    leaders = chosen.candidates.leaders
    # Names are tried on 1,000 documents, which 20 classes of length would spread too thin.
    coarse = edges(np.concatenate([side.lengths for side in design.sides]))
    names = name_latents(propose.sides, leaders, meanings.tests(list(leaders)), coarse, tested.tolist())
    return conclude(design, measured, corrected, making, chosen, names)
