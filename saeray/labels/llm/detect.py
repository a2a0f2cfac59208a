"""Does an LLM that reads a label alone tell the documents where the latent is active from those where it is silent?

One call a document, so that a call which fails costs one answer; what does not come back is left out and counted, never
taken for a "no". Detection after Paulo et al. 2024, arXiv 2410.13928.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saeray.labels.llm.documents import Drawn
from saeray.llm import Reply, Request
from saeray.llm.prompts import judge


@dataclass(frozen=True)
class Detected:
    """Answers on some active and some silent documents, in that order: `right`, `answered`, `asked` of each kind."""

    right: tuple[int, int]
    answered: tuple[int, int]
    asked: tuple[int, int]

    @property
    def score(self) -> float | None:
        """Mean of the shares of right answers on active and on silent documents: 0.5 by chance, however many calls of
        either kind failed. None where a kind has no answer."""
        if not all(self.answered):
            return None
        return sum(right / of for right, of in zip(self.right, self.answered, strict=True)) / 2

    @property
    def bounds(self) -> tuple[float, float]:
        """The score were all missing answers wrong, and were all right."""
        each = list(zip(self.right, self.answered, self.asked, strict=True))
        low = sum(right / max(1, asked) for right, _, asked in each) / 2
        high = sum((right + asked - answered) / max(1, asked) for right, answered, asked in each) / 2
        return low, high

    @property
    def missing(self) -> int:
        """Calls that came to nothing."""
        return sum(self.asked) - sum(self.answered)


def as_property(label: str) -> str:
    """A label, which is a phrase, as a property that a text can be judged by."""
    return label if label.lower().startswith("the text ") else f"The text has, shows or is about this: {label}"


def questions(model: str, label: str, drawn: Drawn, thinking: int | None) -> list[Request]:
    """One request a document, the active ones first."""
    property_ = as_property(label)
    return [
        judge(model, property_, one.text, reason=False, thinking_budget=thinking)
        for one in (*drawn.active, *drawn.silent)
    ]


def detected(drawn: Drawn, replies: Sequence[Reply]) -> Detected:
    """What the replies to `questions` say."""
    active, silent = replies[: len(drawn.active)], replies[len(drawn.active) :]
    right = tuple(
        sum(reply.missing is None and reply.value["verdict"] == said for reply in some)
        for some, said in ((active, "yes"), (silent, "no"))
    )
    answered = tuple(sum(reply.missing is None for reply in some) for some in (active, silent))
    return Detected((right[0], right[1]), (answered[0], answered[1]), (len(active), len(silent)))
