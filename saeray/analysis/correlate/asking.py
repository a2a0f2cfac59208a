"""What an LLM may be asked about correlations, and what of it a result holds. Without a model nothing is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import Field

from saeray.llm import LLMConfig


class AskConfig(LLMConfig):
    """The `llm` part of a correlate config: which model, within which cap, and how much it is asked.

    Two labels on 100 documents are 200 calls a finding.
    """

    findings: int = Field(default=10, ge=0)  # how many are verified, the strongest
    documents: int = Field(default=100, ge=10)  # judged a finding
    baseline: bool = False  # ask the model for pairs too, and verify those
    batches: int = Field(default=4, ge=1)  # prompts of the baseline
    batch: int = Field(default=40, ge=2)  # documents in each


@dataclass(frozen=True)
class Share:
    """An estimate with its 95% interval; all None where it is undefined (nothing to condition on)."""

    value: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class Verified:
    """Two concepts judged by an LLM on a sample of documents, weighed up to the selection.

    p_first, p_second, p_both: shares of the documents; first_given_second: P(C1|C2). `judged` documents have both
    answers, `missing` lack one; worst, best: between what the sample's NPMI lies whatever those would have been. hits,
    of: of the judged documents with both latents those that have both concepts; None for a pair that has no latents.
    """

    first: str
    second: str
    npmi: Share
    first_given_second: Share
    second_given_first: Share
    p_first: Share
    p_second: Share
    p_both: Share
    judged: int
    missing: int
    worst: float | None
    best: float | None
    hits: int | None = None
    of: int | None = None
    reason: str = ""

    def row(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True)
class Asked:
    """What an LLM added. labels: how many it was asked about, how many it sorted (the others went by the rule).

    verified: by number of the finding, those with two labels. baseline: the first pairs that it named itself, None when
    it was not asked; named: how many there were. cost: the ledger.
    """

    model: str
    labels: int
    sorted: int
    verified: Mapping[int, Verified]
    baseline: tuple[Verified, ...] | None
    named: int
    cost: Mapping[str, Any]
    parameters: Mapping[str, Any]

    def summary(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "model": self.model,
            "labels_asked": self.labels,
            "labels_sorted": self.sorted,
            "verified": [{"finding": number, **one.row()} for number, one in sorted(self.verified.items())],
            "baseline": None if self.baseline is None else [one.row() for one in self.baseline],
            "baseline_named": self.named,
            "cost": dict(self.cost),
            "parameters": dict(self.parameters),
        }
