"""Replies in the store: found again, whole, by whoever asks the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saeray.errors import SaerayError
from saeray.llm import Cache, Request
from saeray.store import location

RECORD = {"text": "yes\nno é \ud800", "value": {"a": [1, 2.5, None]}, "missing": None}


def key(number: int) -> str:
    """A key as SHA-256 gives them."""
    return f"{number:064x}"


def test_a_record_comes_back_in_another_run(tmp_path: Path) -> None:
    """What was paid for is found, byte for byte, strange characters and all."""
    cache = Cache(location(str(tmp_path)))
    cache.put({key(1): RECORD})
    cache.close()
    assert Cache(location(str(tmp_path))).get(key(1)) == RECORD
    assert Cache(location(str(tmp_path))).get(key(2)) is None


def test_few_files(tmp_path: Path) -> None:
    """Object storage is slow by the file: 1,000 replies are 16 files while they come and one when the run ends."""
    cache = Cache(location(str(tmp_path)))
    for number in range(1000):
        cache.put({key(number): {"n": number}})
    cache.flush()
    assert len(list(tmp_path.iterdir())) <= 17
    cache.close()
    assert len(list(tmp_path.iterdir())) == 1
    again = Cache(location(str(tmp_path)))
    assert [again.get(key(number)) for number in range(1000)] == [{"n": number} for number in range(1000)]


def test_on_object_storage(s3_uri: str) -> None:
    """The same on S3, where a file is slow and a name is taken by a conditional put."""
    place = location(s3_uri) / "llm" / "cache"
    cache = Cache(place)
    for number in range(100):
        cache.put({key(number): RECORD})
    cache.close()
    assert len(place.names()) == 1
    assert len(Cache(place)) == 100
    assert Cache(place).get(key(99)) == RECORD


def test_two_runs_do_not_touch_each_others_segments(tmp_path: Path) -> None:
    """Runs side by side each keep what they paid for; of two replies to a question every reader takes the same."""
    one, other = Cache(location(str(tmp_path))), Cache(location(str(tmp_path)))
    one.put({key(1): {"n": "one"}, key(2): {"n": 2}})
    other.put({key(1): {"n": "other"}, key(3): {"n": 3}})
    one.close()
    other.close()
    readers = [Cache(location(str(tmp_path))) for _ in range(3)]
    assert len({str(reader.get(key(1))) for reader in readers}) == 1
    assert all(reader.get(key(2)) and reader.get(key(3)) for reader in readers)


def test_a_kill_costs_at_most_64_replies(tmp_path: Path) -> None:
    """SIGKILL at any moment: segments that were written are whole."""
    code = (
        "import os, sys; from saeray.llm import Cache; from saeray.store import location\n"
        f"cache = Cache(location({str(tmp_path)!r}))\n"
        "for n in range(200): cache.put({f'{n:064x}': {'n': n}})\n"
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})"
    )
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False).returncode == -signal.SIGKILL
    assert len(Cache(location(str(tmp_path)))) == 192


def test_a_damaged_segment_is_named(tmp_path: Path) -> None:
    """Nothing is paid for twice in silence."""
    cache = Cache(location(str(tmp_path)))
    cache.put({key(1): RECORD})
    cache.close()
    segment = next(tmp_path.iterdir())
    segment.write_bytes(segment.read_bytes()[:-4])
    with pytest.raises(SaerayError, match=f"{segment.name} is damaged: delete it"):
        Cache(location(str(tmp_path))).get(key(1))


def test_every_field_of_a_request_is_in_its_key() -> None:
    """A request that differs in anything, the service included, is another question."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    turned = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "string"}}}
    base = {"model": "m", "prompt": "p", "system": "s", "schema": schema}
    others = [
        {"model": "n"}, {"prompt": "q"}, {"system": "t"}, {"schema": None}, {"schema": turned}, {"temperature": 1.0},
        {"max_output_tokens": 7}, {"thinking_budget": 0}, {"sample": 1},
    ]  # fmt: skip
    keys = [Request(**base).key("gemini"), Request(**base).key("openai")]
    keys += [Request(**{**base, **other}).key("gemini") for other in others]
    assert len(set(keys)) == len(keys)
    assert set(Request.__dataclass_fields__) == {*base, *(name for other in others for name in other)}


@given(st.text(), st.text())
def test_texts_cannot_be_moved_between_fields(system: str, prompt: str) -> None:
    """Keys of (a, b) and (b, a) are those of different questions, and of equal ones the same."""
    one, other = Request("m", prompt, system).key("x"), Request("m", system, prompt).key("x")
    assert (one == other) == (system == prompt)
    assert one == Request("m", prompt, system).key("x")
