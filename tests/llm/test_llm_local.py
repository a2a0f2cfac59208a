"""A model in this process: tiny and random, so what is tested is the form of its answers and the arithmetic."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

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
from saeray.llm.placing import defaults, spread
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


def test_a_model_is_spread_over_gpus_in_whole_blocks(tmp_path: Path) -> None:
    """The shape of Llama 70B: every block lies on one GPU, in order, none is over its room, and nothing lies elsewhere;
    what does not fit is refused with the numbers, and no weight was read for either."""
    shape = {"num_hidden_layers": 80, "hidden_size": 8192, "intermediate_size": 28672, "vocab_size": 128256}
    config = transformers.LlamaConfig(
        **shape,
        num_attention_heads=64,
        num_key_value_heads=8,
        tie_word_embeddings=False,
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(tmp_path)
    block = 2 * (2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672 + 2 * 8192)
    ends = 2 * 128256 * 8192
    for gpus, bytes_each in ((2, 125e9), (4, 72e9)):
        found = spread(str(tmp_path), "bfloat16", dict.fromkeys(range(gpus), int(bytes_each)))
        blocks = [found[f"model.layers.{number}"] for number in range(80)]
        assert blocks == sorted(blocks)
        assert set(blocks) == set(found.values()) == set(range(gpus))
        for gpu in range(gpus):
            own = blocks.count(gpu) * block + ends * sum(
                found[part] == gpu for part in ("model.embed_tokens", "lm_head")
            )
            assert own <= bytes_each
    with pytest.raises(SaerayError, match=r"141\.1 GB of weights in bfloat16 and 1 GPUs have room for 125\.0 GB"):
        spread(str(tmp_path), "bfloat16", {0: int(125e9)})


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ("cpu", "float32")),
        ({"num_gpus": 0.5}, ("cuda", "bfloat16")),
        ({"num_gpus": 2}, ("cuda", "bfloat16")),
        ({"device": "cuda"}, ("cuda", "bfloat16")),
        ({"dtype": "bfloat16"}, ("cpu", "bfloat16")),
    ],
)
def test_where_and_in_what_precision_by_default(asked: dict[str, Any], found: tuple[str, str]) -> None:
    """A 70B in float32 is 280 GB: on a GPU weights are bfloat16 unless said otherwise."""
    assert defaults(asked.get("device"), asked.get("dtype"), asked.get("num_gpus", 0)) == found


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_gpus_that_are_not_there(directory: Path) -> None:
    """One line, before anything is read."""
    with pytest.raises(SaerayError, match="this machine has none"):
        Local(str(directory), num_gpus=2)
    with pytest.raises(UsageError, match="leave out device cuda:1"):
        Local(str(directory), num_gpus=2, device="cuda:1")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_on_two_gpus_the_verdict_is_that_of_one(directory: Path) -> None:
    """Where its blocks lie changes no answer."""
    one, two = Local(str(directory), num_gpus=1), Local(str(directory), num_gpus=2)
    for number in range(5):
        request = judge("tiny", "p", f"d{number}", reason=False)
        assert two.complete(request).text == one.complete(request).text


def test_bfloat16_on_a_cpu_says_what_float32_says(directory: Path, local: Local) -> None:
    """Another precision is another model in the cache, and nearly the same in its answers."""
    half = Local(str(directory), dtype="bfloat16")
    assert half.name != local.name
    request = judge("tiny", "p", "d", reason=False)
    probabilities = [dict(one.complete(request).probabilities or {}) for one in (half, local)]
    assert probabilities[0] == pytest.approx(probabilities[1], abs=0.05)
