"""From what a backend got to a reply, and between a reply and what the cache keeps of it."""

from __future__ import annotations

from typing import Any

from saeray.llm.base import Missing, RawReply, Reply, Request, Usage
from saeray.llm.schema import NotJson, mismatch, parse


def to_reply(request: Request, raw: RawReply) -> Reply:
    """The text held against the request's schema: a value, or the reason why there is none. Usage is the raw one's."""
    value, missing, detail = _outcome(request, raw)
    return Reply(raw.text, value, missing, detail, raw.usage, probabilities=raw.probabilities)


def _outcome(request: Request, raw: RawReply) -> tuple[Any, Missing | None, str]:
    if raw.finish == "blocked":
        return None, "blocked", raw.detail
    if not raw.text.strip():
        if raw.finish == "length":
            return None, "cut", "the limit was reached before any answer"
        return None, "empty", "no text"
    if request.schema is None:
        return raw.text, None, "cut at the limit" if raw.finish == "length" else ""
    try:
        value = parse(raw.text)
    except NotJson as error:
        return None, "cut" if error.cut or raw.finish == "length" else "not json", str(error)
    wrong = mismatch(value, request.schema)
    return (value, None, "") if wrong is None else (None, "wrong schema", wrong)


def record_of(reply: Reply) -> dict[str, Any]:
    """What the cache keeps: plain JSON."""
    usage = reply.usage
    return {
        "text": reply.text,
        "value": reply.value,
        "missing": reply.missing,
        "detail": reply.detail,
        "usage": [usage.tokens_in, usage.tokens_out, usage.tokens_thinking],
        "seconds": reply.seconds,
        "probabilities": None if reply.probabilities is None else dict(reply.probabilities),
        "batch": reply.batch,
    }


def reply_of(record: dict[str, Any]) -> Reply:
    """The reply a record was made of, marked as cached."""
    return Reply(
        text=record["text"],
        value=record["value"],
        missing=record["missing"],
        detail=record["detail"],
        usage=Usage(*record["usage"]),
        seconds=record["seconds"],
        cached=True,
        probabilities=record["probabilities"],
        batch=record["batch"],
    )
