"""Gemini through Google's own client: structured output, token counts, embeddings and batch jobs.

The client's retries are off: retrying is saeray's, which counts, waits for all requests at once and holds the cap.
`maxOutputTokens` bounds answer and thoughts together, so a request's worst case is known before it is sent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import httpx2
import numpy as np
from google import genai
from google.genai import errors, types

from saeray.errors import SaerayError
from saeray.llm.base import FRAME_TOKENS, RawReply, Refused, Request, Stop, Transient, Usage, Vectors
from saeray.llm.batch import BatchAnswer, BatchState
from saeray.llm.failures import http_failure, scrub, transport_failure

T = TypeVar("T")

_KEYS = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
_SERVICE = "Gemini"
_DONE = {"JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED"}
_DEAD = {"JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"}
_LISTED = 1000  # batch jobs looked through for one of ours


class Gemini:
    """The Gemini Developer API. The key comes from GEMINI_API_KEY or GOOGLE_API_KEY unless given, and is never shown.

    base_url: another address that speaks the same API (a proxy, a test). timeout: seconds for one call.
    """

    free = False
    concurrency = 1024

    def __init__(self, *, key: str | None = None, base_url: str | None = None, timeout: float = 120.0) -> None:
        self._key = (key or next((os.environ[name] for name in _KEYS if os.environ.get(name)), "")).strip()
        if not self._key:
            raise SaerayError("there is no key for Gemini: set GEMINI_API_KEY, or ask another model")
        base_url = base_url or os.environ.get("GOOGLE_GEMINI_BASE_URL") or None
        self.name = "gemini" if base_url is None else f"gemini:{scrub(base_url, self._key)}"
        # The library keeps 20 connections by default; 64 requests in flight would open and shake hands anew each time.
        connections = httpx2.Limits(max_connections=None, max_keepalive_connections=256)
        self._http = httpx2.Client(timeout=timeout, limits=connections)
        options = types.HttpOptions(base_url=base_url, timeout=int(timeout * 1000), httpx_client=self._http)
        self._client = genai.Client(api_key=self._key, vertexai=False, http_options=options)

    def complete(self, request: Request) -> RawReply:
        """One generateContent call."""
        got = self._call(
            request.model,
            lambda: self._client.models.generate_content(
                model=request.model, contents=_content(request.prompt), config=_config(request)
            ),
        )
        return _raw(got)

    def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """One batchEmbedContents call; a content a text, since newer models make one vector of a list of strings."""
        contents: list[Any] = [_content(text) for text in texts]
        got = self._call(model, lambda: self._client.models.embed_content(model=model, contents=contents))
        vectors = np.array([one.values or () for one in got.embeddings or ()], dtype=np.float32)
        if len(vectors) != len(texts):
            raise Refused("refused", f"{len(vectors)} embeddings for {len(texts)} texts")
        tokens = got.usage_metadata.prompt_token_count if got.usage_metadata else None
        if tokens is None:
            try:
                tokens = self._count(model, contents)
            except (Transient, Refused, Stop):  # some embedding models cannot be asked; the vectors are here
                tokens = None
        return Vectors(vectors, tokens)

    def count_tokens(self, request: Request) -> int:
        """One countTokens call. The API counts contents alone, so the system text and the schema go along as such;
        the frame's own tokens are set on top."""
        return self._count(request.model, [_content(part) for part in _parts(request)]) + FRAME_TOKENS

    def submit_batch(self, name: str, requests: Mapping[str, Request]) -> str:
        """Submits a batch job called `name` and returns the service's name of it."""
        inline = [
            types.InlinedRequest(contents=_content(one.prompt), config=_config(one), metadata={"key": key})
            for key, one in requests.items()
        ]
        config = types.CreateBatchJobConfig(display_name=name)
        model = next(iter(requests.values())).model
        job = self._call(model, lambda: self._client.batches.create(model=model, src=inline, config=config))
        return str(job.name)

    def find_batch(self, name: str) -> str | None:
        """The service's name of a live or finished job called `name`, submitted by an earlier run."""

        def look() -> str | None:
            config = types.ListBatchJobsConfig(page_size=100)
            for number, job in enumerate(self._client.batches.list(config=config)):
                if job.display_name == name and _state(job) not in _DEAD:
                    return job.name
                if number >= _LISTED:
                    return None
            return None

        return self._call("batches", look)

    def poll_batch(self, job: str, keys: Sequence[str]) -> BatchState:
        """How the job stands, with its answers when it is done."""
        found = self._call(job, lambda: self._client.batches.get(name=job))
        state = _state(found)
        if state in _DEAD:
            reason = scrub(str(found.error.message if found.error else state), self._key)
            return BatchState(state, failed=reason or state)
        if state not in _DONE:
            return BatchState(state)
        replies = (found.dest and found.dest.inlined_responses) or []
        named = [(one.metadata or {}).get("key") for one in replies]
        if len(replies) == len(keys) and None in named:  # in the order of the requests, should they come without keys
            named = list(keys)
        answers = {key: self._answer(one) for key, one in zip(named, replies, strict=True) if key is not None}
        if not answers:  # taken for an answer, it would have every request asked again at the full price
            return BatchState(state, failed="it is done and holds no answers")
        return BatchState(state, answers)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _answer(self, one: types.InlinedResponse) -> BatchAnswer:
        if one.response is not None:
            return _raw(one.response)
        message = one.error.message if one.error else "no response"
        return Refused("batch", scrub(str(message), self._key))

    def _count(self, model: str, contents: list[Any]) -> int:
        got = self._call(model, lambda: self._client.models.count_tokens(model=model, contents=contents))
        return got.total_tokens or 0

    def _call(self, model: str, action: Callable[[], T]) -> T:
        try:
            return action()
        except errors.APIError as error:
            headers = getattr(error.response, "headers", None) or {}
            raise http_failure(_SERVICE, model, error.code or 0, error.details, headers, self._key) from None
        except httpx2.RequestError as error:
            raise transport_failure(_SERVICE, error) from None
        except (ValueError, TypeError) as error:  # an answer that is not what the API answers
            raise Transient("server", f"an answer that cannot be read: {type(error).__name__}", billed=True) from None


def _content(text: str) -> types.Content:
    return types.Content(role="user", parts=[types.Part(text=text)])


def _parts(request: Request) -> list[str]:
    schema = "" if request.schema is None else json.dumps(request.schema)
    return [part for part in (request.system, request.prompt, schema) if part]


def _config(request: Request) -> types.GenerateContentConfig:
    thinking = request.thinking_budget
    return types.GenerateContentConfig(
        system_instruction=request.system or None,
        temperature=request.temperature,
        max_output_tokens=request.output_limit,
        response_mime_type=None if request.schema is None else "application/json",
        response_json_schema=request.schema,
        thinking_config=None if thinking is None else types.ThinkingConfig(thinking_budget=thinking),
    )


def _raw(got: types.GenerateContentResponse) -> RawReply:
    used = got.usage_metadata
    usage = Usage()
    if used is not None:
        tokens_in = (used.prompt_token_count or 0) + (used.tool_use_prompt_token_count or 0)
        usage = Usage(tokens_in, used.candidates_token_count or 0, used.thoughts_token_count or 0)
    if not got.candidates:
        feedback = got.prompt_feedback
        reason = feedback.block_reason.value if feedback and feedback.block_reason else ""
        return RawReply("", usage, "blocked" if reason else "stop", reason)
    first = got.candidates[0]
    parts = (first.content.parts if first.content else None) or ()
    text = "".join(part.text for part in parts if part.text and not part.thought)
    reason = first.finish_reason.value if first.finish_reason else "STOP"
    if reason in ("STOP", "FINISH_REASON_UNSPECIFIED"):
        return RawReply(text, usage)
    if reason in ("MAX_TOKENS", "CONTINUATION"):
        return RawReply(text, usage, "length")
    return RawReply(text, usage, "blocked", reason)


def _state(job: types.BatchJob) -> str:
    return job.state.value if job.state else "JOB_STATE_UNSPECIFIED"
