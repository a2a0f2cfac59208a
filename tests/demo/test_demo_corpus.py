"""Guards the promise that the demo's corpus is a fair comparison: the same prompts in every style, whole and unedited.

Only the shipped file is read; nothing is generated.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import saeray.demo
from saeray.demo.make_corpus import MAX_NEW_TOKENS, STYLES
from saeray.demo.prompts import PROMPTS

CORPUS = Path(saeray.demo.__file__).with_name("corpus.jsonl")


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    return [json.loads(line) for line in CORPUS.read_text("utf-8").splitlines()]


def share(records: list[dict[str, Any]], style: str, pattern: str) -> float:
    responses = [record["response"] for record in records if record["style"] == style]
    return sum(bool(re.search(pattern, response, re.IGNORECASE)) for response in responses) / len(responses)


def test_prompts_are_distinct_single_lines() -> None:
    assert len(PROMPTS) == 60
    assert len({prompt.lower() for prompt in PROMPTS}) == len(PROMPTS)
    assert all(prompt == prompt.strip() and "\n" not in prompt for prompt in PROMPTS)


def test_every_line_has_the_fields_and_an_id_of_its_own(records: list[dict[str, Any]]) -> None:
    for record in records:
        assert list(record) == ["doc_id", "style", "prompt_id", "prompt", "response"]
        assert record["doc_id"] == f"{record['style']}-{record['prompt_id']:02d}"
        assert record["prompt"] == PROMPTS[record["prompt_id"]]
    assert len({record["doc_id"] for record in records}) == len(records)


def test_every_style_answers_every_prompt_once(records: list[dict[str, Any]]) -> None:
    pairs = Counter((record["style"], record["prompt_id"]) for record in records)
    assert pairs == Counter({(style, prompt_id): 1 for style in STYLES for prompt_id in range(len(PROMPTS))})


def test_responses_are_clean_text_of_the_stated_length(records: list[dict[str, Any]]) -> None:
    for record in records:
        response = record["response"]
        assert response == response.strip()
        assert len(response) >= 40, record["doc_id"]
        assert len(response.split()) <= MAX_NEW_TOKENS, record["doc_id"]  # a word is at least one token
        assert "\ufffd" not in response
        assert "\x00" not in response
        assert "<|" not in response


def test_system_prompts_are_not_in_the_text(records: list[dict[str, Any]]) -> None:
    for record in records:
        assert not any(system in record[field] for system in STYLES.values() for field in ("prompt", "response"))


def test_the_styles_differ_as_a_reader_would_see(records: list[dict[str, Any]]) -> None:
    """The demo's report is judged against these differences, so a corpus made anew must show them too."""
    pirate = r"\b(ye|yer|matey|aye|arr+\w*|hearty|lad|sea|seas|ship|ships|crew|captain|sail\w*|pirate\w*)\b"
    poet = r"\b(heart|soul|love|dream)s?\b"
    assert share(records, "pirate", pirate) > 0.5
    assert max(share(records, "plain", pirate), share(records, "poet", pirate)) < 0.2
    assert share(records, "poet", poet) > max(share(records, "plain", poet), share(records, "pirate", poet)) + 0.15
    assert share(records, "plain", "!") < 0.3 < share(records, "pirate", "!")


def test_the_file_is_small_enough_to_ship() -> None:
    assert 50_000 < CORPUS.stat().st_size < 400_000
