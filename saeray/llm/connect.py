"""From what a user writes (`gemini:MODEL`) to a client over a store's cache.

`MAKERS` is who makes a backend of each kind. What lives in a layer above this one puts itself there: the pipeline a
model that Ray actors hold, so that everything that asks an LLM can ask that one too and none of it knows Ray.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field

from saeray.config import presets
from saeray.errors import UsageError
from saeray.llm.base import Backend
from saeray.llm.batch import BatchBackend, BatchClient
from saeray.llm.budget import Cap
from saeray.llm.cache import Cache
from saeray.llm.client import Client
from saeray.llm.prices import prices
from saeray.llm.throttle import Limits
from saeray.store.files import Location

FORMS = "gemini:MODEL, openai:MODEL@http://HOST:PORT/v1, local:MODEL (in this process) or cluster:MODEL (on Ray)"
# In dollars, where nobody gave a cap: enough for a diff of two thousand documents with Gemini Flash, and no surprise.
DEFAULT_CAP = 5.0


class LLMConfig(BaseModel):
    """An LLM in a YAML file or from flags. Keys come from the environment alone: a key in a file or on a command line
    would be in logs and process lists.

    model: `gemini:MODEL`, `openai:MODEL@URL`, `local:MODEL` or `cluster:MODEL` (an encoder preset, or a model as an
    encoder's reader is named). cap: US dollars; None with a price that is known: 5; needs cap_tokens where the price is
    unknown. batch_jobs: stages of many calls go as batch jobs, at half the price and within a day.

    Of models of one's own: num_gpus: that a copy lies on; workers: copies, each an actor; device: by default cuda where
    there are num_gpus, else cpu; dtype: by default bfloat16 on a GPU, else float32.
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
    batch_jobs: bool = False
    workers: int = Field(default=1, ge=1)
    num_gpus: float = Field(default=0, ge=0)
    device: str | None = None
    dtype: str | None = None

    @property
    def kind(self) -> str:
        """What stands before the first colon."""
        return self.model.partition(":")[0]


def connect(config: LLMConfig, store: Location | None) -> tuple[Client, str]:
    """The client, and the model's name for its requests. store: the root of the store whose cache is used.

    Raises UsageError for a model of no known form, a missing key, batch jobs of a service that has none, or a price
    that is unknown while no cap is given: nothing is spent without a bound.
    """
    kind, _, rest = config.model.partition(":")
    if not rest or kind not in MAKERS:
        raise UsageError(f"no LLM {config.model!r}: give {FORMS}")
    if config.batch_jobs and kind != "gemini":
        raise UsageError(f"{kind}: takes no batch jobs, which are Gemini's: leave --llm-batch out, or ask gemini:MODEL")
    table = prices(config.prices)
    backend, model = MAKERS[kind](rest, config)
    cap = Cap(config.cap, config.cap_tokens)
    if not backend.free and cap == Cap():
        if table.of(model) is None:
            backend.close()
            raise UsageError(f"the price of {model} is unknown: give a cap in tokens, or a price table that names it")
        cap = Cap(money=DEFAULT_CAP)
    limits = Limits(
        concurrency=max(config.concurrency, config.workers),
        requests_per_minute=config.requests_per_minute,
        tokens_per_minute=config.tokens_per_minute,
    )
    cache = Cache(None if store is None else store / "llm" / "cache")
    options: dict[str, Any] = {
        "cache": cache,
        "cap": cap,
        "limits": limits,
        "table": table,
        "ask_again": config.ask_again,
    }
    if config.batch_jobs:
        return BatchClient(cast(BatchBackend, backend), **options), model
    return Client(backend, **options), model


def reader_of(model: str) -> str:
    """A preset's name stands for its reader's whole model."""
    known = presets()
    return known[model].reader.model if model in known else model


def _gemini(model: str, config: LLMConfig) -> tuple[Backend, str]:
    from saeray.llm.gemini import Gemini

    return Gemini(timeout=config.timeout), model


def _openai(rest: str, config: LLMConfig) -> tuple[Backend, str]:
    from saeray.llm.openai_compatible import OpenAICompatible

    model, _, url = rest.partition("@")
    if not model or not url:
        raise UsageError("an OpenAI-compatible server is named openai:MODEL@http://HOST:PORT/v1")
    return OpenAICompatible(url, timeout=config.timeout), model


def _local(model: str, config: LLMConfig) -> tuple[Backend, str]:
    from saeray.llm.local import Local

    return Local(reader_of(model), device=config.device, dtype=config.dtype, num_gpus=config.num_gpus), model


def _cluster(model: str, config: LLMConfig) -> tuple[Backend, str]:
    raise UsageError(f"cluster:{model} is held by Ray actors, which come with: import saeray.pipeline")


#: kind -> what makes its backend from what stands after the colon and the config, and gives its requests' model.
MAKERS: dict[str, Callable[[str, LLMConfig], tuple[Backend, str]]] = {
    "gemini": _gemini,
    "openai": _openai,
    "local": _local,
    "cluster": _cluster,
}
