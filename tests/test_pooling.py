"""Promise: what the device pools is what the definition says, whatever is pooled with it and however it is cut.

The reference is dense and in float64: all latents of all tokens, one document at a time.
"""

import weakref

import numpy as np
import pytest
import torch
from alive import Alive
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_sae

from saeray import pooling as pooling_module
from saeray.pooled import pool
from saeray.pooling import begin_pooling
from saeray.readers.memory import Block, ReaderShape, make_plan
from saeray.saes.relu import ReLU


def identity(d_sae):
    """An SAE whose latents are the positive numbers of x themselves: values are chosen, not computed."""
    return ReLU(torch.eye(d_sae), torch.zeros(d_sae))


def reference(z):
    """(latents, max, count, peak, sum) of latents z [n, d_sae] in float64; the first of equal maxima is the peak."""
    z = z.double().numpy()
    latents = np.flatnonzero((z > 0).any(axis=0)) if len(z) else np.zeros(0, np.int64)
    active = z[:, latents]
    if not len(z):
        return latents, *(np.zeros(0) for _ in range(4))
    return latents, active.max(axis=0), (active > 0).sum(axis=0), active.argmax(axis=0), active.sum(axis=0)


def check(found, i, z, exact_sum=False):
    latents, maxima, count, peak, total = found.row(i)
    kinds = [array.dtype.name for array in (latents, maxima, count, peak, total)]
    assert kinds == ["int32", "float32", "int32", "int32", "float32"]
    expected = reference(z)
    np.testing.assert_array_equal(latents, expected[0])
    np.testing.assert_array_equal(maxima, expected[1])
    np.testing.assert_array_equal(count, expected[2])
    np.testing.assert_array_equal(peak, expected[3])
    np.testing.assert_allclose(total, expected[4], rtol=0 if exact_sum else 1e-6)


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, 9), max_size=12), st.integers(1, 7), st.integers(1, 9), st.integers(1, 5),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_any_cut_is_the_dense_reference(lengths, d_sae, chunk, segments, seed):
    """Segments of 0 to 9 tokens, chunks and groups of any size, values with many ties and zeros: exactly the dense
    reference, the sum too, whose terms are small whole numbers.
    """
    x = torch.from_numpy(np.random.default_rng(seed).integers(-2, 4, (sum(lengths), d_sae)).astype(np.float32))
    found = begin_pooling(identity(d_sae), x, lengths, chunk_tokens=chunk, segments=segments).rows()
    assert found.finite.tolist() == [True] * len(lengths)
    for i, part in enumerate(torch.split(x, lengths)):
        check(found, i, part.clamp(min=0), exact_sum=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["relu", "jumprelu", "batchtopk", "gated", "topk"])
def test_every_architecture(architecture, dtype):
    """Of what the SAE itself gives for the same chunk, in either precision; a document is longer than two chunks."""
    sae = make_sae(d_in=16, d_sae=97, architecture=architecture).to(dtype)
    lengths = [3, 1, 150, 20, 1]
    x = 3 * torch.randn(sum(lengths), 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = begin_pooling(sae, x, lengths, chunk_tokens=64).rows()
    z = torch.cat([sae.encode(x[a:b]) for a, b in ((0, 4), (4, 68), (68, 132), (132, 175))])
    for i, part in enumerate(z.split(lengths)):
        check(found, i, part)
    assert (np.diff(found.edges) > 0).any()


@settings(max_examples=100)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=9), st.integers(1, 12), st.data())
def test_a_segments_row_is_the_same_bytes_in_any_company(lengths, chunk, data):
    """The sum too: where chunks cut a segment depends on the segment alone."""
    chosen = data.draw(st.integers(0, len(lengths) - 1))
    x = torch.rand(sum(lengths), 5, generator=torch.Generator().manual_seed(0))
    together = begin_pooling(identity(5), x, lengths, chunk_tokens=chunk).rows()
    part = torch.split(x, lengths)[chosen]
    alone = begin_pooling(identity(5), part, [len(part)], chunk_tokens=chunk).rows()
    for one, other in zip(together.row(chosen), alone.row(0), strict=True):
        assert one.tobytes() == other.tobytes()


def test_the_same_as_the_cpus_own_pool():
    """Latents, maxima, counts and peaks are bit for bit those of `pooled.pool`; sums to rounding."""
    sae = make_sae(d_in=16, d_sae=64)
    x = 2 * torch.randn(90, 16, generator=torch.Generator().manual_seed(1))
    row = pool(sae.encode(x), np.arange(90, dtype=np.int32))
    latents, maxima, count, peak, total = begin_pooling(sae, x, [90]).rows().row(0)
    for one, other in ((latents, row.latents), (maxima, row.max), (count, row.count), (peak, row.peak)):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(total, row.sum, rtol=1e-6)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_ties_zeros_and_a_latent_on_every_token(chunk):
    """A constant latent peaks at token 0 and counts every token; one that is never positive is in no row; of equal
    maxima in different chunks the first counts.
    """
    x = torch.zeros(10, 4)
    x[:, 0] = 2.0
    x[[3, 7], 2] = 5.0
    x[9, 3] = 1e-30
    found = begin_pooling(identity(4), x, [10], chunk_tokens=chunk).rows()
    latents, maxima, count, peak, total = found.row(0)
    assert latents.tolist() == [0, 2, 3]
    assert maxima.tolist() == [2.0, 5.0, np.float32(1e-30)]
    assert count.tolist() == [10, 2, 1]
    assert peak.tolist() == [0, 3, 9]
    assert total.tolist() == [20.0, 10.0, np.float32(1e-30)]


def test_all_zero_and_empty():
    """Nothing active, no tokens, no segments: rows without latents, not errors."""
    found = begin_pooling(identity(3), -torch.ones(5, 3), [2, 0, 3, 0]).rows()
    assert found.edges.tolist() == [0, 0, 0, 0, 0]
    assert found.finite.all()
    assert all(len(array) == 0 for i in range(4) for array in found.row(i))
    assert begin_pooling(identity(3), torch.zeros(0, 3), []).rows().edges.tolist() == [0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("chunk", [2, 50])
def test_a_vector_that_is_not_finite_spoils_its_segment_alone(bad, chunk):
    """That segment is flagged; its neighbours' rows are as without it."""
    lengths = [4, 5, 3]
    x = torch.rand(12, 6, generator=torch.Generator().manual_seed(0)) + 0.1
    clean = begin_pooling(identity(6), x, lengths, chunk_tokens=chunk).rows()
    x[6, 2] = bad
    found = begin_pooling(identity(6), x, lengths, chunk_tokens=chunk).rows()
    assert found.finite.tolist() == [True, False, True]
    for i in (0, 2):
        for one, other in zip(found.row(i), clean.row(i), strict=True):
            np.testing.assert_array_equal(one, other)


def test_lengths_must_add_up():
    """A caller that forgets tokens is a bug, and is told."""
    with pytest.raises(ValueError, match="5 vectors for segments of 4 tokens"):
        begin_pooling(identity(3), torch.zeros(5, 3), [4]).rows()


def test_one_copy_to_the_host_a_batch(monkeypatch):
    """Many documents, chunks and groups: the host asks for one tensor."""
    copies = []
    real = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: (copies.append(tensor.shape), real(tensor))[1])
    begin_pooling(identity(8), torch.rand(60, 8), [6] * 10, chunk_tokens=7, segments=3).rows()
    assert len(copies) == 1


def test_the_host_does_not_wait_before_it_asks_for_rows():
    """Until then no number is asked for: it runs on tensors that have no numbers."""
    sae = make_sae(d_in=16, d_sae=40).to("meta")
    pooling = begin_pooling(sae, torch.zeros(60, 16, device="meta"), [6] * 10 + [0], chunk_tokens=7)
    assert [part.shape for part in pooling.last] == [(4, 11, 40), (11,)]
    with pytest.raises(NotImplementedError):
        pooling.rows()


def test_groups_have_one_state_at_a_time(monkeypatch):
    """Of more segments than a group holds, each group's state is gone before the next one's is made."""
    states = []
    real = pooling_module._pool_group

    def pool_group(*args):
        assert all(state() is None for state in states)
        state, finite = real(*args)
        states.append(weakref.ref(state))
        return state, finite

    monkeypatch.setattr(pooling_module, "_pool_group", pool_group)
    found = begin_pooling(identity(8), torch.rand(60, 8), [6] * 10, segments=3).rows()
    assert len(states) == 4
    assert len(found.finite) == 10


def test_memory_is_what_the_plan_counts():
    """Latents of one chunk and the state: at one time no more bytes than the memory plan has for them."""
    d_sae, d_in, chunk, segments = 512, 8, 64, 16
    sae = make_sae(d_in=d_in, d_sae=d_sae, architecture="relu")
    x = torch.randn(16 * 40, d_in)
    alive = Alive()
    with alive:
        begin_pooling(sae, x, [40] * 16, chunk_tokens=chunk, segments=segments).rows()
    shape = ReaderShape(d_in, d_in, d_in, d_in, 0, (Block(d_in, d_in, d_in),))
    plan = make_plan(
        shape, d_sae=d_sae, memory=2**34, dtype="float32", window=64, chunk_tokens=chunk, segments=segments
    )
    parts = plan.stages[0].parts
    assert alive.peak <= parts["latents of a chunk"] + parts["pooling state"]
    assert parts["latents of a chunk"] + parts["pooling state"] < 3 * alive.peak
