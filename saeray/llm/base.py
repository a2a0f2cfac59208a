"""What a request and a reply are, and what a backend must do: all that the parts of `saeray.llm` share.

A backend sends one request once and says what came of it. Everything else (cache, cap, rate, retries, validation,
ledger) is the client's and the same for all of them, so a new backend is one short file. All of these are plain values
that can be sent to another process: a model that runs as actors on a cluster is a backend like any other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from saeray.errors import SaerayError, UsageError
from saeray.llm.schema import check_schema

# Why there is no value. "cut", "not json", "wrong schema", "blocked" and "empty" are paid replies that cannot be used.
Missing = Literal[
    "cut", "not json", "wrong schema", "blocked", "empty", "timeout", "rate limit", "server", "refused", "batch"
]
# What a service sets around a prompt: role marks, a default system turn, a schema's own frame. At most 44 tokens for
# the chat templates of the tests; three times that.
FRAME_TOKENS = 128


@dataclass(frozen=True)
class Usage:
    """Tokens of one or more calls: read, written and thought."""

    tokens_in: int = 0
    tokens_out: int = 0
    tokens_thinking: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            self.tokens_thinking + other.tokens_thinking,
        )

    @property
    def total(self) -> int:
        """All tokens."""
        return self.tokens_in + self.tokens_out + self.tokens_thinking


@dataclass(frozen=True)
class Request:
    """One question to a model.

    schema: JSON schema (the subset of `saeray.llm.schema`) the reply must have; None for plain text.
    max_output_tokens: most tokens of the answer. thinking_budget: most tokens of thought before it; 0 switches thinking
    off; None sends nothing, and thoughts then count against max_output_tokens.
    sample: which of several independent answers to the same question this is. It is not sent; it tells them apart in
    the cache.
    """

    model: str
    prompt: str
    system: str = ""
    schema: Mapping[str, Any] | None = None
    max_output_tokens: int = 1024
    temperature: float = 0.0
    thinking_budget: int | None = None
    sample: int = 0

    def __post_init__(self) -> None:
        if not self.model or self.max_output_tokens < 1 or (self.thinking_budget or 0) < 0:
            raise UsageError("a request names a model and allows at least one token of output and none negative")
        if self.schema is not None:
            check_schema(self.schema)

    @property
    def output_limit(self) -> int:
        """Most tokens that the model may write and think, which is what is sent as the limit."""
        return self.max_output_tokens + (self.thinking_budget or 0)

    def key(self, backend: str) -> str:
        """SHA-256 (hex) of the whole request and of the backend it goes to."""
        return digest(f"{backend}\n{self._digest}")

    @cached_property
    def _digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON of all fields. The schema goes in as it is written: the order of its
        properties is the order a model answers in."""
        schema = None if self.schema is None else json.dumps(self.schema)
        whole = {one.name: getattr(self, one.name) for one in fields(self)} | {"schema": schema}
        return digest(json.dumps(whole, sort_keys=True, separators=(",", ":")))

    def worst_input(self) -> int:
        """A number of input tokens that no byte-level or byte-fallback tokenizer passes: the bytes of what is sent,
        about four times the tokens of English."""
        schema = "" if self.schema is None else json.dumps(self.schema)
        return sum(len(part.encode("utf-8", "replace")) for part in (self.system, self.prompt, schema)) + FRAME_TOKENS


@dataclass(frozen=True)
class RawReply:
    """What a backend got: text and what it cost.

    finish: "stop", "length" (the limit cut it) or "blocked" (`detail` says by what). probabilities: of the choices of
    the first enum or boolean in the schema, where a backend knows them.
    """

    text: str
    usage: Usage
    finish: Literal["stop", "length", "blocked"] = "stop"
    detail: str = ""
    probabilities: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Reply:
    """An answer, or why there is none.

    value: parsed and validated (the text itself where the request has no schema); None when `missing` says why.
    usage: of all attempts, a cached reply's when it was first asked. cached: no call was made for it now. batch: it was
    asked in a batch job, at the price of one.
    """

    text: str
    value: Any
    missing: Missing | None = None
    detail: str = ""
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    cached: bool = False
    probabilities: Mapping[str, float] | None = None
    batch: bool = False


@dataclass(frozen=True)
class Vectors:
    """Embeddings [texts, dimensions] float32, and input tokens where the service says them."""

    vectors: NDArray[np.float32]
    tokens: int | None


class Backend(Protocol):
    """A service or model that answers requests.

    name: what tells it apart in the cache. free: it costs no money. concurrency: most requests it can use at once.
    Each method raises Transient, Refused or Stop, and nothing else, for what may go wrong with a request.
    """

    name: str
    free: bool
    concurrency: int

    def complete(self, request: Request) -> RawReply:
        """Sends the request once."""

    def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """One vector a text, in order."""

    def count_tokens(self, request: Request) -> int | None:
        """Input tokens of the request as the service counts them, without asking the model; None: it cannot say."""

    def close(self) -> None:
        """Lets connections and memory go."""


@runtime_checkable
class Stoppable(Protocol):
    """A backend whose calls may wait for minutes before they are sent."""

    def stop(self) -> None:
        """Has the calls that wait raise Stop soon: the run has ended."""


class Transient(Exception):
    """The same request may succeed later. wait: seconds the server asks for. billed: it may have been charged for."""

    def __init__(self, kind: Missing, detail: str, wait: float | None = None, billed: bool = False) -> None:
        super().__init__(kind, detail, wait, billed)  # all of them, so that it survives the way from another process
        self.kind, self.detail, self.wait, self.billed = kind, detail, wait, billed

    def __str__(self) -> str:
        return self.detail


class Refused(Exception):
    """This request will not be answered, others may be."""

    def __init__(self, kind: Missing, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail

    def __str__(self) -> str:
        return self.detail


class Stop(SaerayError):
    """No request will be answered: the run ends with this line, and what was paid for is in the cache."""


class DeadKey(Stop):
    """The service does not accept the key."""


class CapReached(Stop):
    """The next call could pass the cap."""


def digest(text: str) -> str:
    """SHA-256 (hex) of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
