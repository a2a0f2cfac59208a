"""A model in this process: tiny and random, so what is tested is the form of its answers and the arithmetic."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from test_llm_schema import SCHEMAS
from tiny import make_gguf, make_reader_dir

from saeray.errors import SaerayError, UsageError
from saeray.llm import Client, Request
from saeray.llm.base import Refused
from saeray.llm.fill import fill
from saeray.llm.local import Local
from saeray.llm.prompts import judge
from saeray.llm.schema import mismatch


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole tiny Llama with a chat template."""
    return make_reader_dir(tmp_path_factory.mktemp("model") / "tiny", layers=2)


@pytest.fixture(scope="module")
def local(directory: Path) -> Local:
    """It, loaded."""
    return Local(str(directory))


def test_a_verdict_is_the_first_answer_token(local: Local, directory: Path) -> None:
    """Yes against no by the logits after the prompt, held against a plain forward pass of the same model."""
    request = judge("tiny", "p", "d", reason=False)
    reply = local.complete(request)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    said = [{"role": "system", "content": request.system}, {"role": "user", "content": request.prompt}]
    ids = tokenizer.apply_chat_template(said, add_generation_prompt=True, return_tensors="pt", return_dict=True)[
        "input_ids"
    ]
    with torch.inference_mode():
        logits = model(ids).logits[0, -1].float()
    yes, no = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("yes", "no"))
    expected = torch.softmax(logits[[yes, no]], 0)
    assert reply.probabilities == pytest.approx({"yes": float(expected[0]), "no": float(expected[1])}, abs=1e-5)
    assert json.loads(reply.text) == {"verdict": "yes" if expected[0] > expected[1] else "no"}
    assert reply.usage.tokens_in == ids.shape[1] == local.count_tokens(request)


def test_it_is_a_backend_like_any_other(local: Local) -> None:
    """Cache, ledger and validation are the same, and it costs nothing."""
    with Client(local) as client:
        replies = client.complete_many([judge("tiny", "p", f"d{i}", reason=False) for i in range(3)], "verify")
        summary = client.ledger.summary()
    assert {reply.value["verdict"] for reply in replies} <= {"yes", "no"}
    assert summary["calls"] == 3
    assert summary["dollars"] == 0
    with pytest.raises(UsageError, match="no embeddings"):
        local.embed("tiny", ["x"])


def test_plain_text_is_the_models_own_greedy_answer(local: Local, directory: Path) -> None:
    """Short generation, held against transformers' own."""
    request = Request("tiny", "hello there", max_output_tokens=12)
    reply = local.complete(request)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    said = [{"role": "user", "content": "hello there"}]
    given_ids = tokenizer.apply_chat_template(said, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**given_ids, max_new_tokens=12, do_sample=False, pad_token_id=0)[
        0, given_ids["input_ids"].shape[1] :
    ]
    assert reply.text == tokenizer.decode(out, skip_special_tokens=True)
    assert reply.finish == "length"
    assert reply.usage.tokens_out == 12


def test_what_does_not_fit_the_window_is_missing(local: Local) -> None:
    """A document is never cut in silence."""
    with pytest.raises(Refused, match="do not fit into 2048"):
        local.complete(Request("tiny", "word " * 3000))
    with Client(local) as client:
        assert client.complete(judge("tiny", "p", "d", max_output_tokens=2), "x").missing == "cut"


def test_gguf_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """The embedded reader's form: a GGUF file gives the same answers as the weights it was made of."""
    monkeypatch.setenv("SAERAY_CACHE", str(tmp_path / "cache"))
    whole = make_reader_dir(tmp_path / "whole", layers=2)
    gguf = make_gguf(tmp_path / "tiny.gguf", layers=2)
    request = judge("tiny", "p", "d", reason=False)
    first = Local(str(gguf)).complete(request)
    assert first.probabilities == pytest.approx(dict(Local(str(whole)).complete(request).probabilities or {}), abs=1e-4)
    gguf_time = [path.stat().st_mtime_ns for path in (tmp_path / "cache" / "models").rglob("*.safetensors")]
    assert Local(str(gguf)).complete(request) == first
    assert [path.stat().st_mtime_ns for path in (tmp_path / "cache" / "models").rglob("*.safetensors")] == gguf_time
    assert len(gguf_time) == 1


def test_models_that_are_not_there(tmp_path: Path) -> None:
    """Bad input: one clear line."""
    with pytest.raises(SaerayError, match="directory is not there"):
        Local(str(tmp_path / "none"))
    with pytest.raises(SaerayError, match="GGUF file is not there"):
        Local(str(tmp_path / "none.gguf"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SaerayError, match="cannot load the model"):
        Local(str(tmp_path / "empty"))


class Chaos:
    """A model of no sense at all: characters are tokens, and what comes next depends on all that was read."""

    def __init__(self, seed: int, most: int = 4000) -> None:
        self.left, self.written, self._state, self.text = most, 0, seed, ""

    def tokens(self, text: str) -> list[int]:
        return [ord(one) for one in text]

    def feed(self, ids: list[int]) -> None:
        self.left, self.written = self.left - len(ids), self.written + len(ids)
        self.text += "".join(map(chr, ids))
        for one in ids:
            self._state = (self._state * 6364136223846793005 + one + 1) % 2**63

    def log_probabilities(self, ids: list[int]) -> list[float]:
        return [-((self._state >> 20) ^ (one * 7919)) % 97 / 10 for one in ids]

    def write(self, stops: str, most: int) -> str:
        text = ""
        for _ in range(min(most, self._state % 9)):
            next_one = 'ab1 "\\},]\n.-9'[(self._state >> 17) % 13]
            if next_one in stops:
                break
            self.feed([ord(next_one)])
            text += next_one
        return text


@settings(max_examples=200)
@given(SCHEMAS, st.integers(0, 2**40))
def test_every_filled_answer_fits_its_schema(schema: dict[str, object], seed: int) -> None:
    """However weak the model, the answer is of the schema, and probabilities add up to one."""
    value, probabilities = fill(Chaos(seed), schema)
    assert mismatch(json.loads(json.dumps(value)), schema) is None
    if probabilities is not None:
        assert math.isclose(sum(probabilities.values()), 1.0, rel_tol=1e-9)


def test_an_answer_that_does_not_fit_is_cut() -> None:
    """The tokens allowed bound even an answer that we write for the model."""
    schema = {"type": "object", "properties": {name: {"type": "boolean"} for name in "abcdef"}}
    with pytest.raises(Refused):
        fill(Chaos(1, most=20), schema)
