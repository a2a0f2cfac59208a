"""From an encoder's configuration to the thing itself, and to the description that its fingerprint is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from saeray.config import EncoderConfig
from saeray.encoder import Encoder
from saeray.errors import SaerayError, UsageError, first_line
from saeray.readers.model import Reader, load_config, load_tokenizer
from saeray.readers.source import ReaderSource, prepare
from saeray.readers.template import PINNED_DATE
from saeray.readers.tokens import DocumentTokenizer, TokenizedDocument
from saeray.saes.load import inspect_sae, load_sae, sae_digest
from saeray.selfcheck import SelfCheck, self_check


def source_of(config: EncoderConfig) -> ReaderSource:
    """The reader's files on this node, fetched and converted when they are not there yet."""
    return prepare(config.reader.model, config.reader.layer, config.reader.revision)


def tokenizer_of(config: EncoderConfig, source: ReaderSource) -> DocumentTokenizer:
    """What frames and tokenizes documents for this encoder; needs no weights."""
    return DocumentTokenizer(
        load_tokenizer(source),
        role=config.reader.role,
        template=config.reader.template,
        include_special=config.include_special,
    )


def encoder_of(config: EncoderConfig, source: ReaderSource, device: str, *, decoder: bool = False) -> Encoder:
    """Reader and SAE loaded on `device`. Raises SaerayError when the device is absent or the SAE does not fit."""
    check_device(device)
    dtype = getattr(torch, config.reader.dtype)
    reader = Reader(source, config.reader.layer, dtype=dtype, device=device)
    sae = load_sae(sae_path(config.sae.path), format=config.sae.format, device=device, dtype=dtype, decoder=decoder)
    _check_fit(config, sae.d_in, reader.d_in)
    return Encoder(reader, sae, window=config.window, overlap=config.overlap)


def self_check_of(
    config: EncoderConfig, source: ReaderSource, device: str, documents: Sequence[TokenizedDocument]
) -> SelfCheck | None:
    """The encoder measured on `documents`, its SAE with the decoder where the checkpoint has one."""
    path = sae_path(config.sae.path)
    facts = inspect_sae(path)
    encoder = encoder_of(config, source, device, decoder=bool(facts["decoder"]))
    published = {"l0": facts["l0"], "fvu": (facts["metadata"] or {}).get("fvu")}
    return self_check(encoder, documents, published, include_special=config.include_special)


def check_device(device: str) -> None:
    """Raises SaerayError when `device` is not one that torch can use here."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SaerayError("a GPU was asked for and this machine has none that torch can use; ask for the CPU")
    try:
        torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"no device {device!r}: {first_line(error)}") from error


def _check_fit(config: EncoderConfig, reads: int, has: int) -> None:
    if reads != has:
        raise SaerayError(
            f"the SAE {config.sae.path} reads vectors of {reads} and the reader {config.reader.model} has {has}: they "
            "do not belong together"
        )


def sae_path(path: str) -> str:
    """A local path for `builtin:NAME`, `hub:OWNER/REPO/FILE` or a path."""
    if path.startswith("builtin:"):
        name = path.removeprefix("builtin:")
        directory = Path(str(resources.files("saeray").joinpath("saes", "builtin", name)))
        if not directory.is_dir():
            raise SaerayError(f"saeray ships no SAE called {name!r}")
        return str(directory)
    if path.startswith("hub:"):
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        owner, repo, file = [*path.removeprefix("hub:").split("/", 2), "", ""][:3]
        try:
            return str(hf_hub_download(f"{owner}/{repo}", file))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise SaerayError(f"cannot get the SAE {path!r} from the hub: {reason}") from error
    return path


def describe(config: EncoderConfig) -> dict[str, Any]:
    """Everything that decides what a row is, weights by their digests: what a store is claimed with.

    Where the weights lie and what they are called is left out: a copy in another place is the same encoder. Raises
    SaerayError when the SAE does not fit the reader, before a store is claimed with the two.
    """
    source = source_of(config)
    tokenizer = tokenizer_of(config, source)
    sae = inspect_sae(sae_path(config.sae.path))
    hidden = load_config(source, config.reader.layer).get_text_config().hidden_size
    _check_fit(config, sae["d_in"], int(hidden))
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
            "role": config.reader.role,
            "template": template,
        },
        "sae": {
            "sha256": sae_digest(sae_path(config.sae.path)),
            "architecture": sae["architecture"],
            "d_in": sae["d_in"],
            "d_sae": sae["d_sae"],
        },
        "window": config.window,
        "overlap": config.overlap,
        "long": config.long,
        "include_special": config.include_special,
    }
