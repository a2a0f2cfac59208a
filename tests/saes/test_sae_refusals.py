"""Promise: a checkpoint that is missing, foreign, damaged or hostile gets one clear line, and nothing in it runs."""

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from saeray.errors import SaerayError, UsageError
from saeray.saes import inspect_sae, load_sae

torch.set_num_threads(1)

D_IN, D_SAE = 3, 5


def write(path, config=None, **change):
    path.mkdir(parents=True, exist_ok=True)
    tensors = {
        "W_enc": torch.ones(D_IN, D_SAE),
        "b_enc": torch.ones(D_SAE),
        "W_dec": torch.ones(D_SAE, D_IN),
        "b_dec": torch.ones(D_IN),
    } | change
    save_file({name: value for name, value in tensors.items() if value is not None}, path / "sae_weights.safetensors")
    (path / "cfg.json").write_text(json.dumps({"d_in": D_IN, "d_sae": D_SAE} | (config or {})))
    return path


def state(**change):
    return {
        "encoder_linear.weight": torch.ones(D_SAE, D_IN),
        "encoder_linear.bias": torch.ones(D_SAE),
        "decoder_linear.weight": torch.ones(D_IN, D_SAE),
        "decoder_linear.bias": torch.ones(D_IN),
    } | change


def refused(path, *words, load=load_sae, **how):
    with pytest.raises(SaerayError) as caught:
        load(str(path), **how)
    line = str(caught.value)
    assert "\n" not in line
    for word in (str(path), *words):
        assert word in line
    return line


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


@pytest.mark.parametrize("load", [load_sae, inspect_sae])
@pytest.mark.parametrize("how", ["zip", "legacy", "bare2", "bare4", "within"])
def test_a_hostile_pickle_is_refused_and_does_not_run(tmp_path, how, load):
    marker, file = tmp_path / "it-ran", tmp_path / "sae.pt"
    if how.startswith("bare"):
        file.write_bytes(pickle.dumps(Hostile(marker), protocol=int(how[-1])))
    else:
        payload = state(extra=Hostile(marker)) if how == "within" else Hostile(marker)
        torch.save(payload, file, _use_new_zipfile_serialization=how != "legacy")
    refused(file, "more than tensors", "refused", "not a state dict" if how == "bare4" else "open", load=load)
    assert not marker.exists()
    # The trap is a real one: the ordinary unpickler springs it.
    pickle.loads(file.read_bytes()) if how.startswith("bare") else torch.load(file, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("extra", [3, "text", [torch.ones(1)], {"deep": torch.ones(1)}, None])
def test_a_pickle_with_anything_beside_tensors_is_refused(tmp_path, extra):
    torch.save(state(extra=extra), tmp_path / "sae.pt")
    refused(tmp_path / "sae.pt", "more than tensors", "extra")


def test_a_hostile_npz_is_refused_and_does_not_run(tmp_path):
    marker, file = tmp_path / "it-ran", tmp_path / "params.npz"
    trap = np.array([Hostile(marker)], dtype=object)
    np.savez(file, W_enc=trap, b_enc=np.ones(D_SAE), threshold=np.ones(D_SAE))
    refused(file, "pickled objects", "refused")
    file.write_bytes(pickle.dumps(Hostile(marker)))
    refused(file, "pickled objects", "refused")
    assert not marker.exists()


def test_missing_and_unknown(tmp_path):
    refused(tmp_path / "nothing", "no SAE checkpoint", "check the path")
    refused("s3://bucket/sae", "copy the SAE to a local directory")
    refused(tmp_path, "an empty directory", "known formats", "goodfire", "sae_lens", "gemma_scope")
    (tmp_path / "weights.bin").write_bytes(b"1")
    refused(tmp_path, "weights.bin", "known formats")
    (tmp_path / "cfg.json").write_text("{}")
    refused(tmp_path, "cfg.json, weights.bin", "known formats")
    for name, family in {
        "params.safetensors": "Gemma Scope 2",
        "hyperparams.json": "Llama Scope",
        "sae.safetensors": "sparsify",
        "ae.pt": "dictionary_learning",
    }.items():
        where = tmp_path / family
        where.mkdir()
        (where / name).write_bytes(b"")
        refused(where, family, "known formats")
    torch.save({"W_enc": torch.ones(2, 2), "b_enc": torch.ones(2)}, tmp_path / "other.pt")
    refused(tmp_path / "other.pt", "W_enc, b_enc", "known formats")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    refused(tmp_path / "list.pt", "a pickled list", "known formats")
    np.savez(tmp_path / "params.npz", other=np.ones(2))
    refused(tmp_path / "params.npz", "W_enc", "known formats")


def test_format_that_was_asked_for(tmp_path):
    path = write(tmp_path / "a")
    assert load_sae(str(path), format="sae_lens").d_sae == D_SAE
    refused(path, "sae_lens, not goodfire", format="goodfire")
    with pytest.raises(UsageError, match="no SAE format gguf"):
        load_sae(str(path), format="gguf")
    with pytest.raises(UsageError, match=r"not torch\.int8"):
        load_sae(str(path), dtype=torch.int8)


@pytest.mark.parametrize("load", [load_sae, inspect_sae])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_truncated_files(tmp_path, share, load):
    """At every place: an empty file, within the header, within the data, before the end."""
    path = write(tmp_path / "a")
    torch.save(state(), tmp_path / "sae.pt")
    np.savez(tmp_path / "params.npz", W_enc=np.ones((3, 5)), b_enc=np.ones(5), threshold=np.ones(5))
    for where, file in (
        (path, path / "sae_weights.safetensors"),
        (tmp_path / "sae.pt",) * 2,
        (tmp_path / "params.npz",) * 2,
    ):
        whole = file.read_bytes()
        file.write_bytes(whole[: int(share * len(whole))])
        line = refused(where, load=load)
        assert "truncated or corrupt" in line or "refused" in line
    (path / "cfg.json").write_text('{"d_in": 3')
    refused(path, "cfg.json", "truncated or corrupt", load=load)
    (path / "cfg.json").write_text("[1]")
    refused(path, "one JSON object", load=load)


def test_wrong_shapes(tmp_path):
    refused(write(tmp_path / "a", b_enc=torch.ones(4)), "b_enc must be [5], got [4]")
    refused(write(tmp_path / "b", {"d_sae": 6}), "W_enc must be [3, 6]", "got [3, 5]")
    refused(write(tmp_path / "c", W_enc=torch.ones(5)), "no matrix W_enc")
    refused(write(tmp_path / "d", W_enc=None), "no matrix W_enc")
    refused(write(tmp_path / "e", b_dec=None), "no tensor b_dec")
    refused(write(tmp_path / "f", b_enc=torch.ones(5, dtype=torch.int32)), "b_enc must hold floats")
    refused(write(tmp_path / "g", W_dec=torch.ones(D_IN, D_SAE)), "W_dec must be [5, 3]", decoder=True)
    torch.save(state(**{"encoder_linear.bias": torch.ones(4)}), tmp_path / "sae.pt")
    refused(tmp_path / "sae.pt", "encoder_linear.bias must be [5], got [4]")
    np.savez(tmp_path / "params.npz", W_enc=np.ones((3, 5)), b_enc=np.ones(5), threshold=np.ones(3))
    refused(tmp_path / "params.npz", "threshold must be [5], got [3]")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_that_are_not_numbers(tmp_path, bad, dtype):
    W_enc = torch.ones(D_IN, D_SAE, dtype=dtype)
    W_enc[1, 3] = bad
    refused(write(tmp_path / "a", W_enc=W_enc), "W_enc holds NaN or infinite")
    torch.save(state(**{"encoder_linear.weight": W_enc.T}), tmp_path / "sae.pt")
    refused(tmp_path / "sae.pt", "encoder_linear.weight holds NaN or infinite")


def test_thresholds_may_be_infinite_but_not_nan(tmp_path):
    off = torch.tensor([0.0, float("inf"), 0.0, 0.0, 0.0])
    path = write(tmp_path / "a", {"architecture": "jumprelu"}, threshold=off)
    assert load_sae(str(path)).encode(torch.full((1, D_IN), 2.0))[0].gt(0).tolist() == [True, False, True, True, True]
    path = write(tmp_path / "b", {"architecture": "jumprelu"}, threshold=off * float("nan"))
    refused(path, "threshold holds NaN")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"architecture": "transcoder"}, ("transcoder", "not read")),
        ({"architecture": "skip_transcoder"}, ("skip_transcoder", "residual stream")),
        ({"architecture": "matching_pursuit"}, ("matching_pursuit", "known")),
        ({"activation_fn_str": "tanh-relu"}, ("tanh-relu",)),
        ({"normalize_activations": "covariance_whitening"}, ("covariance_whitening",)),
        ({"reshape_activations": "hook_z"}, ("attention heads",)),
        ({"hook_head_index": 3}, ("attention heads",)),
        ({"hook_point": "blocks.3.attn.hook_z"}, ("attention heads",)),
        ({"architecture": "topk"}, ("whole k", "None")),
        ({"architecture": "topk", "k": 2.5}, ("whole k", "2.5")),
        ({"architecture": "topk", "k": 0}, ("whole k",)),
        ({"architecture": "jumprelu"}, ("no threshold",)),
        ({"architecture": "batchtopk", "k": 3}, ("no threshold", "calibrate")),
        ({"architecture": "gated"}, ("no tensor b_gate",)),
        ({"normalize_activations": "expected_average_only_in", "norm_scaling_factor": 0}, ("norm_scaling_factor",)),
        ({"normalize_activations": "expected_average_only_in", "norm_scaling_factor": "2"}, ("norm_scaling_factor",)),
    ],
)
def test_what_sae_lens_can_and_saeray_cannot(tmp_path, config, words):
    refused(write(tmp_path / "a", config), *words)


def test_a_zip_that_is_no_state_dict(tmp_path):
    with zipfile.ZipFile(tmp_path / "sae.pt", "w") as archive:
        archive.writestr("hello.txt", "hi")
    refused(tmp_path / "sae.pt", "truncated or corrupt")
