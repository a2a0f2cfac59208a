"""`saeray labels llm` on the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from saeray.errors import UsageError
from saeray.terminal import (
    LLM_FORMS,
    ChannelOption,
    JsonOption,
    LLMBatchOption,
    LLMGpusOption,
    LLMWorkersOption,
    StoreOption,
    errors,
    plain,
    print_result,
    reporting,
)


def llm(
    selector: Annotated[str, typer.Argument(help="NAME or NAME:cond,cond")],
    store: StoreOption,
    model: Annotated[str, typer.Option("--llm", help=f"{LLM_FORMS}.")],
    latents: Annotated[str | None, typer.Option(help="These latents: 1,2,3.")] = None,
    top: Annotated[int | None, typer.Option(help="The commonest N, of those in at most half.", min=1)] = None,
    sample: Annotated[int | None, typer.Option(help="N drawn by hash.", min=1)] = None,
    channel: ChannelOption = None,
    candidates: Annotated[int, typer.Option(help="Labels proposed a latent.", min=1)] = 3,
    examples: Annotated[
        int, typer.Option(help="Active texts shown to propose, to choose and to score, and as many silent.", min=1)
    ] = 10,
    window: Annotated[int, typer.Option(help="Tokens of a text that are shown.", min=8)] = 128,
    thinking: Annotated[
        int, typer.Option(help="Most tokens of thought a call; -1 leaves it to the model.", min=-1)
    ] = 0,
    cap: Annotated[float | None, typer.Option(help="Most US dollars; 5 where the price is known.", min=0)] = None,
    cap_tokens: Annotated[int | None, typer.Option("--cap-tokens", help="Most tokens.", min=0)] = None,
    concurrency: Annotated[int, typer.Option(help="Most calls at once.", min=1)] = 16,
    ask_again: Annotated[bool, typer.Option("--ask-again", help="Ask once more what came to nothing before.")] = False,
    llm_batch: LLMBatchOption = False,
    llm_workers: LLMWorkersOption = 1,
    llm_gpus: LLMGpusOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Labels from an LLM: proposed, chosen and scored on different texts, kept only where better than what was there.

    What it can cost is said before a call is made, and the cap holds. Run again, it is free.
    """
    with reporting(as_json):
        from saeray.labels.llm.command import make_llm_labels
        from saeray.labels.llm.relabel import RelabelOptions
        from saeray.llm import LLMConfig
        from saeray.store import Store

        found = make_llm_labels(
            Store.open(store),
            selector,
            channel,
            LLMConfig(
                model=model,
                cap=cap,
                cap_tokens=cap_tokens,
                concurrency=concurrency,
                ask_again=ask_again,
                batch_jobs=llm_batch,
                workers=llm_workers,
                num_gpus=llm_gpus,
            ),
            datetime.now(UTC).date().isoformat(),
            latents=_numbers(latents),
            top=top,
            sample=sample,
            options=RelabelOptions(
                candidates=candidates,
                examples=examples,
                choose=examples,
                score=examples,
                window=window,
                thinking=None if thinking < 0 else thinking,
            ),
            told=lambda line: errors.print(plain(line)),
            on_progress=_show if errors.is_terminal and not as_json else None,
        )
        names = ("latent", "label", "score", "before", "score_before", "why")
        print_result(found, [{name: row[name] for name in names} for row in found["results"]], as_json)
        if not as_json:
            errors.print(plain(_told(found)))


def _numbers(text: str | None) -> list[int] | None:
    try:
        return None if text is None else [int(one) for one in text.split(",")]
    except ValueError:
        raise UsageError(f"--latents {text}: numbers with commas between them, as 1,2,3") from None


def _show(progress: Any) -> None:
    errors.print(f"{progress.done}/{progress.total} latents, {progress.tokens:,} tokens", end="\r")


def _told(found: dict[str, Any]) -> str:
    cost = found["cost"]
    money = "at an unknown price" if cost["dollars"] is None else f"{cost['dollars']:.4f} dollars"
    jobs = f", {cost['batched']:,} of the calls in batch jobs" if cost["batched"] else ""
    tokens = cost["tokens_in"] + cost["tokens_out"] + cost["tokens_thinking"]
    return (
        f"{found['written']:,} new labels ({found['replaced']:,} in place of others), {found['kept']:,} of "
        f"{found['latents']:,} latents score {found['threshold']:g} or more: {found['out']}. {cost['calls']:,} calls, "
        f"{tokens:,} tokens, {money}{jobs}; {cost['cached']:,} answers were there already, {found['missing']:,} calls "
        "came to nothing"
    )
