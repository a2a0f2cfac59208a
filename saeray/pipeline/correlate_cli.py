"""`saeray correlate` on the command line."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from saeray.analysis.correlate.options import CorrelateConfig
from saeray.errors import UsageError
from saeray.terminal import (
    LLM_FORMS,
    ChannelOption,
    JsonOption,
    LLMBatchOption,
    LLMGpusOption,
    LLMWorkersOption,
    OutOption,
    StoreOption,
    errors,
    finish,
    reporting,
)

_DEFAULT: dict[str, Any] = {name: field.default for name, field in CorrelateConfig.model_fields.items()}


def correlate(
    selection: Annotated[str, typer.Argument(help="NAME or NAME:cond,cond")],
    store: StoreOption,
    out: OutOption = _DEFAULT["out"],
    channel: ChannelOption = None,
    between: Annotated[
        str | None,
        typer.Option(help="Two channels: user,assistant. The first latent is of the one, the second of the other."),
    ] = None,
    band: Annotated[str, typer.Option(help="Least and largest document frequency of a latent.")] = "0.001,0.5",
    min_support: Annotated[int, typer.Option(help="Least documents that a pair has in common.", min=1)] = _DEFAULT[
        "min_support"
    ],
    floor: Annotated[float, typer.Option(help="Least NPMI.", min=-1, max=1)] = _DEFAULT["floor"],
    q: Annotated[float, typer.Option(help="False-discovery rate, over all pairs in the band.")] = _DEFAULT["q"],
    label_quantile: Annotated[
        float, typer.Option(help="Labels of a pair are less alike than all but this share of random pairs.")
    ] = _DEFAULT["label_quantile"],
    alike: Annotated[
        float, typer.Option(help="Largest cosine of the two latents' documents without each other.", min=-1, max=1)
    ] = _DEFAULT["alike"],
    same_token: Annotated[
        float, typer.Option(help="Share of documents with both peaks on one or neighbouring tokens that is too many.")
    ] = _DEFAULT["same_token"],
    at_equal_length: Annotated[
        float, typer.Option(help="Least share of NPMI that is left at equal length.", min=-1, max=1)
    ] = _DEFAULT["at_equal_length"],
    keep_syntactic: Annotated[bool, typer.Option("--keep-syntactic", help="Labels of mere syntax too.")] = False,
    keep_unlabelled: Annotated[bool, typer.Option("--keep-unlabelled", help="Latents without a label too.")] = False,
    top: Annotated[int, typer.Option(help="Most findings.", min=1)] = _DEFAULT["top"],
    num_gpus: Annotated[float, typer.Option(help="GPUs a tile gets; 0 is the CPU.", min=0)] = 0,
    llm: Annotated[
        str | None,
        typer.Option(help=f"Sorts labels and verifies findings: {LLM_FORMS}."),
    ] = None,
    verify: Annotated[int, typer.Option(help="Findings that --llm verifies, the strongest.", min=0)] = 10,
    judged: Annotated[int, typer.Option(help="Documents that --llm judges for each.", min=10)] = 100,
    baseline: Annotated[
        str | None, typer.Option(help="llm: have --llm name pairs itself, and verify those beside the findings.")
    ] = None,
    cap: Annotated[float | None, typer.Option(help="Most US dollars; 5 where the price is known.", min=0)] = None,
    cap_tokens: Annotated[int | None, typer.Option("--cap-tokens", help="Most tokens.", min=0)] = None,
    llm_batch: LLMBatchOption = False,
    llm_workers: LLMWorkersOption = 1,
    llm_gpus: LLMGpusOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Concepts that travel together more than they should. Run again, only new documents are counted."""
    with reporting(as_json):
        from saeray.analysis.correlate.llm import with_llm
        from saeray.config import validate
        from saeray.pipeline.correlate import correlate as run

        if channel and between:
            raise UsageError("give --channel or --between, not both")
        if baseline not in (None, "llm") or (baseline and not llm):
            raise UsageError("the one --baseline is llm, and it needs --llm to say which model")
        asked = {
            "model": llm,
            "cap": cap,
            "cap_tokens": cap_tokens,
            "batch_jobs": llm_batch,
            "workers": llm_workers,
            "num_gpus": llm_gpus,
            "findings": verify,
            "documents": judged,
            "baseline": bool(baseline),
        }
        config = validate(
            CorrelateConfig,
            {
                "selection": selection,
                "store": store,
                "out": out,
                "channels": between.split(",") if between else [channel] if channel else [],
                "band": band.split(","),
                "min_support": min_support,
                "floor": floor,
                "q": q,
                "label_quantile": label_quantile,
                "alike": alike,
                "same_token": same_token,
                "at_equal_length": at_equal_length,
                "keep_syntactic": keep_syntactic,
                "keep_unlabelled": keep_unlabelled,
                "top": top,
                "num_gpus": num_gpus,
                "llm": asked if llm else None,
            },
            "correlate",
        )

        def show(progress: Any) -> None:
            errors.print(f"{progress.done}/{progress.total} tiles, {progress.seconds:,.0f} s", end="\r")

        watch = show if errors.is_terminal and not as_json else None
        finish(with_llm(config, lambda: run(config, watch)), out, as_json)
