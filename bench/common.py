"""What the benches share: the embedded encoder, real documents, and a line of JSON with machine and versions."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import ray
import torch
import transformers

from saeray.config import EncoderConfig, encoder_config
from saeray.encoder import Encoder
from saeray.loading import encoder_of, source_of, tokenizer_of
from saeray.pipeline.cluster import available_cpus
from saeray.readers.tokens import DocumentError, TokenizedDocument
from saeray.store import list_inputs, location
from saeray.store.rows import column_names, read_rows

DEMO = str(Path(__file__).parent.parent / "saeray" / "demo" / "corpus.jsonl")


def arguments(description: str) -> argparse.ArgumentParser:
    """The options of every bench."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--input", default=DEMO, help="documents; the demo's corpus by default")
    parser.add_argument("--column", default="response")
    parser.add_argument("--documents", type=int, default=180)
    parser.add_argument("--encoder", default="smollm2-135m")
    parser.add_argument("--threads", type=int, default=available_cpus())
    return parser


def texts(options: argparse.Namespace) -> list[str]:
    """A fixed random sample of the input's texts."""
    found = []
    for one in list_inputs([options.input]):
        place = location(one.uri)
        if options.column not in column_names(one, place):
            raise SystemExit(f"no column {options.column} in {one.name}")
        found += [row.cells.get(options.column) for row in read_rows(one, place, (options.column,))]
    usable = [text for text in found if isinstance(text, str) and text.strip()]
    order = np.random.default_rng(0).permutation(len(usable))
    return [usable[i] for i in order[: options.documents]]


def load(options: argparse.Namespace, dtype: str) -> tuple[EncoderConfig, Encoder]:
    """The encoder in a precision, on the CPU."""
    torch.set_num_threads(options.threads)
    config = encoder_config(options.encoder)
    config = config.model_copy(update={"reader": config.reader.model_copy(update={"dtype": dtype})})
    return config, encoder_of(config, source_of(config), "cpu")


def tokenized(config: EncoderConfig, found: list[str]) -> list[TokenizedDocument]:
    """The texts as the encoder takes them."""
    tokenizer = tokenizer_of(config, source_of(config))
    documents = []
    for text in found:
        try:
            documents.append(tokenizer.text(text))
        except DocumentError:
            continue
    return documents


def report(bench: str, figures: dict[str, Any]) -> None:
    """Prints one JSON line."""
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "ray": ray.__version__,
        "pyarrow": pyarrow.__version__,
    }
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}
    print(json.dumps({"bench": bench, **rounded, "machine": machine}), flush=True)
