"""What counts as naming a known difference: regular expressions, written down before anything is looked at.

They come with a task of the tasks file (`keywords`), or from a file of their own, so that a set of tasks that is given
can be judged by words that are kept, and dated, elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saeray.errors import UsageError
from saeray.evaluate.tasks import OPERATORS, Condition, Diff, Tasks, read_json


@dataclass(frozen=True)
class Keywords:
    """`of`: task name -> patterns, searched for in a name in lower case. `where`: task name -> a condition on the rows
    of both sides."""

    of: Mapping[str, tuple[re.Pattern[str], ...]]
    where: Mapping[str, Condition]

    def name(self, task: str, text: str | None) -> bool:
        """Whether `text` names the known difference of `task`."""
        return bool(text) and any(pattern.search(str(text).lower()) for pattern in self.of[task])

    def first(self, task: str, texts: Iterable[str | None]) -> int | None:
        """The place, from 1, of the first text that names it; None when none does."""
        return next((place for place, text in enumerate(texts, 1) if self.name(task, text)), None)


def read_keywords(tasks: Tasks, chosen: Sequence[Diff], file: str | None = None) -> Keywords:
    """The keywords of the `chosen` tasks, and the conditions of all; those of `file` go before the tasks' own.

    `file`: JSON, `{"keywords": {TASK: [PATTERN, …]}, "where": {TASK: [column, operator, value]}}`; a task has
    `keywords` and `where` itself. UsageError: a task without keywords, no regular expression, no condition.
    """
    entries = {entry["name"]: entry for entry in read_json(tasks.uri)["diff"]}
    given = read_json(file) if file else {}
    if not isinstance(given, dict):
        raise UsageError(f"{file} holds no JSON object")
    patterns, conditions = _part(given, "keywords", file), _part(given, "where", file)
    if unknown := next((name for name in (*patterns, *conditions) if name not in entries), None):
        raise UsageError(f"{file} is about {unknown}, and {tasks.uri} has no such diff task")
    of: dict[str, tuple[re.Pattern[str], ...]] = {}
    where: dict[str, Condition] = {}
    for task in tasks.diff:
        own = entries[task.name]
        if task in chosen:
            of[task.name] = _patterns(patterns.get(task.name, own.get("keywords")), task.name)
        condition = conditions.get(task.name, own.get("where"))
        if condition is not None:
            where[task.name] = _condition(condition, task.name)
    return Keywords(of, where)


def _part(given: Mapping[str, Any], key: str, file: str | None) -> dict[str, Any]:
    part = given.get(key, {})
    if not isinstance(part, dict):
        raise UsageError(f"{file}: {key} must be an object, a task each")
    return part


def _patterns(found: Any, task: str) -> tuple[re.Pattern[str], ...]:
    if not found:
        raise UsageError(f"{task} has no keywords: add them to its entry, or give --keywords FILE")
    if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found):
        raise UsageError(f"keywords of {task} must be a list of regular expressions")
    compiled = []
    for one in found:
        try:
            compiled.append(re.compile(one))
        except re.error as error:
            raise UsageError(f"keywords of {task}: {one!r} is no regular expression: {error}") from error
    return tuple(compiled)


def _condition(found: Any, task: str) -> Condition:
    if not isinstance(found, list) or len(found) != 3 or not isinstance(found[0], str) or found[1] not in OPERATORS:
        raise UsageError(f"where of {task} must be [column, operator, value], operator {' '.join(OPERATORS)}")
    return Condition(*found)
