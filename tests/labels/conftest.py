"""Stores that hold nothing but an encoder's description, for tests of labels, and a sentence encoder of a few bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from saeray.labels import LABEL_SCHEMA
from saeray.store import Store

D_SAE = 65_536


@pytest.fixture
def store_for(tmp_path: Path) -> Callable[..., Store]:
    """A claimed store without datasets; `uri` puts it elsewhere than on disk."""

    def make(d_sae: int = D_SAE, sha256: str = "0" * 64, uri: str | None = None) -> Store:
        store = Store.open(uri or str(tmp_path / "store"), create=True)
        store.claim_encoder({"sae": {"d_sae": d_sae, "sha256": sha256}, "reader": "none"})
        return store

    return make


@pytest.fixture
def label_rows() -> Callable[..., pa.Table]:
    """A table of LABEL_SCHEMA from dicts; what a dict leaves out is null."""

    def make(*rows: dict[str, Any]) -> pa.Table:
        return pa.Table.from_pylist([dict.fromkeys(LABEL_SCHEMA.names) | row for row in rows], LABEL_SCHEMA)

    return make


@pytest.fixture(scope="session")
def tiny_sentence_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory with a BERT of two layers and random weights, and a tokenizer of letters."""
    import torch
    import transformers

    here = tmp_path_factory.mktemp("tiny-bert")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (here / "vocab.txt").write_text("\n".join(words) + "\n")
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(here)
    transformers.BertTokenizer(str(here / "vocab.txt")).save_pretrained(here)
    return str(here)
