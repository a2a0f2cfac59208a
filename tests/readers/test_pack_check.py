"""Promise: a kernel that is wrong on the card at hand is found when the reader is loaded, and never used.

The kernels are stand-ins for torch's variable-length attention: one that does what its documentation says, and that one
broken in the ways in which kernels break.
"""

from itertools import pairwise

import pytest
import torch
import transformers
from tiny import make_model

from saeray.readers.lost import is_lost
from saeray.readers.pack_check import LENGTHS, PacksWrong, _documents, check_packs
from saeray.readers.packed import PackedReader
from saeray.readers.packing import layout

SHAPE = {"num_hidden_layers": 4, "hidden_size": 32, "intermediate_size": 64, "vocab_size": 400}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2}


def kernel(broken=None):
    """torch's varlen_attn in float64; `broken` is what is wrong with it."""

    def varlen_attn(q, k, v, offsets, _, longest, __, *, scale, enable_gqa, num_splits, window_size):
        edges = offsets.tolist()
        if broken == "edge":
            edges[1:-1] = [edge + 1 for edge in edges[1:-1]]
        if broken == "neighbours":
            edges = [0, edges[-1]]
        group = q.shape[1] // k.shape[1]
        heads = [h % k.shape[1] if broken == "heads" else h // group for h in range(q.shape[1])]
        out = torch.empty_like(q)
        for a, b in pairwise(edges):
            seen = torch.ones(b - a, b - a, dtype=torch.bool)
            seen = seen if broken == "ahead" else seen.tril()
            if window_size[0] >= 0 and broken != "window":
                seen = seen.triu(-window_size[0])
            for head, of in enumerate(heads):
                scores = q[a:b, head].double() @ k[a:b, of].double().T * (1.0 if broken == "scale" else scale)
                weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), dim=-1)
                out[a:b, head] = (weights @ v[a:b, of].double()).to(q.dtype)
        return out

    return varlen_attn


def reader(dtype, sliding_window=None):
    torch.manual_seed(0)
    config = transformers.MistralConfig(**SHAPE, **HEADS, sliding_window=sliding_window)
    return PackedReader(transformers.AutoModel.from_config(config, dtype=dtype).eval(), kernel="varlen")


@pytest.fixture
def use(monkeypatch):
    def patch(varlen_attn):
        monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_attn)

    patch(kernel())
    return patch


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_kernel_that_is_right_is_kept(use, dtype):
    """In either precision its rounding is no reason to leave it, and nothing is said."""
    one = reader(dtype)
    assert check_packs(one, 2048) is None
    assert one.kernel == "varlen"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("broken", ["neighbours", "edge", "ahead", "heads", "scale"])
def test_a_broken_kernel_is_left_with_one_line(use, dtype, broken):
    """The line has the distance and the bound; transformers' own attention is used from then on."""
    one = reader(dtype)
    use(kernel(broken))
    line = check_packs(one, 2048)
    assert one.kernel == "exact"
    assert "inside a pack documents attend one by one instead" in line
    far, most = (float(line.split(words)[1].split()[0].rstrip(":;")) for words in ("off by ", "accounts for "))
    assert far > 5 * most > 0


def test_a_window_is_looked_at_where_sequences_reach_it(use):
    """A kernel deaf to sliding windows is right for sequences that none of them cuts, and wrong for longer ones."""
    use(kernel("window"))
    short, long = reader(torch.bfloat16, 150), reader(torch.bfloat16, 150)
    assert max(LENGTHS) < 150
    check_packs(short, 150)
    assert short.kernel == "varlen"
    check_packs(long, 2048)
    assert long.kernel == "exact"


@pytest.mark.parametrize(("window", "longer"), [(2048, [166]), (166, [166]), (165, []), (150, [])])
def test_a_window_is_looked_at_just_past_its_edge(window, longer):
    """16 tokens past it show the edge as well as any more, which would cost their square."""
    lengths = [len(ids) for ids in _documents(reader(torch.float32, 150), window)]
    assert lengths == [*LENGTHS, *longer]


def test_a_kernel_that_raises_is_left_in_its_own_words(use):
    """A card that the kernel was not built for says so at the first call."""

    def refuse(*_, **__):
        raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.\nand a trace")

    one = reader(torch.bfloat16)
    use(refuse)
    assert "FlashAttention only supports Ampere GPUs or newer.; inside a pack" in check_packs(one, 2048)
    assert one.kernel == "exact"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), torch.AcceleratorError("CUDA error: x")]
)
def test_what_is_not_the_kernels_fault_is_raised(use, error):
    """No memory, or no device any more."""

    def fail(*_, **__):
        raise error

    one = reader(torch.bfloat16)
    use(fail)
    with pytest.raises(type(error)):
        check_packs(one, 2048)


def test_packs_that_are_wrong_either_way_are_not_read(monkeypatch):
    """What loads the reader then reads rectangles."""
    one = PackedReader(make_model("gpt2", layers=3).transformer)
    check_packs(one, 2048)
    positions_run_on = lambda lengths: (layout(lengths)[0], layout([sum(lengths)])[1])  # noqa: E731
    monkeypatch.setattr("saeray.readers.packed.layout", positions_run_on)
    with pytest.raises(PacksWrong, match="packs are not read rightly on cpu: in a pack of 5 short documents"):
        check_packs(one, 2048)


@pytest.mark.parametrize(
    ("line", "gone"),
    [
        ("CUDA error: unspecified launch failure", True),
        ("CUDA error: device-side assert triggered", True),
        ("CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be", True),
        ("CUDA error: an illegal memory access was encountered", True),
        ("CUDA driver error: unspecified launch failure", True),
        ("CUDA driver error: out of memory", False),
        ("CUDA error: out of memory", False),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", False),
        ("mat1 and mat2 shapes cannot be multiplied: CUDA error: no", False),
    ],
)  # fmt: skip
def test_what_says_that_a_device_is_gone(line, gone):
    """The words that mean a dead CUDA context, and those of a call that may be made again."""
    assert is_lost(RuntimeError(line)) is gone
    assert is_lost(torch.AcceleratorError(line)) is (gone or line.startswith("mat1"))
