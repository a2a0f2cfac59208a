"""The commands of the reduce jobs: what is derived from a store once and read by every analysis."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from saeray.errors import UsageError
from saeray.terminal import ChannelOption, JsonOption, OutOption, StoreOption, errors, finish, print_json, reporting


def index(
    name: Annotated[str, typer.Argument(help="The dataset.")],
    store: StoreOption,
    check: Annotated[bool, typer.Option("--check", help="Digest every file first, and mend what is spoilt.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn a dataset latent-major: for each latent its documents. Run again, only what is new is added."""
    with reporting(as_json):
        from saeray.pipeline.index import IndexProgress
        from saeray.pipeline.index import index as run
        from saeray.store import Store

        def show(progress: IndexProgress) -> None:
            rate = progress.postings / max(progress.seconds, 1e-9) / 1e6
            errors.print(f"{progress.done}/{progress.total} blocks, {rate:,.1f} million postings/s", end="\r")

        watched = errors.is_terminal and not as_json
        report_index(run(Store.open(store), name, show if watched else None, check), as_json)


def report_index(result: Any, as_json: bool) -> None:
    """Prints what `saeray.pipeline.index.index` did."""
    if as_json:
        print_json(result.summary())
        return
    done = f"{result.built} made now in {result.seconds:,.1f} s" if result.built else "nothing was new"
    size = result.bytes / max(result.postings, 1)
    blocks = "one block" if result.blocks == 1 else f"{result.blocks} blocks"
    errors.print(
        f"{result.dataset}: {result.documents:,} documents, {result.postings:,} postings in {blocks} "
        f"({result.bytes / 1e6:,.1f} MB, {size:.2f} bytes a posting); {done}"
    )
    if result.missing:
        errors.print(f"note: {result.missing} shards were committed meanwhile; run the same command again")


def cooccur(
    selection: Annotated[str, typer.Argument(help="NAME or NAME:cond,cond")],
    store: StoreOption,
    out: OutOption = "cooccur",
    channel: ChannelOption = None,
    between: Annotated[str | None, typer.Option(help="Two channels: user,assistant. Pairs are between them.")] = None,
    band: Annotated[str, typer.Option(help="Least and largest document frequency of a latent.")] = "0.001,0.5",
    min_support: Annotated[int, typer.Option(help="Least documents that a pair has in common.", min=1)] = 5,
    floor: Annotated[float, typer.Option(help="Least NPMI of a pair.", min=-1, max=1)] = 0.3,
    num_gpus: Annotated[float, typer.Option(help="GPUs a tile gets; 0 is the CPU.", min=0)] = 0,
    tiles: Annotated[bool, typer.Option("--tiles", help="Write the full counts below --out too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Count in how many documents two latents are together. Run again, only what is new is counted."""
    with reporting(as_json):
        from saeray.config import CooccurConfig, validate
        from saeray.pipeline.cooccur import CooccurProgress, run

        if channel and between:
            raise UsageError("give --channel or --between, not both")
        fields = {
            "selection": selection,
            "store": store,
            "out": out,
            "channels": between.split(",") if between else [channel] if channel else [],
            "band": band.split(","),
            "min_support": min_support,
            "floor": floor,
            "num_gpus": num_gpus,
            "tiles": tiles,
        }

        def show(progress: CooccurProgress) -> None:
            errors.print(f"{progress.done}/{progress.total} tiles, {progress.seconds:,.0f} s", end="\r")

        watched = errors.is_terminal and not as_json
        report_cooccur(run(validate(CooccurConfig, fields, "cooccur"), show if watched else None), out, as_json)


def report_cooccur(result: Any, out: str, as_json: bool) -> None:
    """Writes and prints what `saeray.pipeline.cooccur.run` found, and on stderr what it had to do."""
    work = result.work
    errors.print(f"{work['made']} of {work['tiles']} tiles counted now, {work['seconds']:,.1f} s")
    finish(result, out, as_json)
