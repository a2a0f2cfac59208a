"""A corpus whose latents are words and an embedder that sees words alone, so that every score can be counted by hand.

Latent i is `WORDS[i]`: present where the word stands, its maximum falls with the word's place, its peak is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from saeray.analysis.sides import Side

WORDS = ["river", "apology", "table", "seven", "violin", "harbour", "pepper", "window"]
OTHERS = ["the", "a", "of", "is", "and", "was", "one", "other", "again", "there"]
D_SAE = 16

LABELS_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("text", "source", "model", "date", "kind", "evidence")]
    + [("latent", pa.uint32()), ("score", pa.float32())]
)


class WordEmbedder:
    """A text is the set of its WORDS, scaled to length 1; `asked` is all it was given."""

    name = "words"
    dimension = len(WORDS) + 1
    digest = "0" * 64

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        found = np.array([[word in text.split() for word in WORDS] + [True] for text in texts], np.float32)
        found[:, -1] = 0.1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def texts_of(n: int, seed: int = 0, length: int = 12) -> list[str]:
    """`n` different texts of some `length` words, each of WORDS in a third of them."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        words = [word for word in WORDS if rng.random() < 1 / 3]
        words += rng.choice(OTHERS, max(1, length - len(words))).tolist()
        found.append(" ".join(rng.permutation(words)) + f" {i}")
    return found


def row(doc_id: str, text: str) -> dict[str, Any]:
    """What an encoder would say of `text`, were its latents WORDS."""
    words = text.split(" ")
    places = {WORDS.index(word): i for i, word in reversed(list(enumerate(words))) if word in WORDS}
    latents = sorted(places)
    starts = np.cumsum([0] + [len(word) + 1 for word in words])[:-1].tolist()
    return {
        "doc_id": doc_id,
        "channel": "text",
        "text": text,
        "n_tokens": len(words),
        "n_windows": 1,
        "truncated": False,
        "token_starts": starts,
        "latents": latents,
        "max": [np.float16(1 + len(words) - places[i]) for i in latents],
        "count": [words.count(WORDS[i]) for i in latents],
        "peak": [places[i] for i in latents],
    }


def side_of(texts: Sequence[str], step: int = 100, ids: Sequence[str] | None = None, drop: Sequence[str] = ()) -> Side:
    """A side of `texts` in memory, in tables of `step` rows."""
    rows = [row(ids[i] if ids else f"d{i}", text) for i, text in enumerate(texts)]
    types = {"latents": pa.list_(pa.uint32()), "max": pa.list_(pa.float16())}
    types |= {name: pa.list_(pa.int32()) for name in ("token_starts", "count", "peak")}
    table = pa.table({name: pa.array([r[name] for r in rows], types.get(name)) for name in row("", "a")})
    table = table.drop_columns(list(drop))

    def scan(columns: Sequence[str]) -> Iterator[pa.Table]:
        for at in range(0, table.num_rows, step):
            yield table.slice(at, step).select(list(columns))

    lengths = np.array([r["n_tokens"] for r in rows], np.int64)
    stored = frozenset(table.schema.names)
    return Side("toy", "toy", "text", table.column("doc_id"), lengths, stored, {"dataset": "toy"}, scan)


def labels_of(rows: Sequence[tuple[int, str]], source: str = "mine", evidence: str | None = None) -> pa.Table:
    """A labels table of (latent, text)."""
    return pa.Table.from_pylist(
        [{"latent": latent, "text": text, "source": source, "evidence": evidence} for latent, text in rows],
        LABELS_SCHEMA,
    )
