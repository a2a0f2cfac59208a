"""What a user may choose of hypotheses, with the defaults and why they are so."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from saeray.analysis.hypotheses.verify import VerifyOptions
from saeray.errors import UsageError
from saeray.labels.llm.relabel import RelabelOptions
from saeray.llm import LLMConfig

MethodName = Literal["latents", "llm-summary", "llm-cluster"]


class HypothesesConfig(BaseModel):
    """hypotheses: most statements of a method, 0 for none. question: what the user wants to know of the differences.
    verify: have the statements judged on the other half. methods: who proposes; all but "latents" need an LLM. top:
    findings that are relabelled and shown to the LLM. judge: who verifies, the LLM itself by default.

    embedder: the model of the LLM's service that embeds notes for llm-cluster, MiniLM on this machine by default.
    documents: most of a side that readers and judge are given. early, reason, repeats, seed: as `VerifyOptions` has
    them; candidates, score: as `RelabelOptions`. thinking: most tokens of thought of any call, None as the service
    likes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hypotheses: int = Field(default=0, ge=0, le=50)
    question: str = ""
    verify: bool = False
    methods: tuple[MethodName, ...] = ("latents",)
    llm: LLMConfig | None = None
    judge: LLMConfig | None = None
    top: int = Field(default=200, ge=1)
    embedder: str | None = None
    documents: int | None = Field(default=None, ge=1)
    early: bool = True
    reason: bool = True
    repeats: int = Field(default=40, ge=0)
    seed: int = 0
    # One candidate is 41 calls a latent, three are 103: at 200 latents the whole price of a diff. A label that is no
    # better than the one before is not used either way.
    candidates: int = Field(default=1, ge=1)
    score: int = Field(default=10, ge=3)  # fewer do not score
    thinking: int | None = Field(default=0, ge=0)

    def check(self) -> None:
        """Raises UsageError for choices that do not go together."""
        if self.verify and not self.hypotheses:
            raise UsageError("--verify checks hypotheses: say how many with --hypotheses, such as --hypotheses 10")
        if not self.methods or len(set(self.methods)) != len(self.methods):
            raise UsageError("name each --method once: latents, llm-summary, llm-cluster")
        asked = [method for method in self.methods if method != "latents"]
        if self.llm is None and asked:
            raise UsageError(f"--method {asked[0]} reads documents with an LLM: name one with --llm")
        if self.llm is None and self.judge is not None:
            raise UsageError("--judge is the LLM that verifies what another proposed: name that one with --llm")

    def relabelling(self) -> RelabelOptions:
        """How latents are relabelled."""
        return RelabelOptions(candidates=self.candidates, score=self.score, thinking=self.thinking)

    def verifying(self) -> VerifyOptions:
        """How statements are verified."""
        return VerifyOptions(
            documents=self.documents,
            early=self.early,
            repeats=self.repeats,
            reason=self.reason,
            seed=self.seed,
            thinking=self.thinking,
        )
