"""Tiny random readers and SAEs, made on the fly: real checkpoints in every respect but size.

A reader directory is what the hub would give: config.json, a fast tokenizer with special tokens and a chat template,
and safetensors shards with their index. It takes a tenth of a second to make.

    reader = make_reader_dir(tmp_path / "reader")
    sae = make_sae_dir(tmp_path / "sae", d_in=32)
    config = encoder_config(str(encoder_yaml(tmp_path / "encoder.yaml", reader, sae)))
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from saeray.saes import save_sae
from saeray.saes.base import SAE
from saeray.saes.batchtopk import BatchTopK
from saeray.saes.gated import Gated
from saeray.saes.jumprelu import JumpReLU
from saeray.saes.relu import ReLU
from saeray.saes.topk import TopK

SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<bos>", "<start_of_turn>", "<end_of_turn>",
]  # fmt: skip

CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are tiny.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
)
# Like Llama 3: trims every content, prints a system turn with today's date from `date_string` or from the clock.
LLAMA3 = (
    "{{ bos_token }}{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}"
    "{% endif %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string + '\n\n<|eot_id|>' }}"
    "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{ message['content'] | trim }}{{ '<|eot_id|>' }}{% endfor %}"
)
# Like Gemma and Mistral: trims, knows no system role, and refuses roles that do not alternate from a user's.
GEMMA = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\n' }}"
    "{{ message['content'] | trim }}{{ '<end_of_turn>\n' }}{% endfor %}"
)
TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "gemma": GEMMA}
_BOS = {"llama3": "<|begin_of_text|>", "gemma": "<bos>"}

_CORPUS = """The quick brown fox jumps over the lazy dog. She sells sea shells by the sea shore. What is the answer to
this question? I think that the answer is in the other part of the text, and there is nothing more to say about it.
Here are three things: first, the weather; second, the market; third, the people who were there. system user assistant
"""


@cache
def _backend() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([_CORPUS], trainer)
    return tokenizer.to_str()


def make_tokenizer(template: str | None = "chatml", *, bos: bool = False) -> Any:
    """A byte-level BPE tokenizer of 400 tokens.

    template: a name in `TEMPLATES`, a template's text, or None. bos: texts that are read raw begin with a BOS token.
    """
    backend = Tokenizer.from_str(_backend())
    token = _BOS.get(template or "", "<|endoftext|>")
    if bos:
        number = backend.token_to_id(token)
        backend.post_processor = processors.TemplateProcessing(single=f"{token} $A", special_tokens=[(token, number)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=token, eos_token="<|endoftext|>", additional_special_tokens=SPECIAL[1:]
    )
    if template is not None:
        tokenizer.chat_template = TEMPLATES.get(template, template)
    return tokenizer


def make_model(arch: str = "llama", *, layers: int = 4, hidden: int = 32, seed: int = 0, vocab: int = 400) -> Any:
    """A whole causal LM with random weights, large enough that every block changes the residual stream."""
    shape = {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": 2 * hidden, "vocab_size": vocab}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None, "initializer_range": 0.2}
    if arch == "gpt2":
        config: Any = transformers.GPT2Config(
            n_layer=layers, n_embd=hidden, n_head=4, n_positions=2048, vocab_size=vocab, **ends
        )
    elif arch == "llama":
        config = transformers.LlamaConfig(**shape, **heads, **ends, tie_word_embeddings=False)
    elif arch == "qwen2":
        config = transformers.Qwen2Config(**shape, **heads, **ends, tie_word_embeddings=False)
    elif arch == "gemma2":
        config = transformers.Gemma2Config(
            **shape, **heads, **ends, head_dim=hidden // 4, query_pre_attn_scalar=hidden // 4, sliding_window=16
        )
    else:
        raise ValueError(arch)
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    torch.set_rng_state(state)
    return model


def make_reader_dir(
    path: Path,
    *,
    layers: int = 4,
    hidden: int = 32,
    seed: int = 0,
    arch: str = "llama",
    shards: int = 3,
    template: str | None = "chatml",
    bos: bool = False,
) -> Path:
    """Saves a model and its tokenizer as the hub keeps them; returns `path`.

    arch: llama, gpt2, qwen2 or gemma2. The blocks are spread evenly over `shards` files, embeddings in the first,
    final norm and LM head in the last; one shard is a single model.safetensors without an index.
    """
    path.mkdir(parents=True, exist_ok=True)
    model = make_model(arch, layers=layers, hidden=hidden, seed=seed)
    model.config.save_pretrained(path)
    make_tokenizer(template, bos=bos).save_pretrained(path)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    if shards == 1:
        save_file(state, path / "model.safetensors", metadata={"format": "pt"})
        return path
    files = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
    weight_map = {name: files[_shard(name, layers, shards)] for name in state}
    for file in files:
        here = {name: tensor for name, tensor in state.items() if weight_map[name] == file}
        save_file(here, path / file, metadata={"format": "pt"})
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


def _shard(name: str, layers: int, shards: int) -> int:
    block = next((int(part) for part in name.split(".") if part.isdigit()), None)
    if block is not None:
        return block * shards // layers
    return 0 if "embed" in name or ".wte" in name or ".wpe" in name else shards - 1


def make_sae(
    *, d_in: int, d_sae: int = 96, seed: int = 0, architecture: str = "jumprelu", presence: bool = False
) -> SAE:
    """A random SAE under which some tenth of the latents is active on a token of a tiny reader."""
    random = torch.Generator().manual_seed(seed)
    W_enc = torch.randn(d_in, d_sae, generator=random) / d_in**0.5
    b_enc = 0.1 * torch.randn(d_sae, generator=random)
    threshold = 2 + 2 * torch.rand(d_sae, generator=random)
    over = {"presence": 4 + 2 * torch.rand(d_sae, generator=random)} if presence else {}
    if architecture == "relu":
        return ReLU(W_enc, b_enc - 3.0, **over)
    if architecture == "topk":
        return TopK(W_enc, b_enc, max(1, d_sae // 12), **over)
    if architecture == "batchtopk":
        return BatchTopK(W_enc, b_enc, torch.tensor(3.0), **over)
    if architecture == "gated":
        r_mag, b_mag = 0.1 * torch.randn(d_sae, generator=random), 0.1 * torch.randn(d_sae, generator=random)
        return Gated(W_enc, b_enc - 3.0, r_mag, b_mag, **over)
    if architecture == "jumprelu":
        return JumpReLU(W_enc, b_enc, threshold, **over)
    raise ValueError(architecture)


def make_sae_dir(
    path: Path,
    *,
    d_in: int,
    d_sae: int = 96,
    seed: int = 0,
    architecture: str = "jumprelu",
    presence: bool = False,
) -> Path:
    """Saves `make_sae` in float32 as a SAELens directory without a decoder; returns `path`."""
    sae = make_sae(d_in=d_in, d_sae=d_sae, seed=seed, architecture=architecture, presence=presence)
    save_sae(sae, str(path), dtype=torch.float32, metadata={"model_name": "tiny"}, decoder=False)
    return path


def encoder_yaml(path: Path, reader_dir: Path, sae_dir: Path, layer: int = 2, **overrides: Any) -> Path:
    """Writes an encoder's YAML and returns `path`.

    overrides: fields of the encoder (window, overlap, long, include_special) or of its reader (dtype, template, role).
    """
    reader = {"model": str(reader_dir), "layer": layer}
    reader |= {name: overrides.pop(name) for name in ("dtype", "template", "role") if name in overrides}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"reader": reader, "sae": {"path": str(sae_dir)}, **overrides}))
    return path


def make_encoder_yaml(directory: Path, layer: int = 2, **overrides: Any) -> Path:
    """A reader, an SAE and their YAML under `directory`, all in one; returns the YAML's path."""
    reader = make_reader_dir(directory / "reader")
    sae = make_sae_dir(directory / "sae", d_in=32)
    return encoder_yaml(directory / "encoder.yaml", reader, sae, layer, **overrides)


def make_gguf(path: Path, *, layers: int = 4, seed: int = 0, without: str | None = None) -> Path:
    """The random Llama of `make_reader_dir`, its tokenizer and ChatML template, as a GGUF file in float32.

    without: leaves out the tensor of this name (by transformers).
    """
    import gguf

    model, tokenizer = make_model(layers=layers, seed=seed), make_tokenizer()
    config, backend = model.config, json.loads(_backend())
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    tokens = tokenizer.convert_ids_to_tokens(range(config.vocab_size))
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in SPECIAL else normal for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in backend["model"]["merges"]])
    writer.add_bos_token_id(SPECIAL.index("<|im_start|>"))
    writer.add_eos_token_id(SPECIAL.index("<|im_end|>"))
    writer.add_chat_template(CHATML)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    for name, tensor in model.state_dict().items():
        if name == without:
            continue
        if "q_proj" in name or "k_proj" in name:  # llama.cpp interleaves the halves that rotary embeddings turn
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            tensor = tensor.view(heads, 2, -1, config.hidden_size).transpose(1, 2).reshape(tensor.shape)
        writer.add_tensor(names.get_name(name, (".weight",)), tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
