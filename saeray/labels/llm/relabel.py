"""Better labels for some latents on some documents: several candidates, the best kept, and only if it is better.

A label judged on the documents it was made from, or the best of three at the luck that made it the best, flatters
itself. So one part of the texts proposes, another chooses, and the third scores the chosen label and the one that was
there before, on the same documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from saeray.analysis.sides import Side
from saeray.errors import UsageError
from saeray.labels.llm.detect import Detected, detected, questions
from saeray.labels.llm.documents import Documents, Drawn
from saeray.labels.splits import Split
from saeray.llm import Client, Progress, Reply, Request
from saeray.llm.prompts import label as ask_label

#: Latents that are worked on at once: eight keep 16 calls in flight, and are all that a cap can leave half done. In
#: batch jobs it is all of them, in three jobs: one after another they would take weeks.
CHUNK = 8
#: Characters of a label that is taken; a longer one is a mishap.
MOST_CHARACTERS = 200

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class RelabelOptions:
    """candidates: labels proposed a latent. examples: active texts shown to propose, and as many silent; choose, score:
    the same for detection. window: tokens of a text that are shown. threshold: least score of a label that is `kept`.
    least: fewer active or silent documents than this do not score. thinking: most tokens of thought a call; None leaves
    it to the model."""

    candidates: int = 3
    examples: int = 10
    choose: int = 10
    score: int = 10
    window: int = 128
    temperature: float = 0.7
    threshold: float = 0.75
    least: int = 3
    thinking: int | None = 0

    def __post_init__(self) -> None:
        if min(self.candidates, self.examples, self.choose, self.score, self.least) < 1 or self.window < 8:
            raise UsageError(
                "relabelling takes at least one candidate and document of each kind, and windows of 8 tokens"
            )

    def calls(self, rivals: int = 1) -> int:
        """Most calls for a latent that has so many labels already. Candidates that agree cost less."""
        choose = 2 * self.choose * self.candidates if self.candidates > 1 else 0
        return self.candidates + choose + 2 * self.score * (1 + rivals)


@dataclass(frozen=True)
class Relabelled:
    """What came of one latent.

    label: the best there is, the one before where no candidate beat it; "" where there is none. clear: whether the LLM
    found one property in it. score: detection score, 0..1, on texts that neither proposed nor chose (`Detected.score`).
    before, score_before: the label there was, on the same texts. kept: the score reaches the threshold. why: in words.
    bounds: of the score, with missing answers at their worst and best. missing: calls that came to nothing.
    documents: active and silent texts that scored.
    """

    latent: int
    label: str
    clear: bool
    score: float | None
    before: str | None
    score_before: float | None
    kept: bool
    why: str
    bounds: tuple[float, float] | None = None
    missing: int = 0
    documents: tuple[int, int] = (0, 0)

    @property
    def replaced(self) -> bool:
        """Whether the label is new."""
        return bool(self.label) and self.label != self.before


def relabel(
    sides: Sequence[Side],
    latents: Sequence[int],
    current: Mapping[int, str],
    client: Client,
    model: str,
    options: RelabelOptions = RelabelOptions(),
    on_progress: OnProgress | None = None,
) -> list[Relabelled]:
    """One a latent, in order. current: labels there are.

    Active texts come from `sides[0]` first, silent ones from all sides. What fails is not kept, with why. on_progress
    is told of latents. Raises UsageError when texts are not stored, and Stop (the cap, a dead key) as the client does.
    """
    return list(each_relabelled(sides, latents, current, client, model, options, on_progress))


def each_relabelled(
    sides: Sequence[Side],
    latents: Sequence[int],
    current: Mapping[int, str],
    client: Client,
    model: str,
    options: RelabelOptions = RelabelOptions(),
    on_progress: OnProgress | None = None,
    unseen: Mapping[int, str] | None = None,
) -> Iterator[Relabelled]:
    """As `relabel`, one after another, so that a caller has what was done when the cap ends it.

    unseen: labels to beat too that a proposal is not told of, those of an earlier run: were they part of the question,
    no rerun would find its answers.
    """
    others = unseen or {}
    each: dict[Split, int] = {"propose": options.examples, "choose": options.choose, "score": options.score}
    documents = Documents(sides, latents, each, options.window)
    at_once = max(1, len(latents)) if client.batches else CHUNK
    for start in range(0, len(latents), at_once):
        tasks = [
            _Task(documents, one, (current.get(one, ""), others.get(one, "")), options)
            for one in latents[start : start + at_once]
        ]
        _work([task for task in tasks if not task.unfit], client, model, options)
        for number, task in enumerate(tasks, start + 1):
            yield task.result(options)
            if on_progress is not None:
                on_progress(Progress(number, len(latents), client.ledger.totals().total))


class _Task:
    """One latent on its way: its documents, its candidates, and what each label was found to hold."""

    def __init__(self, documents: Documents, latent: int, before: tuple[str, str], options: RelabelOptions) -> None:
        self.latent, self.told = latent, before[0]
        self.rivals = [text for text in dict.fromkeys(before) if text]
        self.drawn: dict[Split, Drawn] = {
            split: documents.draw(latent, split) for split in ("propose", "choose", "score")
        }
        self.candidates: dict[str, bool] = {}  # text -> clear, the most often proposed first
        self.lost: Counter[str] = Counter()
        self.chosen: str | None = None
        self.scores: dict[str, Detected] = {}
        present = documents.hits[latent].present
        self.unfit = ""
        if not present:
            self.unfit = "active in none of the documents"
        elif (n := min(len(self.drawn["propose"].active), self.drawn["score"].enough)) < options.least:
            self.unfit = f"present in {present:,} documents, too few: {n} to propose from or to score on"

    def propose(self, replies: Sequence[Reply]) -> None:
        said = Counter[str]()
        clear: dict[str, bool] = {}
        for reply in replies:
            text = "" if reply.missing else tidy(reply.value["label"])
            if text:
                text = next((one for one in said if one.casefold() == text.casefold()), text)
                said[text] += 1
                clear[text] = clear.get(text, False) or reply.value["clear"]
            else:
                self.lost[reply.missing or "empty"] += 1
        self.candidates = {text: clear[text] for text, _ in said.most_common()}
        self.chosen = next(iter(self.candidates), None)

    def choose(self, found: Mapping[str, Detected]) -> None:
        """The best on the second part; of equals a clear one, then the one proposed most often."""
        for one in found.values():
            self.lost["while choosing"] += one.missing
        order = {text: place for place, text in enumerate(self.candidates)}
        self.chosen = max(found, key=lambda text: (found[text].score or 0.0, self.candidates[text], -order[text]))

    @property
    def contenders(self) -> list[str]:
        """The labels that are scored: the chosen one and those there are."""
        return list(dict.fromkeys([*([self.chosen] if self.chosen else []), *self.rivals]))

    def result(self, options: RelabelOptions) -> Relabelled:
        """Raises nothing: whatever went wrong is in `why`."""
        known = {text: one.score for text, one in self.scores.items() if one.score is not None}
        old = [text for text in self.rivals if text in known]
        before = max(old, key=lambda text: known[text]) if old else next(iter(self.rivals), None)
        new = self.chosen if self.chosen in known and self.chosen not in self.rivals else None
        label = before if new is None or (before in known and known[new] <= known[before]) else new
        score = known.get(label) if label else None
        used = self.scores.get(label) if label else None
        return Relabelled(
            self.latent,
            label or "",
            self.candidates.get(label, True) if label else False,
            score,
            before,
            known.get(before) if before else None,
            score is not None and score >= options.threshold,
            self._why(label, before, known, options),
            used.bounds if used else None,
            sum(self.lost.values()) + sum(one.missing for one in self.scores.values()),
            used.answered if used else (0, 0),
        )

    def _why(self, label: str | None, before: str | None, known: Mapping[str, float], options: RelabelOptions) -> str:
        if self.unfit:
            return self.unfit
        if label is None or label not in known:
            lost = ", ".join(f"{kind}: {n}" for kind, n in self.lost.items() if n)
            return f"no label could be scored ({lost})" if lost else "no label could be scored: its calls failed"
        if before is None:
            told = "there was no label before"
        elif before not in known:
            told = "the label before could not be scored"
        elif label != before:
            told = f"better than the label before ({known[label]:.2f} against {known[before]:.2f})"
        elif self.chosen is None:
            told = "no candidate came back, the label before stays"
        else:
            rest = f" ({known[self.chosen]:.2f} against {known[label]:.2f})" if self.chosen in known else ""
            told = f"no candidate is better than the label before{rest}"
        return told if known[label] >= options.threshold else f"{told}; below {options.threshold:g}"


def _work(tasks: Sequence[_Task], client: Client, model: str, options: RelabelOptions) -> None:
    """Proposes, chooses and scores, each in one round of calls for all tasks."""
    asked: list[Request] = []
    for task in tasks:
        shown = [*task.drawn["propose"].active, *task.drawn["propose"].silent]
        asked += [
            ask_label(
                model,
                shown,
                task.told,
                temperature=options.temperature,
                sample=number,
                thinking_budget=options.thinking,
            )
            for number in range(options.candidates)
        ]
    replies = iter(client.complete_many(asked, "label"))
    for task in tasks:
        task.propose([next(replies) for _ in range(options.candidates)])
    open_ = [task for task in tasks if len(task.candidates) > 1 and task.drawn["choose"].enough]
    for task, found in zip(open_, _detect(open_, "choose", client, model, options), strict=True):
        task.choose(found)
    for task, found in zip(tasks, _detect(tasks, "score", client, model, options), strict=True):
        task.scores = found


def _detect(
    tasks: Sequence[_Task], split: Split, client: Client, model: str, options: RelabelOptions
) -> list[dict[str, Detected]]:
    """Each task's candidates on the part that chooses, its chosen label and its rivals on the part that scores."""
    labels = [list(task.candidates) if split == "choose" else task.contenders for task in tasks]
    asked = [
        questions(model, text, task.drawn[split], options.thinking)
        for task, texts in zip(tasks, labels, strict=True)
        for text in texts
    ]
    stage = "label choose" if split == "choose" else "label score"
    replies = iter(client.complete_many([one for some in asked for one in some], stage))
    answers = iter([[next(replies) for _ in some] for some in asked])
    return [
        {text: detected(task.drawn[split], next(answers)) for text in texts}
        for task, texts in zip(tasks, labels, strict=True)
    ]


def tidy(label: str) -> str:
    """A label on one line, without its full stop; "" where it is too long to be one."""
    text = " ".join(label.split()).strip().rstrip(".").strip()
    return text if len(text) <= MOST_CHARACTERS else ""
