"""A plan: which inputs a dataset was made from and where its shards begin and end, fixed once and for all.

Because the boundaries are written down before any work, a rerun on other machines, in another order, or with other
numbers of workers does the same shards; new inputs get a further plan whose shard numbers go on.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from saeray.errors import SaerayError, UsageError
from saeray.store.cells import parse_type, type_name
from saeray.store.inputs import Input

VERSION = 1
# Some 50,000 tokens are a minute or so of a CPU worker: what a kill may cost.
CPU_SHARD_TOKENS = 50_000
RESERVED = frozenset(
    [
        "doc_id", "channel", "text", "n_tokens", "n_windows", "truncated", "token_starts", "latents", "max", "count",
        "peak", "sum", "row", "messages",
    ]
)  # fmt: skip


@dataclass(frozen=True)
class PlanSettings:
    """How the inputs of a dataset are read; the same for all its plans, except `shard_tokens`.

    Exactly one of `text_column` and `messages_column`. `keep` are further columns to store. `store_text` and
    `store_sum` fix whether documents carry their text and the sum pool. `shard_tokens` is the most tokens of a shard,
    estimated as UTF-8 bytes / 4 (a shard has at least one row).
    """

    text_column: str | None = "text"
    messages_column: str | None = None
    id_column: str | None = None
    keep: tuple[str, ...] = ()
    store_text: bool = True
    store_sum: bool = False
    shard_tokens: int = CPU_SHARD_TOKENS

    def __post_init__(self) -> None:
        if (self.text_column is None) == (self.messages_column is None):
            raise UsageError("give either a text column or a messages column")
        if self.shard_tokens < 1:
            raise UsageError(f"a shard needs at least 1 token, not {self.shard_tokens}")
        for name in self.columns:
            if not name or not _is_utf8(name):
                raise UsageError(f"not a column name: {name!r}")
        for name in self.keep:
            if name in RESERVED:
                raise UsageError(f"cannot keep a column named {name}: documents have one of their own; rename it")
            if self.keep.count(name) > 1:
                raise UsageError(f"column {name} is to be kept twice")

    @property
    def document_column(self) -> str:
        """The column that holds the document, text or messages."""
        return str(self.text_column or self.messages_column)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every input column that is read."""
        id_column = () if self.id_column is None else (self.id_column,)
        return tuple(dict.fromkeys((self.document_column, *id_column, *self.keep)))

    def check_same(self, other: PlanSettings) -> None:
        """Raises UsageError where `other`, asked for now, differs from what the dataset was begun with."""
        for name, begun in asdict(self).items():
            asked = getattr(other, name)
            if name != "shard_tokens" and begun != asked:
                raise UsageError(
                    f"the dataset was begun with {name} = {_shown(begun)}, not {_shown(asked)}: give the same, "
                    "or another dataset name"
                )


@dataclass(frozen=True)
class Shard:
    """Rows [start, stop) of one input. `shard` counts on over plans; `input` indexes the plan's inputs; `offset` is
    the byte where row `start` begins (plain JSONL only); `duplicate_rows` hold an id that an earlier row has."""

    shard: int
    plan: int
    input: int
    start: int
    stop: int
    offset: int | None = None
    duplicate_rows: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """Input rows, which become documents or rejects."""
        return self.stop - self.start


@dataclass(frozen=True)
class Plan:
    """What `plans/NNNNN.json` holds. `keep_types` are the Arrow types of the kept columns, `ids` the name of the file
    of id hashes beside it."""

    number: int
    settings: PlanSettings
    inputs: tuple[Input, ...]
    shards: tuple[Shard, ...]
    keep_types: dict[str, pa.DataType] = field(default_factory=dict)
    ids: str | None = None

    def input_of(self, shard: Shard) -> Input:
        """The input that `shard` is a slice of."""
        return self.inputs[shard.input]

    def to_json(self) -> bytes:
        """The plan file: the same plan gives the same bytes."""
        content = {
            "version": VERSION,
            "number": self.number,
            "settings": asdict(self.settings),
            "keep_types": {name: type_name(kind) for name, kind in self.keep_types.items()},
            "ids": self.ids,
            "inputs": [asdict(one) for one in self.inputs],
            "shards": [{key: value for key, value in asdict(one).items() if key != "plan"} for one in self.shards],
        }
        return (json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, uri: str = "plan") -> Plan:
        """The inverse of `to_json`. Raises SaerayError naming `uri` when the file is not a plan."""
        try:
            content: dict[str, Any] = json.loads(data)
            if content["version"] != VERSION:
                raise SaerayError(f"{uri} has plan format {content['version']}; this saeray reads {VERSION}")
            settings = dict(content["settings"])
            settings["keep"] = tuple(settings["keep"])
            number = int(content["number"])
            shards = [
                Shard(**{**one, "plan": number, "duplicate_rows": tuple(one["duplicate_rows"])})
                for one in content["shards"]
            ]
            return cls(
                number=number,
                settings=PlanSettings(**settings),
                inputs=tuple(Input(**one) for one in content["inputs"]),
                shards=tuple(shards),
                keep_types={name: parse_type(kind) for name, kind in content["keep_types"].items()},
                ids=content["ids"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SaerayError(f"{uri} is not a plan ({error}): restore it from a copy") from error


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(value) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
