"""Promise: the truncated reader gives the very residual stream of the whole model, from no more files than it needs.

The reference is the whole model as transformers loads it, run on one unpadded document at a time.
"""

import json

import numpy as np
import pytest
import torch
import transformers
from tiny import make_reader_dir

from saeray.errors import SaerayError
from saeray.readers.model import Reader, load_tokenizer, quiet_transformers
from saeray.readers.source import prepare

ARCHITECTURES = ["llama", "gpt2", "qwen2", "gemma2"]
LENGTHS = [5, 40, 23, 1, 40]  # beyond gemma2's sliding window of 16, and ragged


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    return {arch: make_reader_dir(tmp_path_factory.mktemp(arch), arch=arch) for arch in ARCHITECTURES}


def sequences(seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, 400, n).astype(np.int32) for n in LENGTHS]


def whole_model(directory):
    with quiet_transformers():
        return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


@torch.inference_mode()
def block_output(model, layer, ids):
    """[n, d_in] after block `layer`, caught by a hook: the last of `hidden_states` is after the final norm."""
    blocks = model.transformer.h if hasattr(model, "transformer") else model.model.layers
    caught = []
    hook = blocks[layer].register_forward_hook(
        lambda module, inputs, output: caught.append(output[0] if isinstance(output, tuple) else output)
    )
    states = model(torch.from_numpy(ids.astype(np.int64))[None], output_hidden_states=True).hidden_states
    hook.remove()
    if layer + 2 < len(states):
        assert torch.equal(states[layer + 1], caught[0])
    return caught[0][0]


@pytest.mark.parametrize("layer", [0, 2, 3])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_residual_is_that_of_the_whole_model(directories, arch, layer):
    """`hidden_states[layer + 1]` of the whole model, whatever else is in the batch, in fp32."""
    reader = Reader(prepare(str(directories[arch]), layer), layer)
    model = whole_model(directories[arch])
    ids = sequences()
    residual = reader.residual(ids)
    assert residual.shape == (len(ids), max(LENGTHS), reader.d_in)
    for row, sequence in zip(residual, ids, strict=True):
        expected = block_output(model, layer, sequence)
        torch.testing.assert_close(row[: len(sequence)], expected, rtol=1e-4, atol=1e-4)


def test_bfloat16_is_near_float32(directories):
    """A reader in bfloat16 gives bfloat16 residuals, within 5% of the norm of the fp32 ones."""
    source = prepare(str(directories["llama"]), 2)
    ids = sequences()
    fp32 = Reader(source, 2).residual(ids)
    bf16 = Reader(source, 2, dtype=torch.bfloat16).residual(ids)
    assert bf16.dtype == torch.bfloat16
    error = (bf16.float() - fp32).norm(dim=2) / fp32.norm(dim=2)
    for i, n in enumerate(LENGTHS):
        assert error[i, :n].max() < 0.05


def test_one_file_or_many(directories, tmp_path):
    """A checkpoint in one file without an index is the same reader as one in shards."""
    single = make_reader_dir(tmp_path, shards=1)
    one = Reader(prepare(str(single), 2), 2).residual(sequences())
    many = Reader(prepare(str(directories["llama"]), 2), 2).residual(sequences())
    assert torch.equal(one, many)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_shards_past_the_hook_layer_are_not_needed(tmp_path, arch):
    """Shards that hold only later blocks and the LM head are not opened, nor in the digests: here they do not exist."""
    directory = make_reader_dir(tmp_path, arch=arch)
    (directory / "model-00002-of-00003.safetensors").unlink()
    (directory / "model-00003-of-00003.safetensors").write_bytes(b"not safetensors")
    source = prepare(str(directory), 1)
    assert [name for name in source.digests if "safetensors" in name] == ["model-00001-of-00003.safetensors"]
    Reader(source, 1).residual(sequences())
    with pytest.raises(SaerayError, match=r"lacks model-00002-of-00003\.safetensors"):
        prepare(str(directory), 2)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_memory_holds_no_lm_head_and_no_later_block(directories, arch):
    """Parameters in memory: the embeddings, the blocks up to the hook layer, and a final norm's vector, no more."""
    reader = Reader(prepare(str(directories[arch]), 1), 1)
    sizes = {name: p.numel() for name, p in whole_model(directories[arch]).named_parameters()}
    block = sum(size for name, size in sizes.items() if ".1." in name)
    embeddings = sum(size for name, size in sizes.items() if "embed" in name or ".wte" in name or ".wpe" in name)
    held = sum(p.numel() for p in reader._model.parameters())
    assert 2 * block + embeddings <= held <= 2 * block + embeddings + 2 * reader.d_in


def test_flops_count_the_kept_blocks(directories):
    """The speed limit is that of the kept blocks' matrices: 2 x (q, k, v, o, gate, up, down) a token and block."""
    reader = Reader(prepare(str(directories["llama"]), 2), 2)
    shapes = [(32, 32), (16, 32), (16, 32), (32, 32), (64, 32), (64, 32), (32, 64)]
    assert reader.matrix_shapes() == shapes * 3
    assert reader.flops_per_token() == 2 * 3 * sum(a * b for a, b in shapes)


def break_config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def drop_tensor(directory, name):
    path = directory / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    del index["weight_map"][name]
    path.write_text(json.dumps(index))


def truncate(directory, name="model-00001-of-00003.safetensors"):
    path = directory / name
    path.write_bytes(path.read_bytes()[:5000])


SPOILED = {
    "a layer past the end": (lambda d: None, 4, "the reader has 4 blocks; there is no hook layer 4"),
    "a block's tensor missing": (
        lambda d: drop_tensor(d, "model.layers.1.mlp.up_proj.weight"), 2, r"lacks layers\.1\.mlp\.up_proj\.weight$",
    ),
    "no embedding": (lambda d: drop_tensor(d, "model.embed_tokens.weight"), 2, r"lacks embed_tokens\.weight$"),
    "truncated shard": (truncate, 2, "cannot read the weights at .*00001-of-00003"),
    "config not JSON": (lambda d: (d / "config.json").write_text("{"), 2, r"cannot read config\.json"),
    "unknown model type": (lambda d: break_config(d, model_type="nope"), 2, r"cannot read config\.json .*nope"),
    "another width": (lambda d: break_config(d, hidden_size=64), 2, r"do not fit its config\.json"),
    "index not JSON": (lambda d: (d / "model.safetensors.index.json").write_text("{"), 2, "cannot read the index"),
    "index of nothing": (lambda d: (d / "model.safetensors.index.json").write_text("{}"), 2, "cannot read the index"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILED)
def test_spoiled_checkpoint_is_one_line(tmp_path, case):
    """Whatever is wrong with a checkpoint is one line; a missing tensor is never filled with random numbers."""
    spoil, layer, message = SPOILED[case]
    directory = make_reader_dir(tmp_path)
    spoil(directory)
    with pytest.raises(SaerayError, match=message) as caught:
        Reader(prepare(str(directory), layer), layer)
    assert "\n" not in str(caught.value)


def test_final_norm_need_not_be_there(tmp_path):
    """The final norm comes after the hook layer: a checkpoint read without it is whole."""
    directory = make_reader_dir(tmp_path)
    drop_tensor(directory, "model.norm.weight")
    Reader(prepare(str(directory), 3), 3)


@pytest.mark.parametrize("what", ["model", "tokenizer"])
def test_a_checkpoints_own_code_is_never_run(tmp_path, monkeypatch, what):
    """A checkpoint that brings code is refused in one line, without a question on the terminal."""
    directory = make_reader_dir(tmp_path / "reader")
    (directory / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda prompt="": pytest.fail("asked whether to run code"))
    if what == "model":
        break_config(directory, model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"})
    else:
        path = directory / "tokenizer_config.json"
        own = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.Slow", "own.Fast"]}}
        path.write_text(json.dumps(json.loads(path.read_text()) | own))
    source = prepare(str(directory), 2)
    with pytest.raises(SaerayError) as caught:
        Reader(source, 2) if what == "model" else load_tokenizer(source)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [None, "{"])
def test_no_usable_tokenizer_is_one_line(tmp_path, content):
    """A directory without a tokenizer, or with a broken one, is one line."""
    directory = make_reader_dir(tmp_path)
    (directory / "tokenizer.json").unlink()
    if content is not None:
        (directory / "tokenizer.json").write_text(content)
    with pytest.raises(SaerayError, match="has no usable tokenizer") as caught:
        load_tokenizer(prepare(str(directory), 2))
    assert "\n" not in str(caught.value)
