"""Clients of the stand-in that do not wait long."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stand_in import GeminiStandIn

from saeray.llm import Cache, Client, Limits
from saeray.llm.gemini import Gemini
from saeray.store import location

MODEL = "gemini-2.5-flash"


def client_of(
    server: GeminiStandIn,
    store: Path | None = None,
    timeout: float = 5.0,
    kind: Callable[..., Client] = Client,
    **options: Any,
) -> Client:
    """A Gemini client of the stand-in; its cache is in `store`. Limits may be given one by one."""
    named = {name: options.pop(name) for name in tuple(options) if name in Limits.__dataclass_fields__}
    limits = Limits(**{"concurrency": 8, "backoff": 0.01, "backoff_most": 0.05, **named})
    cache = Cache(None if store is None else location(str(store)) / "llm" / "cache")
    backend = Gemini(key=server.key, base_url=server.url, timeout=timeout)
    return kind(backend, cache=cache, limits=limits, **options)
