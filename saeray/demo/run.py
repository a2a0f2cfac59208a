"""`saeray demo`: the whole path on what ships with saeray, with nothing to set up and no network.

The corpus is the embedded model's own answers to the same prompts under several system prompts, which the encoder never
sees. What a persona's answers have more of than the plain ones is found from their latents alone.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from saeray.analysis.diff.run import diff
from saeray.analysis.write import write
from saeray.config import EncodeConfig, encoder_config
from saeray.errors import SaerayError
from saeray.loading import sae_path
from saeray.pipeline.encode import Progress, encode
from saeray.saes.load import sae_digest
from saeray.store import Store

DATASET = "demo"


def run_demo(out: Path, on_progress: Callable[[Progress], None] | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Encodes the corpus into `out/store`, writes each persona's diff to `out/PERSONA`; returns figures and pages."""
    with resources.as_file(resources.files("saeray.demo").joinpath("corpus.jsonl")) as corpus:
        styles = list(dict.fromkeys(json.loads(line)["style"] for line in corpus.read_text("utf-8").splitlines()))
        # Planned inputs are known by size and time of change; a copy keeps the store resumable wherever saeray lies.
        copy = out / "corpus.jsonl"
        out.mkdir(parents=True, exist_ok=True)
        if not copy.is_file() or copy.read_bytes() != corpus.read_bytes():
            with tempfile.NamedTemporaryFile(dir=out, delete=False) as scratch:
                shutil.copyfile(corpus, scratch.name)
            Path(scratch.name).rename(copy)
    say(f"reading {len(styles)} styles of answers with the embedded reader; the first run prepares it (half a minute)")
    config = EncodeConfig(
        inputs=[str(copy)],
        dataset=DATASET,
        store=str(out / "store"),
        text_column="response",
        id_column="doc_id",
        shard_tokens=10_000,
    )
    _make_room(config, say)
    result = encode(config, on_progress)
    if result.missing:
        raise SaerayError(f"{result.missing} shards failed: {next(iter(result.failed.values()), 'unknown')}")
    store = Store.open(config.store)
    reports = []
    baseline, *personas = styles
    for style in personas:
        found = diff(store, f"{DATASET}:style={style}", [f"{DATASET}:style={baseline}"])
        files = write(found, str(out / style))
        reports.append(
            {
                "title": f"{style} answers against {baseline} ones",
                "page": files["report.html"],
                "top": found.table(6),
            }
        )
    return {"encoded": result.summary(), "reports": reports}


def _make_room(config: EncodeConfig, say: Callable[[str], None]) -> None:
    """Removes the demo's own store when an earlier saeray made it with another SAE: it is made again in a minute."""
    there = Store.open(config.store, create=True).encoder()
    if there and there["sae"]["sha256"] != sae_digest(sae_path(encoder_config(config.encoder).sae.path)):
        say("the demo's store was made with another SAE; making it anew")
        shutil.rmtree(config.store)
