"""What a storage error means: worth another try, somebody else was first, or a line for the person at the terminal.

botocore, aiohttp and gcsfs each raise their own types, and s3fs turns some of them into OSErrors whose cause holds the
server's answer. They are told apart here by name and code, so that a local store imports none of those packages.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

from saeray.errors import SaerayError

TRANSIENT_TYPES = frozenset(
    {
        "EndpointConnectionError", "ConnectionClosedError", "ConnectTimeoutError", "ReadTimeoutError",
        "HTTPClientError", "ResponseStreamingError", "IncompleteReadError", "ResponseParserError", "FSTimeoutError",
        "ClientConnectionError", "ClientPayloadError", "ServerDisconnectedError", "IncompleteRead",
    }
)  # fmt: skip
# ConditionalRequestConflict is S3's 409: two conditional creates overlapped, neither is refused for good yet.
TRANSIENT_CODES = frozenset(
    {
        "InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "ConditionalRequestConflict",
        "OperationAborted", "429", "500", "502", "503", "504",
    }
)  # fmt: skip
CONFLICT_CODES = frozenset({"PreconditionFailed", "412"})
TRANSIENT_ERRNOS = frozenset({errno.EREMOTEIO, errno.EBUSY, errno.ECONNRESET, errno.ECONNREFUSED, errno.ETIMEDOUT})
NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})


class MissingFile(SaerayError):
    """A file that should be there is not."""


def is_transient(error: BaseException) -> bool:
    """True when the same request may succeed a little later: the server is away, restarting or busy."""
    if is_conflict(error) or isinstance(error, FileNotFoundError | FileExistsError | PermissionError):
        return False
    for one in _chain(error):
        if isinstance(one, ConnectionError | TimeoutError) or _type_names(one) & TRANSIENT_TYPES:
            return True
        if _codes(one) & TRANSIENT_CODES:
            return True
        if isinstance(one, OSError) and one.errno in TRANSIENT_ERRNOS:
            return True
    return False


def is_conflict(error: BaseException) -> bool:
    """True when a create-if-absent found the file there already.

    s3fs raises FileExistsError where the answer names the condition (AWS) and OSError(EINVAL) from PreconditionFailed
    where it does not (SeaweedFS); gcsfs raises an HttpError with code 412.
    """
    return any(isinstance(one, FileExistsError) or bool(_codes(one) & CONFLICT_CODES) for one in _chain(error))


def explain(error: BaseException, uri: str, doing: str) -> SaerayError:
    """The one line for `error`, met while `doing` ("read", "write", "list") the thing at `uri`."""
    names: set[str] = set()
    codes: set[str] = set()
    for one in _chain(error):
        names |= _type_names(one)
        codes |= _codes(one)
    bucket = "/".join(uri.split("/")[:3])
    local = "://" not in uri
    if "NoCredentialsError" in names or "PartialCredentialsError" in names or "DefaultCredentialsError" in names:
        mend = (
            "set GOOGLE_APPLICATION_CREDENTIALS"
            if uri.startswith("gs://")
            else "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
        return SaerayError(f"no credentials to {doing} {uri}: {mend}")
    if "NoSuchBucket" in codes:
        return SaerayError(f"there is no bucket {bucket}{_endpoint(uri)}: create it, or check the name")
    if isinstance(error, FileNotFoundError):
        return MissingFile(f"no such file: {uri}")
    if codes & {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}:
        return SaerayError(f"the credentials given for {bucket} are refused{_endpoint(uri)}: check key and secret")
    if isinstance(error, PermissionError) or codes & {"AccessDenied", "403", "401"}:
        mend = "check its owner and mode" if local else "check the credentials and their rights on the bucket"
        return SaerayError(f"no permission to {doing} {uri}: {mend}")
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT):
        return SaerayError(f"disk full while writing {uri}: make room and run the same command again")
    if number == errno.EROFS:
        return SaerayError(f"cannot write {uri}: the file system is read-only")
    if number in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return SaerayError(f"cannot {doing} {uri}: a file and a directory are in each other's place")
    if is_transient(error):
        return SaerayError(f"{bucket} does not answer{_endpoint(uri)} ({_short(error)}): see if it is up, then rerun")
    return SaerayError(f"cannot {doing} {uri}: {_short(error)}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(8):
        if one is None:
            return
        yield one
        one = one.__cause__ or one.__context__


def _type_names(error: BaseException) -> set[str]:
    return {base.__name__ for base in type(error).__mro__}


def _codes(error: BaseException) -> set[str]:
    """Every code an error carries: botocore's response body and HTTP status, gcsfs's `code`, aiohttp's `status`."""
    codes = {str(getattr(error, name, "")) for name in ("code", "status")}
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        codes.add(str(response.get("Error", {}).get("Code", "")))
        codes.add(str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")))
    return codes - {"", "None"}


def _endpoint(uri: str) -> str:
    if not uri.startswith("s3://"):
        return ""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return f" at {_without_secrets(endpoint)}" if endpoint else ""


def _without_secrets(text: str) -> str:
    """`text` without the user and password that an address may hold."""
    return re.sub(r"(\w+://)[^/\s@]*@", r"\1", text)


def _short(error: BaseException) -> str:
    text = _without_secrets(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
