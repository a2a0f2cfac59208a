"""`saeray evaluate …`: draw the samples, encode what is missing of them, measure, print one table."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from saeray.terminal import (
    LLM_FORMS,
    JsonOption,
    LLMBatchOption,
    LLMGpusOption,
    LLMWorkersOption,
    OutOption,
    StoreOption,
    errors,
    print_result,
    progress_bar,
    reporting,
)

if TYPE_CHECKING:
    from saeray.analysis.write import Result
    from saeray.evaluate.documents import Documents
    from saeray.evaluate.sample import Sample
    from saeray.labels.embedding import Embedder
    from saeray.labels.store import LabelStore
    from saeray.store import Store

evaluate_app = typer.Typer(no_args_is_help=True, help="The quality of each analysis on labelled sets.")

TasksArgument = Annotated[str, typer.Argument(help="A tasks file; the sets it names lie beside it.")]
RowsOption = Annotated[
    int, typer.Option("--sample", min=48, help="Documents a set; more where its queries are many (24 relevant each).")
]
CharactersOption = Annotated[int, typer.Option(min=100, help="Longer texts are cut here.")]
OnlyOption = Annotated[str, typer.Option(help="Only these sets, comma between them.")]
WithoutOption = Annotated[str, typer.Option(help="Leave these sets out, comma between them.")]
EncoderOption = Annotated[str, typer.Option(help="An encoder preset or a YAML file: that of the store.")]


@evaluate_app.command()
def labels(
    tasks: TasksArgument,
    store: StoreOption,
    out: OutOption = "evaluate-labels",
    rows: RowsOption = 240,
    characters: CharactersOption = 1200,
    only: OnlyOption = "",
    without: WithoutOption = "",
    source: Annotated[list[str] | None, typer.Option(help="A source of labels (repeatable); all by default.")] = None,
    embedder: Annotated[str, typer.Option(help="What embeds labels, queries and documents.")] = "minilm",
    encoder: EncoderOption = "smollm2-135m",
    as_json: JsonOption = False,
) -> None:
    """Are the latents that tell a property found by their labels? Beside plain labels and document embeddings."""
    with reporting(as_json):
        from saeray.evaluate.documents import read_documents
        from saeray.evaluate.labels import evaluate_labels
        from saeray.labels.embedding import Embedder, label_embeddings
        from saeray.labels.store import LabelStore
        from saeray.store import Store

        parameters = {"tasks": tasks, "sample": rows, "characters": characters, "embedder": embedder}
        of_store = LabelStore.of(Store.open(store))
        sources = gather(of_store, source or [])
        model = Embedder(embedder)
        samples = _draw(tasks, rows, characters, only, without)
        _encode(samples, store, out, encoder, as_json)
        here = Store.open(store)
        result = evaluate_labels(
            (read_documents(here, sample) for sample in samples),
            sources,
            lambda texts: label_embeddings(of_store, texts, model),
            kept_embeddings(out, model),
            parameters,
            _made_with(here),
        )
        _finish(result, result.table(), out, as_json)


@evaluate_app.command()
def pooling(
    tasks: TasksArgument,
    store: StoreOption,
    out: OutOption = "evaluate-pooling",
    rows: RowsOption = 240,
    characters: CharactersOption = 1200,
    only: OnlyOption = "",
    without: WithoutOption = "",
    encoder: EncoderOption = "smollm2-135m",
    as_json: JsonOption = False,
) -> None:
    """Which pool tells a property best: max, count, count a token, mean or presence? Beside words and length."""
    with reporting(as_json):
        from saeray.evaluate.documents import read_documents
        from saeray.evaluate.pooling import evaluate_pooling
        from saeray.store import Store

        parameters = {"tasks": tasks, "sample": rows, "characters": characters}
        samples = _draw(tasks, rows, characters, only, without)
        _encode(samples, store, out, encoder, as_json)
        here = Store.open(store)
        sets = (read_documents(here, sample) for sample in samples)
        result = evaluate_pooling(sets, parameters, _made_with(here))
        _finish(result, result.table(), out, as_json)


@evaluate_app.command()
def correlations(
    store: StoreOption,
    background: Annotated[str, typer.Option(help="An encoded dataset of the store, into which texts are injected.")],
    out: OutOption = "evaluate-correlations",
    kind: Annotated[list[str] | None, typer.Option(help="A kind of injection (repeatable); all by default.")] = None,
    sizes: Annotated[str, typer.Option(help="Texts an injection, comma between them.")] = "10,20,50,100",
    seeds: Annotated[str, typer.Option(help="Which sets of 100 texts a kind, comma between them.")] = "0,1",
    draws: Annotated[int, typer.Option(help="Most injections of a size from one set, no text in two.", min=1)] = 1,
    words: Annotated[bool, typer.Option("--words/--no-words", help="The same for a bag of words beside it.")] = True,
    encoder: EncoderOption = "smollm2-135m",
    as_json: JsonOption = False,
) -> None:
    """Are pairs of properties found that were hidden among real documents? Recall by how many texts were injected."""
    with reporting(as_json):
        from saeray.evaluate.correlations_run import run_correlations

        with progress_bar(as_json) as show:
            result = run_correlations(
                store, background, out, kind or [], _numbers(sizes), _numbers(seeds, 0), draws, words, encoder, show
            )
        _finish(result, result.table(), out, as_json)


@evaluate_app.command()
def diff(
    tasks: TasksArgument,
    store: StoreOption,
    out: OutOption = "evaluate-diff",
    keywords: Annotated[str | None, typer.Option(help="A file of keywords; those of the tasks by default.")] = None,
    sizes: Annotated[str, typer.Option(help="Documents a side, comma between them.")] = "100,300,1000",
    tokens: Annotated[int, typer.Option(help="Most tokens a side, about; larger sizes are left out.")] = 100_000,
    only: OnlyOption = "",
    without: WithoutOption = "",
    encoder: EncoderOption = "smollm2-135m",
    llm: Annotated[str | None, typer.Option(help=f"What scores names too: {LLM_FORMS}.")] = None,
    llm_batch: LLMBatchOption = False,
    llm_workers: LLMWorkersOption = 1,
    llm_gpus: LLMGpusOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Is a known difference of two sets named by the diff? Beside plain labels, words, and latents at random."""
    with reporting(as_json):
        from saeray.evaluate.differences.command import run_differences
        from saeray.llm.connect import LLMConfig

        asked = None
        if llm is not None:
            asked = LLMConfig(model=llm, batch_jobs=llm_batch, workers=llm_workers, num_gpus=llm_gpus)
        with progress_bar(as_json) as show:
            result = run_differences(
                tasks, store, out, keywords, _numbers(sizes), tokens, _names(only), _names(without), encoder,
                errors.print, show, llm=asked,
            )  # fmt: skip
        _finish(result, result.table(), out, as_json)


def _numbers(text: str, least: int = 1) -> list[int]:
    from saeray.errors import UsageError

    try:
        found = [int(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < least or len(set(found)) < len(found):
        raise UsageError(f"not a list of numbers: {text[:40]!r}; give different ones from {least} on, such as 10,50")
    return found


def _draw(tasks: str, rows: int, characters: int, only: str, without: str) -> list[Sample]:
    from saeray.evaluate.sample import chosen_files, draw
    from saeray.evaluate.tasks import read_tasks

    found = read_tasks(tasks)
    return [draw(found, file, rows, characters) for file in chosen_files(found, _names(only), _names(without))]


def _encode(samples: list[Sample], store: str, out: str, encoder: str, as_json: bool) -> None:
    """Encodes what is missing; what the samples amount to is said before anything is spent."""
    from saeray.evaluate.sample import encode_samples, is_encoded

    documents = sum(sample.table.num_rows for sample in samples)
    characters, cut = sum(sample.characters for sample in samples), sum(sample.cut for sample in samples)
    state = "all encoded" if is_encoded(samples, store) else "those that the store does not hold are encoded now"
    errors.print(
        f"{documents:,} documents of {len(samples)} sets, {characters:,} characters (some {characters // 4:,} tokens), "
        f"{cut:,} of them cut; {state}"
    )
    with progress_bar(as_json) as show:
        encode_samples(samples, store, out, encoder, on_progress=show)


def gather(labels: LabelStore, wanted: list[str]) -> dict[str, dict[int, str]]:
    """One label a latent of each source asked for (all: `auto` first), then what they are compared with: the tokens
    that stand behind the first source's labels, and its labels shuffled."""
    from saeray.errors import SaerayError
    from saeray.labels.baselines import TOP_TOKENS, shuffled, top_tokens

    there = [one["name"] for one in labels.sources()]
    names = wanted or sorted(there, key=lambda name: (name != "auto", name in BESIDE, name))
    if not names:
        raise SaerayError(f"{labels.root.uri} holds no labels: make some with saeray labels auto, or import them")
    found: dict[str, dict[int, str]] = {}
    for name in names:
        table = labels.table(name)
        # Sorted by latent and then highest score, so that the last of the reversed rows is a latent's best.
        pairs = zip(table.column("latent").to_pylist(), table.column("text").to_pylist(), strict=True)
        found[name] = dict(reversed(list(pairs)))
    if TOP_TOKENS not in found and (plain := top_tokens(labels.table(names[0]))).num_rows:
        found[TOP_TOKENS] = dict(zip(plain.column("latent").to_pylist(), plain.column("text").to_pylist(), strict=True))
    found.setdefault("random", shuffled(found[names[0]]))
    return found


#: What a source of labels is held against; comes last in the table.
BESIDE = ("top-tokens", "random")


def kept_embeddings(out: str, embedder: Embedder) -> Callable[[Documents], NDArray[Any]]:
    """Embeddings of a sample's texts, kept below `out`/embeddings: 4,704 texts take minutes on two cores."""
    from saeray.store import location

    def embed(documents: Documents) -> NDArray[Any]:
        name = "".join(c if c.isalnum() else "-" for c in embedder.name)
        place = location(out) / "embeddings" / f"{documents.sample}-{name}.npy"
        data = place.read_if_there()
        if data is not None:
            found: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
            if len(found) == len(documents.texts):
                return found
        found = embedder.embed(documents.texts)
        sink = io.BytesIO()
        np.save(sink, found, allow_pickle=False)
        place.replace(sink.getvalue())
        return found

    return embed


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _made_with(store: Store) -> dict[str, Any]:
    from saeray.analysis.sides import provenance

    return provenance(store)


def _finish(result: Result, rows: list[dict[str, Any]], out: str, as_json: bool) -> None:
    from saeray.analysis.write import write

    written = write(result, out)
    print_result(result.summary() | {"files": written}, rows, as_json)
    if not as_json:
        errors.print(f"the page: {written['report.html']}")
