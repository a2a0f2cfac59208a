"""A server on this machine that speaks the Gemini REST API, with answers by rule and errors at will.

It counts requests and tokens for itself, so the client's ledger has something to be held against, and it refuses fields
that the real API does not have.

    with GeminiStandIn(rule) as server:
        backend = Gemini(key=server.key, base_url=server.url)

A rule gets (system, prompt, schema) and gives the value to answer with. `trouble(number, attempt, prompt)` names what
goes wrong with a request: "429", "500", "400", "timeout", "drop", "garbled" (no gzip, though it says so), "cut",
"wrong", "blocked", "empty", or None.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

KEY = "AIzaStandInKeyThatMustNeverBeSeen0123456"
GARBLED = {"Content-Encoding": "gzip"}
Rule = Callable[[str, str, Any], Any]
Trouble = Callable[[int, int, str], str | None]

_GENERATION = {
    "temperature", "maxOutputTokens", "responseMimeType", "responseJsonSchema", "responseSchema", "thinkingConfig",
    "seed", "candidateCount",
}  # fmt: skip


def tokens(text: str) -> int:
    """The stand-in's tokenizer: four bytes a token."""
    return -(-len(text.encode()) // 4)


def documents(prompt: str) -> list[str]:
    """What stands between the delimiters of a prompt, as a careful model would read it."""
    return [body for _, body in re.findall(r"<document ([0-9a-f]{16})>\n(.*?)\n</document \1>", prompt, re.DOTALL)]


def keyword_judge(system: str, prompt: str, schema: Any) -> dict[str, str]:
    """Says yes when the text holds the last word of the property."""
    statement, text = documents(prompt)
    word = statement.split()[-1].strip(".'\"").lower()
    verdict = "yes" if word in text.lower() else "no"
    reason = f"the word is {'there' if verdict == 'yes' else 'not there'}"
    return {"reason": reason, "verdict": verdict} if "reason" in schema["properties"] else {"verdict": verdict}


def at_rate(rate: float, kinds: list[str], only: Callable[[str], bool] = lambda prompt: True) -> Trouble:
    """Trouble with that share of the calls, the same ones in every run whatever order they come in."""

    def trouble(number: int, attempt: int, prompt: str) -> str | None:
        draw = int.from_bytes(hashlib.sha256(f"{attempt}\n{prompt}".encode()).digest()[:8], "big")
        return kinds[draw % len(kinds)] if only(prompt) and (draw >> 8) / 2**56 < rate else None

    return trouble


class StandIn:
    """What both kinds of server share: the thread, the counts, the troubles."""

    key = KEY

    def __init__(self, rule: Rule = keyword_judge, trouble: Trouble | None = None, *, seconds: float = 0.0) -> None:
        self.rule, self.seconds = rule, seconds
        self.trouble: Trouble = trouble or (lambda number, attempt, prompt: None)
        self.retry_delay = "0.3s"
        self.hang = 5.0
        self.calls = Counter[str]()  # method -> requests that arrived
        self.troubles = Counter[str]()
        self.tokens = Counter[str]()  # in, out, thinking: of every reply that was worked on
        self.arrivals: list[tuple[float, str]] = []
        self.most_in_flight = 0
        self.gather = 0  # the first requests are answered once so many are in flight (or after 30 s)
        self._gathered = threading.Event()
        self.bodies: list[Any] = []
        self._in_flight = 0
        self._attempts = Counter[str]()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        handler = type("Handler", (_Handler,), {"stand_in": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def total(self) -> int:
        """Tokens of every kind."""
        return sum(self.tokens.values())

    def arrived(self, method: str, body: Any, prompt: str = "") -> str | None:
        """Counts a request in and says what goes wrong with it."""
        with self._lock:
            self.calls[method] += 1
            self.arrivals.append((time.monotonic(), method))
            self.bodies.append(body)
            attempt = self._attempts[prompt]
            if prompt:
                self._attempts[prompt] += 1
            kind = self.trouble(sum(self.calls.values()) - 1, attempt, prompt) if prompt else None
            if kind:
                self.troubles[kind] += 1
        self._stop.wait(self.seconds)
        return kind

    def in_flight(self, change: int) -> None:
        """Counts a request in or out."""
        with self._lock:
            self._in_flight += change
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
            if self.most_in_flight >= self.gather:
                self._gathered.set()
        if change > 0:
            self._gathered.wait(30)

    def spend(self, **counts: int) -> None:
        """Counts tokens."""
        with self._lock:
            self.tokens.update(counts)

    def handle(self, method: str, path: str, headers: Any, body: Any) -> tuple[int, Any, dict[str, str]] | None:
        """(status, JSON, headers) of the answer; None: no answer, the connection drops."""
        raise NotImplementedError


class GeminiStandIn(StandIn):
    """generateContent, countTokens, batchEmbedContents and batches."""

    def __init__(self, rule: Rule = keyword_judge, trouble: Trouble | None = None, **options: Any) -> None:
        super().__init__(rule, trouble, **options)
        self.models = {"gemini-2.5-flash", "gemini-embedding-001", "gemini-embedding-2", "unpriced"}
        self.thinks = 0  # tokens of thought a reply, where the request allows them
        self.batches: dict[str, dict[str, Any]] = {}
        self.batch_polls = 2  # looks before a job is done
        self.pending: set[str] = set()  # jobs that are never done
        self.failed: set[str] = set()
        self.hollow: set[str] = set()  # jobs that are done and hold no answers
        self.batch_troubles: list[str] = []  # "503" or "drop" (after the work is done), a call each

    def handle(self, method: str, path: str, headers: Any, body: Any) -> tuple[int, Any, dict[str, str]] | None:
        match = re.fullmatch(r"/v1(?:beta)?/(models|batches)(?:/([\w.-]+))?(?::(\w+))?(?:\?.*)?", path)
        if headers.get("x-goog-api-key") != self.key:
            return _dead_key()
        if match is None:
            return _error(404, "NOT_FOUND", "no such path")
        kind, name, action = match.groups()
        if kind == "batches":
            return self._batches(name)
        if name not in self.models:
            return _error(404, "NOT_FOUND", f"models/{name} is not found for API version v1")
        if action == "generateContent":
            return self._generate(name, body)
        if action == "countTokens":
            assert set(body) == {"contents"}, body.keys()
            self.arrived("countTokens", body)
            return 200, {"totalTokens": sum(tokens(_text([one])) for one in body["contents"])}, {}
        if action == "batchEmbedContents":
            return self._embed(body)
        if action == "batchGenerateContent":
            return self._submit(name, body)
        return _error(404, "NOT_FOUND", "no such method")

    def _generate(self, model: str, body: Any) -> tuple[int, Any, dict[str, str]] | None:
        prompt = _text(body["contents"])
        kind = self.arrived("generateContent", body, prompt)
        if kind == "429":
            info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": self.retry_delay}
            return _error(429, "RESOURCE_EXHAUSTED", "Quota exceeded for requests a minute", [info])
        if kind == "500":
            return _error(500, "INTERNAL", "An internal error has occurred")
        if kind == "400":
            long = "The input token count exceeds the maximum number of tokens allowed"
            return _error(400, "INVALID_ARGUMENT", long)
        reply = self._reply(body, kind)
        if isinstance(reply, str):
            return _error(400, "INVALID_ARGUMENT", reply)
        if kind == "timeout":
            self._stop.wait(self.hang)
        return None if kind in ("drop", "timeout") else (200, reply, GARBLED if kind == "garbled" else {})

    def _reply(self, body: Any, kind: str | None) -> dict[str, Any] | str:
        """The reply as the API gives it, or what is wrong with the request."""
        config = body.get("generationConfig", {})
        unknown = set(body) - {"contents", "systemInstruction", "generationConfig", "model"} | (
            set(config) - _GENERATION
        )
        if unknown:
            return f"Invalid JSON payload received. Unknown name {sorted(unknown)[0]}"
        system = _text([body.get("systemInstruction", {"parts": []})])
        prompt, schema = _text(body["contents"]), config.get("responseJsonSchema")
        if (schema is not None) != (config.get("responseMimeType") == "application/json"):
            return "a schema needs the mime type application/json"
        value = self.rule(system, prompt, schema)
        text = value if isinstance(value, str) else json.dumps(value)
        text = {"cut": text[: len(text) // 2], "wrong": '{"verdict": "perhaps"}', "empty": ""}.get(kind or "", text)
        thinking = min(self.thinks, config.get("thinkingConfig", {}).get("thinking_budget", self.thinks))
        limit, finish = config.get("maxOutputTokens", 1 << 30), "STOP"
        thinking = min(thinking, limit)
        if thinking + tokens(text) > limit:
            text, finish = text.encode()[: 4 * (limit - thinking)].decode(errors="ignore"), "MAX_TOKENS"
        read = tokens(system + prompt + ("" if schema is None else json.dumps(schema)))
        usage = {"promptTokenCount": read, "candidatesTokenCount": tokens(text), "thoughtsTokenCount": thinking}
        if kind == "blocked":
            self.spend(**{"in": read})
            return {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": read}}
        self.spend(**{"in": read, "out": tokens(text), "thinking": thinking})
        parts = [{"text": "let me think", "thought": True}] if thinking else []
        content = {"role": "model", "parts": [*parts, {"text": text}]}
        usage["totalTokenCount"] = sum(usage.values())
        return {"candidates": [{"content": content, "finishReason": finish, "index": 0}], "usageMetadata": usage}

    def _embed(self, body: Any) -> tuple[int, Any, dict[str, str]]:
        texts = [_text([one["content"]]) for one in body["requests"]]
        if self.arrived("batchEmbedContents", body, "".join(texts)) == "500":
            return _error(500, "INTERNAL", "An internal error has occurred")
        self.spend(**{"in": sum(tokens(text) for text in texts)})
        return 200, {"embeddings": [{"values": vector(text)} for text in texts]}, {}

    def _submit(self, model: str, body: Any) -> tuple[int, Any, dict[str, str]] | None:
        self.arrived("batchGenerateContent", body)
        trouble = self.batch_troubles.pop(0) if self.batch_troubles else None
        if trouble == "503":
            return _error(503, "UNAVAILABLE", "overloaded")
        name = f"batches/job{len(self.batches)}"
        batch = body["batch"]
        requests = batch["inputConfig"]["requests"]["requests"]
        self.batches[name] = {"name": batch["displayName"], "requests": requests, "looks": 0, "answers": None}
        return None if trouble == "drop" else (200, self._operation(name), {})

    def _batches(self, name: str | None) -> tuple[int, Any, dict[str, str]]:
        self.arrived("batches.list" if name is None else "batches.get", None)
        if name is not None and self.batch_troubles:
            self.batch_troubles.pop(0)
            return _error(503, "UNAVAILABLE", "overloaded")
        if name is None:
            return 200, {"operations": [self._operation(one) for one in self.batches]}, {}
        self.batches[f"batches/{name}"]["looks"] += 1
        return 200, self._operation(f"batches/{name}"), {}

    def _operation(self, name: str) -> dict[str, Any]:
        job = self.batches[name]
        done = job["looks"] >= self.batch_polls and name not in self.pending
        state = "BATCH_STATE_SUCCEEDED" if done else "BATCH_STATE_PENDING"
        if name in self.failed:
            state, done = "BATCH_STATE_FAILED", False
        metadata: dict[str, Any] = {"displayName": job["name"], "state": state, "model": "models/x"}
        if done and name not in self.hollow:
            job["answers"] = job["answers"] or [self._batched(one) for one in job["requests"]]
            metadata["output"] = {"inlinedResponses": {"inlinedResponses": job["answers"]}}
        return {"name": name, "metadata": metadata, "done": done}

    def _batched(self, one: dict[str, Any]) -> dict[str, Any]:
        request = {key: value for key, value in one["request"].items() if key != "model"}
        prompt = _text(request["contents"])
        kind = self.trouble(-1, self._attempts[prompt], prompt)
        self._attempts[prompt] += 1
        if kind in ("500", "429"):
            return {"error": {"code": 13, "message": "internal"}, "metadata": one["metadata"]}
        reply = self._reply(request, kind)
        assert not isinstance(reply, str), reply
        return {"response": reply, "metadata": one["metadata"]}


class OpenAIStandIn(StandIn):
    """/v1/chat/completions and /v1/embeddings."""

    key = "sk-standin-key-that-must-never-be-seen"

    def handle(self, method: str, path: str, headers: Any, body: Any) -> tuple[int, Any, dict[str, str]] | None:
        if headers.get("authorization") != f"Bearer {self.key}":
            given = (headers.get("authorization") or "").removeprefix("Bearer ")
            shown = {"message": f"Incorrect API key provided: {given}.", "code": "invalid_api_key", "type": "x"}
            return 401, {"error": shown}, {}
        if path == "/v1/embeddings":
            self.arrived("embeddings", body)
            read = sum(tokens(text) for text in body["input"])
            self.spend(**{"in": read})
            data = [{"index": i, "embedding": vector(text)} for i, text in enumerate(body["input"])]
            return 200, {"data": data[::-1], "usage": {"prompt_tokens": read, "total_tokens": read}}, {}
        if path != "/v1/chat/completions":
            return 404, {"error": {"message": "no such path"}}, {}
        said = {one["role"]: one["content"] for one in body["messages"]}
        kind = self.arrived("chat", body, said["user"])
        if kind == "429":
            return 429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, {"Retry-After": "1"}
        if kind == "500":
            return 500, {"error": {"message": "internal"}}, {}
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        value = self.rule(said.get("system", ""), said["user"], schema)
        text = value if isinstance(value, str) else json.dumps(value)
        text = {"cut": text[: len(text) // 2], "wrong": '{"verdict": 1}', "empty": ""}.get(kind or "", text)
        read = tokens(said.get("system", "") + said["user"] + ("" if schema is None else json.dumps(schema)))
        reasoning = 7
        self.spend(**{"in": read, "out": tokens(text), "thinking": reasoning})
        usage = {
            "prompt_tokens": read,
            "completion_tokens": tokens(text) + reasoning,
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }
        if kind == "timeout":
            self._stop.wait(self.hang)
        if kind in ("drop", "timeout"):
            return None
        message = {"role": "assistant", "content": text}
        headers = GARBLED if kind == "garbled" else {}
        return 200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}, headers


def vector(text: str) -> list[float]:
    """Four numbers that depend on the text alone."""
    return [byte / 255 for byte in hashlib.sha256(text.encode()).digest()[:4]]


def _text(contents: list[Any]) -> str:
    return "".join(part["text"] for content in contents for part in content["parts"])


def _error(code: int, status: str, message: str, details: list[Any] | None = None) -> tuple[int, Any, dict[str, str]]:
    error = {"code": code, "message": message, "status": status, **({"details": details} if details else {})}
    return code, {"error": error}, {}


def _dead_key() -> tuple[int, Any, dict[str, str]]:
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }
    return _error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", [info])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # the answer in one packet
    stand_in: StandIn

    def do_POST(self) -> None:
        self._answer("POST")

    def do_GET(self) -> None:
        self._answer("GET")

    def _answer(self, method: str) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.stand_in.in_flight(+1)
        try:
            answer = self.stand_in.handle(method, self.path, self.headers, body)
        finally:
            self.stand_in.in_flight(-1)
        if answer is None:
            self.close_connection = True
            return
        status, content, headers = answer
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Not to the test's output."""
