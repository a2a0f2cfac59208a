"""Promise: what a reader needs of a GPU is known, and said, before anything loads.

The 70B figures are worked out by hand here; activations are held against the tensors that are really alive in a
forward pass of the true shape, on the meta device.
"""

import re

import numpy as np
import pytest
import torch
import transformers
from alive import Alive
from tiny import make_model

from saeray.errors import SaerayError
from saeray.readers.memory import GIB, Block, ReaderShape, make_plan, shape_of
from saeray.readers.packed import PackedReader
from saeray.readers.streamed import empty_model

LLAMA_70B = {
    "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
    "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
}  # fmt: skip
# One block of Llama-3.3-70B by hand: q and o, k and v of 8 heads of 128, gate, up and down, two norms.
MATRIX = 2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672
ROWS = 2 * 8192 + 2 * 1024 + 2 * 28672 + 8192
SHAPE_70B = ReaderShape(8192, 8192, 1024, 28672, 128256 * 8192, (Block(MATRIX, ROWS, 2 * 8192),) * 51)


def plan_70b(**changes):
    return make_plan(SHAPE_70B, **{"d_sae": 65_536, "memory": 139 * GIB, "dtype": "bfloat16", "window": 2048} | changes)


def test_the_70b_by_hand():
    """51 of 80 blocks in bf16 are 87.28 GB and with the embedding 83.2 GiB; in fp8 43.7 GB; 87.3 GFLOP a token."""
    assert MATRIX + 2 * 8192 == 855_654_400
    assert SHAPE_70B.weights("bfloat16") == 87_276_748_800
    assert (SHAPE_70B.weights("bfloat16") + 2 * SHAPE_70B.embedding) / GIB == pytest.approx(83.24, abs=0.01)
    assert SHAPE_70B.weights("fp8") == 51 * (MATRIX + 4 * ROWS + 2 * 2 * 8192)
    assert SHAPE_70B.weights("fp8") == pytest.approx(43.66e9, rel=1e-3)
    assert SHAPE_70B.weights("float32") == 2 * SHAPE_70B.weights("bfloat16")
    assert SHAPE_70B.flops_per_token() == pytest.approx(87.3e9, rel=1e-3)


def test_the_shape_is_read_from_the_configuration():
    """The configuration alone, without weights, gives what was worked out by hand."""
    shape = shape_of(transformers.LlamaConfig(**LLAMA_70B), 1)
    assert shape == ReaderShape(8192, 8192, 1024, 28672, 128256 * 8192, SHAPE_70B.blocks[:2])


@pytest.mark.parametrize("arch", ["llama", "qwen2", "gemma2", "gpt2"])
def test_weights_of_every_family_are_those_of_the_model(arch):
    """Biases, extra norms and position tables are in: the sum is that of the truncated model's parameters."""
    model = make_model(arch)
    shape = shape_of(model.config, 2)
    blocks = model.transformer.h if arch == "gpt2" else model.model.layers
    assert shape.weights("float32") == 4 * sum(p.numel() for block in blocks[:3] for p in block.parameters())
    names = ("embed_tokens", "wte", "wpe")
    tables = sum(p.numel() for name, p in model.named_parameters() if any(part in name for part in names))
    assert shape.embedding == tables


@pytest.mark.parametrize("name", ["bfloat16", "float32"])
@pytest.mark.parametrize("arch", ["70b", "narrow", "many heads"])
def test_activations_hold_what_is_alive(arch, name):
    """The plan's bytes a token are no less than the tensors alive at one time in a packed pass, and at most 4% more
    where the MLP decides, 25% where attention or a norm does.
    """
    changes = {"70b": {}, "narrow": {"intermediate_size": 1024}, "many heads": {"num_key_value_heads": 64}}[arch]
    if arch == "many heads":
        changes["intermediate_size"] = 2048
    config = transformers.LlamaConfig(**LLAMA_70B | changes)
    reader = PackedReader(empty_model(config, 1, getattr(torch, name)).to("meta"), kernel="varlen")
    lengths = (5000, 1, 3191)
    pack = reader.pack([np.zeros(n) for n in lengths])
    alive = Alive()
    with alive:
        reader.read(pack)
    planned = shape_of(config, 1).activations(name) * sum(lengths)
    assert alive.peak <= planned <= (1.04 if arch == "70b" else 1.25) * alive.peak


def test_a_plan_says_what_it_counts():
    """On an H200 in bf16: blocks 81.28, embedding 1.96, SAE 1.00 GiB, and the sum and the budget are printed."""
    plan = plan_70b()
    lines = plan.lines()
    assert "blocks 0-50 in bfloat16" in lines[0]
    assert "88.3 GFLOP a token" in lines[0]
    for part in ("blocks 81.28 GiB", "embedding 1.96 GiB", "SAE 1.00 GiB", "pooling state 0.50 GiB"):
        assert part in lines[1]
    assert lines[-1] == "  a batch holds up to 32,768 tokens"
    assert plan.stages[0].total() < 139 * GIB


def test_fp8_holds_on_one_80_gb_card():
    """bf16 needs two of them, fp8 one."""
    assert len(plan_70b(dtype="fp8", memory=79 * GIB).stages) == 1
    assert len(plan_70b(memory=79 * GIB, gpus=8).stages) == 2


def test_the_budget_is_the_largest_that_fits():
    """One step of 256 tokens more would not fit; a card with more room holds more, up to the most that is worth it."""
    plan = plan_70b(memory=90 * GIB)
    assert plan.tokens % 256 == 0
    assert 2048 <= plan.tokens < 32_768
    room = plan.memory - plan.stages[0].total()
    assert 0 <= room < 256 * (SHAPE_70B.activations("bfloat16") + 2 * 8192)
    assert plan_70b(memory=91 * GIB).tokens > plan.tokens
    assert plan_70b(memory=200 * GIB, most_tokens=4096).tokens == 4096


def test_a_window_longer_than_the_usual_batch_is_held():
    """The longest sequence fits a batch, whatever the usual most is."""
    assert plan_70b(window=50_000).tokens == 50_176


@pytest.mark.parametrize("gpus", [2, 3, 5])
def test_stages_take_every_block_once_and_share_the_work(gpus):
    """Stages follow each other without a gap, each fits its card, and none has much more to do than another."""
    plan = plan_70b(dtype="float32", memory=(225 // gpus) * GIB, gpus=gpus)
    assert [stage.first for stage in plan.stages] == [0, *(stage.stop for stage in plan.stages[:-1])]
    assert plan.stages[-1].stop == 51
    assert all(stage.total() <= plan.memory for stage in plan.stages)
    assert [bool(stage.parts["embedding"]) for stage in plan.stages] == [True] + [False] * (len(plan.stages) - 1)
    assert [bool(stage.parts["SAE"]) for stage in plan.stages] == [False] * (len(plan.stages) - 1) + [True]
    counts = [stage.stop - stage.first for stage in plan.stages]
    assert len(plan.stages) > 1
    assert max(counts) <= -(-51 // len(counts)) + 1
    assert "GPU 1, blocks" in "\n".join(plan.lines())


def test_a_replica_takes_no_more_gpus_than_do():
    """Of two H200s one is enough, as few as do are used, and one line says what to ask for instead."""
    plan = plan_70b(gpus=2)
    assert len(plan.stages) == 1
    assert plan.idle() == "1 of 2 GPUs have nothing to do: give --num-gpus 1"
    assert plan_70b(memory=79 * GIB, gpus=5).idle() == "3 of 5 GPUs have nothing to do: give --num-gpus 2"
    for full in (plan_70b(), plan_70b(memory=79 * GIB, gpus=2)):
        assert full.idle() is None


def test_the_slowest_stage_sets_the_pace():
    """By hand: 26 and 25 blocks of 51 and an SAE of 1.07 GFLOP, which is 0.64 of a block, beside the 25."""
    plan = plan_70b(memory=79 * GIB, gpus=2)
    assert [(stage.first, stage.stop) for stage in plan.stages] == [(0, 26), (26, 51)]
    assert plan.evenness() == pytest.approx((51 + 2 * 8192 * 65_536 / (2 * MATRIX)) / (2 * 26))
    assert "  2 stages at work at once, at 99% of 2 GPUs' rate at most" in plan.lines()
    assert plan_70b().evenness() == 1


def test_a_full_batch_comes_before_even_stages():
    """Of all ways to cut the blocks, counted out here, those that hold 16,384 tokens come first; of these the most
    even. Rows so depend on the card only where no way holds as many.
    """
    held = []
    for memory in range(46 * GIB, 52 * GIB, GIB // 2):
        plan = plan_70b(memory=memory, gpus=2, most_tokens=16_384)
        cuts = {
            first: max(2 * MATRIX * first, 2 * MATRIX * (51 - first) + 2 * 8192 * 65_536)
            for first in range(1, 51)
            if sum_of(first, 16_384) <= memory
        }
        held.append(bool(cuts))
        if cuts:
            assert plan.tokens == 16_384
            assert plan.stages[0].stop == min(cuts, key=cuts.get)
        else:
            assert 2048 <= plan.tokens < 16_384
    assert set(held) == {True, False}


def sum_of(first, tokens):
    """Bytes of the fuller of two cards of a 70B in bf16 whose first stage has `first` blocks, added up by hand."""
    block = 2 * (MATRIX + 2 * 8192)
    activations = tokens * SHAPE_70B.activations("bfloat16") + 2 * GIB
    sae = 2 * (8192 * 65_536 + 65_536) + 8 * 65_536 + 512 * 65_536 * 16
    chunk = 2048 * (65_536 * 3 + 8192 * 2) + 2 * 2**26
    return max(
        first * block + 2 * 128256 * 8192 + activations,
        (51 - first) * block + sae + chunk + activations + tokens * 2 * 8192,
    )


def test_what_does_not_fit_is_refused_with_the_numbers_and_the_mend():
    """One line with what is needed, what there is, and what would do; each mend named does what it says."""
    with pytest.raises(SaerayError) as caught:
        plan_70b(memory=79 * GIB, mends=("stages", "fp8"))
    message = str(caught.value)
    assert "\n" not in message
    assert re.search(r"needs 8\d\.\d\d GiB \(blocks 81\.28 GiB, embedding 1\.96 GiB", message)
    assert "1 GPU(s) of 79.00 GiB" in message
    assert "use 2 GPUs a replica (--num-gpus 2) or fp8 (the reader's dtype) or a larger GPU" in message
    assert len(plan_70b(memory=79 * GIB, gpus=2).stages) == 2
    assert len(plan_70b(memory=79 * GIB, dtype="fp8").stages) == 1
    with pytest.raises(SaerayError, match=r"were given; use a larger GPU or a shorter window$"):
        plan_70b(memory=4 * GIB, window=8192, mends=("fp8",))
    with pytest.raises(SaerayError, match=r"were given; use a larger GPU$"):  # what the caller cannot do is not named
        plan_70b(memory=79 * GIB)
