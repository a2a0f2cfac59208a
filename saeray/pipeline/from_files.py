"""Files where a dataset is asked for: two files of model outputs are compared by one command.

Each file becomes a dataset of its own name, encoded when it is not there yet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from saeray.config import EncodeConfig
from saeray.errors import SaerayError, UsageError
from saeray.pipeline.encode import Progress, encode
from saeray.store import Store, list_inputs, location
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
    """Each word as a selector; files are encoded into `store` first. Raises UsageError for a file without a column of
    texts that is known by name, and for one whose dataset holds other files; SaerayError when shards fail."""
    return [_selector(word, store, text_column, encoder, on_progress) if names_file(word) else word for word in words]


def _selector(
    word: str, store: str, text_column: str | None, encoder: str, on_progress: Callable[[Progress], None] | None
) -> str:
    path, conditions = file_and_conditions(word) or (word, "")
    (source,) = list_inputs([path])
    name = _name(source.name)
    there = Store.open(store, create=True)
    if name in there.datasets():
        others = {one.name for plan in there.dataset(name).plans() for one in plan.inputs} - {source.name}
        if others:
            raise UsageError(
                f"the dataset {name} in {store} holds other files ({min(others)}): encode {source.name} under another "
                "name with `saeray encode`"
            )
    columns = column_names(source, location(source.uri))
    column = text_column or next((one for one in ANSWERS if one in columns), None)
    if column is None:
        raise UsageError(f"{source.name} has no column of answers; choose one with --text-column: {', '.join(columns)}")
    chat = column == "messages" and text_column is None
    config = EncodeConfig(
        inputs=[path],
        dataset=name,
        store=store,
        encoder=encoder,
        text_column=None if chat else column,
        messages_column=column if chat else None,
    )
    result = encode(config, on_progress)
    if result.missing:
        raise SaerayError(f"{result.missing} of {result.shards} shards of {source.name} failed; run the command again")
    return name + conditions


def _name(file: str) -> str:
    """A dataset's name from a file's."""
    stem = PurePosixPath(file).name
    for ending in (*COMPRESSIONS, *FORMATS):
        stem = stem[: -len(ending)] if stem.lower().endswith(ending) else stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "texts"
