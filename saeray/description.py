"""What a store is claimed with: everything that decides what a row is. And the encoder that it was claimed with, which
is the only one that may add to it.

A run takes hours, on nodes that each fetch the reader for themselves. Files that change meanwhile, or are others on
another node, would be encoded with and nobody would see it, so every worker holds its own against the claim.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from saeray.config import EncoderConfig
from saeray.encoder import Encoder
from saeray.errors import ChangedFiles
from saeray.loading import check_fit, encoder_of, sae_path, source_of, tokenizer_of
from saeray.readers.fp8 import SCHEME, use_fp8
from saeray.readers.model import load_config
from saeray.readers.quantised import in_eight_bits
from saeray.readers.source import ReaderSource, digests_now, remembered
from saeray.readers.streamed import empty_model
from saeray.readers.template import PINNED_DATE
from saeray.readers.tokens import DocumentTokenizer
from saeray.saes.load import inspect_sae, sae_digest, sae_files


def describe(config: EncoderConfig) -> dict[str, Any]:
    """Everything that decides what a row is, weights by their digests: what a store is claimed with.

    Where the weights lie and what they are called is left out: a copy in another place is the same encoder. Raises
    SaerayError when the SAE does not fit the reader, or the precision does not, before a store is claimed with them.
    """
    source = source_of(config)
    tokenizer = tokenizer_of(config, source)
    sae = sae_path(config.sae.path)
    facts = inspect_sae(sae)
    reader_config = load_config(source, config.reader.layer)
    check_fit(config, facts["d_in"], int(reader_config.get_text_config().hidden_size))
    _check_precision(config, reader_config)
    template: dict[str, Any] = {"enabled": tokenizer.template.enabled}
    if tokenizer.template.enabled:
        source_text = str(tokenizer.tokenizer.chat_template)
        template |= {
            "sha256": hashlib.sha256(source_text.encode()).hexdigest(),
            "date": PINNED_DATE.strftime("%Y-%m-%d"),
            "frame": list(tokenizer.template.frame((config.reader.role,)).pieces),
        }
    return {
        "format": 1,
        "reader": {
            "files": dict(sorted(source.digests.items())),
            "layer": config.reader.layer,
            "dtype": config.reader.dtype,
            **({"scheme": SCHEME} if config.reader.dtype == "fp8" else {}),
            "role": config.reader.role,
            "template": template,
        },
        "sae": {
            "sha256": _sae_digest(sae),
            "architecture": facts["architecture"],
            "d_in": facts["d_in"],
            "d_sae": facts["d_sae"],
        },
        "window": config.window,
        "overlap": config.overlap,
        "long": config.long,
        "include_special": config.include_special,
    }


def claimed_tokenizer(claimed: Mapping[str, Any], config: EncoderConfig) -> DocumentTokenizer:
    """`tokenizer_of` the reader that a store was claimed with, for which no weights are fetched.

    claimed: what the store's encoder.json holds. Raises ChangedFiles when this node's files are others.
    """
    source = source_of(config, weights=False)
    tokenizer = tokenizer_of(config, source)
    _check_reader(claimed, config, source)
    return tokenizer


def claimed_encoder(claimed: Mapping[str, Any], config: EncoderConfig, device: str, **reading: Any) -> Encoder:
    """`encoder_of` the reader and SAE that a store was claimed with; `reading` goes to it.

    Raises ChangedFiles when this node's files are others: before minutes are spent on loading, and once more when it
    is done, because they may have changed in those minutes. No digest is made a second time of an unchanged file.
    """
    source = source_of(config)
    _check(claimed, config, source)
    encoder = encoder_of(config, source, device, **reading)
    _check(claimed, config, source)
    return encoder


def _check(claimed: Mapping[str, Any], config: EncoderConfig, source: ReaderSource) -> None:
    _check_reader(claimed, config, source)
    if _sae_digest(sae_path(config.sae.path)) != claimed["sae"]["sha256"]:
        raise ChangedFiles(_line(f"the SAE {config.sae.path}", "its weights or its configuration are"))


def _check_reader(claimed: Mapping[str, Any], config: EncoderConfig, source: ReaderSource) -> None:
    there, here = claimed["reader"]["files"], digests_now(source)
    for name in sorted({*there, *here}):
        asked = bool(source.tensors) or not name.endswith(".safetensors")
        if asked and there.get(name) != here.get(name):
            raise ChangedFiles(_line(f"the reader {config.reader.model}", f"{name} is"))


def _line(what: str, file_is: str) -> str:
    return (
        f"{what} is not the one that the store was claimed with: {file_is} not what it was; put that back and run "
        "again, or use another --store"
    )


def _sae_digest(path: str) -> str:
    """`sae_digest`, made once a node: the file of a 70B reader's SAE has 4.3 GB."""
    files = sae_files(path)
    return remembered(files, lambda: sae_digest(path), "\n".join(["sae", *(file.name for file in files)]))


def _check_precision(config: EncoderConfig, reader_config: Any) -> None:
    """Raises SaerayError for what the checkpoint or the blocks' shapes have against the precision; reads no weights."""
    fp8 = config.reader.dtype == "fp8"
    in_eight_bits(reader_config, fp8)
    if fp8:
        use_fp8(empty_model(reader_config, config.reader.layer))
