"""Results of diffs made by hand, for the tests of the page."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse

from saeray.analysis.diff.design import Design
from saeray.analysis.diff.names import HERE, Name, Names
from saeray.analysis.diff.result import DiffResult
from saeray.analysis.evidence import Evidence, Example
from saeray.analysis.excerpt import Excerpt
from saeray.analysis.hypotheses.cost import method_cost, total_cost
from saeray.analysis.hypotheses.statements import PLAIN, Hypotheses, Hypothesis, Method
from saeray.analysis.hypotheses.verify import Verification, Verified
from saeray.labels.groups import LatentGroup
from saeray.labels.llm.relabel import Relabelled

ROWS = {
    "latent": pa.array([7, 3, 9], pa.uint32()),
    "difference": [0.25, 0.01, -0.125],
    "lower": [0.2, -0.01, -0.2],
    "upper": [0.3, 0.03, -0.05],
    "p": [0.0, 0.4, 0.001],
    "q": [0.0, 0.4, 0.002],
    "proposed_difference": [0.28, 0.02, -0.13],
    "confirmed": [True, False, True],
    "frequency_target": [0.75, 0.5, 0.0],
    "frequency_other": [0.5, 0.49, 0.125],
    "other": ["d:model=B", "d:model=B", "d:model=B"],
    "documents": [[750, 500], [500, 490], [0, 125]],
    "difference_at_equal_length": pa.array([0.01, None, None], pa.float64()),
    "separable_from_length": [False, False, True],
    "difference_given": pa.nulls(3, pa.float64()),
    "separable_from_given": pa.nulls(3, pa.bool_()),
    "mean_max_target": [1.0, 1.0, 1.0],
    "mean_max_other": [1.0, 1.0, 1.0],
    "label": ["tables", None, None],
    "finding": pa.array([7, 7, 9], pa.uint32()),
}
PARAMETERS = {
    "channel": None, "pair_on": None, "against": "max", "given": None, "min_support": 5, "keep": 0.03, "top": 200,
    "q": 0.05, "near_label": None, "n_pairs": None, "left_out": None, "halves": False, "halves_by": None,
    "why_no_halves": "too few documents",
}  # fmt: skip


def words(html: str) -> str:
    """What is read on a page."""
    body = html.split("</style>")[1].split("<script>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", body))


def side(name: str) -> dict[str, Any]:
    return {
        "name": name, "channel": "text", "documents": 1000, "tokens": 9000, "mean_tokens": 9.0, "median_tokens": 8.0,
        "dataset": "d", "plans": [0, 1], "commits": "0-4", "proposing": None,
        "shards_missing": 0,
    }  # fmt: skip


def result(several: bool = False, found: bool = True, text: str = "tables", **changes: Any) -> DiffResult:
    """Two findings (one against several): latents 7 and 3, named, with an example; latent 9 without a name."""
    names = ["d:model=A", "d:model=B", "d:model=C"][: 3 if several else 2]
    rows = ROWS | {"label": [text.encode("utf-8", "replace").decode(), None, None]}
    if several:
        rows |= {"upper": pa.nulls(3, pa.float64()), "documents": [[750, 500, 20], [500, 490, 0], [0, 125, 3]]}
    example = Example("x", 3.0, Excerpt("Here is a", " table", f" of <b>{text}</b>."))
    holds = (0.72, 0.4, 0.1)[: len(names)]
    limits = (0.28, None if several else 0.36)
    test = {"kind": "words", "words": [text]}
    names_of = {7: Name(text, HERE, 0.9, holds, 0.32, True, test=test, read=(1000,) * len(names), limits=limits)}
    evidence = {7: Evidence((example,), (("table", 0.9), ("rare", 0.001))), 9: Evidence()}
    made = DiffResult(
        rows=pa.table(rows),
        more=(LatentGroup(text, (7, 3), "same documents"),) if found else (),
        less=(LatentGroup("latent 9", (9,), ""),) if found and not several else (),
        passing=((300, 0 if several else 1) if found else (0, 0)),
        evidence={latent: one for latent, one in evidence.items() if found and (latent == 7 or not several)},
        sides=[side(name) for name in names],
        length={
            "differs": ["d:model=A is longer than d:model=B"],
            "stratum_edges": [3, 5],
            "share_in_common_strata": 0.8,
            "probability_target_longer": [0.7, 0.5][: len(names) - 1],
        },
        parameters=PARAMETERS,
        made_with={"saeray": "0.1", "store": "s3://b/s", "fingerprint": "f" * 64, "d_sae": 16384},
        names=Names(names_of, sparse.csr_matrix((900, 1), dtype=bool), 900) if found else Names({}, _none(), 0),
    )
    return replace(made, **changes)


def _none() -> sparse.csr_matrix:
    return sparse.csr_matrix((0, 0), dtype=bool)


def with_plain_statement(made: DiffResult, yes: tuple[int, int] = (81, 20)) -> DiffResult:
    """The result with the name of latent 7 as a statement that its plain test verified on 100 documents a side."""
    said = Hypothesis("The text has tables.", "latents", 0, (7,), 0.25)
    done = Verification((verified(said, yes, (0, 0), 0.5),), 1.0, 1.0, 0.7, {}, 0, (100, 100), 100, (0, 0))
    method = Method("latents", (said,), {}, done, method_cost([], None), {}, PLAIN)
    return replace(made, hypotheses=Hypotheses("", (method,), (), total_cost([], None)))


def many(n: int, made: DiffResult, labels: Sequence[str | None] = ()) -> DiffResult:
    """The result with `n` tested latents, 0 to n - 1, the smaller the stronger, every other one negative; latents 7, 3
    and 9 among them. `labels`: of the first."""
    first = made.rows.slice(0, 1).to_pylist()[0]
    size = [(n - i) / (2 * n) for i in range(n)]
    difference = [one if i % 2 else -one for i, one in enumerate(size)]
    columns = {name: [value] * n for name, value in first.items()} | {
        "latent": list(range(n)),
        "difference": difference,
        "proposed_difference": difference,
        "lower": [one - 0.05 for one in difference],
        "upper": [one + 0.05 for one in difference],
        "q": [min(1.0, 10.0 ** (3 * i / n - 4)) for i in range(n)],
        "difference_at_equal_length": [None if i % 5 == 0 else 0.9 * one for i, one in enumerate(difference)],
        "separable_from_length": [i % 3 == 0 for i in range(n)],
        "label": [*labels, *(f"word {i}" for i in range(len(labels), n))],
    }
    schema = made.rows.schema
    rows = pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()})
    return replace(made, rows=rows)


def halved(made: DiffResult, pair_on: str | None = None) -> DiffResult:
    """The same from halves: 2,000 documents a side, of which the measured 1,000 are the other half."""
    half = np.repeat([True, False], 1000)
    sides = [one | {"documents": 2000, "proposing": 1000} for one in made.sides]
    used = {"halves": True, "halves_by": "text", "why_no_halves": None, "pair_on": pair_on}
    if pair_on:
        used |= {"n_pairs": 2000, "left_out": [0] * len(sides)}
    design = Design((), "max", None, 0, (half,) * len(sides))
    return replace(made, sides=sides, design=design, parameters={**made.parameters, **used})


def verified(hypothesis: Hypothesis, yes: tuple[int, int], missing: tuple[int, int], lower: float) -> Verified:
    """One of 100 documents a side."""
    shares = [count / (100 - lost) for count, lost in zip(yes, missing, strict=True)]
    difference = shares[0] - shares[1] if hypothesis.side == 0 else shares[1] - shares[0]
    bounds = (difference - 0.02, difference + 0.02)
    return Verified(
        hypothesis, (100, 100), yes, missing, difference, lower, difference + 0.2, bounds,
        valid=difference > 0.01, confirmed=lower > 0, settled="above" if lower > 0 else None, saved_calls=40,
        saved_tokens=8000, within_noise=abs(difference) < 0.05,
    )  # fmt: skip


def spent(stage: str) -> dict[str, Any]:
    """A row of a ledger."""
    return {
        "stage": stage, "model": "gemini:m", "calls": 200, "tokens_in": 51_000, "tokens_out": 1_234,
        "tokens_thinking": 77, "dollars": 0.25, "cached": 20, "saved_tokens": 5_100, "saved_dollars": 0.025,
        "batched": 0,
        "uncertain_calls": 1, "uncertain_tokens": 300, "uncertain_dollars": 0.001, "retries": {}, "missing": {"cut": 2},
    }  # fmt: skip


def with_hypotheses(made: DiffResult, text: str = "tables", checked: bool = True) -> DiffResult:
    """The result with three statements from latents, one of a baseline, labels and costs."""
    said = [
        Hypothesis(f"The text has {text}.", "latents", 0, (7, 3), 0.25, f"They peak on {text}."),
        Hypothesis("The text is short.", "latents", 1, (9,), -0.125),
        Hypothesis("The text greets.", "latents", 0),
    ]
    bare = Hypothesis(f"The text is long or has {text}.", "llm-summary")
    share = [0.5, 0.35, 0.65]
    twice = {"asked": 40, "answered": 39, "differed": 3, "rate": 3 / 39, "lower": 0.03, "upper": 0.2}
    noise = {kind: {**twice, "yes_first": share, "yes_again": share} for kind in ("repeats", "swapped")}
    verdicts = tuple(map(verified, said, ((71, 10), (20, 23), (9, 9)), ((0, 3), (0, 0), (0, 0)), (0.5, -0.1, -0.2)))
    done = Verification(verdicts, 2 / 3, 1 / 3, 0.66, {**noise, "bound": 3 / 39}, 640, (100, 100), 100, (0, 0))
    other = Verification((verified(bare, (60, 20), (0, 0), 0.2),), 1.0, 1.0, 0.4, {}, 200, (100, 100), 100, (0, 0))
    encoder = {"documents": 2000, "tokens": 18_000, "seconds": 61.0}
    rows = [spent("labels"), spent("verify")]
    left = {f"not clear: {text}": (3,)}
    alone = {"all_tokens": 114_822, "all_dollars": 0.55}
    methods = (
        Method("latents", tuple(said), {"two properties": 1}, done if checked else None,
               {**method_cost(rows, encoder), **alone}, left, "gemini:m" if checked else ""),
        Method("llm-summary", (bare,), {}, other if checked else None,
               {**method_cost([spent("verify")], None), "all_tokens": 57_411, "all_dollars": 0.28}),
    )  # fmt: skip
    labels = (
        Relabelled(7, text, True, 0.9, text, 0.6, True, ""),
        Relabelled(3, "of", False, 0.5, None, None, False, text),
    )
    return replace(made, hypotheses=Hypotheses(text, methods, labels, total_cost(rows, encoder)))
