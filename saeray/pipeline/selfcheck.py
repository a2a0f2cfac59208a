"""The self-check of an encode run: made once a dataset, on a worker that has what encoding needs, before anything is
planned, so that a strict refusal leaves the store as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import ray

from saeray.config import EncodeConfig, EncoderConfig
from saeray.errors import SaerayError
from saeray.pipeline.cluster import result_of
from saeray.pipeline.replicas import device_of, reading_of
from saeray.readers.template import TemplateError
from saeray.readers.tokens import DocumentTokenizer, TokenizedDocument, Turn
from saeray.store import Dataset, Input, PlanSettings, location
from saeray.store.cells import MISSING, Reject, messages_cell, text_cell
from saeray.store.rows import read_rows

log = logging.getLogger(__name__)
MOST_ROWS = 200  # looked at for `TOKENS` tokens: texts of three tokens are enough


def self_checked(
    config: EncodeConfig,
    encoder: EncoderConfig,
    dataset: Dataset,
    inputs: list[Input],
    settings: PlanSettings,
) -> dict[str, Any] | None:
    """The dataset's self-check, made now when it has none; None when the inputs hold nothing that can be read.

    Warns of what is out of its band. Raises SaerayError for that in strict runs, and when the encoder cannot be loaded.
    """
    found = dataset.self_check() or check_encoder(config, encoder, inputs, settings, device_of(config))
    for warning in (found or {}).get("warnings", ()):
        if config.strict:
            raise SaerayError(f"{warning} (a warning without --strict)")
        log.warning("self-check: %s", warning)
    return found


def check_encoder(
    config: EncodeConfig, encoder: EncoderConfig, inputs: Sequence[Input], settings: PlanSettings, device: str
) -> dict[str, Any] | None:
    """What the self-check finds on the first documents of `inputs`; None when they hold none that can be read.

    Raises SaerayError when the encoder cannot be loaded.
    """
    task = ray.remote(num_cpus=1, num_gpus=config.num_gpus or None)(_measure)
    found: dict[str, Any] | None = result_of(
        task.remote(encoder, [*inputs], settings, device, reading_of(config)),
        "the worker that was to check the encoder died",
    )
    return found


def _measure(
    encoder: EncoderConfig, inputs: Sequence[Input], settings: PlanSettings, device: str, reading: dict[str, Any]
) -> dict[str, Any] | None:
    from saeray.loading import self_check_of, source_of, tokenizer_of  # torch and transformers: not in the driver

    source = source_of(encoder)
    documents = list(first_documents(inputs, settings, tokenizer_of(encoder, source)))
    found = self_check_of(encoder, source, device, documents, **reading) if documents else None
    return None if found is None else found.to_dict()


def first_documents(
    inputs: Sequence[Input], settings: PlanSettings, tokenizer: DocumentTokenizer
) -> Iterator[TokenizedDocument]:
    """Documents from the start of the inputs, until there are enough tokens; what cannot be read is passed over, for
    planning and encoding say what is wrong with it."""
    from saeray.selfcheck import TOKENS

    judge = text_cell if settings.messages_column is None else messages_cell
    column, tokens = settings.document_column, 0
    for source in inputs[:MOST_ROWS]:
        try:
            for row in read_rows(source, location(source.uri), (column,), 0, None, None):
                if tokens >= TOKENS or row.number >= MOST_ROWS:
                    break
                cell = None if row.problem else judge(row.cells.get(column, MISSING), column)
                if cell is None or isinstance(cell, Reject):
                    continue
                document = _tokenized(cell, tokenizer)
                if document is not None:
                    tokens += int((document.channel >= 0).sum())
                    yield document
        except SaerayError:
            continue
        if tokens >= TOKENS:
            return


def _tokenized(cell: Any, tokenizer: DocumentTokenizer) -> TokenizedDocument | None:
    try:
        if isinstance(cell, str):
            return tokenizer.text(cell)
        return tokenizer.messages([Turn(turn["role"], turn["content"]) for turn in cell])
    except (SaerayError, TemplateError):
        return None
