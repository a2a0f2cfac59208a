"""Promise: the bench of the 70B path runs, so that a GPU machine's first minute is spent on figures.

A tiny shape on the CPU goes through every line but the device's events.
"""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))

import transformers
from gpu_encode import main
from gpu_model import BLOCKS, FRAME, LLAMA_70B, PROFILE, lengths_of

from saeray.readers.memory import shape_of


def test_one_command_prints_one_line_of_figures(capsys):
    """The memory plan first, one JSON line last; stages are all there with their floors, and shares are shares."""
    arguments = (
        "--device cpu --tiny --dtype float32 --seconds 0.01 --documents 12 --tokens 1024 --reference-documents 8"
    )
    figures = main(arguments.split())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("memory plan: blocks 0-2 in float32")
    assert json.loads(lines[-1])["tokens"] == figures["tokens"]
    assert figures["tokens"] % sum(lengths_of(12)) == 0
    assert figures["kernel"] == "exact"
    assert figures["pack_tokens"] == 1024
    assert 0 < figures["pack_fill"] <= 1
    assert 0 < figures["share_of_matrix_rate"] < 1.5
    assert 0 <= figures["idle_between_batches"] < 1
    assert 0 < figures["active_latents_a_token"] < 100
    names = {stage["stage"] for stage in figures["stages"]}
    assert names == {
        "norms", "products of attention", "attention alone", "MLP", "SAE and pools", "rest of the blocks",
    }  # fmt: skip
    assert all(stage["seconds"] > 0 and stage["floor"] > 0 for stage in figures["stages"])
    assert figures["reference_tokens_per_second"] > 0
    assert figures["reference_sparse_tokens_per_second"] > 0


def test_eight_bits_run_too(capsys):
    """The same code with the blocks in fp8, whose product rate is measured beside bfloat16's."""
    arguments = "--device cpu --tiny --dtype fp8 --seconds 0.01 --documents 4 --tokens 1024 --reference-documents 0"
    figures = main(arguments.split())
    assert capsys.readouterr().out.startswith("memory plan: blocks 0-2 in fp8")
    assert figures["matrix_tflops_fp8"] > 0
    assert figures["tokens"] % sum(lengths_of(4)) == 0


def test_compiled_blocks_run_too(capsys):
    """Attention is left as it is; the modules inside a compiled block are not timed."""
    arguments = "--device cpu --tiny --dtype float32 --blocks 1 --seconds 0.01 --documents 4 --reference-documents 0"
    figures = main([*arguments.split(), "--compile", "eager"])
    assert figures["compile"] == "eager"
    assert figures["stages"] == []
    assert figures["tokens"] % sum(lengths_of(4)) == 0


def test_the_docstrings_arithmetic():
    """51 blocks and the SAE are 88.35 GFLOP a token: 65% of 700 TFLOP/s are 5,150 tokens/s."""
    block = shape_of(transformers.LlamaConfig(**LLAMA_70B), 0).blocks[0].matrix
    flops = BLOCKS * 2 * block + 2 * 8192 * 65_536
    assert flops / 1e9 == pytest.approx(88.35, abs=0.01)
    assert 0.65 * 700e12 / flops == pytest.approx(5150, abs=10)
    assert 0.75 * 700e12 / flops == pytest.approx(5940, abs=10)


def test_lengths_follow_the_profile():
    """Drawn lengths have the profile's middle and ends, the same every time."""
    found = sorted(lengths_of(2001))
    assert found == sorted(lengths_of(2001))
    assert found[1000] == pytest.approx(PROFILE[10] + FRAME, rel=0.05)
    assert min(found) >= PROFILE[0] + FRAME
    assert max(found) <= PROFILE[-1] + FRAME


def test_stages_run_too(capsys):
    """Blocks in two stages on one device: the split is told, and what stages alone cannot tell is left out."""
    arguments = "--device cpu --tiny --dtype float32 --seconds 0.01 --documents 4 --tokens 1024 --stages 2"
    figures = main(arguments.split())
    assert figures["stages_of_blocks"] == [1, 3]
    assert figures["tokens"] % sum(lengths_of(4)) == 0
