"""Any server with /v1/chat/completions: vLLM, llama.cpp, TGI, Ollama, OpenAI and those that sell the same interface.

Plain HTTP through httpx2, which google-genai brings along; a client library of its own would add nothing but retries
that saeray must do itself.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import httpx2
import numpy as np

from saeray.errors import UsageError
from saeray.llm.base import RawReply, Refused, Request, Transient, Usage, Vectors
from saeray.llm.failures import http_failure, scrub, transport_failure

_LONGEST_SECONDS = 10.0  # to connect; the answer itself may take `timeout`


class OpenAICompatible:
    """A server at `base_url`, which ends in /v1. The key, if the server wants one, comes from OPENAI_API_KEY unless
    given, and is never shown.

    max_tokens_field: newer OpenAI models want max_completion_tokens. name: what stands for the server in the cache,
    its address unless given; a model that moves to another port keeps its replies under a name.
    """

    concurrency = 1024

    def __init__(
        self,
        base_url: str,
        *,
        key: str | None = None,
        name: str | None = None,
        free: bool = False,
        max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
        timeout: float = 120.0,
    ) -> None:
        self._key = (key or os.environ.get("OPENAI_API_KEY") or "").strip()
        if not _is_address(base_url):
            raise UsageError(f"not the address of a server: {scrub(base_url, self._key)}; give http://HOST:PORT/v1")
        self._service = f"the server {scrub(base_url.rstrip('/'), self._key)}"
        self.name = f"openai:{name or scrub(base_url.rstrip('/'), self._key)}"
        self.free = free
        self._field = max_tokens_field
        self._http = httpx2.Client(
            base_url=base_url.rstrip("/"),
            headers={"authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(timeout, connect=min(timeout, _LONGEST_SECONDS)),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=256),
        )

    def complete(self, request: Request) -> RawReply:
        """One chat completion. Without thinking where the request forbids it is the server's to offer: there is no
        standard field for it, so only the limit of tokens is sent."""
        system = [{"role": "system", "content": request.system}] if request.system else []
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [*system, {"role": "user", "content": request.prompt}],
            "temperature": request.temperature,
            self._field: request.output_limit,
        }
        if request.schema is not None:
            named = {"name": "reply", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        got = self._post("/chat/completions", request.model, body)
        try:
            choice, used = got["choices"][0], got.get("usage") or {}
            message = choice["message"]
            text = message.get("content") or ""
            thinking = int((used.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0)
            written = int(used.get("completion_tokens") or 0)
            usage = Usage(int(used.get("prompt_tokens") or 0), max(0, written - thinking), thinking)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise _unreadable() from None
        if message.get("refusal"):
            return RawReply(text, usage, "blocked", "refusal")
        reason = choice.get("finish_reason")
        if reason == "content_filter":
            return RawReply(text, usage, "blocked", reason)
        return RawReply(text, usage, "length" if reason == "length" else "stop")

    def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """One call to /embeddings."""
        got = self._post("/embeddings", model, {"model": model, "input": list(texts), "encoding_format": "float"})
        try:
            rows = sorted(got["data"], key=lambda row: int(row["index"]))
            vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
            tokens = (got.get("usage") or {}).get("prompt_tokens")
        except (KeyError, TypeError, ValueError, AttributeError):
            raise _unreadable() from None
        if len(vectors) != len(texts):
            raise Refused("refused", f"{len(vectors)} embeddings for {len(texts)} texts")
        return Vectors(vectors, None if tokens is None else int(tokens))

    def count_tokens(self, request: Request) -> None:
        """These servers have no common way to count; the bytes stay the bound."""
        return

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _post(self, path: str, model: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._http.post(path, json=body)
        except httpx2.RequestError as error:
            raise transport_failure(self._service, error) from None
        try:
            got = answer.json()
        except ValueError:
            got = None
        if answer.status_code != 200:
            raise http_failure(self._service, model, answer.status_code, got, answer.headers, self._key) from None
        if not isinstance(got, dict):
            raise _unreadable()
        return got


def _is_address(url: str) -> bool:
    try:
        found = httpx2.URL(url)
    except httpx2.InvalidURL:
        return False
    return found.scheme in ("http", "https") and bool(found.host)


def _unreadable() -> Transient:
    return Transient("server", "an answer that cannot be read", billed=True)
