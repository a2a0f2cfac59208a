"""`saeray train-sae`: text in, an SAE with its card out. How the embedded SAE was made.

Every stage resumes: collection after its last chunk of documents, training after its last checkpoint. The directory
holds the finished SAE (`cfg.json`, `sae_weights.safetensors`, `card.md`) and, below `work/`, what made it.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saeray.config import TrainSAEConfig, encoder_config
from saeray.errors import SaerayError, UsageError
from saeray.loading import check_device, reader_of, source_of, tokenizer_of
from saeray.readers.fp8 import SCHEME
from saeray.saes.activations import Activations, collect
from saeray.saes.batchtopk import BatchTopK
from saeray.saes.sae_lens import as_stored, save_sae
from saeray.saes.train import CHECKPOINT, TrainConfig, Trainer, calibrate, evaluate, train
from saeray.store import list_inputs, location
from saeray.store.rows import column_names, read_rows

log = logging.getLogger(__name__)


def make_sae(config: TrainSAEConfig) -> dict[str, Any]:
    """Collects, trains, calibrates and saves; returns the figures that the card shows."""
    encoder = encoder_config(config.encoder)
    source = source_of(encoder)
    check_device(config.device, encoder.reader.dtype)
    work = Path(config.out) / "work"
    documents = read_documents(config)
    key = {
        "reader": source.digests,
        "layer": encoder.reader.layer,
        "role": encoder.reader.role,
        "template": encoder.reader.template,
        "dtype": encoder.reader.dtype,
        "include_special": encoder.include_special,
        "text_column": config.text_column,
        "inputs": [[one.name, one.size, one.mark] for one in list_inputs(config.inputs)],
        "tokens_a_document": config.tokens_a_document,
        "seed": config.seed,
    }
    if encoder.reader.dtype == "fp8":
        key["scheme"] = SCHEME
    activations = collect(
        reader_of(encoder, source, config.device),
        tokenizer_of(encoder, source),
        documents,
        work / "activations",
        key=key,
        most_tokens=config.tokens,
        tokens_a_document=config.tokens_a_document,
    )
    return finish(config, activations, key)


def finish(config: TrainSAEConfig, activations: Activations, key: dict[str, Any]) -> dict[str, Any]:
    """Trains on collected vectors, calibrates the threshold on held-out ones, saves the SAE and its card."""
    collected = activations.progress
    if collected.held_out_tokens < 1000:
        raise SaerayError(f"only {collected.held_out_tokens} held-out tokens were collected; give more text")
    precision = "bfloat16" if config.device.startswith("cuda") else "float32"
    settings = TrainConfig(
        **{
            "d_sae": config.d_sae,
            "k": config.k,
            "tokens": round(collected.tokens * config.epochs),
            "seed": config.seed,
            "precision": precision,
            **config.trainer,
        }
    )
    work = Path(config.out) / "work"
    start = Path(config.start) / "work" / "training" if config.start else None
    if start and not (start / CHECKPOINT).is_file():
        raise UsageError(f"{config.start} holds no finished training (no work/training/{CHECKPOINT})")
    trainer = train(activations, settings, work / "training", config.device, start)
    # Everything is measured on the weights that the file will hold.
    weights = as_stored(trainer.folded(), getattr(torch, config.weights))
    # One half of the held-out documents calibrates the threshold, the other is what the card reports on.
    half = len(activations.held_out) // 2
    threshold = calibrate(weights, activations.held_out[:half], config.k)
    figures = evaluate(weights, threshold, activations.held_out[half:])
    figures["dead"] = dead_share(weights, threshold, activations, config.device)
    save(trainer, weights, threshold, figures, config, key)
    card = {
        "d_sae": settings.d_sae,
        "k": settings.k,
        "training_tokens": settings.tokens,
        "distinct_tokens": collected.tokens,
        "documents": collected.documents - collected.skipped,
        "threshold": threshold,
        **figures,
    }
    (Path(config.out) / "card.md").write_text(card_text(config, card, collected.kinds, key))
    return card


def card_text(config: TrainSAEConfig, card: dict[str, Any], kinds: dict[str, int], key: dict[str, Any]) -> str:
    """The SAE's card in Markdown: what it reads, what it was trained on, what it reaches."""
    reader = encoder_config(config.encoder).reader
    inputs = " ".join(one[0] for one in key["inputs"])
    command = f"saeray train-sae {inputs} --out DIR"
    for name in ("tokens", "epochs", "d_sae", "k", "tokens_a_document", "seed"):
        value = getattr(config, name)
        if value != TrainSAEConfig.model_fields[name].default:
            command += f" --{name.replace('_', '-')} {value}"
    figures = "\n".join(
        f"| {name} | {value:,} |" if isinstance(value, int) else f"| {name} | {value:.4g} |"
        for name, value in card.items()
    )
    documents = ", ".join(f"{kind or 'text'} {count:,}" for kind, count in sorted(kinds.items(), key=lambda x: -x[1]))
    files = ", ".join(f"`{name}` (SHA-256 {digest[:16]}…)" for name, digest in key["reader"].items())
    return f"""# A BatchTopK SAE for {reader.model}, layer {reader.layer}

Reads the output of block {reader.layer} (0-based) of {files}, on documents wrapped as one turn of the role
`{reader.role}`; template, special and first tokens were left out of training as they are left out of pools.

Architecture: BatchTopK, saved as the JumpReLU with one threshold that it is at inference. Inputs were standardised a
dimension, which is folded into the weights. The threshold was calibrated on one half of the held-out documents (every
50th), the figures below were measured on the other half; `dead` is the share of latents that fire on none of half a
million training tokens.

| | |
|---|---|
{figures}

Documents by kind: {documents}. Each was cut at {config.tokens_a_document} tokens.

Made by

```
{command}
```
"""


def read_documents(config: TrainSAEConfig) -> list[tuple[str, str]]:
    """(kind, text) of every usable row, in a random order fixed by the seed; kind is the column of that name or ''."""
    found: list[tuple[str, str]] = []
    for one in list_inputs(config.inputs):
        place = location(one.uri)
        names = column_names(one, place)
        if config.text_column not in names:
            raise UsageError(f"no column {config.text_column} in {one.name}; it has: {', '.join(names)}")
        columns = tuple(dict.fromkeys([config.text_column, *(["kind"] if "kind" in names else [])]))
        for row in read_rows(one, place, columns, 0, None, None):
            text = row.cells.get(config.text_column) if not row.problem else None
            if isinstance(text, str) and text:
                found.append((str(row.cells.get("kind") or ""), text))
    order = np.random.default_rng(config.seed).permutation(len(found))
    return [found[i] for i in order]


def dead_share(weights: dict[str, Any], threshold: float, activations: Activations, device: str) -> float:
    """Share of latents that never fire on half a million collected tokens: on fewer, rare ones look dead."""
    step = max(1, len(activations.train) // 500_000)
    w_enc, b_enc = weights["W_enc"], weights["b_enc"]
    fired = torch.zeros(w_enc.shape[1], dtype=torch.bool, device=device)
    sample = activations.train[::step]
    with torch.inference_mode():
        for begin in range(0, len(sample), 1024):
            x = torch.from_numpy(sample[begin : begin + 1024].astype(np.float32)).to(device)
            fired |= torch.addmm(b_enc, x, w_enc).amax(dim=0) > threshold
    return float((~fired).double().mean())


def save(
    trainer: Trainer,
    weights: dict[str, Any],
    threshold: float,
    figures: dict[str, float],
    config: TrainSAEConfig,
    key: dict[str, Any],
) -> None:
    """Writes the SAE in SAELens' layout."""
    encoder = encoder_config(config.encoder)
    metadata = {
        "model_name": encoder.reader.model,
        "hook_name": f"blocks.{encoder.reader.layer}.hook_resid_post",
        "role": encoder.reader.role,
        "reader_files": key["reader"],
        "training": asdict(trainer.config),
        "l0": round(figures["l0"], 2),
        "fvu": round(figures["fvu"], 4),
    }
    sae = BatchTopK(
        weights["W_enc"].cpu(),
        weights["b_enc"].cpu(),
        torch.tensor(threshold),
        W_dec=weights["W_dec"].cpu(),
        b_dec=weights["b_dec"].cpu(),
    )
    save_sae(sae, config.out, dtype=getattr(torch, config.weights), metadata=metadata, decoder=config.decoder)
