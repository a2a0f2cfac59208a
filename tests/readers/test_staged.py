"""Promise: blocks in stages on several devices give what they give on one, with every stage at work at once.

No machine of these tests has two GPUs. That numbers and order are right is shown on CPU devices; that tensors are
brought to their stage's device, and that nothing asks a device for a number, on the meta device.
"""

from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest
import torch
import transformers
from alive import Alive

from saeray.errors import SaerayError
from saeray.readers import packed, staged
from saeray.readers.budget import stream_packs
from saeray.readers.memory import shape_of
from saeray.readers.model import decoder_blocks
from saeray.readers.packed import CannotPack, Pack, PackedReader
from saeray.readers.packing import packs
from saeray.readers.staged import StagedReader
from saeray.readers.streamed import empty_model

SHAPE = {
    "num_hidden_layers": 5, "hidden_size": 32, "intermediate_size": 64, "vocab_size": 400, "initializer_range": 0.2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
}  # fmt: skip
# Rotary tables of one kind and of two by layer, biases, scaled embeddings, extra norms, a table of positions, blocks in
# parallel, experts.
FAMILIES = {
    "llama": lambda: transformers.LlamaConfig(**SHAPE),
    "qwen2": lambda: transformers.Qwen2Config(**SHAPE),
    "gemma2": lambda: transformers.Gemma2Config(
        **SHAPE, head_dim=8, query_pre_attn_scalar=8, sliding_window=16, attn_logit_softcapping=None
    ),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **SHAPE, head_dim=8, query_pre_attn_scalar=8, sliding_window=16, pad_token_id=None,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention"],
    ),
    "gpt2": lambda: transformers.GPT2Config(n_layer=5, n_embd=32, n_head=4, n_positions=4096, vocab_size=400),
    "phi": lambda: transformers.PhiConfig(**SHAPE),
    "mixtral": lambda: transformers.MixtralConfig(**SHAPE, num_local_experts=4),
}  # fmt: skip
CUTS = [[2, 5], [1, 3, 5], [1, 2, 4, 5]]
LENGTHS = [5, 30, 1, 64, 17, 3, 100, 8, 2, 51, 26, 9]


def decoder(config):
    torch.manual_seed(0)
    return transformers.AutoModel.from_config(config, dtype=torch.float32).eval()


def sequences(lengths=LENGTHS, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, 400, n).astype(np.int32) for n in lengths]


def batches_of(ids, budget=64):
    """Batches of a few sequences, of each some places."""
    random = np.random.default_rng(1)
    for pack in packs([len(one) for one in ids], budget):
        chosen = [ids[i] for i in pack]
        yield chosen, [np.sort(random.permutation(len(one))[: 1 + len(one) // 2]) for one in chosen]


@pytest.mark.parametrize("stops", CUTS, ids=len)
@pytest.mark.parametrize("family", FAMILIES)
def test_stages_give_the_same_bits(family, stops):
    """In fp32 on CPU devices, to the last bit: all in one pack, one document at a time, and in flight together."""
    one, other = PackedReader(decoder(FAMILIES[family]())), StagedReader(decoder(FAMILIES[family]()), stops)
    ids = sequences()
    assert other.cuts == tuple(pairwise([0, *stops]))
    assert torch.equal(other.read(other.pack(ids)), one.read(one.pack(ids)))
    assert torch.equal(other.read(other.pack(ids[:1])), one.read(one.pack(ids[:1])))
    batches = list(batches_of(ids))
    assert len(batches) > len(stops) - 1
    for found, batch in zip(other.stream(batches), batches, strict=True):
        assert torch.equal(found, one.take(*batch))
        assert torch.equal(found, other.take(*batch))
    assert not [name for name, value in vars(other).items() if isinstance(value, torch.Tensor)]  # nothing is kept


def test_the_blocks_change_the_numbers():
    """The equality above is not that of blocks left out: every cut's last stage matters."""
    reader = StagedReader(decoder(FAMILIES["llama"]()), [2, 4, 5])
    ids = sequences()
    before = reader.read(reader.pack(ids))
    for block in reader.blocks:
        weight = block.mlp.down_proj.weight
        kept = weight.clone()
        with torch.no_grad():
            weight.zero_()
        assert not torch.allclose(reader.read(reader.pack(ids)), before, atol=1e-3)
        with torch.no_grad():
            weight.copy_(kept)
    assert torch.equal(reader.read(reader.pack(ids)), before)


def starts(reader):
    """(stage, tokens of the pack) whenever a stage's first block begins, as they come."""
    events = []
    for number, (first, _) in enumerate(reader.cuts):
        reader.blocks[first].mlp.register_forward_pre_hook(
            lambda module, inputs, number=number: events.append((number, inputs[0].shape[1]))
        )
    return events


@pytest.mark.parametrize("stops", CUTS, ids=len)
def test_the_order_of_the_stages(stops):
    """The oldest pack's stage is begun first; what is done with an outcome comes before the next pack's last stage, and
    when it comes out as many packs less one have been begun behind it as there are stages.
    """
    reader, ids = StagedReader(decoder(FAMILIES["llama"]()), stops), sequences([7, 3, 9, 4, 8, 5])
    events, stages = starts(reader), len(stops)
    for x in reader.stream([([one], [np.arange(len(one))]) for one in ids]):
        events.append(("out", len(x)))
    # Step 0 is the way up; the line is one step longer than there are stages.
    expected = []
    for tick in range(1, len(ids) + stages):
        live = [(stage, tick - 1 - stage) for stage in reversed(range(stages)) if 0 <= tick - 1 - stage < len(ids)]
        expected += [(stage, len(ids[pack])) for stage, pack in live]
        if tick >= stages:
            expected.append(("out", len(ids[tick - stages])))
    assert events == expected


@pytest.mark.parametrize("stops", CUTS, ids=len)
def test_no_more_packs_are_begun_than_the_plan_counts(stops):
    """One a stage and one on its way up, while the caller is at an outcome one less."""
    reader, begun = StagedReader(decoder(FAMILIES["llama"]()), stops), []
    batches = list(batches_of(sequences(LENGTHS * 2)))

    def source():
        for batch in batches:
            begun.append(batch)
            yield batch

    for done, _ in enumerate(reader.stream(source()), 1):
        assert len(begun) == min(done + len(stops), len(batches))


def test_a_bad_pack_fails_alone():
    """A token without an embedding is its pack's error; packs before and behind it are as ever, whatever is read
    between two outcomes.
    """
    reader = StagedReader(decoder(FAMILIES["llama"]()), [1, 3, 5])
    batches = [([one], [np.arange(len(one))]) for one in sequences([4, 6, 5, 7, 3])]
    expected = [reader.take(*batch) for batch in batches]
    batches[2][0][0][1] = 400
    for i, found in enumerate(reader.stream(batches)):
        if i == 2:
            assert isinstance(found, IndexError)
            assert "token id 400" in str(found)
        else:
            assert torch.equal(found, expected[i])
        assert torch.equal(reader.take(*batches[0]), expected[0])  # a pack read by itself while others are in flight


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_out_of_memory_in_a_stage_halves_the_budget(stage, caplog):
    """Packs in flight are finished, what failed and what had not begun is cut smaller, no sequence is lost, and one
    line says so.
    """
    reader = StagedReader(decoder(FAMILIES["llama"]()), [1, 3, 5])
    ids, room = sequences(LENGTHS * 3), 130

    def refuse(module, inputs):
        if inputs[0].shape[1] > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    reader.blocks[reader.cuts[stage][0]].mlp.register_forward_pre_hook(refuse)

    def run(chosen):
        begun = []

        def source():
            for pack in chosen:
                begun.append(pack)
                yield [ids[i] for i in pack], [np.arange(len(ids[i])) for i in pack]

        yield from reader.stream(source())

    budgets, found = [], {}
    for pack, x in stream_packs([len(one) for one in ids], 250, run, on_budget=budgets.append):
        for i, part in zip(pack, torch.split(x, [len(ids[i]) for i in pack]), strict=True):
            assert i not in found
            found[i] = part
    assert budgets == [125]
    (line,) = (record.message for record in caplog.records)
    assert "the token budget is now 125, was 250" in line
    other = PackedReader(decoder(FAMILIES["llama"]()))
    for i, one in enumerate(ids):
        assert torch.equal(found[i], other.read(other.pack([one])))


def test_a_refusal_is_raised():
    """What no pack would get past is not a pack's outcome."""
    reader = StagedReader(decoder(FAMILIES["llama"]()), [2, 5])

    def refuse(*_):
        raise SaerayError("cannot")

    reader.blocks[3].register_forward_pre_hook(refuse)
    with pytest.raises(SaerayError, match="cannot"):
        list(reader.stream(batches_of(sequences())))


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"mixtral"}))  # experts ask how many tokens they get
def test_all_that_a_stage_needs_is_brought_to_it(family, monkeypatch):
    """With the later blocks on the meta device, which multiplies nothing that is on the CPU: hidden states, rotary
    tables and edges are there, the vectors come out there, and nothing asks for a number, which would have to wait.
    """
    real, seen = packed.in_packs, []

    def attention(module, query, key, value, pack, *rest):
        seen.append(query.device.type)
        assert query.device == key.device == value.device == pack.offsets.device == pack.positions.device
        return (
            torch.empty_like(query).transpose(1, 2) if query.is_meta else real(module, query, key, value, pack, *rest)
        )

    monkeypatch.setattr(packed, "in_packs", attention)
    model = decoder(FAMILIES[family]())
    for block in decoder_blocks(model)[2:]:
        block.to("meta")
    reader = StagedReader(model, [2, 5])
    assert [device.type for device in reader.devices] == ["cpu", "meta"]
    batches = list(batches_of(sequences()))
    for x, (_, places) in zip(reader.stream(batches), batches, strict=True):
        assert x.device.type == reader.device.type == "meta"
        assert x.shape == (sum(map(len, places)), 32)
    assert (seen.count("cpu"), seen.count("meta")) == (2 * len(batches), 3 * len(batches))


def test_every_stage_works_on_its_own_device(monkeypatch):
    """A pack is brought to a stage's device before its blocks run, and kernels are launched on that device: some
    (Triton's, bindings') go to whichever is current.
    """
    events = []

    class Current(nullcontext):
        def __enter__(self):
            events.append(("on", self.enter_result.index))

        def __exit__(self, *_):
            events.append(("off", self.enter_result.index))

    numbered = iter(torch.device("cuda", i) for i in range(3))
    monkeypatch.setattr(staged, "_device_of", lambda blocks: next(numbered))
    monkeypatch.setattr(staged, "_move", lambda parcel, device: events.append(("move", device.index)))
    monkeypatch.setattr(torch.cuda, "device", Current)
    monkeypatch.setattr(PackedReader, "_entry", property(lambda self: torch.device("cuda", 0), lambda *_: None), False)
    reader = StagedReader(decoder(FAMILIES["llama"]()), [2, 4, 5])
    assert reader.device == torch.device("cuda", 2)
    for number, block in enumerate(reader.blocks):
        block.mlp.register_forward_pre_hook(lambda *_, number=number: events.append(("block", number)))
    ids = torch.arange(3)[None]
    reader.read(Pack(ids, ids, torch.tensor([0, 3], dtype=torch.int32), (0, 3), "exact"))
    assert events == [
        ("on", 0), ("block", 0), ("block", 1), ("off", 0),
        ("move", 1), ("on", 1), ("block", 2), ("block", 3), ("off", 1),
        ("move", 2), ("on", 2), ("block", 4), ("off", 2),
    ]  # fmt: skip


LLAMA_70B = {
    "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
    "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
}  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"intermediate_size": 1024}], ids=["70b", "narrow"])
@torch.inference_mode()
def test_a_stage_takes_no_more_than_the_plan_says(changes):
    """Each stage's fullest moment, with what it was handed, is within the plan's bytes a token, on the meta device."""
    config = transformers.LlamaConfig(**LLAMA_70B | changes)
    reader = StagedReader(empty_model(config, 2, torch.bfloat16).to("meta"), [1, 2, 3], kernel="varlen")
    pack = reader.pack([np.zeros(n) for n in (5000, 1, 3191)])
    planned = shape_of(config, 2).activations("bfloat16") * 8192
    first = Alive()
    with first:
        parcel = reader._first(pack)
    assert first.peak <= planned <= 1.25 * first.peak
    rotary = sum(x.nbytes for x in parcel.calls[0][1]["position_embeddings"])
    assert first.now == parcel.hidden.nbytes + rotary  # all that waits between two stages
    for stage in (1, 2):
        handed, later = parcel.hidden.nbytes + rotary, Alive()
        with later:
            reader._stage(stage, parcel)
        assert later.peak + handed <= planned <= 1.25 * (later.peak + handed)
    assert not parcel.calls


def test_what_cannot_be_staged_is_refused_by_name():
    """At the first token, in one line: a residual stream that is changed between blocks, blocks that share a state, and
    blocks that are left out; never a wrong number.
    """
    reader = StagedReader(decoder(FAMILIES["llama"]()), [2, 5])
    model, layers = reader.model, list(reader.blocks)

    def read_with(change):
        handles = [block.register_forward_pre_hook(change, with_kwargs=True) for block in layers[3:]]
        try:
            with pytest.raises(CannotPack) as caught:
                reader.read(reader.pack(sequences()))
        finally:
            for handle in handles:
                handle.remove()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "a llama model cannot be read in stages: it changes the residual stream between its blocks" in read_with(
        lambda module, args, kwargs: ((args[0] * 2, *args[1:]), kwargs)
    )
    assert "its blocks are given a dict" in read_with(lambda module, args, kwargs: (args, kwargs | {"shared": {}}))
    model.config.num_hidden_layers -= 1
    with pytest.raises(CannotPack, match="it does not run its blocks once each"):
        reader.read(reader.pack(sequences()))


def test_blocks_that_hand_on_more_are_refused():
    """A tensor beside the residual stream would have to travel too."""
    for number in (1, 2):
        model = decoder(FAMILIES["llama"]())
        real = model.layers[number].forward
        model.layers[number].forward = lambda *args, real=real, **kwargs: (real(*args, **kwargs), torch.ones(1))
        reader = StagedReader(model, [2, 5])
        with pytest.raises(CannotPack, match="hand on more than the residual stream"):
            reader.read(reader.pack(sequences()))


def test_cuts_that_do_not_fit_the_model():
    """Stages that leave a block out, or have none."""
    for stops in ([2, 4], [0, 5], [3, 3, 5], [4, 2, 5]):
        with pytest.raises(ValueError, match="5 blocks cannot be cut"):
            StagedReader(decoder(FAMILIES["llama"]()), stops)
    model = empty_model(FAMILIES["llama"](), 4)
    model.layers[4].to_empty(device="cpu")
    with pytest.raises(ValueError, match="2 devices"):
        StagedReader(model, [2, 5])
    assert isinstance(StagedReader(decoder(FAMILIES["llama"]()), [2, 5]), PackedReader)
