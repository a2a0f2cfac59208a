"""Files where a dataset is asked for: two files of model outputs are compared by one command.

Each file becomes a dataset of its own name, encoded when it is not there yet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from saeray.config import EncodeConfig
from saeray.errors import SaerayError, UsageError
from saeray.pipeline.encode import Progress, encode
from saeray.store import Input, Store, list_inputs, location
from saeray.store.inputs import COMPRESSIONS, FORMATS, file_and_conditions, names_file
from saeray.store.rows import column_names

#: What files of model outputs call the column of answers, in the order they are looked for.
ANSWERS = ("text", "messages", "response", "output", "answer", "completion", "generation", "content")


def selectors_of(
    words: Sequence[str],
    store: str,
    text_column: str | None = None,
    encoder: str = "smollm2-135m",
    on_progress: Callable[[Progress], None] | None = None,
) -> list[str]:
    """Each word as a selector; files are encoded into `store` first. Before any is, UsageError for a file without a
    column of texts that is known by name, one whose dataset holds other files, and two of one name. SaerayError when
    shards fail."""
    files = {word: _File.of(word, store, text_column) for word in words if names_file(word)}
    by_name: dict[str, _File] = {}
    for file in files.values():
        other = by_name.setdefault(file.dataset, file)
        if other.source.uri != file.source.uri:
            raise UsageError(
                f"{other.path} and {file.path} would both be the dataset {file.dataset}: rename one of them, or encode "
                "them with `saeray encode`"
            )
    for file in by_name.values():
        file.encode(store, encoder, on_progress)
    return [files[word].dataset + files[word].conditions if word in files else word for word in words]


@dataclass(frozen=True)
class _File:
    """A data file to be the dataset `dataset`; `column` holds its texts, or its messages."""

    path: str
    conditions: str
    source: Input
    dataset: str
    column: str
    chat: bool

    @classmethod
    def of(cls, word: str, store: str, text_column: str | None) -> _File:
        path, conditions = file_and_conditions(word) or (word, "")
        found = list_inputs([path])
        if len(found) != 1:
            raise UsageError(f"{path} is {len(found)} files: encode it with `saeray encode`, then name the dataset")
        source, name = found[0], _name(found[0].name)
        there = Store.open(store, create=True)
        if name in there.datasets():
            others = {one.name for plan in there.dataset(name).plans() for one in plan.inputs} - {source.name}
            if others:
                raise UsageError(
                    f"the dataset {name} in {store} holds other files ({min(others)}): encode {source.name} under "
                    "another name with `saeray encode`"
                )
        columns = column_names(source, location(source.uri))
        column = text_column or next((one for one in ANSWERS if one in columns), None)
        if column is None or column not in columns:
            what = "column of answers" if column is None else f"column {column}"
            raise UsageError(f"{source.name} has no {what}; choose one with --text-column: {', '.join(columns)}")
        return cls(path, conditions, source, name, column, column == "messages" and text_column is None)

    def encode(self, store: str, encoder: str, on_progress: Callable[[Progress], None] | None) -> None:
        config = EncodeConfig(
            inputs=[self.path],
            dataset=self.dataset,
            store=store,
            encoder=encoder,
            text_column=None if self.chat else self.column,
            messages_column=self.column if self.chat else None,
        )
        result = encode(config, on_progress)
        if result.missing:
            raise SaerayError(
                f"{result.missing} of {result.shards} shards of {self.source.name} failed; run the command again"
            )


def _name(file: str) -> str:
    """A dataset's name from a file's."""
    stem = PurePosixPath(file).name
    for ending in (*COMPRESSIONS, *FORMATS):
        stem = stem[: -len(ending)] if stem.lower().endswith(ending) else stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "texts"
