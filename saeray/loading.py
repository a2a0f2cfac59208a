"""From an encoder's configuration to the thing itself, and to the description that its fingerprint is made of."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saeray.config import EncoderConfig
from saeray.encoder import BATCH_GPU, Encoder
from saeray.errors import SaerayError, UsageError, first_line
from saeray.readers.memory import make_plan, shape_of
from saeray.readers.model import Reader, load_config, load_tokenizer
from saeray.readers.packed import CannotPack, PackedReader, refuse_what_cannot_be_packed
from saeray.readers.shards import Checkpoint
from saeray.readers.source import ReaderSource, prepare
from saeray.readers.streamed import CannotStream, load_streamed
from saeray.readers.template import PINNED_DATE
from saeray.readers.tokens import DocumentTokenizer, TokenizedDocument
from saeray.saes.load import inspect_sae, load_sae, sae_digest
from saeray.selfcheck import SelfCheck, self_check

log = logging.getLogger(__name__)


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


def encoder_of(
    config: EncoderConfig, source: ReaderSource, device: str, *, decoder: bool = False, packed: bool = False
) -> Encoder:
    """Reader and SAE loaded on `device`. Raises SaerayError when the device is absent or the SAE does not fit.

    packed: read in packs with streamed weights where the architecture can be packed, else in rectangles. Rectangles are
    the default on every device until a GPU has run packs: docs/architecture.md.
    """
    check_device(device)
    dtype = getattr(torch, config.reader.dtype)
    reader: Reader | PackedReader | None = None
    tokens = None
    if packed:
        try:
            reader, tokens = packed_reader(config, source, device)
        except (CannotPack, CannotStream) as error:
            log.info("%s; it is loaded whole and read in rectangles", error)
    if reader is None:
        reader = Reader(source, config.reader.layer, dtype=dtype, device=device)
    sae = load_sae(sae_path(config.sae.path), format=config.sae.format, device=device, dtype=dtype, decoder=decoder)
    _check_fit(config, sae.d_in, reader.d_in)
    return Encoder(reader, sae, window=config.window, overlap=config.overlap, batch_tokens=tokens)


def packed_reader(config: EncoderConfig, source: ReaderSource, device: str) -> tuple[PackedReader, int]:
    """The reader over packs and its token budget; the memory plan is logged before anything loads.

    The budget is BATCH_GPU wherever that fits, so that packs do not depend on the card. Raises CannotPack or
    CannotStream for an architecture that must be read in rectangles, and SaerayError with the numbers for a reader that
    the device cannot hold.
    """
    layer = config.reader.layer
    checkpoint = Checkpoint(source.directory, {name: str(path) for name, path in source.tensors.items()})
    reader_config = checkpoint.config(layer)
    refuse_what_cannot_be_packed(reader_config)
    shape = shape_of(reader_config, layer)
    d_sae = int(inspect_sae(sae_path(config.sae.path))["d_sae"])
    plan = make_plan(
        shape,
        d_sae=d_sae,
        memory=_free_memory(device),
        dtype=config.reader.dtype,
        window=config.window,
        most_tokens=BATCH_GPU,
    )
    for line in plan.lines():
        log.info(line)
    model, timing = load_streamed(checkpoint, layer, dtype=getattr(torch, config.reader.dtype), device=device)
    log.info(timing.line())
    reader = PackedReader(model)
    two = np.arange(2)
    reader.take([two[:1], two], [two[:1], two])  # some architectures cannot be told apart before their first tokens
    return reader, plan.tokens


def _free_memory(device: str) -> int:
    """Bytes that are free on the device: the GPU's, or the machine's."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


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
