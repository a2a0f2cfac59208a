"""What labels are held against: plain ones that need no method, and the same labels on the wrong latents."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from saeray.labels.store import LABEL_SCHEMA

#: The plain labels' source, and what stands for them as their model.
TOP_TOKENS, COMMONEST = "top-tokens", "commonest"


def top_tokens(labels: pa.Table, most: int = 5) -> pa.Table:
    """Each latent's commonest peak tokens as its label, from the evidence of `labels` (LABEL_SCHEMA): the same schema,
    source `TOP_TOKENS`, with the test that one of the tokens is in the text."""
    rows = {}
    for latent, evidence in zip(
        labels.column("latent").to_pylist(), labels.column("evidence").to_pylist(), strict=True
    ):
        found = json.loads(evidence).get("tokens") if evidence else None
        if found and latent not in rows:
            tokens = [str(token) for token, _ in found[:most]]
            kept = json.dumps({"test": {"kind": "words", "words": tokens}}, ensure_ascii=False)
            rows[latent] = {
                "latent": latent,
                "text": ", ".join(tokens),
                "source": TOP_TOKENS,
                "model": COMMONEST,
                "evidence": kept,
            }
    return pa.Table.from_pylist(list(rows.values()), LABEL_SCHEMA)


def shuffled(labels: Mapping[int, str]) -> dict[int, str]:
    """The same labels, each on another latent drawn at random: what labels that say nothing score."""
    latents = sorted(labels)
    drawn = np.random.default_rng(0).permutation(len(latents))
    return {latent: labels[latents[i]] for latent, i in zip(latents, drawn.tolist(), strict=True)}
