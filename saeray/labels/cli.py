"""`saeray labels`: what each latent means, who says so, and how far it holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from saeray.labels.llm.cli import llm
from saeray.terminal import ChannelOption, JsonOption, StoreOption, errors, plain, print_result, reporting

labels_app = typer.Typer(no_args_is_help=True, help="What latents mean: many labels a latent, each with its source.")
labels_app.command("llm")(llm)

SelectorArgument = Annotated[str, typer.Argument(help="NAME or NAME:cond,cond")]
EmbedderOption = Annotated[str, typer.Option(help="minilm, or another embedding model's directory or name.")]
SourcesOption = Annotated[list[str] | None, typer.Option("--source", help="A source (repeatable); all by default.")]

#: Groups that a terminal shows; `--json` has them all.
SHOWN = 20


@labels_app.command("import")
def import_(
    path: Annotated[str, typer.Argument(help="A file or directory of labels.")],
    store: StoreOption,
    source: Annotated[str | None, typer.Option(help="Who says so; by default the file's name.")] = None,
    model: Annotated[str | None, typer.Option(help="What wrote the labels, where the files do not say.")] = None,
    layout: Annotated[str | None, typer.Option("--format", help="The layout; by default found from the files.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Labels from files: index-to-text JSON, Neuronpedia, delphi, CSV, Parquet."""
    with reporting(as_json):
        from saeray.labels.formats import import_labels
        from saeray.store import Store

        found = import_labels(Store.open(store), path, source=source, model=model, format=layout, date=None)
        print_result(found, [found], as_json)


@labels_app.command("export")
def export(
    store: StoreOption,
    out: Annotated[str, typer.Option("--out", help="Directory for the export.")],
    model_id: Annotated[str, typer.Option("--model-id", help="Neuronpedia's name of the model.")],
    source_id: Annotated[str, typer.Option("--source-id", help="Neuronpedia's name of the SAE at its layer.")],
    source: SourcesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Labels to Neuronpedia's layout."""
    with reporting(as_json):
        from saeray.labels.formats import export_labels
        from saeray.store import Store

        found = export_labels(Store.open(store), out, sources=source, model_id=model_id, source_id=source_id)
        print_result(found, [found], as_json)


@labels_app.command("list")
def list_(
    store: StoreOption,
    source: Annotated[str | None, typer.Option(help="This source alone.")] = None,
    latent: Annotated[int | None, typer.Option(help="All labels of one latent.", min=0)] = None,
    as_json: JsonOption = False,
) -> None:
    """The sources of labels and how many each has, or all labels of one latent."""
    with reporting(as_json):
        from saeray.labels.commands import list_sources, of_latent
        from saeray.store import Store

        if latent is None:
            rows = list_sources(Store.open(store), source)
            _show({"sources": rows}, rows, as_json, "no labels yet; see `saeray labels --help`")
            return
        labels = of_latent(Store.open(store), latent, source)
        shown = [{key: row[key] for key in ("source", "text", "score", "kind", "model", "date")} for row in labels]
        _show({"latent": latent, "labels": labels}, shown, as_json, f"latent {latent} has no label")


@labels_app.command("auto")
def auto(
    selector: SelectorArgument,
    store: StoreOption,
    channel: ChannelOption = None,
    out: Annotated[str | None, typer.Option("--out", help="A .parquet file, instead of into the store.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Labels from the encoded documents alone, without an LLM."""
    with reporting(as_json):
        from saeray.labels.commands import make_auto_labels
        from saeray.store import Store

        found = make_auto_labels(Store.open(store), selector, channel, out, datetime.now(UTC).date().isoformat())
        rows = [{"kind": kind, "labels": count} for kind, count in found["kinds"].items()]
        print_result(found, rows, as_json)
        if not as_json:
            errors.print(f"{found['labels']:,} labels of {found['latents']:,} latents: {plain(found['out'])}")


@labels_app.command("score")
def score(
    selector: SelectorArgument,
    store: StoreOption,
    source: Annotated[str, typer.Option(help="Whose labels.")] = "auto",
    channel: ChannelOption = None,
    sample: Annotated[int, typer.Option(help="Latents drawn.", min=1)] = 500,
    all_latents: Annotated[bool, typer.Option("--all", help="Every labelled latent.")] = False,
    seed: Annotated[int, typer.Option(help="Which latents are drawn.", min=0)] = 0,
    embedder: EmbedderOption = "minilm",
    as_json: JsonOption = False,
) -> None:
    """How well labels tell the documents where their latents are present, on documents no labeller read."""
    with reporting(as_json):
        from saeray.labels.commands import score_source
        from saeray.labels.embedding import Embedder
        from saeray.store import Store

        found = score_source(
            Store.open(store),
            selector,
            channel,
            source,
            Embedder(embedder),
            sample=None if all_latents else sample,
            seed=seed,
            told=None if as_json else lambda line: errors.print(plain(line)),
        )
        own = found["sources"][source]
        plain_labels = found["sources"].get("top-tokens", {}) if source != "top-tokens" else {}
        print_result(found, _measures(own, plain_labels, found["shuffled"]), as_json)
        if not as_json:
            errors.print(
                f"{own['scored']:,} of {own['labels']:,} labels scored; {own['too_few_documents']:,} latents have too "
                "few documents. Chance is 0.5; `top tokens` are the same latents' commonest peak tokens as labels, "
                "`shuffled` the same labels on each other's latents"
            )


@labels_app.command("groups")
def groups(
    selector: SelectorArgument,
    store: StoreOption,
    channel: ChannelOption = None,
    source: SourcesOption = None,
    jaccard: Annotated[float, typer.Option(help="Least overlap of documents, beyond chance.", min=0.05, max=1)] = 0.7,
    min_support: Annotated[int, typer.Option(help="Least documents of each latent for that.", min=1)] = 10,
    near: Annotated[float | None, typer.Option(help="Least cosine of labels; the embedder's own.", max=1)] = None,
    no_near: Annotated[bool, typer.Option("--no-near", help="Labels must be the same; embeds nothing.")] = False,
    embedder: EmbedderOption = "minilm",
    as_json: JsonOption = False,
) -> None:
    """Latents that mean the same: the same or nearly the same label, or present in the same documents."""
    with reporting(as_json):
        from saeray.labels.commands import group_all
        from saeray.labels.embedding import Embedder
        from saeray.store import Store

        here = Store.open(store)
        model = None if no_near else Embedder(embedder)
        levels: dict[str, Any] = {"near": near, "jaccard": jaccard, "min_support": min_support}
        found = group_all(here, selector, channel, source or (), model, **levels)
        several = sorted((g for g in found.groups if len(g.latents) > 1), key=lambda g: -len(g.latents))
        rows: list[dict[str, Any]] = [
            {"name": g.name, "latents": len(g.latents), "why": g.why, "first": " ".join(map(str, g.latents[:6]))}
            for g in several[:SHOWN]
        ]
        content = {
            "groups": [{"name": g.name, "latents": g.latents, "why": g.why} for g in several],
            "single": len(found.groups) - len(several),
            "near": found.near,
            "jaccard": jaccard,
            "documents": found.documents,
        }
        _show(content, rows, as_json, "no two latents are alike by these levels")
        if not as_json:
            at = "" if found.near is None else f"; labels are near from a cosine of {found.near:.2f}"
            errors.print(f"{len(several):,} groups, {content['single']:,} latents alone{at}")


def _show(content: dict[str, Any], rows: list[dict[str, Any]], as_json: bool, empty: str) -> None:
    if rows or as_json:
        print_result(content, rows, as_json)
    else:
        errors.print(empty)


def _measures(own: dict[str, Any], plain: dict[str, Any], shuffled: dict[str, Any]) -> list[dict[str, Any]]:
    """A line a measure: its mean and 95% interval, beside what plain labels, the wrong labels and chance get."""
    named = {
        "balanced_accuracy_embedding": "balanced accuracy, embedding (the score)",
        "auroc_embedding": "AUROC, embedding",
        "auroc_hard": "AUROC, embedding, hard negatives alone",
        "balanced_accuracy_test": "balanced accuracy, own test",
        "auroc_test": "AUROC, own test",
    }
    return [
        {
            "measure": name,
            "mean": own[key]["mean"],
            "interval": f"{own[key]['low']:.3f} to {own[key]['high']:.3f}",
            "top_tokens": plain.get(key, {}).get("mean"),
            "shuffled": shuffled.get(key, {}).get("mean"),
            "chance": 0.5,
            "labels": own[key]["labels"],
        }
        for key, name in named.items()
        if key in own
    ]
