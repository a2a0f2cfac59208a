"""From an encoder's configuration to the thing itself: its files, its tokenizer, reader and SAE on a device."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path, PurePosixPath

import torch

from saeray.config import EncoderConfig
from saeray.encoder import BATCH_GPU, Encoder
from saeray.errors import SaerayError, UsageError, first_line
from saeray.readers.lost import loading_on
from saeray.readers.memory import Mend, Plan, Precision, make_plan, shape_of
from saeray.readers.model import Reader, load_config, load_tokenizer
from saeray.readers.pack_check import PacksWrong, check_packs
from saeray.readers.packed import CannotPack, PackedReader, refuse_what_cannot_be_packed
from saeray.readers.source import ReaderSource, prepare
from saeray.readers.staged import StagedReader
from saeray.readers.storage import copy_from_storage, prepare_from_storage
from saeray.readers.streamed import CannotStream, load_streamed
from saeray.readers.tokens import DocumentTokenizer, TokenizedDocument
from saeray.saes.load import beside, inspect_sae, load_sae
from saeray.selfcheck import SelfCheck, self_check

log = logging.getLogger(__name__)
# What the memory plan may propose beside a larger GPU: what a configuration can ask for.
MENDS: tuple[Mend, ...] = ("stages", "fp8")
FP8_CAPABILITY = (8, 9)  # of the first GPUs whose tensor cores multiply eight-bit floats


def source_of(config: EncoderConfig, *, weights: bool = True) -> ReaderSource:
    """The reader's files on this node, fetched and converted when they are not there yet; its configuration and
    tokenizer alone without `weights`."""
    model, layer = config.reader.model, config.reader.layer
    if "://" in model:
        return prepare_from_storage(model, layer, weights=weights)
    return prepare(model, layer, config.reader.revision, weights=weights)


def tokenizer_of(config: EncoderConfig, source: ReaderSource) -> DocumentTokenizer:
    """What frames and tokenizes documents for this encoder; needs no weights."""
    return DocumentTokenizer(
        load_tokenizer(source),
        role=config.reader.role,
        template=config.reader.template,
        include_special=config.include_special,
    )


def encoder_of(
    config: EncoderConfig,
    source: ReaderSource,
    device: str,
    *,
    decoder: bool = False,
    packed: bool = False,
    gpus: int = 1,
) -> Encoder:
    """Reader and SAE loaded on `device`. Raises SaerayError when it is absent or full or the SAE does not fit.

    gpus: on how many of this process's GPUs packs may be read, in stages; the SAE lies on the last that is used.
    packed: read in packs with streamed weights where the architecture can be packed and the device reads packs rightly,
    else in rectangles. The encoder's `remark` says what is wrong with the device.
    """
    with loading_on(device):
        check_device(device, config.reader.dtype)
        reader: Reader | PackedReader | None = None
        tokens = remark = None
        if packed:
            try:
                reader, tokens, remark = packed_reader(config, source, device, gpus)
            except PacksWrong as error:
                if gpus > 1:
                    raise
                remark = f"{error}; documents are read in rectangles instead"
            except (CannotPack, CannotStream) as error:
                if gpus > 1:
                    raise SaerayError(f"{error}, which one GPU does: give --num-gpus 1") from error
                log.info("%s; it is loaded whole and read in rectangles", error)
        if remark:
            log.warning(remark)
        if reader is None:
            gc.collect()  # a packed model and the hook in it hold each other
            reader = reader_of(config, source, device)
        path, dtype = sae_path(config.sae.path), working_dtype(config.reader.dtype)
        sae = load_sae(path, format=config.sae.format, device=str(reader.device), dtype=dtype, decoder=decoder)
        check_fit(config, sae.d_in, reader.d_in)
        return Encoder(reader, sae, window=config.window, overlap=config.overlap, batch_tokens=tokens, remark=remark)


def working_dtype(precision: Precision) -> torch.dtype:
    """What a reader's residual stream and its SAE are in; fp8 is of the blocks' products alone."""
    return torch.float32 if precision == "float32" else torch.bfloat16


def reader_of(config: EncoderConfig, source: ReaderSource, device: str) -> Reader:
    """The reader over rectangles; in fp8 its weights are streamed and converted block by block.

    Raises SaerayError for a reader that cannot be had in fp8.
    """
    layer, dtype = config.reader.layer, working_dtype(config.reader.dtype)
    if config.reader.dtype != "fp8":
        return Reader(source, layer, dtype=dtype, device=device)
    try:
        model, timing = load_streamed(source, layer, dtype=dtype, device=device, fp8=True)
    except CannotStream as error:
        raise SaerayError(f"{error}; fp8 is made of streamed weights alone: use bfloat16") from error
    log.info(timing.line())
    return Reader.of(model)


def memory_plan(config: EncoderConfig, source: ReaderSource, device: str, gpus: int = 1) -> Plan:
    """What packs need of this process's devices, from configurations alone: one device, or stages on as few of `gpus`
    as hold the reader.

    The budget is BATCH_GPU wherever that fits, so that packs do not depend on the card. Raises CannotPack for an
    architecture that must be read in rectangles, and SaerayError with the numbers for a reader that does not fit.
    """
    reader_config = load_config(source, config.reader.layer)
    refuse_what_cannot_be_packed(reader_config)
    devices = _devices(device, gpus)
    return make_plan(
        shape_of(reader_config, config.reader.layer),
        d_sae=int(inspect_sae(sae_path(config.sae.path))["d_sae"]),
        memory=min(_free_memory(one) for one in devices),
        dtype=config.reader.dtype,
        window=config.window,
        gpus=len(devices),
        most_tokens=BATCH_GPU,
        mends=MENDS,
    )


def packed_reader(
    config: EncoderConfig, source: ReaderSource, device: str, gpus: int = 1
) -> tuple[PackedReader, int, str | None]:
    """The reader over packs, its token budget, and a line when the device's own kernel is wrong and another is used.

    The memory plan is logged before anything loads. Raises CannotPack or CannotStream for an architecture that must be
    read in rectangles, PacksWrong when the device reads no pack rightly, and as `memory_plan`.
    """
    layer, precision = config.reader.layer, config.reader.dtype
    plan = memory_plan(config, source, device, gpus)
    for line in plan.lines():
        log.info(line)
    if idle := plan.idle():
        log.warning(idle)
    stages = zip(_devices(device, gpus), plan.stages, strict=False)
    homes = [home for home, stage in stages for _ in range(stage.first, stage.stop)]
    model, timing = load_streamed(source, layer, dtype=working_dtype(precision), device=homes, fp8=precision == "fp8")
    log.info(timing.line())
    stops = [stage.stop for stage in plan.stages]
    reader = PackedReader(model) if len(stops) == 1 else StagedReader(model, stops)
    return reader, plan.tokens, check_packs(reader, config.window)


def _devices(device: str, gpus: int) -> list[str]:
    """The devices of one replica: its GPUs from the first on, of those that this process sees."""
    if gpus == 1 or not device.startswith("cuda"):
        return [device]
    seen = torch.cuda.device_count()
    if seen < gpus:
        raise SaerayError(f"{gpus} GPUs a replica were asked for and this process sees {seen}; give --num-gpus {seen}")
    return [f"cuda:{number}" for number in range(gpus)]


def _free_memory(device: str) -> int:
    """Bytes that are free on the device: the GPU's, or the machine's."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def self_check_of(
    config: EncoderConfig,
    source: ReaderSource,
    device: str,
    documents: Sequence[TokenizedDocument],
    *,
    packed: bool = False,
    gpus: int = 1,
) -> SelfCheck | None:
    """The encoder measured on `documents`, its SAE with the decoder where the checkpoint has one. What it remarks on
    loading is among the warnings.
    """
    path = sae_path(config.sae.path)
    facts = inspect_sae(path)
    encoder = encoder_of(config, source, device, decoder=bool(facts["decoder"]), packed=packed, gpus=gpus)
    published = {"l0": facts["l0"], "fvu": (facts["metadata"] or {}).get("fvu")}
    found = self_check(encoder, documents, published, include_special=config.include_special)
    return replace(found, warnings=(*found.warnings, encoder.remark)) if found and encoder.remark else found


def check_device(device: str, precision: Precision = "float32") -> None:
    """Raises SaerayError when `device` is not one that torch can use here, or not in this precision."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SaerayError("a GPU was asked for and this machine has none that torch can use; ask for the CPU")
    try:
        index = torch.device(device).index
    except RuntimeError as error:
        raise UsageError(f"no device {device!r}: {first_line(error)}") from error
    if device.startswith("cuda") and index is not None and index >= (seen := torch.cuda.device_count()):
        raise UsageError(f"no device {device!r}: this process sees {seen} GPU(s)")
    if precision == "fp8" and device.startswith("cuda"):
        has = torch.cuda.get_device_capability(device)
        if has < FP8_CAPABILITY:
            raise SaerayError(
                f"fp8 needs a GPU of compute capability {FP8_CAPABILITY[0]}.{FP8_CAPABILITY[1]} or later (Ada, Hopper) "
                f"and {device} has {has[0]}.{has[1]}: use bfloat16"
            )


def check_fit(config: EncoderConfig, reads: int, has: int) -> None:
    """Raises SaerayError when the SAE reads vectors of another width than the reader has."""
    if reads != has:
        raise SaerayError(
            f"the SAE {config.sae.path} reads vectors of {reads} and the reader {config.reader.model} has {has}: they "
            "do not belong together"
        )


def sae_path(path: str) -> str:
    """A local path for `builtin:NAME`, `hub:OWNER/REPO/FILE`, a URI of object storage, or a path.

    A file comes with those beside it that its format needs.
    """
    if path.startswith("builtin:"):
        name = path.removeprefix("builtin:")
        directory = Path(str(resources.files("saeray").joinpath("saes", "builtin", name)))
        if not directory.is_dir():
            raise SaerayError(f"saeray ships no SAE called {name!r}")
        return str(directory)
    if path.startswith("hub:"):
        from huggingface_hub import hf_hub_download, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        owner, repo, file = [*path.removeprefix("hub:").split("/", 2), "", ""][:3]
        wanted = [str(PurePosixPath(file).with_name(one)) for one in beside(PurePosixPath(file).name)]
        try:
            found = hf_hub_download(f"{owner}/{repo}", file)  # which says so when it is not there
            return str(Path(snapshot_download(f"{owner}/{repo}", allow_patterns=wanted), file)) if wanted else found
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise SaerayError(f"cannot get the SAE {path!r} from the hub: {reason}") from error
    return str(copy_from_storage(path, beside(path.rpartition("/")[2]))) if "://" in path else path
