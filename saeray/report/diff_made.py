"""How a diff was made, so that it can be made again, and what it does not say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from saeray.report.page import made, read_from, section

if TYPE_CHECKING:
    from saeray.analysis.diff.result import DiffResult


def how_made(result: DiffResult) -> str:
    """The section on the command, the sides, the rules and the versions."""
    return made(_lines(result), result.made_with)


def to_keep_in_mind(result: DiffResult) -> str:
    """The section of caveats."""
    return section("What to keep in mind", "<ul>" + "".join(f"<li>{line}</li>" for line in _caveats(result)) + "</ul>")


def _lines(result: DiffResult) -> Iterator[tuple[str, str]]:
    used, length = result.parameters, result.length
    if result.hypotheses is None or not result.hypotheses.cost["stages"]:
        yield "cost", "no language model was called; nothing beyond encoding"
    if "command" in result.made_with:
        yield "command", result.made_with["command"]
    for i, side in enumerate(result.sides):
        size = (
            f"{side['documents']:,} documents, {side['tokens']:,} tokens, {side['median_tokens']:g} in the median one"
        )
        yield "other" if i else "target", f"{side['name']}: {size}; {read_from(side)}"
    if used.get("pair_on"):
        yield "paired", f"on {used['pair_on']}: {used['n_pairs']:,} keys that every side has{_left_out(result)}"
    if used.get("halves"):
        proposing = " and ".join(f"{side['proposing']:,}" for side in result.sides)
        yield "halves", f"by hash of {used['halves_by']}: {proposing} documents propose, the others measure"
    else:
        yield "halves", f"none: {used.get('why_no_halves') or 'all documents propose and measure'}"
    if used.get("given"):
        yield "given", f"differences beside those at equal {used['given']}"
    yield "findings", f"q ≤ {used['q']:g}, more than {100 * used['keep']:g} points, at most {used['top']} a direction"
    alike = "latents with one label or in the same documents are one finding"
    near = "" if used["near_label"] is None else f"; labels count as one from a cosine of {used['near_label']:g}"
    yield "grouped", alike + near
    yield "tested", f"latents present in at least {used['min_support']:,} of all documents and absent from as many"
    classes, share = len(length["stratum_edges"]) + 1, length["share_in_common_strata"]
    yield "equal length", f"{classes} classes of length; {share:.0%} of documents are in those that every side has"


def _left_out(result: DiffResult) -> str:
    lost = result.parameters.get("left_out") or []
    return f"; without one {' and '.join(f'{n:,}' for n in lost)} documents were left out" if any(lost) else ""


def _caveats(result: DiffResult) -> Iterator[str]:
    yield (
        "A text has a latent when it is active on at least one token, so longer texts have more of them. A difference "
        "that vanishes at equal length is a difference of length."
    )
    yield f"q is the share of false discoveries to expect among all latents up to that one. {_test(result)}"
    if not result.parameters.get("pair_on"):
        yield "Texts count as independent: several answers to one prompt, or near-copies, make q too small."
    yield (
        "Examples are the strongest activations, not typical ones. The words a latent is strongest on are evidence, "
        "not a meaning."
    )
    if result.names.of:
        yield (
            "Names come from the latents’ labels or from these texts, mostly without a person or an LLM looking. A "
            "finding goes by a name when a search of the texts for it tells where the latent is, and differs between "
            f"the sides as the latent does, on {result.names.documents:,} of the texts. Its percentages are those of "
            "the search, on texts that proposed no name where there are two halves."
        )
    elif all(label is None for label in result.rows.column("label").to_pylist()):
        yield "There are no labels yet: what a latent stands for is for you to judge from its sentences."


def _test(result: DiffResult) -> str:
    if result.parameters.get("pair_on"):
        return "p is exact McNemar on the pairs, by sign-flips where a key has several rows; the interval is Tango’s."
    if len(result.sides) > 2:
        return "p is the largest of the one-sided Fisher mid-p values against each other side, the bound the smallest."
    return "p is two-sided Fisher mid-p; the interval is Newcombe’s, for one latent alone."
