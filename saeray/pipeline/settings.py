"""What a dataset is planned with: as it was begun, and where nothing was said, as its input suggests."""

from __future__ import annotations

from saeray.config import EncodeConfig
from saeray.errors import UsageError
from saeray.store import Dataset, Input, PlanSettings, location
from saeray.store.plan import CPU_SHARD_TOKENS, RESERVED
from saeray.store.rows import column_names

# Estimated tokens a shard: the work that one death can cost. About a minute on two cores; on a GPU of 5,000 tokens/s
# five minutes, which also keeps a billion documents under a million files.
SHARD_TOKENS_CPU, SHARD_TOKENS_GPU = CPU_SHARD_TOKENS, 1_500_000


def plan_settings(config: EncodeConfig, inputs: list[Input], dataset: Dataset) -> PlanSettings:
    """The plan's settings. What was not asked for is as the dataset was begun with; in a new one the document column is
    `text` or `messages`, whichever is there, and all other columns are kept."""
    begun = dataset.plans()[0].settings if dataset.plans() else None
    names = column_names(inputs[0], location(inputs[0].uri))
    text, messages, id_column = config.text_column, config.messages_column, config.id_column
    if not text and not messages:
        text = begun.text_column if begun else "text" if "text" in names else None
        messages = begun.messages_column if begun else "messages" if "messages" in names and not text else None
        if not text and not messages:
            raise UsageError(
                f"{inputs[0].name} has no column named text or messages; choose one with --text-column or "
                f"--messages-column: it has {', '.join(names)}"
            )
    if begun and id_column is None:
        id_column = begun.id_column
    if config.keep == "all":
        keep = begun.keep if begun else _all_columns(inputs[0], names, (text, messages, id_column))
    else:
        keep = tuple(config.keep)
    return PlanSettings(
        text_column=text,
        messages_column=messages,
        id_column=id_column,
        keep=keep,
        store_text=config.store_text,
        store_sum=config.store_sum,
        shard_tokens=_shard_tokens(config),
    )


def _all_columns(source: Input, names: list[str], read: tuple[str | None, ...]) -> tuple[str, ...]:
    """Every column of the first input that can be kept, beside those that are `read` as documents and ids."""
    free = [name for name in names if name not in read]
    taken = [name for name in free if name in RESERVED]
    if taken and all(name in names for name in read if name):  # else the plan refuses the column that is not there
        raise UsageError(
            f"{source.name} has a column {taken[0]}, which documents have of their own: rename it, or name the columns "
            "to keep with --keep"
        )
    return tuple(name for name in free if name not in RESERVED)


def _shard_tokens(config: EncodeConfig) -> int:
    return config.shard_tokens or (SHARD_TOKENS_GPU if config.num_gpus else SHARD_TOKENS_CPU)
