"""An LLM by rule for whole runs: it labels by the marked word, states what it is told, and reads texts word by word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from corpus_words import WORDS
from stand_in import documents
from verify_parts import word_judge

#: How often each side uses each word.
RATES = {"A": {"table": 0.8, "sorry": 0.1, "great": 0.5, "river": 0.7}, "B": {"table": 0.2, "sorry": 0.6, "great": 0.5}}


def rows(n: int = 240, seed: int = 0) -> list[dict[str, Any]]:
    """Answers of models A and B to the same `n` prompts."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        for model, rates in RATES.items():
            used = [word for word in ("table", "sorry", "great", "river") if rng.random() < rates.get(word, 0.3)]
            text = " ".join(["the cat", *used, *["on"] * int(rng.integers(1, 6))]) + f" mat {model.lower()}x{i}"
            found.append({"doc_id": f"{model}{i:03d}", "text": text, "model": model, "prompt_id": f"p{i}"})
    return found


def clerk(system: str, prompt: str, schema: Any) -> Any:
    """Answers whatever saeray asks."""
    wanted = schema["properties"]
    if "verdict" in wanted:
        return word_judge(system, prompt, schema)
    if "label" in wanted:
        marked = Counter(one.strip() for one in re.findall(r"<<(.+?)>>", prompt))
        return {"reason": "marked", "label": f"the word {marked.most_common(1)[0][0]}", "clear": True}
    if "properties" in wanted:
        return {"properties": _compared(prompt, schema)}
    return {"hypotheses": stated(prompt)[: wanted["hypotheses"]["maxItems"]]}


def stated(prompt: str) -> list[dict[str, Any]]:
    """A statement a word that ends a label, those of most labels first."""
    numbers = [int(one) for one in re.findall(r"^Difference (\d+)", prompt, re.MULTILINE)]
    labels = [text.splitlines()[0] for text in documents(prompt)[: len(numbers)]]
    by_word: dict[str, list[int]] = {}
    for number, label in zip(numbers, labels, strict=True):
        by_word.setdefault(label.split()[-1], []).append(number)
    most = sorted(by_word.items(), key=lambda pair: (-len(pair[1]), pair[1][0]))
    return [{"statement": f"The text has the word {w}", "numbers": n, "reason": "labels"} for w, n in most]


def _compared(prompt: str, schema: Any) -> list[dict[str, str]]:
    first, second = (documents(part) for part in prompt.split("The second group:"))
    both = schema["properties"]["properties"]["items"]["properties"]["group"]["enum"]
    words = [set.intersection(*(set(text.split()) for text in group)) for group in (first, second)]
    own = {"first": words[0] - words[1], "second": words[1] - words[0]}
    return [
        {"property": f"The text has the word {word}", "group": group}
        for group in both
        for word in WORDS
        if word in own[group]
    ]


def share(texts: Sequence[str], word: str) -> float:
    """The share of texts with a word, counted plainly."""
    return sum(word in text.split() for text in texts) / len(texts)
