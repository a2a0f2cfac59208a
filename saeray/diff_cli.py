"""`saeray diff`: parse, choose the set-up, call one function, print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saeray.errors import UsageError
from saeray.terminal import (
    ChannelOption,
    JsonOption,
    OutOption,
    StoreOption,
    Told,
    errors,
    finish,
    plain,
    print_result,
    reporting,
    with_command,
)

if TYPE_CHECKING:
    from saeray.analysis.diff.result import DiffResult
    from saeray.analysis.hypotheses.options import HypothesesConfig
    from saeray.analysis.hypotheses.run import Models
    from saeray.analysis.hypotheses.statements import Hypotheses


class AgainstChoice(StrEnum):
    """What several others count as."""

    max = "max"
    rest = "rest"
    union = "union"


def diff(
    target: Annotated[str, typer.Argument(help="NAME:cond,cond: the documents in question.")],
    store: StoreOption,
    others: Annotated[
        list[str] | None,
        typer.Argument(help="What they are compared with; `rest` for the dataset's rest. None with --by or --ordered."),
    ] = None,
    out: OutOption = "diff",
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
    llm: Annotated[str | None, typer.Option(help="gemini:MODEL, openai:MODEL@URL or local:MODEL.")] = None,
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
    as_json: JsonOption = False,
) -> None:
    """What is in one set of documents more than in the others."""
    with reporting(as_json), ExitStack() as stack:
        from saeray.analysis.diff.each import diff_each
        from saeray.analysis.diff.options import Options
        from saeray.analysis.diff.run import diff as run
        from saeray.analysis.diff.series import diff_ordered
        from saeray.analysis.hypotheses.options import HypothesesConfig
        from saeray.analysis.hypotheses.run import models_of
        from saeray.config import validate
        from saeray.store import Store

        _check(others, by, ordered, order)
        versus = against or (AgainstChoice.rest if by is not None else AgainstChoice.max)
        options = Options(channel, pair_on, versus.value, halves, given, min_support, keep, top, q)
        asked = {
            "hypotheses": hypotheses,
            "verify": verify,
            "methods": tuple(method or ["latents"]),
            "question": question,
            "documents": documents,
            "early": early,
            "embedder": embedder,
            "llm": {"model": llm, "cap": cap, "cap_tokens": cap_tokens} if llm else None,
            "judge": {"model": judge, "cap": cap, "cap_tokens": cap_tokens} if judge else None,
        }
        config = validate(HypothesesConfig, asked, "diff")
        models = stack.enter_context(models_of(config, Store.open(store)))
        if by is not None:
            each = diff_each(Store.open(store), target, by, options)
            each = replace(each, results=_stated(each.results, store, config, models, as_json))
            each = replace(each, made_with=with_command(each.made_with))
            each.write_each(out)
            finish(each, out, as_json)
            _say([one.hypotheses for one in each.results.values()], as_json)
        elif ordered is not None:
            if hypotheses:
                raise UsageError("--hypotheses are of a diff or of --by, not of an --ordered series")
            versions = order.split(",") if order else None
            finish(diff_ordered(Store.open(store), target, ordered, options, versions), out, as_json)
        else:
            result = run(Store.open(store), target, others or [], **asdict(options))
            result = _stated({"": result}, store, config, models, as_json)[""]
            result = replace(result, made_with=with_command(result.made_with))
            finish(result, out, as_json)
            _say([result.hypotheses], as_json)
            if not as_json and result.set_aside["by_length"]:
                errors.print(f"{result.set_aside['by_length']:,} latents differ with length alone and are no findings")


def _check(others: list[str] | None, by: str | None, ordered: str | None, order: str | None) -> None:
    if by is not None and ordered is not None:
        raise UsageError("--by compares values without an order, --ordered with one; give one of them")
    if others and (by or ordered):
        raise UsageError(f"--{'by' if by else 'ordered'} takes one selection and no others; leave out {others[0]}")
    if order is not None and ordered is None:
        raise UsageError("--order names the versions of --ordered COLUMN; give that too")
    if not others and not by and not ordered:
        raise UsageError("a diff needs another side: a selector such as NAME:column=value, or the word rest")


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


def _say(found: Sequence[Hypotheses | None], as_json: bool) -> None:
    """The statements, what they cost, and what stopped them, which is an exit of 1 after all is written."""
    from saeray.analysis.hypotheses.cost import told

    for one in found:
        if one is not None and not as_json:
            if rows := one.table():
                print_result({}, rows, False)
            for line in (one.note, f"asked: {told(one.cost)}" if one.cost["stages"] else ""):
                if line:
                    errors.print(plain(line))
    for one in found:
        if one is not None and one.stopped:
            raise Told(one.stopped)
