"""What every command shares: options, one line for what a user can mend, tables and progress.

Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any, TextIO, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from saeray.errors import SaerayError, without_keys

Config = TypeVar("Config", bound=BaseModel)

errors = Console(stderr=True, highlight=False, soft_wrap=True)
output = Console(highlight=False, soft_wrap=True)

StoreOption = Annotated[
    str, typer.Option("--store", envvar="SAERAY_STORE", help="Where the store is: a path, s3://… or gs://…")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, logs on stderr.")]
OutOption = Annotated[str, typer.Option("--out", help="Where the report goes.")]
ChannelOption = Annotated[str | None, typer.Option(help="Which part of conversations: a role.")]
LLM_FORMS = "gemini:MODEL, openai:MODEL@URL, local:MODEL, or cluster:MODEL (on Ray)"
LLMBatchOption = Annotated[
    bool,
    typer.Option(
        "--llm-batch", help="Gemini's batch jobs for 100 calls or more: half the price, and up to a day each."
    ),
]
LLMWorkersOption = Annotated[
    int, typer.Option("--llm-workers", help="Of cluster:MODEL, how many actors hold a copy.", min=1)
]
LLMGpusOption = Annotated[
    float, typer.Option("--llm-gpus", help="Of cluster: and local:, GPUs a copy lies on; 0 is the CPU.", min=0)
]


#: The stdout of a command that was asked for JSON, while `reporting` is at work.
_stdout: TextIO | None = None


class Told(SaerayError):
    """The command has done its work and printed what it found, which is not good."""


def with_command(made_with: Mapping[str, Any]) -> dict[str, Any]:
    """`made_with` and the `command` as it was typed, without --out and --json, which change no result; as it is when
    this is not the `saeray` command."""
    if Path(sys.argv[0]).name != "saeray":
        return dict(made_with)
    words, kept = iter(sys.argv[1:]), ["saeray"]
    for word in words:
        if word == "--out":
            next(words, None)
        elif word != "--json" and not word.startswith("--out="):
            kept.append(word)
    return {**made_with, "command": without_keys(shlex.join(kept))}


def finish(result: Any, out: str, as_json: bool) -> None:
    """Writes an analysis and prints its head."""
    from saeray.analysis.write import write

    written = write(result, out)
    summary = result.summary() | {"files": written}
    print_result(summary, result.table(10), as_json)
    sides = [summary["selection"]] if "selection" in summary else [summary["target"], *summary["others"]]
    for name, missing in {side["dataset"]: side["shards_missing"] for side in sides}.items():
        if missing:
            errors.print(f"note: {name} is not encoded to its end: {missing} shards are missing")
    if not as_json:
        errors.print(f"the page: {written['report.html']}")


def print_json(content: Any) -> None:
    """One JSON object on the stdout that the command was started with (see `reporting`)."""
    print(json.dumps(content, default=str), file=_stdout or sys.stdout)


def print_result(content: dict[str, Any], rows: list[dict[str, Any]], as_json: bool) -> None:
    """Prints `content` as JSON, or `rows` as a table with a column for each key that any row has a value for."""
    if as_json:
        print_json(content)
        return
    if not rows:
        errors.print("nothing passes; the page says what was looked at")
        return
    table = Table(box=None, pad_edge=False)
    shown = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    for name in shown:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(plain(row[name]) for name in shown))
    console = Console(highlight=False)
    console.width = console.width if console.is_terminal else 160
    console.print(table)


def plain(value: Any) -> str:
    """A cell without markup: what comes from documents is not to be taken for console styles."""
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    if isinstance(value, float):
        text = f"{value:.3g}"
    if isinstance(value, list | tuple):
        text = " ".join(f"‘{one}’" for one in value)
    # Nothing from a document or a file name may style or steer the terminal.
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text).replace("[", "\\[")


@contextmanager
def progress_bar(as_json: bool) -> Iterator[Callable[[Any], None] | None]:
    """A bar with documents, tokens/s and time left, on a terminal."""
    if as_json or not errors.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.completed}/{task.total} shards"),
        BarColumn(),
        TextColumn("{task.fields[documents]:,} documents, {task.fields[rate]:,.0f} tokens/s"),
        TimeRemainingColumn(),
        console=errors,
    ) as bar:
        task = bar.add_task("encode", total=None, documents=0, rate=0.0)

        def show(progress: Any) -> None:
            rate = progress.tokens / max(progress.seconds, 1e-9)
            bar.update(task, completed=progress.done, total=progress.total, documents=progress.documents, rate=rate)

        yield show


@contextmanager
def reporting(as_json: bool) -> Iterator[None]:
    """Turns what a user can mend into one line and an exit code; everything else keeps its traceback.

    With `as_json` stdout belongs to `print_json` alone: Ray prints a cluster's warnings there from a thread of its own.
    """
    global _stdout
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    if os.environ.get("SAERAY_VERBOSE"):
        logging.getLogger("saeray").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", category=FutureWarning)
    with ExitStack() as stack:
        if as_json:
            _stdout = sys.stdout
            stack.callback(_forget)
            stack.enter_context(redirect_stdout(sys.stderr))
        try:
            yield
        except SaerayError as error:
            if as_json and not isinstance(error, Told):
                print_json({"error": str(error)})
            errors.print(f"[red]error:[/red] {plain(str(error))}")
            raise SystemExit(error.exit_code) from None
        except KeyboardInterrupt:
            stopped = "stopped; what was committed stays, and the same command goes on from there"
            if as_json:
                print_json({"error": stopped})
            errors.print(stopped)
            raise SystemExit(1) from None


def run_job(description: str, model: type[Config], work: Callable[[Config, bool], None]) -> None:
    """The main of a `jobs/NAME.py`: reads `--config` (YAML, the fields of `model`) and `--json` and does `work`, whose
    log lines a job's log shows."""
    from saeray.config import load_yaml

    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    with reporting(arguments.json):
        logging.getLogger("saeray").setLevel(logging.INFO)
        work(load_yaml(arguments.config, model), arguments.json)


def _forget() -> None:
    global _stdout
    _stdout = None
