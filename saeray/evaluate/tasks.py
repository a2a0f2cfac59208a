"""The tasks file: which labelled sets there are and what their labels mean, read and checked before anything is spent.

JSON with lists of `retrieval`, `diff`, `clustering` and `correlation` tasks over Parquet files that lie beside it.
Everything wrong with it is told in one line that names the entry.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saeray.errors import UsageError, first_line
from saeray.store import location

T = TypeVar("T")

OPERATORS = ("==", ">=", "<=", "in", "has", "startswith")
#: What a set's properties are about; a retrieval task may say it itself as `kind`.
KINDS = {
    "alpacaeval_outputs": "form",
    "prop_language_xquad": "form",
    "prop_programming_language": "form",
    "prop_question_type_trec": "form",
    "prop_style_shakespeare": "form",
    "prop_era_novels": "form",
    "reasoning_traces": "form",
    "reasoning_styles_prompted": "form",
    "background": "topic",
    "prop_genre_brown": "topic",
    "creative_writing_llm": "topic",
    "toxicity_unhealthy_comments": "tone",
    "toxicity_civilcomments_spans": "tone",
    "prop_politeness_wikipedia": "tone",
    "prop_subjectivity": "tone",
    "prop_sarcasm_isarcasm": "tone",
    "sycophancy_frontier": "tone",
    "tweeteval_sentiment_emotion": "tone",
    "synth_news_4axes": "tone",
}


@dataclass(frozen=True)
class Condition:
    """`[column, operator, value]`: `in` takes a list, `has` asks a list column, `startswith` a text column."""

    column: str
    operator: str
    value: Any

    def mask(self, table: pa.Table) -> NDArray[np.bool_]:
        """bool[rows] of `table`; a null meets no condition. UsageError when the column cannot be compared so."""
        if self.column not in table.column_names:
            raise UsageError(f"there is no column {self.column!r}; there is {', '.join(table.column_names)}")
        column = table.column(self.column)
        try:
            met = self._met(column)
        except (pa.ArrowException, ValueError, TypeError) as error:
            why = first_line(error)
            raise UsageError(f"column {self.column!r} ({column.type}) {self.operator} {self.value!r}: {why}") from error
        return np.asarray(pc.fill_null(met, False).to_numpy(zero_copy_only=False), np.bool_)

    def _met(self, column: pa.ChunkedArray) -> pa.Array:
        column = column.combine_chunks()
        if self.operator == "has":
            if not pa.types.is_list(column.type):
                raise ValueError("it holds no lists")
            items = pc.equal(column.flatten(), pa.scalar(self.value, column.type.value_type))
            holding = pc.list_parent_indices(column).filter(items).unique()
            return pc.is_in(pa.array(range(len(column)), holding.type), value_set=holding)
        if self.operator == "in":
            return pc.and_(pc.is_in(column, value_set=pa.array(self.value, column.type)), column.is_valid())
        if self.operator == "startswith":
            return pc.starts_with(column, pattern=self.value)
        compare = {"==": pc.equal, ">=": pc.greater_equal, "<=": pc.less_equal}[self.operator]
        return compare(column, pa.scalar(self.value, None if pa.types.is_floating(column.type) else column.type))


@dataclass(frozen=True)
class Retrieval:
    """A property some documents of a file have: `query` says it in words, `relevant_when` tells which."""

    file: str
    text_column: str
    query: str
    relevant_when: Condition
    n_relevant: int | None
    kind: str


@dataclass(frozen=True)
class Diff:
    """Two sides of a file with a known difference; `b` None: all rows that are not of `a`."""

    name: str
    file: str
    text_column: str
    a: Condition
    b: Condition | None
    pair_by: str | None
    known_difference: str


@dataclass(frozen=True)
class Clustering:
    """Label columns of a file, each a way to group it; `axes`: column -> number of groups."""

    file: str
    text_column: str
    axes: Mapping[str, int]


@dataclass(frozen=True)
class Correlation:
    """Two labels of a file; `observed`: how often each and both hold, and their NPMI."""

    file: str
    text_column: str
    x: Condition
    y: Condition
    observed: Mapping[str, float]


@dataclass(frozen=True)
class Tasks:
    """A tasks file; `uri` is where it lies and its files beside it."""

    uri: str
    retrieval: tuple[Retrieval, ...] = ()
    diff: tuple[Diff, ...] = ()
    clustering: tuple[Clustering, ...] = ()
    correlation: tuple[Correlation, ...] = ()

    def table(self, file: str) -> pa.Table:
        """The Parquet file of that name beside the tasks file."""
        place = location(self.uri.rpartition("/")[0] + "/" + file) if "/" in self.uri else location(file)
        data = place.read_if_there()
        if data is None:
            raise UsageError(f"{self.uri} names {file}, which is not beside it")
        try:
            return pq.read_table(pa.BufferReader(data))
        except pa.ArrowException as error:
            raise UsageError(f"cannot read {place.uri} as Parquet: {first_line(error)}") from error


def read_json(uri: str, what: str = "file") -> Any:
    """The JSON at `uri`. UsageError when there is none."""
    data = location(uri).read_if_there()
    if data is None:
        raise UsageError(f"there is no {what} {uri}")
    try:
        return json.loads(data)
    except ValueError as error:
        raise UsageError(f"{uri} is not JSON: {first_line(error)}") from error


def read_tasks(uri: str) -> Tasks:
    """The tasks at `uri`, a path or any fsspec URI. UsageError names the first entry that is wrong and what is."""
    content = read_json(uri, "tasks file")
    readers: dict[str, Callable[[_Entry], Any]] = {
        "retrieval": _retrieval,
        "diff": _diff,
        "clustering": _clustering,
        "correlation": _correlation,
    }
    if not isinstance(content, dict) or not set(content) & set(readers):
        raise UsageError(f"{uri} holds no tasks: give an object with any of {', '.join(readers)}")
    found: dict[str, tuple[Any, ...]] = {}
    for kind, read in readers.items():
        entries = content.get(kind, [])
        if not isinstance(entries, list):
            raise UsageError(f"{uri}: {kind} is not a list")
        found[kind] = tuple(read(_Entry(f"{uri}: {kind}[{i}]", entry)) for i, entry in enumerate(entries))
    return Tasks(uri, **found)


class _Entry:
    """One object of the file, which knows how to name itself in an error."""

    def __init__(self, where: str, content: Any) -> None:
        if not isinstance(content, dict):
            raise UsageError(f"{where} is not an object")
        self.where, self.content = where, content

    def get(self, key: str, kind: type[T]) -> T:
        value = self.content.get(key)
        if not isinstance(value, kind) or isinstance(value, bool) or value == "":
            raise UsageError(f"{self.where}: {key} must be {kind.__name__}, not {value!r}")
        return value

    def maybe(self, key: str, kind: type[T]) -> T | None:
        return None if self.content.get(key) is None else self.get(key, kind)

    def condition(self, key: str) -> Condition:
        value = self.get(key, list)
        if len(value) != 3 or not isinstance(value[0], str) or value[1] not in OPERATORS:
            raise UsageError(f"{self.where}: {key} must be [column, operator, value], operator {' '.join(OPERATORS)}")
        if (value[1] == "in") != isinstance(value[2], list) or value[2] is None:
            raise UsageError(f"{self.where}: {key}: only `in` takes a list, and nothing takes null")
        return Condition(*value)

    @property
    def source(self) -> tuple[str, str]:
        return self.get("file", str), self.get("text_column", str)


def _retrieval(entry: _Entry) -> Retrieval:
    file, text_column = entry.source
    kind = entry.maybe("kind", str) or KINDS.get(PurePosixPath(file).stem, "other")
    expected = entry.maybe("n_relevant", int)
    return Retrieval(file, text_column, entry.get("query", str), entry.condition("relevant_when"), expected, kind)


def _diff(entry: _Entry) -> Diff:
    b = None if isinstance(entry.content.get("B"), str) else entry.condition("B")
    pair_by, known = entry.maybe("pair_by", str), entry.get("known_difference", str)
    return Diff(entry.get("name", str), *entry.source, entry.condition("A"), b, pair_by, known)


def _clustering(entry: _Entry) -> Clustering:
    axes = entry.get("axes", dict)
    if not axes or not all(type(groups) is int and groups > 1 for groups in axes.values()):
        raise UsageError(f"{entry.where}: axes must give a number of groups above 1 for each label column")
    return Clustering(*entry.source, axes)


def _correlation(entry: _Entry) -> Correlation:
    names = ("p_x", "p_y", "p_xy", "p_x_given_y", "p_y_given_x", "npmi")
    observed = {name: float(entry.get(name, float)) for name in names if name in entry.content}
    return Correlation(*entry.source, entry.condition("x"), entry.condition("y"), observed)
