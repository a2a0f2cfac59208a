"""Asking a judge: a call a statement and text, whose answer is yes, no, or missing.

A call that failed, was cut, blocked or refused, or whose reply does not parse is missing and never a no.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from saeray.llm import Client, Progress, Reply
from saeray.llm.prompts import judge

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
OnProgress = Callable[[Progress], None]


class Judge:
    """A model that gives verdicts. `calls`: the questions so far, those answered from the cache included.

    reason: it gives a reason before the verdict. thinking: tokens it may think before either, 0 none, None what the
    service does by itself (thoughts then use up the room of the answer).
    """

    def __init__(
        self, client: Client, model: str, reason: bool, thinking: int | None, on_progress: OnProgress | None
    ) -> None:
        self._client, self._model = client, model
        self._reason, self._thinking = reason, thinking
        self._on_progress = on_progress
        self.calls = 0

    def ask(
        self,
        questions: Sequence[tuple[str, str]],
        stage: str,
        *,
        later: int = 0,
        sample: int = 0,
        document_first: bool = False,
    ) -> tuple[Float64, Int64]:
        """Verdicts on (statement, text), float64, 1 yes, 0 no, NaN missing; and the tokens of each call, int64.

        later: the calls there may be after these, for the progress. Raises Stop as the client does (a dead key, the
        cap), with all that was paid for in the cache.
        """
        requests = (
            judge(
                self._model,
                statement,
                text,
                reason=self._reason,
                document_first=document_first,
                thinking_budget=self._thinking,
                sample=sample,
            )
            for statement, text in questions
        )
        replies = self._client.complete_many(requests, stage, self._shown(later))
        self.calls += len(replies)
        return (
            np.array([_verdict(reply) for reply in replies], np.float64),
            np.array([reply.usage.total for reply in replies], np.int64),
        )

    def _shown(self, later: int) -> OnProgress | None:
        """Progress of this call as progress of the whole verification."""
        show, before = self._on_progress, self.calls
        if show is None:
            return None
        return lambda now: show(Progress(before + now.done, before + now.total + later, now.tokens))


def _verdict(reply: Reply) -> float:
    if reply.missing is not None or reply.value is None:
        return float("nan")
    return 1.0 if reply.value["verdict"] == "yes" else 0.0
