"""From what a user writes (`gemini:MODEL`) to a client over a store's cache."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from saeray.config import presets
from saeray.errors import UsageError
from saeray.llm.base import Backend
from saeray.llm.budget import Cap
from saeray.llm.cache import Cache
from saeray.llm.client import Client
from saeray.llm.prices import prices
from saeray.llm.throttle import Limits
from saeray.store.files import Location

FORMS = "gemini:MODEL, openai:MODEL@http://HOST:PORT/v1, or local:MODEL"
# In dollars, where nobody gave a cap: enough for a diff of two thousand documents with Gemini Flash, and no surprise.
DEFAULT_CAP = 5.0


class LLMConfig(BaseModel):
    """An LLM in a YAML file or from flags. Keys come from the environment alone: a key in a file or on a command line
    would be in logs and process lists.

    model: `gemini:MODEL`, `openai:MODEL@URL`, or `local:MODEL` (an encoder preset, or a model
    as an encoder's reader is named). cap: US
    dollars; None with a price that is known: 5; needs cap_tokens where the price is unknown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    cap: float | None = Field(default=None, ge=0)
    cap_tokens: int | None = Field(default=None, ge=0)
    concurrency: int = Field(default=16, ge=1)
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    timeout: float = Field(default=120.0, gt=0)
    prices: str | None = None
    ask_again: bool = False
    device: str = "cpu"
    dtype: str = "float32"


def connect(config: LLMConfig, store: Location | None) -> tuple[Client, str]:
    """The client, and the model's name for its requests. store: the root of the store whose cache is used.

    Raises UsageError for a model of no known form, a missing key, or a price that is unknown while no cap is given:
    nothing is spent without a bound.
    """
    kind, _, rest = config.model.partition(":")
    if not rest or kind not in ("gemini", "openai", "local"):
        raise UsageError(f"no LLM {config.model!r}: give {FORMS}")
    table = prices(config.prices)
    backend, model = _backend(kind, rest, config)
    cap = Cap(config.cap, config.cap_tokens)
    if not backend.free and cap == Cap():
        if table.of(model) is None:
            backend.close()
            raise UsageError(f"the price of {model} is unknown: give a cap in tokens, or a price table that names it")
        cap = Cap(money=DEFAULT_CAP)
    limits = Limits(
        concurrency=config.concurrency,
        requests_per_minute=config.requests_per_minute,
        tokens_per_minute=config.tokens_per_minute,
    )
    cache = Cache(None if store is None else store / "llm" / "cache")
    return Client(backend, cache=cache, cap=cap, limits=limits, table=table, ask_again=config.ask_again), model


def _backend(kind: str, rest: str, config: LLMConfig) -> tuple[Backend, str]:
    if kind == "gemini":
        from saeray.llm.gemini import Gemini

        return Gemini(timeout=config.timeout), rest
    if kind == "openai":
        from saeray.llm.openai_compatible import OpenAICompatible

        model, _, url = rest.partition("@")
        if not model or not url:
            raise UsageError("an OpenAI-compatible server is named openai:MODEL@http://HOST:PORT/v1")
        return OpenAICompatible(url, timeout=config.timeout), model
    from saeray.llm.local import Local

    return Local(_reader_of(rest), device=config.device, dtype=config.dtype), rest


def _reader_of(model: str) -> str:
    """A preset's name stands for its reader's whole model."""
    known = presets()
    return known[model].reader.model if model in known else model
