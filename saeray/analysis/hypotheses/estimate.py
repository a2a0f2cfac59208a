"""What hypotheses will cost at most, said before anything is sent: calls, tokens, money, and the cap.

An estimate for a person who decides, not the bound that protects them: that is the cap, which counts bytes. Documents
are counted in the reader's tokens, prompts and answers by what they take in English. Stages that a batch job takes are
at its price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saeray.analysis.diff.design import Design
from saeray.analysis.hypotheses.baselines import NOTES, SUMMED
from saeray.analysis.hypotheses.merge import BATCH
from saeray.analysis.hypotheses.options import HypothesesConfig
from saeray.analysis.hypotheses.steps import Steps
from saeray.llm import Client, Usage, batch
from saeray.llm.prices import dollars

#: Tokens of a prompt around its documents, of a verdict (with and without its reason), of a label, of a statement with
#: its numbers and reason, of a labelled difference with its passage, of a note.
FRAME, REASONED, VERDICT, LABEL, STATEMENT, DIFFERENCE, NOTE = 350, 60, 8, 80, 80, 90, 25


@dataclass(frozen=True)
class Stage:
    """Calls of one stage and their tokens, at most. judge: they go to the judge."""

    name: str
    calls: int
    read: int
    written: int
    judge: bool = False


def stages_of(
    config: HypothesesConfig, leaders: Sequence[int], design: Design, readings: int, steps: Steps | None
) -> list[Stage]:
    """The stages of a run. leaders: findings of each direction. design: the proposing half. readings: texts of the
    sides that are read together. steps: what the judge reads, None without verification."""
    found: list[Stage] = []
    ways = max(1, sum(bool(n) for n in leaders))
    each = [side.lengths.mean() if side.n_documents else 0.0 for side in design.sides]
    if "latents" in config.methods:
        found += _from_latents(config, leaders)
    baselines = [method for method in config.methods if method != "latents"]
    if baselines:
        texts = round(readings * sum(each))
        found.append(Stage("read", readings, texts + FRAME * readings, 2 * NOTES * NOTE * readings))
    for method in baselines:
        if method == "llm-summary":
            calls = ways * (-(-readings // SUMMED) + (readings > SUMMED))
            found.append(Stage("summarise", calls, 2 * NOTES * NOTE * readings, calls * config.hypotheses * STATEMENT))
        else:
            calls = max(config.hypotheses, ways)
            found.append(Stage("cluster", calls, calls * (FRAME + NOTES * NOTE), calls * STATEMENT))
    if steps is not None:
        asked = config.hypotheses * len(config.methods)
        calls = asked * sum(steps.documents) + 2 * config.repeats * len(config.methods)
        texts = asked * round(sum(n * mean for n, mean in zip(steps.documents, each, strict=True)))
        written = calls * (REASONED if config.reason else VERDICT)
        found.append(Stage("verify", calls, texts + calls * FRAME, written, judge=True))
    return found


def _from_latents(config: HypothesesConfig, leaders: Sequence[int]) -> list[Stage]:
    options, n = config.relabelling(), sum(leaders)
    labels = n * options.candidates
    scores = n * options.calls() - labels
    proposing = labels * 2 * options.examples * options.window
    batches = [-(-one // BATCH) for one in leaders if one]
    asked = sum(batches) + sum(one > 1 for one in batches)
    return [
        Stage("label", labels, proposing + labels * FRAME, labels * LABEL),
        Stage("label score", scores, scores * (options.window + FRAME), scores * VERDICT),
        Stage("propose", asked, n * DIFFERENCE + asked * FRAME, asked * config.hypotheses * STATEMENT),
    ]


def told(stages: Sequence[Stage], client: Client, model: str, judge: Client, judge_model: str) -> str:
    """The estimate in one line."""
    calls = sum(one.calls for one in stages)
    tokens = sum(one.read + one.written for one in stages)
    parts = ", ".join(f"{one.name} {one.calls:,}" for one in stages if one.calls)
    own = _money([one for one in stages if not one.judge], client, model)
    judged = _money([one for one in stages if one.judge], judge, judge_model)
    money = "at an unknown price" if own is None or judged is None else f"some {own + judged:.2f} dollars"
    money = "at no cost" if client.backend.free and judge.backend.free else money
    jobs = told_batches([client, judge])
    caps = list(dict.fromkeys(str(one.sender.budget.cap) or "none" for one in (client, judge)))
    cap = " and ".join(caps) + (" each" if judge is not client and len(caps) == 1 and caps != ["none"] else "")
    who = model if model == judge_model else f"{model} and {judge_model}"
    return (
        f"asking {who}: at most {calls:,} calls and about {_round(tokens)} tokens, {money} ({parts}); "
        f"{jobs}the cap: {cap}. What is in the cache is free"
    )


def told_batches(clients: Sequence[Client]) -> str:
    """What batch jobs change, for the estimate's line; "" where there are none."""
    if not any(client.batches for client in clients):
        return ""
    return (
        f"{batch.LEAST} calls or more at once go as batch jobs, each of which may take a day, and a verification in "
        "one reads all its documents: nothing is stopped early; "
    )


def _money(stages: Sequence[Stage], client: Client, model: str) -> float | None:
    if client.backend.free:
        return 0.0
    price = client.sender.table.of(model)
    if price is None:
        return None
    # One call at a time: a price may rise for a single long prompt, never for many short ones.
    pico = 0
    for one in stages:
        factor = client.sender.table.batch if client.batches and one.calls >= batch.LEAST else 1.0
        pico += one.calls * price.cost(Usage(one.read // max(1, one.calls), one.written // max(1, one.calls)), factor)
    return dollars(pico)


def _round(tokens: int) -> str:
    return f"{tokens / 1e6:.1f} million" if tokens >= 1e6 else f"{round(tokens, -3):,}"
