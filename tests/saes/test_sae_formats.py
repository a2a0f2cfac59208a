"""Promise: a checkpoint of every format encodes as the library that wrote it would, and only what is needed is read.

The files are written here by hand, and the latents compared with each family's own formula in float64 NumPy, its
conventions spelled out and nothing folded.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from saeray.errors import SaerayError
from saeray.saes import detect_format, inspect_sae, load_sae, sae_digest, save_sae, weights
from saeray.saes.batchtopk import BatchTopK
from saeray.saes.gated import Gated
from saeray.saes.relu import ReLU
from saeray.saes.sae_lens import as_stored
from saeray.saes.topk import TopK

torch.set_num_threads(1)

D_IN, D_SAE, N = 6, 20, 15
RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=(N, D_IN)) * 2 + 0.5
P = {
    "W_enc": RANDOM.normal(size=(D_IN, D_SAE)),
    "b_enc": RANDOM.normal(size=D_SAE),
    "W_dec": RANDOM.normal(size=(D_SAE, D_IN)) * RANDOM.uniform(0.2, 3, size=(D_SAE, 1)),
    "b_dec": RANDOM.normal(size=D_IN),
    "threshold": RANDOM.uniform(-0.3, 1.5, size=D_SAE),
    "b_gate": RANDOM.normal(size=D_SAE),
    "b_mag": RANDOM.normal(size=D_SAE),
    "r_mag": RANDOM.normal(size=D_SAE) * 0.3,
}
P = {name: value.astype(np.float32).astype(np.float64) for name, value in P.items()}
X32 = torch.from_numpy(X).float()
X = X32.double().numpy()


def relu(z):
    return np.maximum(z, 0)


def top(z, k):
    cut = np.sort(z, axis=1)[:, -k][:, None]
    return relu(np.where(z >= cut, z, 0))


def write_sae_lens(path, config, names, dtype=torch.float32, **more):
    path.mkdir(parents=True, exist_ok=True)
    tensors = {name: torch.from_numpy(np.array(P[name])).to(dtype) for name in names}
    tensors |= {name: torch.as_tensor(value) for name, value in more.items()}
    save_file(tensors, path / "sae_weights.safetensors")
    (path / "cfg.json").write_text(json.dumps({"d_in": D_IN, "d_sae": D_SAE, **config}))
    return str(path)


PLAIN = ("W_enc", "b_enc", "W_dec", "b_dec")
SIX = {"sae_lens_version": "6.1.0", "model_name": "gpt2", "hook_name": "blocks.8.hook_resid_pre"}


def close(f, expected):
    assert (expected > 0).any()
    assert (expected == 0).any()
    np.testing.assert_allclose(f.double().numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("subtract", [True, False, None])
def test_sae_lens_b_dec_is_subtracted_unless_told_not_to(tmp_path, subtract):
    config = {"architecture": "standard", "metadata": SIX}
    if subtract is not None:
        config["apply_b_dec_to_input"] = subtract
    path = write_sae_lens(tmp_path, config, PLAIN)
    x = X if subtract is False else X - P["b_dec"]
    close(load_sae(path).encode(X32), relu(x @ P["W_enc"] + P["b_enc"]))


def test_folding_b_dec_survives_a_large_offset(tmp_path):
    """b_dec of norm 1000 (attention sinks): its product is exact to float32, not to a float32 sum."""
    b_dec = np.full(D_IN, 400.0)
    b_dec[::2] *= -1
    path = write_sae_lens(tmp_path, {"architecture": "standard"}, PLAIN[:3], b_dec=torch.from_numpy(b_dec).float())
    folded = load_sae(path).b_enc
    exact = P["b_enc"] - b_dec @ P["W_enc"]
    assert np.array_equal(folded.numpy(), exact.astype(np.float32))


def test_sae_lens_six(tmp_path):
    z = (X - P["b_dec"]) @ P["W_enc"]
    norms = np.linalg.norm(P["W_dec"], axis=1)
    jump = np.maximum(P["threshold"], 0)
    cases = {
        "topk": ({"k": 3}, PLAIN, top(z + P["b_enc"], 3)),
        "topk_rescaled": (
            {"architecture": "topk", "k": 3, "rescale_acts_by_decoder_norm": True},
            PLAIN,
            top((z + P["b_enc"]) * norms, 3),
        ),
        "jumprelu": ({}, (*PLAIN, "threshold"), np.where(z + P["b_enc"] > jump, z + P["b_enc"], 0)),
        "batchtopk": ({}, (*PLAIN, "threshold"), np.where(z + P["b_enc"] > jump, z + P["b_enc"], 0)),
        "gated": (
            {},
            ("W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag"),
            (z + P["b_gate"] > 0) * relu(z * np.exp(P["r_mag"]) + P["b_mag"]),
        ),
    }
    for name, (config, names, expected) in cases.items():
        path = write_sae_lens(tmp_path / name, {"architecture": name, "metadata": SIX, **config}, names)
        sae = load_sae(path)
        close(sae.encode(X32), expected)
        assert sae.architecture == name.removesuffix("_rescaled")
        assert (sae.d_in, sae.d_sae, sae.W_dec) == (D_IN, D_SAE, None)


def test_batchtopk_training_checkpoint(tmp_path):
    config = {"architecture": "matryoshka_batchtopk", "k": 4, "rescale_acts_by_decoder_norm": True}
    path = write_sae_lens(tmp_path, config, PLAIN, topk_threshold=torch.tensor(1.25, dtype=torch.float64))
    z = ((X - P["b_dec"]) @ P["W_enc"] + P["b_enc"]) * np.linalg.norm(P["W_dec"], axis=1)
    close(load_sae(path).encode(X32), np.where(z > 1.25, z, 0))


def test_sae_lens_before_six(tmp_path):
    z = (X - P["b_dec"]) @ P["W_enc"] + P["b_enc"]
    flat = {"hook_point": "blocks.8.hook_resid_pre", "hook_point_layer": 8, "model_name": "gpt2"}
    path = write_sae_lens(tmp_path / "a", flat, PLAIN, scaling_factor=torch.ones(D_SAE))
    close(load_sae(path).encode(X32), relu(z))
    assert inspect_sae(path)["metadata"] == {"model_name": "gpt2", "hook_name": "blocks.8.hook_resid_pre"}
    k = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}, "architecture": "standard"}
    close(load_sae(write_sae_lens(tmp_path / "b", flat | k, PLAIN)).encode(X32), top(z, 4))
    log = {"log_threshold": torch.from_numpy(np.log(np.abs(P["threshold"]))).float()}
    path = write_sae_lens(tmp_path / "c", flat | {"architecture": "jumprelu"}, PLAIN, **log)
    close(load_sae(path).encode(X32), np.where(z > np.abs(P["threshold"]), z, 0))


@pytest.mark.parametrize("where", ["cfg", "metadata", "scaler"])
@pytest.mark.parametrize("architecture", ["standard", "topk", "gated"])
def test_input_scale_is_folded(tmp_path, where, architecture):
    """f = act((s x - b_dec) W + b), reconstructed in the residual's own units."""
    scale = 0.37
    config = {"architecture": architecture, "normalize_activations": "expected_average_only_in", "k": 5}
    if where == "cfg":
        config["norm_scaling_factor"] = scale
    if where == "metadata":
        config["metadata"] = SIX | {"norm_scaling_factor": scale}
    if where == "scaler":
        (tmp_path / "activation_scaler.json").write_text(json.dumps({"scaling_factor": scale}))
    path = write_sae_lens(tmp_path, config, tuple(P))
    z = (scale * X - P["b_dec"]) @ P["W_enc"]
    expected = {
        "standard": relu(z + P["b_enc"]),
        "topk": top(z + P["b_enc"], 5),
        "gated": (z + P["b_gate"] > 0) * relu(z * np.exp(P["r_mag"]) + P["b_mag"]),
    }[architecture]
    sae = load_sae(path, decoder=True)
    close(sae.encode(X32), expected)
    again = (expected @ P["W_dec"] + P["b_dec"]) / scale
    np.testing.assert_allclose(sae.decode(sae.encode(X32)).numpy(), again, rtol=1e-4, atol=1e-4)


def test_input_scale_true_of_old_and_missing_factor(tmp_path):
    path = write_sae_lens(tmp_path, {"normalize_activations": True}, PLAIN)
    with pytest.raises(SaerayError, match="norm_scaling_factor"):
        load_sae(path)
    path = write_sae_lens(tmp_path, {"normalize_activations": False}, PLAIN)
    close(load_sae(path).encode(X32), relu((X - P["b_dec"]) @ P["W_enc"] + P["b_enc"]))


def test_layer_norm_comes_before_the_b_dec_subtraction(tmp_path):
    path = write_sae_lens(tmp_path, {"normalize_activations": "layer_norm"}, PLAIN)
    seen = (X - X.mean(1, keepdims=True)) / (X.std(1, ddof=1, keepdims=True) + 1e-5)
    close(load_sae(path).encode(X32), relu((seen - P["b_dec"]) @ P["W_enc"] + P["b_enc"]))


def test_decoder_of_a_rescaled_topk_undoes_the_norms(tmp_path):
    scaling = RANDOM.uniform(0.5, 2, size=D_SAE).astype(np.float32)
    config = {"architecture": "topk", "k": 6, "rescale_acts_by_decoder_norm": True}
    path = write_sae_lens(tmp_path, config, PLAIN, scaling_factor=torch.from_numpy(scaling))
    sae = load_sae(path, decoder=True)
    f = sae.encode(X32)
    norms = np.linalg.norm(P["W_dec"], axis=1)
    expected = (f.double().numpy() * scaling / norms) @ P["W_dec"] + P["b_dec"]
    np.testing.assert_allclose(sae.decode(f).numpy(), expected, rtol=1e-4, atol=1e-4)


def goodfire_state():
    return {
        "encoder_linear.weight": torch.from_numpy(P["W_enc"].T.copy()).float(),
        "encoder_linear.bias": torch.from_numpy(P["b_enc"]).float(),
        "decoder_linear.weight": torch.from_numpy(P["W_dec"].T.copy()).float(),
        "decoder_linear.bias": torch.from_numpy(P["b_dec"]).float(),
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("half", [False, True])
def test_goodfire(tmp_path, zipped, half):
    """Plain relu, no b_dec subtraction; d_in is whatever the file says (8192 for the 70B)."""
    file = tmp_path / "Llama-3.3-70B-Instruct-SAE-l50.pt"
    torch.save(goodfire_state(), file, _use_new_zipfile_serialization=zipped)
    for path in (file, tmp_path):
        sae = load_sae(str(path), decoder=not half)
        expected = relu(X @ P["W_enc"] + P["b_enc"])
        close(sae.encode(X32), expected)
        if not half:
            np.testing.assert_allclose(sae.decode(sae.encode(X32)), expected @ P["W_dec"] + P["b_dec"], rtol=1e-4)
    facts = inspect_sae(str(file))
    assert (facts["format"], facts["architecture"], facts["l0"], facts["decoder"]) == ("goodfire", "relu", 121, True)
    assert (facts["d_in"], facts["d_sae"], facts["dtype"]) == (D_IN, D_SAE, "float32")
    assert facts["metadata"] == {"model_name": "Llama-3.3-70B-Instruct", "hook_layer": 50}


@pytest.mark.parametrize("upper", [True, False])
def test_gemma_scope(tmp_path, upper):
    """JumpReLU without b_dec subtraction, keys in either case; a negative threshold gates at 0."""
    where = tmp_path / "layer_12" / "width_16k" / "average_l0_82"
    where.mkdir(parents=True)
    names = (*PLAIN, "threshold")
    np.savez(where / "params.npz", **{n if upper else n.lower(): P[n].astype(np.float32) for n in names})
    z = X @ P["W_enc"] + P["b_enc"]
    expected = np.where(z > np.maximum(P["threshold"], 0), z, 0)
    for path in (where, where / "params.npz"):
        sae = load_sae(str(path), decoder=True)
        close(sae.encode(X32), expected)
        np.testing.assert_allclose(sae.decode(sae.encode(X32)), expected @ P["W_dec"] + P["b_dec"], rtol=1e-4)
    facts = inspect_sae(str(where))
    assert (facts["architecture"], facts["l0"], facts["dtype"], facts["decoder"]) == ("jumprelu", 82, "float32", True)
    assert facts["metadata"] == {"layer": "12", "width": "16k"}
    assert json.dumps(facts)


def test_embedding_sae_of_gemma_scope_is_refused(tmp_path):
    where = tmp_path / "embedding" / "width_4k"
    where.mkdir(parents=True)
    np.savez(where / "params.npz", **{n: P[n].astype(np.float32) for n in (*PLAIN, "threshold")})
    with pytest.raises(SaerayError, match="token embeddings"):
        load_sae(str(where))


def test_bfloat16_keeps_the_float32_threshold(tmp_path):
    threshold = torch.full((D_SAE,), 1.003)
    threshold[0] = 0.5
    path = write_sae_lens(tmp_path, {"architecture": "jumprelu"}, PLAIN, threshold=threshold)
    sae = load_sae(path, dtype=torch.bfloat16)
    assert (sae.W_enc.dtype, sae.b_enc.dtype, sae.threshold.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    assert torch.equal(sae.threshold, threshold)
    assert sae.encode(X32).dtype == torch.bfloat16


def test_sae_lens_decoder_is_not_read(tmp_path, monkeypatch):
    opened = []
    real = weights.safe_open

    class Spy:
        """The real file, noting which tensors are asked for."""

        def __init__(self, *args, **kwargs):
            self.file = real(*args, **kwargs)

        def __enter__(self):
            self.inside = self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def keys(self):
            return self.inside.keys()

        def get_tensor(self, name):
            opened.append(name)
            return self.inside.get_tensor(name)

    monkeypatch.setattr(weights, "safe_open", Spy)
    path = write_sae_lens(tmp_path, {"apply_b_dec_to_input": False}, PLAIN)
    load_sae(path)
    assert sorted(opened) == ["W_enc", "b_enc"]
    opened.clear()
    load_sae(path, decoder=True)
    assert sorted(opened) == sorted(PLAIN)


def test_goodfire_decoder_is_not_read(tmp_path):
    """Pages of the mapped file in memory after loading: the encoder's, and at most the kernel's read-ahead."""
    smaps = Path("/proc/self/smaps")
    if not smaps.exists():
        pytest.skip("needs Linux's smaps")
    file = tmp_path / "sae.pt"
    d_in, d_sae = 128, 16384  # 8 MiB a side
    torch.save(
        {
            "encoder_linear.weight": torch.zeros(d_sae, d_in),
            "encoder_linear.bias": torch.zeros(d_sae),
            "decoder_linear.weight": torch.zeros(d_in, d_sae),
            "decoder_linear.bias": torch.zeros(d_in),
        },
        file,
    )

    def resident():
        total, here = 0, False
        for line in smaps.read_text().splitlines():
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                here = line.endswith(str(file))
            elif here and line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
        return total

    sae = load_sae(str(file))
    encoder = sae.W_enc.numel() * 4
    assert encoder <= resident() < 1.3 * encoder
    assert load_sae(str(file), decoder=True).W_dec.sum() == 0
    del sae


R_MAG, B_MAG = (torch.from_numpy(P[name]).float() for name in ("r_mag", "b_mag"))
WEIGHTS = (torch.from_numpy(P["W_enc"]).float(), torch.from_numpy(P["b_enc"]).float())
DECODER = {"W_dec": torch.from_numpy(P["W_dec"]).float(), "b_dec": torch.from_numpy(P["b_dec"]).float()}


@pytest.mark.parametrize("decoder", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize(
    "make",
    [
        lambda: ReLU(*WEIGHTS, **DECODER),
        lambda: TopK(*WEIGHTS, 4, **DECODER),
        lambda: BatchTopK(*WEIGHTS, torch.tensor(1.003), **DECODER),
        lambda: BatchTopK(*WEIGHTS, torch.from_numpy(P["threshold"]).float(), **DECODER),
        lambda: Gated(*WEIGHTS, R_MAG, B_MAG, **DECODER),
        lambda: ReLU(*WEIGHTS, **DECODER, input_norm="layer_norm", presence=torch.rand(D_SAE)),
    ],
    ids=["relu", "topk", "batchtopk", "batchtopk_per_latent", "gated", "normed"],
)
def test_saved_and_loaded(tmp_path, make, dtype, decoder):
    sae = make()
    path = str(tmp_path / "sae")
    save_sae(sae, path, dtype=dtype, metadata={"model_name": "m", "hook_layer": 7, "l0": 41.5}, decoder=decoder)
    back = load_sae(path, decoder=decoder)
    W_enc = sae.W_enc.to(dtype).double().numpy()
    same = make()
    same.W_enc = torch.from_numpy(W_enc).float()
    assert torch.equal(back.encode(X32), same.encode(X32))
    assert (sae.presence is None) == (back.presence is None)
    if sae.presence is not None:
        assert torch.equal(back.presence, sae.presence)
    facts = inspect_sae(path)
    assert facts["dtype"] == str(dtype).removeprefix("torch.")
    assert (facts["l0"], facts["decoder"]) == (41.5, decoder)
    assert facts["presence"] == (sae.presence is not None)
    assert (facts["d_in"], facts["d_sae"]) == (D_IN, D_SAE)
    assert facts["metadata"]["hook_layer"] == 7
    if not decoder:
        with pytest.raises(SaerayError, match="holds no decoder"):
            load_sae(path, decoder=True)


def test_saved_file_is_what_sae_lens_expects(tmp_path):
    """Names, shapes and configuration of a SAELens >= 6 jumprelu; nothing in the weights that it does not know."""
    sae = BatchTopK(*WEIGHTS, torch.tensor(1.003), presence=torch.ones(D_SAE), **DECODER)
    save_sae(sae, str(tmp_path), metadata={"model_name": "m"}, decoder=True)
    config = json.loads((tmp_path / "cfg.json").read_text())
    assert config["architecture"] == "jumprelu"
    assert config["apply_b_dec_to_input"] is False
    assert (config["normalize_activations"], config["dtype"]) == ("none", "float32")
    assert config["metadata"] == {"sae_lens_version": "6.0.0", "model_name": "m"}
    tensors = load_file(tmp_path / "sae_weights.safetensors")
    assert {name: (list(t.shape), t.dtype) for name, t in tensors.items()} == {
        "W_enc": ([D_IN, D_SAE], torch.float16),
        "W_dec": ([D_SAE, D_IN], torch.float16),
        "b_enc": ([D_SAE], torch.float32),
        "b_dec": ([D_IN], torch.float32),
        "threshold": ([D_SAE], torch.float32),
    }
    assert torch.equal(tensors["threshold"], torch.full((D_SAE,), 1.003))
    assert load_sae(str(tmp_path)).threshold.ndim == 0  # one repeated number takes the quicker way
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "cfg.json",
        "presence.safetensors",
        "sae_weights.safetensors",
    ]


def test_saving_again_over_a_loaded_checkpoint(tmp_path):
    """The loaded weights are mapped from the file that is being replaced."""
    path = str(tmp_path)
    save_sae(ReLU(*WEIGHTS, presence=torch.ones(D_SAE)), path, metadata={}, decoder=False)
    sae = load_sae(path, dtype=torch.float16)
    sae.presence = None
    first = sae.W_enc.clone()
    save_sae(sae, path, metadata={}, decoder=False)
    assert torch.equal(sae.W_enc, first)
    assert load_sae(path).presence is None


def test_what_cannot_be_saved_is_said(tmp_path):
    with pytest.raises(SaerayError, match="without its decoder"):
        save_sae(ReLU(*WEIGHTS), str(tmp_path), metadata={}, decoder=True)
    with pytest.raises(SaerayError, match="does not fit"):
        save_sae(ReLU(WEIGHTS[0] * 1e6, WEIGHTS[1]), str(tmp_path), metadata={}, decoder=False)
    assert not list(tmp_path.iterdir())


def test_digest_names_the_bytes_and_not_the_place(tmp_path):
    a = write_sae_lens(tmp_path / "a", {}, PLAIN)
    b = write_sae_lens(tmp_path / "elsewhere" / "b", {}, PLAIN)
    digest = sae_digest(a)
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert sae_digest(b) == digest
    assert sae_digest(str(tmp_path / "a" / "cfg.json")) == digest
    (tmp_path / "a" / "README.md").write_text("of no matter")
    assert sae_digest(a) == digest
    (tmp_path / "elsewhere" / "b" / "cfg.json").write_text(json.dumps({"apply_b_dec_to_input": False}))
    assert sae_digest(b) != digest
    for name in ("x", "y"):
        torch.save(goodfire_state(), tmp_path / "one.pt")
        (tmp_path / "one.pt").rename(tmp_path / f"{name}.pt")
    assert (tmp_path / "x.pt").read_bytes() == (tmp_path / "y.pt").read_bytes()
    assert sae_digest(str(tmp_path / "x.pt")) != sae_digest(str(tmp_path / "y.pt"))
    save_file({"presence": torch.ones(D_SAE)}, tmp_path / "a" / "presence.safetensors")
    assert sae_digest(a) != digest
    stored = tmp_path / "a" / "sae_weights.safetensors"
    raw = bytearray(stored.read_bytes())
    raw[-1] ^= 1
    before = sae_digest(a)
    stored.write_bytes(raw)
    assert sae_digest(a) != before


def test_formats_are_detected(tmp_path):
    assert detect_format(write_sae_lens(tmp_path / "a", {}, PLAIN)) == "sae_lens"
    torch.save(goodfire_state(), tmp_path / "x.pth")
    assert detect_format(str(tmp_path / "x.pth")) == "goodfire"
    np.savez(tmp_path / "params.npz", W_enc=P["W_enc"])
    assert detect_format(str(tmp_path / "params.npz")) == "gemma_scope"


@pytest.mark.parametrize("decoder", [True, False])
def test_eight_bit_rows_come_back_within_half_a_step(tmp_path, decoder):
    """A quarter of float32's size: each weight within half of 1/127 of its latent's largest, the rest exact."""
    sae = BatchTopK(*WEIGHTS, torch.tensor(1.003), **DECODER)
    save_sae(sae, str(tmp_path), dtype=torch.int8, metadata={}, decoder=decoder)
    loaded = load_sae(str(tmp_path), decoder=decoder)
    step = sae.W_enc.abs().amax(dim=0) / 127
    assert ((loaded.W_enc - sae.W_enc).abs() <= 0.5001 * step).all()
    assert not torch.equal(loaded.W_enc, sae.W_enc)
    assert torch.equal(loaded.b_enc, sae.b_enc)
    if decoder:
        step = sae.W_dec.abs().amax(dim=1, keepdim=True) / 127
        assert ((loaded.W_dec - sae.W_dec).abs() <= 0.5001 * step).all()
    assert inspect_sae(str(tmp_path))["dtype"] == "int8"
    stored = as_stored({"W_enc": sae.W_enc, "W_dec": sae.W_dec}, torch.int8)
    assert torch.equal(stored["W_enc"], loaded.W_enc)
