"""Promise: a document in a pack is read as if it were alone: its neighbours change nothing.

On a CPU in float32 this holds to the last bit: attention runs document by document in either case, everything between
is row by row, and matrix products take each row alike however many there are, because MKL is held to reproducible sums
(see saeray/__init__.py). Where torch has another library the stated bound is 16 units of float32 rounding, of the
largest number in a token's vector.
"""

import copy
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_model, make_reader_dir

from saeray.errors import SaerayError
from saeray.readers.model import Reader
from saeray.readers.packed import NAME, CannotPack, PackedReader
from saeray.readers.source import prepare
from saeray.readers.streamed import empty_model

LENGTHS = [1, 2, 3, 17, 64, 100, 333, 1, 1500]
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096}
SHAPE = {
    "num_hidden_layers": 3,
    "hidden_size": 32,
    "intermediate_size": 64,
    "vocab_size": 400,
    "initializer_range": 0.2,
}


def sequences(lengths, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, 400, n).astype(np.int32) for n in lengths]


def decoder(config):
    torch.manual_seed(0)
    return transformers.AutoModel.from_config(copy.deepcopy(config), dtype=torch.float32).eval()


def tiny(arch="llama"):
    model = make_model(arch, layers=3)
    return model.transformer if arch == "gpt2" else model.model


def split(x, lengths):
    edges = np.cumsum([0, *lengths])
    assert len(x) == edges[-1]
    return [x[a:b] for a, b in pairwise(edges)]


def assert_same(found, expected):
    """To the last bit with MKL, else near."""
    if torch.backends.mkl.is_available():
        assert torch.equal(found, expected)
    assert_near(found, expected)


def assert_near(found, expected):
    """Within 16 roundings of the largest number in each vector."""
    bound = 16 * torch.finfo(torch.float32).eps * expected.abs().amax(dim=1, keepdim=True)
    assert ((found - expected).abs() <= bound).all()


@torch.inference_mode()
def plainly(model, ids):
    """One sequence by transformers alone: its own attention and masks, [tokens, width] after the last block."""
    blocks = model.h if hasattr(model, "h") else model.layers
    caught = []
    hook = blocks[-1].register_forward_hook(
        lambda module, inputs, out: caught.append(out[0] if isinstance(out, tuple) else out)
    )
    model(torch.from_numpy(ids.astype(np.int64))[None], use_cache=False)
    hook.remove()
    return caught[0][0]


@pytest.mark.parametrize("arch", ["llama", "qwen2", "gpt2"])
def test_packed_is_one_at_a_time(arch):
    """Documents of 1 to 1,500 tokens in one pack: what each gives alone in a pack, and what transformers gives it."""
    ids = sequences(LENGTHS)
    expected = [plainly(tiny(arch), one) for one in ids]
    reader = PackedReader(tiny(arch))
    found = split(reader.read(reader.pack(ids)), LENGTHS)
    for one, part, plain in zip(ids, found, expected, strict=True):
        assert_same(part, reader.read(reader.pack([one])))
        assert_same(part, plain)


def test_packed_is_what_the_rectangles_give(tmp_path):
    """What `Reader` gives in padded rectangles, to rounding: torch's CPU kernel cuts a sequence's sums by the length it
    is padded to.
    """
    source = prepare(str(make_reader_dir(tmp_path)), 2)
    ids = sequences(LENGTHS)
    rectangle = Reader(source, 2).residual(ids)
    reader = PackedReader(Reader(source, 2)._model)
    for i, part in enumerate(split(reader.read(reader.pack(ids)), LENGTHS)):
        assert_near(part, rectangle[i, : LENGTHS[i]])


def test_the_longest_documents():
    """4,096 tokens between documents of one token: the same as alone, though the pack is longer than any window."""
    config = transformers.LlamaConfig(**SHAPE | {"num_hidden_layers": 2}, **HEADS)
    lengths = [1, 4096, 1, 4095]
    ids = sequences(lengths)
    expected = [plainly(decoder(config), one) for one in ids]
    reader = PackedReader(decoder(config))
    for part, plain in zip(split(reader.read(reader.pack(ids)), lengths), expected, strict=True):
        assert_same(part, plain)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=8), st.data())
def test_neighbours_change_nothing(lengths, data):
    """Other tokens in every other document: not a bit of this one changes, whatever library multiplies."""
    kept = data.draw(st.integers(0, len(lengths) - 1))
    ids, others = sequences(lengths), sequences(lengths, seed=1)
    changed = [one if i == kept else other for i, (one, other) in enumerate(zip(ids, others, strict=True))]
    reader = NEIGHBOURS
    first = split(reader.read(reader.pack(ids)), lengths)
    second = split(reader.read(reader.pack(changed)), lengths)
    assert torch.equal(first[kept], second[kept])
    if len(lengths) > 2:
        assert not torch.equal(torch.cat(first), torch.cat(second))


NEIGHBOURS = PackedReader(tiny())


def test_a_batch_of_one_token():
    """One document of one token."""
    ids = sequences([1])
    expected = plainly(tiny(), ids[0])
    reader = PackedReader(tiny())
    found = reader.read(reader.pack(ids))
    assert found.shape == (1, 32)
    assert_same(found, expected)


@pytest.mark.parametrize("arch", ["mistral", "gemma2"])
def test_sliding_windows(arch):
    """A window of 16 tokens is kept inside each document, in all blocks or in every other one."""
    if arch == "mistral":
        config = transformers.MistralConfig(**SHAPE, **HEADS, sliding_window=16)
    else:
        config = transformers.Gemma2Config(
            **SHAPE, **HEADS, head_dim=8, query_pre_attn_scalar=8, sliding_window=16, attn_logit_softcapping=None
        )
    lengths = [15, 16, 17, 1, 200]
    ids = sequences(lengths)
    expected = [plainly(decoder(config), one) for one in ids]
    reader = PackedReader(decoder(config))
    for part, plain in zip(split(reader.read(reader.pack(ids)), lengths), expected, strict=True):
        torch.testing.assert_close(part, plain, rtol=1e-5, atol=1e-5)
    config.sliding_window = None
    if arch == "mistral":  # the window is not a dead letter at these lengths
        assert not torch.allclose(plainly(decoder(config), ids[-1]), expected[-1], atol=1e-2)


def varlen_reference(q, k, v, offsets, offsets_k, longest, longest_k, *, scale, enable_gqa, num_splits, window_size):
    """What torch's variable-length attention promises, row by row in float64: [tokens, heads, head size]."""
    assert offsets.dtype == torch.int32
    assert offsets is offsets_k
    assert longest == longest_k == int(offsets.diff().max())
    assert enable_gqa
    assert num_splits == 1
    left, right = window_size
    assert right == 0
    out = torch.empty_like(q)
    group = q.shape[1] // k.shape[1]
    for start, stop in pairwise(offsets.tolist()):
        for t in range(start, stop):
            low = start if left < 0 else max(start, t - left)
            for head in range(q.shape[1]):
                keys, values = (x[low : t + 1, head // group].double() for x in (k, v))
                weights = torch.softmax(keys @ q[t, head].double() * scale, dim=0)
                out[t, head] = (weights @ values).to(out.dtype)
    return out


@pytest.mark.parametrize("window", [None, 5])
def test_the_kernel_is_called_as_it_is_documented(monkeypatch, window):
    """Edges, longest, scale, window and heads go to torch's kernel so that one that does what its documentation says
    gives what the exact way gives.
    """
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_reference)
    config = transformers.MistralConfig(**SHAPE, **HEADS, sliding_window=window)
    ids = sequences([1, 7, 12])
    exact, varlen = PackedReader(decoder(config)), PackedReader(decoder(config), kernel="varlen")
    expected = exact.read(exact.pack(ids))
    torch.testing.assert_close(varlen.read(varlen.pack(ids)), expected, rtol=1e-5, atol=1e-5)


def test_the_host_never_waits():
    """On the device's way no number is asked for: the whole pass runs on tensors that have no numbers."""
    config = transformers.LlamaConfig(**SHAPE, **HEADS)
    reader = PackedReader(empty_model(config, 2, torch.bfloat16).to("meta"), kernel="varlen")
    found = reader.read(reader.pack(sequences([5, 1, 30])))
    assert found.device.type == "meta"
    assert found.shape == (36, 32)


def test_it_stands_in_for_a_reader(tmp_path):
    """`residual` gives the rectangle that `Reader` gives, zeros behind shorter rows, and `take` the chosen tokens, in
    the same order from either.
    """
    source = prepare(str(make_reader_dir(tmp_path)), 2)
    lengths = [4, 30, 1]
    ids, places = sequences(lengths), [np.array([3, 0]), np.arange(5, 20), np.zeros(0, np.intp)]
    plain, other = Reader(source, 2), PackedReader(Reader(source, 2)._model)
    rectangle, expected = other.residual(ids), plain.residual(ids)
    assert rectangle.shape == expected.shape == (3, 30, 32)
    for i, n in enumerate(lengths):
        assert_near(rectangle[i, :n], expected[i, :n])
        assert (rectangle[i, n:] == 0).all()
    assert_near(other.take(ids, places), plain.take(ids, places))
    assert torch.equal(plain.take(ids, places), torch.cat([expected[i, at] for i, at in enumerate(places)]))
    assert plain.flops_per_token() == other.flops_per_token()


def test_a_stream_of_batches_is_what_each_alone_is():
    """Outcomes in order and bit for bit as `take` gives them, the next batch on its way up and no more; one that cannot
    be read is its own error.
    """
    reader, taken = PackedReader(tiny()), []
    batches = [([one], [np.arange(len(one))[::2]]) for one in sequences([9, 4, 30, 1, 7])]
    expected = [reader.take(*batch) for batch in batches]
    batches[2][0][0][5] = -1

    def source():
        for batch in batches:
            taken.append(batch)
            yield batch

    for i, found in enumerate(reader.stream(source())):
        assert len(taken) == min(i + 2, len(batches))
        if i == 2:
            assert isinstance(found, IndexError)
        else:
            assert torch.equal(found, expected[i])
    assert i == 4


def test_a_token_without_an_embedding_is_an_error_of_the_host():
    """On a device it would be one that takes the device with it."""
    reader = PackedReader(tiny())
    for bad in (400, -1):
        with pytest.raises(IndexError, match=f"token id {bad}: the reader has 400"):
            reader.pack([np.array([1, 2]), np.array([bad])])


def test_flops_by_hand():
    """The blocks' matrices as `Reader` counts them; attention 2 products of n(n+1)/2 scores of all heads' width."""
    reader = PackedReader(tiny())
    assert reader.flops_per_token() == 2 * 3 * (32 * 32 * 2 + 16 * 32 * 2 + 3 * 64 * 32)
    assert reader.attention_flops([1, 3]) == 3 * 2 * 2 * 32 * (1 + 6)


ROPE = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
REFUSED = {
    "soft caps": (
        lambda: transformers.Gemma2Config(**SHAPE, **HEADS, head_dim=8), "a gemma2 model cannot be packed: .*soft caps",
    ),
    "frequencies of the batch": (
        lambda: transformers.LlamaConfig(**SHAPE, **HEADS, rope_parameters=ROPE), "dynamic rotary frequencies",
    ),
    "ALiBi": (
        lambda: transformers.FalconConfig(num_hidden_layers=2, hidden_size=32, num_attention_heads=4, alibi=True),
        "ALiBi",
    ),
    "own attention": (lambda: transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4), "cannot be packed"),
    "linear blocks": (
        lambda: transformers.Qwen3NextConfig(
            **SHAPE, **HEADS, head_dim=8, layer_types=["linear_attention", "full_attention", "linear_attention"],
        ),
        "linear_attention blocks",
    ),
}  # fmt: skip


def read_packed(model):
    reader = PackedReader(model)
    reader.read(reader.pack(sequences([3, 2])))


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_packed_is_refused(case):
    """One line when the reader is made, or at the first token at the latest; never a wrong number."""
    config, message = REFUSED[case]
    model = decoder(config())
    with pytest.raises(CannotPack, match=message) as caught:
        read_packed(model)
    assert "\n" not in str(caught.value)


def test_what_the_kernel_cannot_take_is_refused(monkeypatch):
    """Odd heads, and a torch without the kernel or with an older one: one line, when the reader is made."""
    odd = decoder(transformers.LlamaConfig(**SHAPE | {"hidden_size": 48}, **HEADS))
    with pytest.raises(CannotPack, match="not 12"):
        PackedReader(odd, kernel="varlen")
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", lambda query, key: None)
    with pytest.raises(CannotPack, match=r"is older than 2\.13"):
        PackedReader(tiny(), kernel="varlen")
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", None)
    with pytest.raises(CannotPack, match="this torch has no variable-length attention"):
        PackedReader(tiny(), kernel="varlen")


def test_a_pack_that_does_not_arrive_is_refused():
    """A model that is called without its pack, or does not hand it on, attends to nothing."""
    reader = PackedReader(tiny())
    assert reader.model.config._attn_implementation == NAME
    with pytest.raises(SaerayError, match="does not hand on what a pack is"):
        reader.model(torch.zeros(1, 3, dtype=torch.int64), use_cache=False)


@pytest.mark.parametrize("packed", [False, True])
def test_a_reading_that_fails_leaves_nothing_on_the_device(tmp_path, packed):
    """What raises after the last block has its vectors must not hold them while the caller makes room."""
    source = prepare(str(make_reader_dir(tmp_path)), 2)
    reader = Reader(source, 2)
    model = reader._model
    reader = PackedReader(model) if packed else reader

    def fail(*_):
        assert reader._residual is not None
        raise torch.OutOfMemoryError("CUDA out of memory")

    model.norm.register_forward_hook(fail)
    with pytest.raises(torch.OutOfMemoryError):
        reader.read(reader.pack(sequences([3]))) if packed else reader.residual(sequences([3]))
    assert reader._residual is None
