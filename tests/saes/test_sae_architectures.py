"""Promise: f is what the architecture's formula says, element by element, in every working dtype.

Each architecture is compared with its formula written out in float64 NumPy, one token and one latent at a time.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saeray.errors import SaerayError
from saeray.saes.base import SAE, gate_, round_down
from saeray.saes.batchtopk import BatchTopK
from saeray.saes.gated import Gated
from saeray.saes.jumprelu import JumpReLU
from saeray.saes.relu import ReLU
from saeray.saes.topk import TopK

torch.set_num_threads(1)

D_IN, D_SAE = 7, 23


def numbers(*shape, seed=0, scale=1.0):
    return torch.from_numpy(np.random.default_rng([seed, *shape]).normal(size=shape) * scale).float()


W, B = numbers(D_IN, D_SAE), numbers(D_SAE, seed=1)


def pre(x):
    """z by the definition, float64."""
    return x.double().numpy() @ W.double().numpy() + B.double().numpy()


def ref_topk(z, k):
    out = np.zeros_like(z)
    for row, line in zip(out, z, strict=True):
        for latent in sorted(range(len(line)), key=lambda i: (-line[i], i))[:k]:
            row[latent] = max(line[latent], 0)
    return out


def close(f, expected, rtol=1e-5):
    np.testing.assert_allclose(f.double().numpy(), expected, rtol=rtol, atol=1e-5)


def test_relu():
    x = numbers(11, D_IN, seed=2)
    close(ReLU(W, B).encode(x), np.maximum(pre(x), 0))


@pytest.mark.parametrize("kind", [JumpReLU, BatchTopK])
@pytest.mark.parametrize("scalar", [True, False])
def test_thresholded(kind, scalar):
    x = numbers(11, D_IN, seed=2)
    threshold = torch.tensor(0.7) if scalar else numbers(D_SAE, seed=3)  # some of them negative
    z = pre(x)
    expected = np.where((z > 0) & (z > threshold.double().numpy()), z, 0)
    assert 0 < (expected > 0).sum() < expected.size
    close(kind(W, B, threshold).encode(x), expected)


@pytest.mark.parametrize("k", [1, 4, D_SAE - 1, D_SAE, D_SAE + 5])
def test_topk(k):
    x = numbers(11, D_IN, seed=2)
    f = TopK(W, B, k).encode(x)
    close(f, ref_topk(pre(x), k))
    assert (f > 0).sum(1).max() <= k


def test_gated():
    x = numbers(11, D_IN, seed=2)
    r_mag, b_mag = numbers(D_SAE, seed=4), numbers(D_SAE, seed=5)
    gate = pre(x) > 0
    magnitude = x.double().numpy() @ (W.double().numpy() * np.exp(r_mag.double().numpy())) + b_mag.double().numpy()
    expected = gate * np.maximum(magnitude, 0)
    assert (gate & (expected == 0)).any()  # both paths matter
    assert (~gate & (magnitude > 0)).any()
    close(Gated(W, B, r_mag, b_mag).encode(x), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ndim", [0, 1])
def test_a_value_at_its_threshold_is_inactive(dtype, ndim):
    """Strict >, at the threshold exactly and one step above it."""
    at = torch.tensor([[0.5, 1.0, 2.0]], dtype=dtype)
    threshold = at[0].float() if ndim else torch.tensor(1.0)
    above = (at.view(torch.int16) + 1).view(dtype) if dtype.itemsize == 2 else torch.nextafter(at, at + 1)
    assert gate_(at.clone(), threshold)[0, 1] == 0
    assert torch.equal(gate_(above.clone(), threshold)[0, 1], above[0, 1])
    if ndim:
        assert not gate_(at.clone(), threshold).any()
        assert torch.equal(gate_(above.clone(), threshold), above)


@given(
    st.lists(st.floats(0, 2.0**127, width=32), min_size=1, max_size=8),
    st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=1, max_size=8),
    st.sampled_from([torch.bfloat16, torch.float16]),
)
@settings(max_examples=200, deadline=None)
def test_half_precision_gates_as_float32_would(thresholds, values, dtype):
    """Hazard: a threshold rounded to bf16 lets latents through, or shuts them out."""
    threshold = torch.tensor(thresholds)
    z = torch.tensor(values).to(dtype)[:, None].expand(-1, len(thresholds)).contiguous()
    expected = torch.where(z.float() > threshold, z.float(), 0.0).relu()
    assert torch.equal(gate_(z.clone(), threshold).float(), expected)
    assert torch.equal(gate_(z[:, :1].clone(), threshold[0]).float(), expected[:, :1])
    assert (round_down(threshold, dtype).float() <= threshold).all()


def test_threshold_stays_float32_through_every_cast():
    threshold = torch.full((D_SAE,), 1.003) + torch.arange(D_SAE) * 1e-4
    sae = JumpReLU(W, B, threshold, presence=threshold * 3)
    sae = sae.to(torch.bfloat16).half().to("cpu", torch.bfloat16)
    assert sae.W_enc.dtype == sae.b_enc.dtype == torch.bfloat16
    assert torch.equal(sae.threshold, threshold)
    assert torch.equal(sae.presence, threshold * 3)
    x = numbers(300, D_IN, seed=6)
    f = sae.encode(x)
    z = torch.addmm(sae.b_enc, x.bfloat16(), sae.W_enc)
    assert f.dtype == torch.bfloat16
    assert torch.equal(f.float(), torch.where(z.float() > threshold, z.float(), 0.0))


@given(
    st.integers(1, 12),
    st.lists(st.lists(st.integers(-2, 2), min_size=10, max_size=10), min_size=1, max_size=6),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
@settings(max_examples=200, deadline=None)
def test_topk_ties_go_to_the_lowest_index(k, rows, dtype):
    z = torch.tensor(rows, dtype=dtype)
    sae = TopK(torch.zeros(2, 10), torch.zeros(10), k)
    np.testing.assert_array_equal(sae.activate_(z.clone()).float().numpy(), ref_topk(z.float().numpy(), k))


def test_topk_ties_do_not_depend_on_batch_mates():
    z = torch.randint(0, 4, (500, 40), generator=torch.Generator().manual_seed(0)).bfloat16()
    sae = TopK(torch.zeros(2, 40), torch.zeros(40), 7)
    together = sae.activate_(z.clone())
    for i in range(0, 500, 37):
        assert torch.equal(sae.activate_(z[i : i + 1].clone())[0], together[i])


def every_architecture() -> list[SAE]:
    t, r, m = numbers(D_SAE, seed=3), numbers(D_SAE, seed=4), numbers(D_SAE, seed=5)
    return [
        ReLU(W, B),
        TopK(W, B, 5),
        BatchTopK(W, B, torch.tensor(0.5)),
        JumpReLU(W, B, t),
        Gated(W, B, r, m),
    ]


@pytest.mark.parametrize("sae", every_architecture(), ids=lambda sae: sae.architecture)
def test_every_architecture(sae, monkeypatch):
    """Non-contiguous and empty input, blocks of one row, any float input dtype, input left alone, NaN in sight."""
    x = numbers(9, D_IN, seed=2)
    before = x.clone()
    f = sae.encode(x)
    assert f.shape == (9, D_SAE)
    assert (f >= 0).all()
    assert torch.equal(x, before)
    assert not f.requires_grad
    strided = torch.stack([x, x + 1], dim=2)[:, :, 0]
    assert not strided.is_contiguous()
    torch.testing.assert_close(sae.encode(strided), f)
    torch.testing.assert_close(sae.encode(x.double()), f)
    assert sae.encode(x[:0]).shape == (0, D_SAE)
    monkeypatch.setattr("saeray.saes.base.SCRATCH", {"cpu": 1})
    assert torch.equal(sae.encode(x), f)
    x[4, 0] = float("nan")
    assert sae.encode(x)[4].isnan().any()
    assert not sae.encode(x)[[0, 8]].isnan().any()


@pytest.mark.parametrize("shape", [(3, D_IN + 1), (D_IN,), (2, 3, D_IN)])
def test_another_width_is_refused_by_name(shape):
    with pytest.raises(SaerayError, match=rf"\[n, {D_IN}\], got"):
        ReLU(W, B).encode(torch.zeros(shape))


def test_transposed_weights_are_used_as_they_lie():
    x = numbers(9, D_IN, seed=2)
    stored = W.T.contiguous()
    sae = ReLU(stored.T, B)
    assert sae.W_enc.data_ptr() == stored.data_ptr()
    torch.testing.assert_close(sae.encode(x), ReLU(W, B).encode(x))


def test_input_norms_by_their_formulas_and_a_zero_row():
    x = numbers(9, D_IN, seed=2, scale=30)
    x[3] = 0
    X = x.double().numpy()
    layer = (X - X.mean(1, keepdims=True)) / (X.std(1, ddof=1, keepdims=True) + 1e-5)
    length = np.linalg.norm(X, axis=1, keepdims=True)
    constant = X * np.sqrt(D_IN) / np.where(length == 0, 1, length)
    for norm, seen in (("layer_norm", layer), ("constant_norm_rescale", constant)):
        expected = np.maximum(seen @ W.double().numpy() + B.double().numpy(), 0)
        close(ReLU(W, B, input_norm=norm).encode(x), expected, rtol=1e-4)


def test_decode_needs_the_decoder():
    W_dec, b_dec = numbers(D_SAE, D_IN, seed=8), numbers(D_IN, seed=9)
    sae = ReLU(W, B, W_dec=W_dec, b_dec=b_dec)
    f = sae.encode(numbers(9, D_IN, seed=2))
    close(sae.decode(f), f.double().numpy() @ W_dec.double().numpy() + b_dec.double().numpy())
    with pytest.raises(SaerayError, match="decoder=True"):
        ReLU(W, B).decode(f)
    with pytest.raises(SaerayError, match="W_dec must be"):
        ReLU(W, B, W_dec=W_dec.T, b_dec=b_dec)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(SaerayError, match="b_enc must be"):
        ReLU(W, B[:-1])
    with pytest.raises(SaerayError, match="threshold must be"):
        JumpReLU(W, B, torch.zeros(1))
    with pytest.raises(SaerayError, match="k of a TopK"):
        TopK(W, B, 0)


def test_encode_takes_little_more_memory_than_its_result():
    """Hazard: a second [n, d_sae] array doubles the peak. Counted by the allocator's own hook."""
    n, d_sae = 512, 32768
    sae = JumpReLU(torch.zeros(4, d_sae), torch.ones(d_sae), torch.linspace(0, 2, d_sae))
    x = torch.zeros(n, 4)
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        sae.encode(x)
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    result = n * d_sae * 4
    assert result <= peak < 1.2 * result
