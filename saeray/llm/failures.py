"""What an HTTP service's error means, the same for every service, in words that hold no key.

A key never gets into a message: errors are built from status, code and a short scrubbed message, and the exception of
the library underneath, whose frames hold the headers, is not chained.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from typing import Any

import httpx2

from saeray.errors import HIDDEN, without_keys
from saeray.llm.base import DeadKey, Refused, Stop, Transient

_TRANSIENT = {408, 409, 425, 500, 502, 503, 504, 529}
_LONGEST = 200


def scrub(text: str, *keys: str | None) -> str:
    """`text` on one line without any of `keys` and without anything that looks like one, at most 200 characters."""
    for key in keys:
        if key:
            text = text.replace(key, HIDDEN)
    text = " ".join(without_keys(text).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def http_failure(
    service: str, model: str, status: int, body: Any, headers: Mapping[str, str], key: str | None
) -> Transient | Refused | Stop:
    """The failure that an answer with an error status is.

    body: the answer's JSON where it has one. service: how it is called in the line, with the name of the variable that
    its key comes from.
    """
    error = _error_of(body)
    message = scrub(str(error.get("message") or ""), key)
    reasons = {str(error.get(name)) for name in ("status", "code", "type")}
    reasons |= {str(detail.get("reason")) for detail in _details(error)}
    dead = reasons & {"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "invalid_api_key"}
    if status in (401, 403) or dead:
        return DeadKey(f"{service} refuses the key ({status} {message or 'no reason given'}): check it or make another")
    if status == 404:
        return Stop(f"{service} has no model {model} ({message or 404}): check its name")
    if status == 402 or "insufficient_quota" in reasons:
        return Stop(f"{service} says that the account has nothing left ({message or status}): top it up and run again")
    if status == 429:
        return Transient("rate limit", f"429 {message}".strip(), server_wait(error, headers))
    if status in _TRANSIENT:
        return Transient("server", f"{status} {message}".strip(), server_wait(error, headers))
    return Refused("refused", f"{status} {message}".strip())


def transport_failure(service: str, error: httpx2.RequestError) -> Transient:
    """The failure that no answer is, or one that cannot be unpacked. A request that was sent whole may have been worked
    on, and charged for."""
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
        return Transient("server", f"{service} cannot be reached")
    if isinstance(error, httpx2.TimeoutException):
        return Transient("timeout", f"{service} did not answer in time", billed=True)
    if isinstance(error, httpx2.DecodingError):
        return Transient("server", f"{service} sent an answer that cannot be unpacked", billed=True)
    return Transient("server", f"{service} broke the connection", billed=True)


def server_wait(error: Mapping[str, Any], headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: the longest of RetryInfo, Retry-After-Ms and Retry-After."""
    waits = []
    for detail in _details(error):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(detail.get("retryDelay", "")))
        if match:
            waits.append(float(match[1]))
    milliseconds, after = headers.get("retry-after-ms", ""), headers.get("retry-after", "")
    if re.fullmatch(r"\d+(\.\d+)?", milliseconds):
        waits.append(float(milliseconds) / 1000)
    if re.fullmatch(r"\d+(\.\d+)?", after):
        waits.append(float(after))
    elif after:
        date = email.utils.parsedate_tz(after)
        if date is not None:
            waits.append(max(0.0, email.utils.mktime_tz(date) - time.time()))
    return max(waits, default=None)


def _error_of(body: Any) -> dict[str, Any]:
    if isinstance(body, list) and body:
        body = body[0]
    if isinstance(body, dict):
        error = body.get("error", body)
        return error if isinstance(error, dict) else {"message": error}
    return {}


def _details(error: Mapping[str, Any]) -> list[dict[str, Any]]:
    details = error.get("details")
    return [one for one in details if isinstance(one, dict)] if isinstance(details, list) else []
