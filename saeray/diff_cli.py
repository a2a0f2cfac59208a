"""`saeray diff`: parse, choose the set-up, call one function, print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saeray.errors import UsageError
from saeray.terminal import (
    LLM_FORMS,
    ChannelOption,
    JsonOption,
    LLMBatchOption,
    LLMGpusOption,
    LLMWorkersOption,
    OutOption,
    Told,
    errors,
    finish,
    plain,
    print_result,
    progress_bar,
    reporting,
    with_command,
)

if TYPE_CHECKING:
    from saeray.analysis.diff.each import EachResult
    from saeray.analysis.diff.result import DiffResult
    from saeray.analysis.hypotheses.options import HypothesesConfig
    from saeray.analysis.hypotheses.run import Models
    from saeray.analysis.hypotheses.statements import Hypotheses

#: Findings in the terminal, a direction.
FIRST = 10
INTERVAL = "from and to: the 95% interval of the difference, in points"


class AgainstChoice(StrEnum):
    """What several others count as."""

    max = "max"
    rest = "rest"
    union = "union"


def diff(
    target: Annotated[
        str, typer.Argument(help="NAME:cond,cond or a data file: the documents in question. Files are encoded first.")
    ],
    others: Annotated[
        list[str] | None,
        typer.Argument(help="What they are compared with; `rest` for the dataset's rest. None with --by or --ordered."),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", envvar="SAERAY_STORE", help="Where the store is; of files alone, below --out."),
    ] = None,
    out: OutOption = "diff",
    text_column: Annotated[
        str | None, typer.Option(help="Of files, the column of texts: text, response, output, … by default.")
    ] = None,
    encoder: Annotated[str, typer.Option(help="Of files, an encoder preset or a YAML file.")] = "smollm2-135m",
    channel: ChannelOption = None,
    pair_on: Annotated[
        str | None, typer.Option(help="A kept column whose values the sides share, such as a prompt's id.")
    ] = None,
    against: Annotated[
        AgainstChoice | None,
        typer.Option(
            help="Several others: the highest of them (max), all as one (rest; of --by the default), or any of them "
            "for a key (union)."
        ),
    ] = None,
    by: Annotated[str | None, typer.Option(help="A kept column: each of its values against the others.")] = None,
    ordered: Annotated[str | None, typer.Option(help="A kept column of versions: what comes and goes.")] = None,
    order: Annotated[str | None, typer.Option(help="The versions in order: v1,v2,v3; sorted by default.")] = None,
    given: Annotated[
        str | None, typer.Option(help="Another channel, such as user: differences among documents alike there.")
    ] = None,
    halves: Annotated[
        bool | None,
        typer.Option(
            "--halves/--no-halves", help="One half proposes, the other measures; by default where both have 50."
        ),
    ] = None,
    min_support: Annotated[
        int | None, typer.Option(help="Least proposing documents, all sides, with a latent and without it.")
    ] = None,
    keep: Annotated[float, typer.Option(help="Least difference of document frequencies.")] = 0.03,
    top: Annotated[int, typer.Option(help="Most latents kept.")] = 200,
    q: Annotated[float, typer.Option(help="False-discovery rate.")] = 0.05,
    hypotheses: Annotated[
        int, typer.Option(help="Most statements; by --llm, or from names and their plain tests without one.", min=0)
    ] = 0,
    verify: Annotated[bool, typer.Option("--verify", help="Have a judge check them on the other half.")] = False,
    llm: Annotated[str | None, typer.Option(help=f"{LLM_FORMS}.")] = None,
    judge: Annotated[str | None, typer.Option(help="Another LLM that verifies.")] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="latents, llm-summary or llm-cluster; several stand side by side.")
    ] = None,
    question: Annotated[str, typer.Option(help="What you want to know of the differences.")] = "",
    documents: Annotated[
        int | None, typer.Option(help="Most documents of a side that the LLM reads or judges.", min=1)
    ] = None,
    early: Annotated[bool, typer.Option("--early/--no-early", help="Stop judging what is settled.")] = True,
    embedder: Annotated[str | None, typer.Option(help="The LLM service's model for llm-cluster, not MiniLM.")] = None,
    cap: Annotated[float | None, typer.Option(help="Most US dollars, of each LLM; 5 by default.", min=0)] = None,
    cap_tokens: Annotated[int | None, typer.Option("--cap-tokens", help="Most tokens, of each LLM.", min=0)] = None,
    llm_batch: LLMBatchOption = False,
    llm_workers: LLMWorkersOption = 1,
    llm_gpus: LLMGpusOption = 0,
    as_json: JsonOption = False,
) -> None:
    """What one set of documents has more than others; data files such as two models' answers are encoded first."""
    with reporting(as_json), ExitStack() as stack:
        from saeray.analysis.diff.each import diff_each
        from saeray.analysis.diff.options import Options
        from saeray.analysis.diff.run import diff as run
        from saeray.analysis.diff.series import diff_ordered
        from saeray.analysis.hypotheses.options import HypothesesConfig
        from saeray.analysis.hypotheses.run import models_of
        from saeray.config import validate
        from saeray.store import Store

        _check(others, by, ordered, order, hypotheses)
        versus = against or (AgainstChoice.rest if by is not None else AgainstChoice.max)
        options = Options(channel, pair_on, versus.value, halves, given, min_support, keep, top, q)
        options.check()
        shared = {"cap": cap, "cap_tokens": cap_tokens, "workers": llm_workers, "num_gpus": llm_gpus}
        models_named = [one for one in (llm, judge) if one]
        in_batches = [one for one in models_named if one.startswith("gemini:")] or models_named if llm_batch else []
        configs = {one: {"model": one, "batch_jobs": one in in_batches, **shared} for one in models_named}
        asked = {
            "hypotheses": hypotheses,
            "verify": verify,
            "methods": tuple(method or ["latents"]),
            "question": question,
            "documents": documents,
            "early": early,
            "embedder": embedder,
            "llm": configs.get(llm or ""),
            "judge": configs.get(judge or ""),
        }
        config = validate(HypothesesConfig, asked, "diff")
        config.check()
        store, target, others = _encoded(store, [target, *(others or [])], out, text_column, encoder, as_json)
        models = stack.enter_context(models_of(config, Store.open(store)))
        if by is not None:
            each = diff_each(Store.open(store), target, by, options)
            each = replace(each, results=_stated(each.results, store, config, models, as_json))
            each = replace(each, made_with=with_command(each.made_with))
            each.write_each(out)
            stated = {value: one.hypotheses for value, one in each.results.items()}
            _say(stated, _told_each(each), as_json)
            finish(each, out, as_json)
            _stop(stated)
        elif ordered is not None:
            versions = order.split(",") if order else None
            finish(diff_ordered(Store.open(store), target, ordered, options, versions), out, as_json)
        else:
            result = run(Store.open(store), target, others, **asdict(options))
            result = _stated({"": result}, store, config, models, as_json)[""]
            result = replace(result, made_with=with_command(result.made_with))
            stated = {"": result.hypotheses}
            _say(stated, _told(result), as_json)
            finish(result, out, as_json)
            _stop(stated)


def _check(others: list[str] | None, by: str | None, ordered: str | None, order: str | None, hypotheses: int) -> None:
    if by is not None and ordered is not None:
        raise UsageError("--by compares values without an order, --ordered with one; give one of them")
    if others and (by or ordered):
        raise UsageError(f"--{'by' if by else 'ordered'} takes one selection and no others; leave out {others[0]}")
    if ordered is not None and hypotheses:
        raise UsageError("--hypotheses are of a diff or of --by, not of an --ordered series")
    if order is not None and ordered is None:
        raise UsageError("--order names the versions of --ordered COLUMN; give that too")
    if not others and not by and not ordered:
        raise UsageError("a diff needs another side: a selector such as NAME:column=value, or the word rest")


def _encoded(
    store: str | None, words: list[str], out: str, text_column: str | None, encoder: str, as_json: bool
) -> tuple[str, str, list[str]]:
    """The store and the selectors; files among them are encoded first, into a store below `out` when none is named."""
    from saeray.store.inputs import names_file

    if not any(map(names_file, words)):
        if store is None:
            raise UsageError("give the store with --store or SAERAY_STORE")
        return store, words[0], words[1:]
    from saeray.pipeline.from_files import selectors_of

    store = store or f"{out.rstrip('/')}/store"
    if not as_json:
        errors.print(f"encoding what is not yet in {plain(store)}; the first run prepares the reader (half a minute)")
    with progress_bar(as_json) as show:
        first, *rest = selectors_of(words, store, text_column, encoder, show)
    return store, first, rest


def _stated(
    results: Mapping[str, DiffResult], store: str, config: HypothesesConfig, models: Models | None, as_json: bool
) -> dict[str, DiffResult]:
    """The results with their hypotheses; the price first, and how far it is, on stderr."""
    from saeray.analysis.hypotheses.run import run_each
    from saeray.store import Store

    def show(stage: str, progress: Any) -> None:
        errors.print(f"{stage}: {progress.done:,}/{progress.total:,}, {progress.tokens:,} tokens  ", end="\r")

    watch = show if errors.is_terminal and not as_json else None
    return run_each(results, Store.open(store), config, models, watch, lambda line: errors.print(plain(line)))


def _without(found: Mapping[str, Hypotheses]) -> list[str]:
    """Why a method that was asked has no statement, in a line each."""
    lines = []
    for value, one in found.items():
        for method in one.methods:
            why = [f"{reason} ({len(latents)} latents)" for reason, latents in method.left_out.items()]
            why += [f"{reason} ({statements} statements)" for reason, statements in method.dropped.items()]
            if not method.hypotheses:
                of = f" of {value}" if value else ""
                lines.append(f"no statement{of} from {method.method}: {'; '.join(why) or 'none was proposed'}")
    return lines


def _told(result: DiffResult) -> list[str]:
    """What the table of a diff needs to be read."""
    from saeray.report.diff_sides import SideNames

    sides = SideNames.of(result)
    other = f"the highest of {len(sides.short) - 1} others" if sides.several else sides.short[1]
    orders = [result.order(side) for side in (0, 1)]
    best, guesses = (sum(len(getattr(order, kind)) for order in orders) for kind in ("best", "guesses"))
    lines = []
    if best or guesses:
        lines.append(f"target: {sides.short[0]}; other: {other}; {INTERVAL}")
        lines.append(
            f"findings with a name that holds: {best:,}, without one: {guesses:,}; at most {FIRST} a side here"
        )
    if result.set_aside["by_length"]:
        lines.append(f"{result.set_aside['by_length']:,} more features differ, but length may be all of it")
    return lines


def _told_each(each: EachResult) -> list[str]:
    """What the table of --by needs to be read, and what it leaves out."""
    most = max(Counter(row[each.column] for row in each.table(FIRST)).values(), default=0)
    number = sum(len(one.order(side).best) for one in each.results.values() for side in (0, 1))
    return [
        f"target: the {each.column}; other: the others; {INTERVAL}",
        f"findings with a name that holds: {number:,}; here at most {most} of each {each.column}, of what it does "
        "more, or where there is none, less; the page has all",
    ]


def _say(found: Mapping[str, Hypotheses | None], lines: list[str], as_json: bool) -> None:
    """The statements (of each value), what they cost, and then `lines` on the findings."""
    from saeray.analysis.hypotheses.cost import told

    if as_json:
        return
    there = {value: one for value, one in found.items() if one is not None}
    rows = [({"of": value} if len(found) > 1 else {}) | row for value, one in there.items() for row in one.table()]
    if rows:
        print_result({}, rows, False)
    costs = [
        f"asked{f' of {value}' if value else ''}: {told(one.cost)}"
        for value, one in there.items()
        if one.cost["stages"]
    ]
    for line in dict.fromkeys([*(one.note for one in there.values()), *_without(there), *costs, *lines]):
        if line:
            errors.print(plain(line))


def _stop(found: Mapping[str, Hypotheses | None]) -> None:
    """What stopped the statements is an exit of 1, after all is written."""
    for one in found.values():
        if one and one.stopped:
            raise Told(one.stopped)
