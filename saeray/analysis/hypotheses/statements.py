"""What a diff claims in words: statements, the method that proposed them, how they fared, and what it all cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saeray.analysis.hypotheses.verify import Verification, Verified
    from saeray.labels.llm.relabel import Relabelled

#: The methods: from latents, and what an LLM makes of the documents alone.
LATENTS, SUMMARY, CLUSTER = "latents", "llm-summary", "llm-cluster"
#: The judge where no LLM took part (`analysis.hypotheses.plain`).
PLAIN = "plain test"


@dataclass(frozen=True)
class Hypothesis:
    """One property of a single text, said to be more frequent in `sides[side]` than in any other side.

    statement: usable alone, "The text ...". method: "latents", "llm-summary" or "llm-cluster". side: 0 is the target,
    1 the other. latents: those it rests on. expected: of its latents the largest difference of document frequencies in
    the verifying half, signed target less other, in -1..1. reason: the proposer's own.
    """

    statement: str
    method: str
    side: int = 0
    latents: tuple[int, ...] = ()
    expected: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Method:
    """What one method proposed. dropped: why -> how many statements or notes were left out; left_out: why -> the
    latents that are in no statement. judge: who verified, "" when nobody did."""

    method: str
    hypotheses: tuple[Hypothesis, ...]
    dropped: Mapping[str, int]
    verification: Verification | None
    cost: Mapping[str, Any]
    left_out: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    judge: str = ""

    @property
    def results(self) -> Sequence[Verified | None]:
        """How each statement fared, None where nobody looked."""
        return self.verification.verified if self.verification else [None] * len(self.hypotheses)

    def summary(self) -> dict[str, Any]:
        """JSON-ready."""
        checked = self.verification
        return {
            "method": self.method,
            "judge": self.judge or None,
            "proposed": len(self.hypotheses),
            "verification_rate": checked.rate if checked else None,
            "confirmed_rate": checked.confirmed_rate if checked else None,
            "coverage": checked.coverage if checked else None,
            "covered_of": checked.covered_of if checked else None,
            "noise": dict(checked.noise) if checked else None,
            "judge_calls": checked.calls if checked else None,
            "judged_documents": list(checked.documents) if checked else None,
            "cut": list(checked.cut) if checked else None,
            "statements": [_one(h, result) for h, result in zip(self.hypotheses, self.results, strict=True)],
            "dropped": dict(self.dropped),
            "left_out": {why: list(latents) for why, latents in self.left_out.items()},
            "cost": dict(self.cost),
        }


@dataclass(frozen=True)
class Hypotheses:
    """What `DiffResult.hypotheses` holds. methods: "latents" first. cost: JSON-ready, a stage each and in total.
    stopped: the one line that ended the run before its end; what was there by then is kept. note: what the reader is
    told beside the statements, such as what a key would add."""

    question: str
    methods: tuple[Method, ...]
    relabelled: tuple[Relabelled, ...]
    cost: Mapping[str, Any]
    stopped: str | None = None
    note: str = ""

    def summary(self) -> dict[str, Any]:
        """JSON-ready: what `summary.json` has under "hypotheses"."""
        return {
            "question": self.question or None,
            "methods": [method.summary() for method in self.methods],
            "relabelled": [asdict(one) for one in self.relabelled],
            "cost": dict(self.cost),
            "stopped": self.stopped,
            "note": self.note or None,
        }

    def table(self) -> list[dict[str, Any]]:
        """The statements for a terminal, in their order."""
        return [
            _line(method, hypothesis, verified)
            for method in self.methods
            for hypothesis, verified in zip(method.hypotheses, method.results, strict=True)
        ]


def _line(method: Method, hypothesis: Hypothesis, verified: Verified | None) -> dict[str, Any]:
    points: dict[str, str | None] = {"points": None, "from": None, "to": None, "verdict": None}
    if verified is not None:
        figures = (verified.difference, verified.lower, verified.upper)
        points = dict(zip(points, (f"{100 * one:+.0f}" for one in figures), strict=False))
        good = "valid, not confirmed" if verified.valid else "not borne out"
        points["verdict"] = "confirmed" if verified.confirmed else good
    more_in = "the target" if hypothesis.side == 0 else "the other"
    return {"statement": hypothesis.statement, "more_in": more_in, **points, "method": method.method}


def _one(hypothesis: Hypothesis, verified: Verified | None) -> dict[str, Any]:
    """A statement and how it fared, flat."""
    one = asdict(hypothesis) | {"latents": list(hypothesis.latents)}
    names = ["difference", "lower", "upper", "valid", "confirmed", "settled", "within_noise"]
    names += ["saved_calls", "saved_tokens"]
    fared: dict[str, Any] = {name: getattr(verified, name) if verified else None for name in names}
    for name in ("judged", "yes", "missing", "bounds"):
        fared[name] = list(getattr(verified, name)) if verified else None
    return one | fared
