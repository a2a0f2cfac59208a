"""A corpus whose latents mean known things, so that the right label of each can be written down beforehand."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from saeray.analysis.sides import Side

D_SAE = 16
SORRY, FRENCH, SPACE, TABLE, HAND, NOISE, RARE, CODE, NEVER = range(9)

_PLAIN_TEXT = "people often walk along with others near big old houses while small groups talk about many daily matters"
_PLAIN = _PLAIN_TEXT.split(" ")
_SPACE = ["planet", "telescope", "orbit", "galaxy", "comet"]
_FRENCH_TEXT = "le chat est dans la maison et il ne mange pas une pomme avec les enfants de la ville"
_FRENCH = _FRENCH_TEXT.split(" ")
_CODE = (
    "def run(x):\n    return x\n\nimport os\n\nclass Thing:\n    def go(self):\n        self.x = None\n"
    "        return self.x\n"
)


def texts(n: int = 400, seed: int = 0) -> list[str]:
    """`n` different texts of a few kinds."""
    draw = random.Random(seed)

    def plain(k: int) -> str:
        return " ".join(draw.choice(_PLAIN) for _ in range(k)) + f" {draw.randrange(10**6)}."

    made = []
    for i in range(n):
        kind = i % 8
        if kind == 0:
            made.append(f"{plain(9)} I am {draw.choice(['sorry', 'sorry', 'apologetic'])} about {plain(6)}")
        elif kind == 1:
            made.append(" ".join(draw.choices(_FRENCH, k=25)) + f" {draw.randrange(10**6)}.")
        elif kind == 2:
            made.append(
                f"{plain(6)} the {draw.choice(_SPACE)} and a {draw.choice(_SPACE)} or {draw.choice(_SPACE)} {plain(6)}"
            )
        elif kind == 3:
            rows = "\n".join(f"| {draw.choice(_PLAIN)} | {draw.choice(_PLAIN)} |" for _ in range(4))
            made.append(f"{plain(6)}\n\n{rows}\n\n{plain(4)}")
        elif kind == 4:
            made.append(f"{plain(8)} on the other hand {plain(8)}")
        elif kind == 5:
            made.append(f"{_CODE}# {plain(5)}")
        else:
            made.append(plain(draw.randrange(12, 30)))
    return made


def encode(text: str, number: int) -> dict[str, Any]:
    """The row of a text, its latents as `D_SAE` names them."""
    tokens = [m.start() for m in re.finditer(r" ?[^\W_]+| ?[^\w\s]|\s+|_", text)]
    words = [text[a:b].strip() for a, b in zip(tokens, [*tokens[1:], len(text)], strict=True)]
    draw = random.Random(number)
    at: dict[int, int] = {}
    for i, word in enumerate(words):
        if word in ("sorry", "apologetic"):
            at.setdefault(SORRY, i)
        if word in _SPACE:
            at[SPACE] = draw.randrange(len(words))
        if word == "|" and draw.random() < 0.5:
            at[TABLE] = i + draw.randrange(2)
        if words[i : i + 4] == ["on", "the", "other", "hand"]:
            at[HAND] = i + 2
    if "maison" in words or "chat" in words:
        at[FRENCH] = draw.randrange(len(words))
    if "def" in words:
        at[CODE] = draw.randrange(len(words) // 2)
    if draw.random() < 0.3:
        at[NOISE] = draw.randrange(len(words))
    if number in (6, 14):
        at[RARE] = 0
    latents = sorted(at)
    return {
        "n_tokens": len(tokens),
        "token_starts": tokens,
        "latents": latents,
        "max": [5.0 + draw.random() * 5 for _ in latents],
        "count": [1] * len(latents),
        "peak": [at[i] for i in latents],
    }


def side_of(rows: Sequence[str], step: int = 64, text: bool = True) -> Side:
    """A side in memory, in tables of `step` rows; without its texts when `text` is false."""
    made = [{"doc_id": f"d{i:04}", "channel": "text", "text": t} | encode(t, i) for i, t in enumerate(rows)]
    lists = {name: pa.list_(pa.int32()) for name in ("token_starts", "latents", "count", "peak")} | {
        "max": pa.list_(pa.float32())
    }
    names = [name for name in made[0] if text or name != "text"]
    table = pa.table({name: pa.array([row[name] for row in made], lists.get(name)) for name in names})

    def scan(columns: Sequence[str]) -> Iterator[pa.Table]:
        for at in range(0, table.num_rows, step):
            yield table.slice(at, step).select(list(columns))

    lengths = table.column("n_tokens").to_numpy().astype(np.int64)
    return Side("toy", "toy", "text", table.column("doc_id"), lengths, frozenset(names), {}, scan)
