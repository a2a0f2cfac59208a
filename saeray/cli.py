"""The command line: parse, call one function, print. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from saeray.diff_cli import diff
from saeray.evaluate.cli import evaluate_app
from saeray.labels.cli import labels_app
from saeray.pipeline.cli import cooccur, index
from saeray.pipeline.correlate_cli import correlate
from saeray.terminal import (
    ChannelOption,
    JsonOption,
    OutOption,
    StoreOption,
    Told,
    errors,
    finish,
    output,
    plain,
    print_json,
    print_result,
    progress_bar,
    reporting,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Read what is in text at scale: sparse-autoencoder latents of every document.",
    pretty_exceptions_show_locals=False,
)
sae_app = typer.Typer(no_args_is_help=True, help="Sparse autoencoders.")
app.add_typer(sae_app, name="sae")
app.add_typer(labels_app, name="labels")
app.add_typer(evaluate_app, name="evaluate")


@app.command()
def encode(
    inputs: Annotated[list[str], typer.Argument(help="Parquet, JSONL or CSV files, directories or globs.")],
    dataset: Annotated[str, typer.Option("--dataset", help="Name of the dataset to encode into.")],
    store: StoreOption,
    encoder: Annotated[str, typer.Option(help="An encoder preset or a YAML file.")] = "smollm2-135m",
    text_column: Annotated[str | None, typer.Option(help="The column of texts; `text` if it is there.")] = None,
    messages_column: Annotated[str | None, typer.Option(help="The column of [{role, content}] messages.")] = None,
    id_column: Annotated[str | None, typer.Option(help="The column of document ids; else file and row.")] = None,
    keep: Annotated[list[str] | None, typer.Option(help="A column to keep (repeatable); all by default.")] = None,
    no_text: Annotated[bool, typer.Option("--no-text", help="Leave the texts out of the store.")] = False,
    store_sum: Annotated[bool, typer.Option("--sum", help="Store each latent's sum over tokens too.")] = False,
    shard_tokens: Annotated[int | None, typer.Option(help="Estimated tokens a shard.", min=1)] = None,
    workers: Annotated[int | None, typer.Option(help="How many encoders run at once.", min=1)] = None,
    num_gpus: Annotated[float, typer.Option(help="GPUs an encoder gets; 0 is the CPU.", min=0)] = 0,
    packing: Annotated[str, typer.Option(help="Read documents in packs: on, off or auto (on GPUs).")] = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="Refuse an SAE that its self-check warns of.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Encode text into the store. The same command again goes on where it stopped; new files are added."""
    with reporting(as_json):
        from saeray.config import EncodeConfig, validate
        from saeray.pipeline.encode import encode as run

        config = validate(
            EncodeConfig,
            {
                "inputs": inputs,
                "dataset": dataset,
                "store": store,
                "encoder": encoder,
                "text_column": text_column,
                "messages_column": messages_column,
                "id_column": id_column,
                "keep": keep or "all",
                "store_text": not no_text,
                "store_sum": store_sum,
                "shard_tokens": shard_tokens,
                "workers": workers,
                "num_gpus": num_gpus,
                "packing": packing,
                "strict": strict,
            },
            "encode",
        )
        with progress_bar(as_json) as show:
            result = run(config, show)
        report_encode(result, as_json)


def report_encode(result: Any, as_json: bool) -> None:
    """Prints what an encode run did; exits 1 when shards are missing."""
    summary = result.summary()
    left = f"{result.missing} of {result.shards} shards are not committed; run the same command again"
    if as_json:
        print_json(summary | ({"error": left} if result.missing else {}))
    else:
        rate = f", {summary['tokens_per_second']:,.0f} tokens/s" if result.seconds else ""
        errors.print(
            f"{result.dataset}: {result.encoded} of {result.shards} shards encoded now: "
            f"{result.documents:,} documents, {result.tokens:,} tokens, {result.rejects:,} rejects{rate}"
        )
        for reason, count in result.reasons.items():
            errors.print(f"  {count:,} x {plain(reason)}")
        for shard, reason in sorted(result.failed.items()):
            errors.print(f"[red]shard {shard}[/red]: {plain(reason)}")
    if result.missing:
        raise Told(left)


@app.command()
def datasets(store: StoreOption, as_json: JsonOption = False) -> None:
    """What is in the store."""
    with reporting(as_json):
        from saeray.store import Store

        here = Store.open(store)
        rows: list[dict[str, Any]] = []
        for name in here.datasets():
            dataset = here.dataset(name)
            commits = dataset.commits()
            rows.append(
                {
                    "dataset": name,
                    "documents": sum(commit.documents for commit in commits),
                    "tokens": sum(commit.tokens for commit in commits),
                    "rejects": sum(commit.rejects for commit in commits),
                    "shards": f"{len(commits)}/{len(dataset.shards())}",
                    "columns": list(dataset.plans()[0].settings.keep),
                    "bytes": sum(commit.bytes for commit in commits),
                }
            )
        found = {"store": store, "encoder": here.fingerprint(), "datasets": rows}
        print_result(found, [row | {"columns": ", ".join(row["columns"])} for row in rows], as_json)


@app.command()
def verify(
    name: Annotated[str, typer.Argument(help="The dataset.")], store: StoreOption, as_json: JsonOption = False
) -> None:
    """Recount and re-digest a dataset: what is missing, there twice, or corrupt."""
    with reporting(as_json):
        from saeray.store import Store

        report = Store.open(store).dataset(name).verify()
        found = report.to_dict()
        broken = f"{name} is not whole: run the encode command again for shards that are missing"
        if found["corrupt"] or found["miscounted"]:
            broken += "; delete a spoilt part and its commit first"
        if as_json:
            print_json(found | ({} if report.ok else {"error": broken}))
        else:
            for key, value in found.items():
                output.print(f"{key}: {len(value) if isinstance(value, list) and not value else plain(value)}")
        if not report.ok:
            raise Told(broken)


@app.command()
def stats(
    selector: Annotated[str, typer.Argument(help="NAME or NAME:cond,cond")],
    store: StoreOption,
    out: OutOption = "stats",
    channel: ChannelOption = None,
    by: Annotated[str | None, typer.Option(help="A kept column: figures for each of its values.")] = None,
    percentiles: Annotated[str, typer.Option(help="Percentiles of each latent's non-zero maxima: 50,90,99.")] = "90",
    workers: Annotated[int | None, typer.Option(help="How many shards are counted at once.", min=1)] = None,
    as_json: JsonOption = False,
) -> None:
    """How often each latent is present, how strongly, and by length. Shards counted before are not read again."""
    with reporting(as_json):
        from saeray.config import StatsConfig, validate
        from saeray.pipeline.stats import stats as run

        fields = {"selector": selector, "store": store, "out": out, "channel": channel, "by": by, "workers": workers}
        config = validate(StatsConfig, fields | {"percentiles": percentiles.split(",")}, "stats")
        with progress_bar(as_json) as show:
            result = run(config, show)
        finish(result, out, as_json)


app.command()(index)
app.command()(cooccur)
app.command()(correlate)
app.command()(diff)


@app.command("train-sae")
def train_sae(
    inputs: Annotated[list[str], typer.Argument(help="Parquet, JSONL or CSV files, directories or globs of text.")],
    out: Annotated[str, typer.Option("--out", help="Directory for the SAE, its card and its working files.")],
    reader: Annotated[str, typer.Option(help="An encoder preset or YAML file whose reader is used.")] = "smollm2-135m",
    text_column: Annotated[str, typer.Option(help="The column of texts.")] = "text",
    tokens: Annotated[int, typer.Option(help="Distinct tokens to collect.", min=1)] = 2_000_000,
    epochs: Annotated[float, typer.Option(help="Passes over them.", min=0.01)] = 2.0,
    d_sae: Annotated[int, typer.Option(help="Latents.", min=2)] = 16_384,
    k: Annotated[int, typer.Option(help="Active latents a token, on average.", min=1)] = 32,
    tokens_a_document: Annotated[int, typer.Option(help="Read at most this much of a document.", min=8)] = 512,
    seed: Annotated[int, typer.Option(help="Order of documents and tokens, and first weights.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    with_decoder: Annotated[bool, typer.Option("--decoder", help="Keep the decoder in the file.")] = False,
    weights: Annotated[str, typer.Option(help="How matrices are stored: float16 or int8.")] = "float16",
    start: Annotated[str | None, typer.Option(help="The --out of a finished run to begin with its latents.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a BatchTopK SAE for a reader. The same command again goes on where it stopped."""
    with reporting(as_json):
        from saeray.config import TrainSAEConfig, validate
        from saeray.pipeline.train_sae import make_sae

        config = validate(
            TrainSAEConfig,
            {
                "inputs": inputs,
                "out": out,
                "encoder": reader,
                "text_column": text_column,
                "tokens": tokens,
                "epochs": epochs,
                "d_sae": d_sae,
                "k": k,
                "tokens_a_document": tokens_a_document,
                "seed": seed,
                "device": device,
                "decoder": with_decoder,
                "weights": weights,
                "start": start,
            },
            "train-sae",
        )
        logging.getLogger("saeray").setLevel(logging.INFO)
        card = make_sae(config)
        print_result(card, [{"figure": key, "value": value} for key, value in card.items()], as_json)


@sae_app.command("inspect")
def sae_inspect(
    path: Annotated[str, typer.Argument(help="A checkpoint's directory or file, or builtin:NAME.")],
    as_json: JsonOption = False,
) -> None:
    """What a checkpoint is."""
    with reporting(as_json):
        from saeray.loading import sae_path
        from saeray.saes.load import inspect_sae

        found = inspect_sae(sae_path(path))
        print_result(found, [{"": key, "value": value} for key, value in found.items()], as_json)


@app.command()
def demo(
    out: OutOption = "saeray-demo",
    as_json: JsonOption = False,
) -> None:
    """The whole path on the embedded reader, SAE and corpus: encode, diff, and a page to read."""
    with reporting(as_json):
        from saeray.demo.run import run_demo

        with progress_bar(as_json) as show:
            result = run_demo(Path(out), show, lambda line: None if as_json else errors.print(line))
        if as_json:
            print_json(result)
        else:
            for page in result["reports"]:
                output.print(f"\n[bold]{page['title']}[/bold]  {page['page']}")
                print_result({}, page["top"], as_json)


def main() -> None:
    """The `saeray` command."""
    app()
