"""SAELens checkpoints, the format most public SAEs come in and the one saeray writes its own in.

A directory with cfg.json and sae_weights.safetensors: since SAELens 6 the configuration nests what concerns the reader
under `metadata`; before, it was flat, with other names for some keys. saeray keeps presence thresholds, which SAELens
does not know, in presence.safetensors beside them, so that SAELens still opens the rest.
"""

import json
import math
import os
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor

from saeray.errors import SaerayError
from saeray.saes.base import SAE, InputNorm
from saeray.saes.batchtopk import BatchTopK
from saeray.saes.gated import Gated
from saeray.saes.jumprelu import JumpReLU
from saeray.saes.relu import ReLU
from saeray.saes.topk import TopK
from saeray.saes.weights import describe, files_of, fold_b_dec, read_header, read_json, read_tensors, take

CONFIG, WEIGHTS, PRESENCE = "cfg.json", "sae_weights.safetensors", "presence.safetensors"
SCALE = "_scale"  # of a matrix in 8-bit rows: float32 [d_sae], one factor a latent
SCALER = "activation_scaler.json"  # SAELens training checkpoints keep the scale of expected_average_only_in here

# The SAELens configuration layout written; a file without a version is read by SAELens as older than 6.
LAYOUT = "6.0.0"

ARCHITECTURES = {
    "standard": "relu",
    "relu": "relu",
    "topk": "topk",
    "batchtopk": "batchtopk",
    "matryoshka_batchtopk": "batchtopk",
    "jumprelu": "jumprelu",
    "gated": "gated",
}


def root(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def detect(path: Path) -> bool:
    """A directory with both files, or either file of one."""
    here = root(path)
    named = path.is_dir() or path.name in (CONFIG, WEIGHTS)
    return named and (here / CONFIG).is_file() and (here / WEIGHTS).is_file()


def files(path: Path) -> list[Path]:
    """The files that decide what the SAE computes."""
    return [here for name in (CONFIG, WEIGHTS, PRESENCE, SCALER) if (here := root(path) / name).is_file()]


def inspect(path: Path) -> dict[str, Any]:
    """Read cfg.json and the headers of the weights."""
    here = root(path)
    config = read_config(here)
    tensors = read_header(here / WEIGHTS)
    shape, dtype = tensors.get("W_enc", ([], ""))
    if len(shape) != 2:
        raise SaerayError(f"{here / WEIGHTS} has no matrix W_enc: found {', '.join(tensors) or 'nothing'}")
    return describe(
        here,
        format="sae_lens",
        architecture=config["architecture"],
        d_in=shape[0],
        d_sae=shape[1],
        dtype=dtype,
        k=config["k"] if config["architecture"] == "topk" else None,
        l0=config["metadata"].get("l0"),
        decoder="W_dec" in tensors,
        presence=(here / PRESENCE).is_file(),
        files=files_of(files(here)),
        metadata=config["metadata"],
    )


def read_config(here: Path) -> dict[str, Any]:
    """cfg.json of either layout, as architecture (saeray's name), k, conventions, and metadata.

    Raises SaerayError for what cannot be encoded from a residual stream: transcoders, per-head SAEs, and so on.
    """
    path = here / CONFIG
    raw = read_json(path)
    metadata = dict(raw["metadata"]) if isinstance(raw.get("metadata"), dict) else {}
    for new, old in (("model_name", "model_name"), ("hook_name", "hook_point"), ("hook_name", "hook_name")):
        if raw.get(old) is not None:
            metadata.setdefault(new, raw[old])
    for key in ("hook_layer", "hook_head_index", "context_size", "prepend_bos", "dataset_path", "l0"):
        if raw.get(key) is not None:
            metadata.setdefault(key, raw[key])

    named = str(raw.get("architecture") or "standard")
    activation = raw.get("activation_fn") or raw.get("activation_fn_str") or "relu"
    kwargs = raw.get("activation_fn_kwargs") or {}
    if named == "standard" and activation == "topk":
        named = "topk"  # before 6, TopK was a standard SAE with another activation
    if named not in ARCHITECTURES:
        raise SaerayError(
            f"{path}: SAELens architecture {named} is not read (known: {', '.join(ARCHITECTURES)}); transcoders and "
            "the like do not encode a residual stream"
        )
    if named == "standard" and activation != "relu":
        raise SaerayError(f"{path}: activation {activation} is not read; known: relu, topk")
    reshape = raw.get("reshape_activations") or ("hook_z" if "hook_z" in str(metadata.get("hook_name")) else "none")
    if reshape != "none" or metadata.get("hook_head_index") is not None:
        raise SaerayError(f"{path}: this SAE reads attention heads (hook_z), not a residual stream")
    norm = raw.get("normalize_activations") or "none"
    if norm is True:
        norm = "expected_average_only_in"
    if norm not in ("none", "expected_average_only_in", "layer_norm", "constant_norm_rescale"):
        raise SaerayError(f"{path}: normalize_activations {norm} is not read: export the SAE with it folded in")
    subtract = raw.get("apply_b_dec_to_input")
    return {
        "architecture": ARCHITECTURES[named],
        "d_in": raw.get("d_in"),
        "d_sae": raw.get("d_sae"),
        "k": raw.get("k", kwargs.get("k")),
        "subtract_b_dec": True if subtract is None else bool(subtract),
        "decoder_norm": bool(raw.get("rescale_acts_by_decoder_norm")) and ARCHITECTURES[named] in ("topk", "batchtopk"),
        "input_norm": "none" if norm == "expected_average_only_in" else norm,
        "scale": input_scale(here, raw, metadata) if norm == "expected_average_only_in" else 1.0,
        "metadata": metadata,
    }


def input_scale(here: Path, raw: dict[str, Any], metadata: dict[str, Any]) -> float:
    """The factor of expected_average_only_in: sqrt(d_in) over the mean norm of the training residuals.

    SAELens itself goes on unscaled when it opens such a directory; latents are then off by the factor.
    """
    scale = raw.get("norm_scaling_factor", metadata.get("norm_scaling_factor"))
    if scale is None and (here / SCALER).is_file():
        scale = read_json(here / SCALER).get("scaling_factor")
    if not isinstance(scale, int | float) or not 0 < scale < math.inf:
        raise SaerayError(
            f"{here / CONFIG}: normalize_activations expected_average_only_in needs its factor: "
            'add "norm_scaling_factor": NUMBER to it (SAELens lists published ones)'
        )
    return float(scale)


def load(path: Path, *, dtype: torch.dtype, decoder: bool) -> SAE:
    """The SAE in `dtype` on the CPU; of the decoder only what is asked for, or needed for its norms, is read."""
    here = root(path)
    config = read_config(here)
    wanted = {"W_enc", "b_enc", "threshold", "log_threshold", "topk_threshold", "b_gate", "b_mag", "r_mag"}
    if config["subtract_b_dec"] or decoder:
        wanted.add("b_dec")
    if config["decoder_norm"] or decoder:
        wanted |= {"W_dec", "scaling_factor"}
    weights = here / WEIGHTS
    tensors = dequantized(weights, read_tensors(weights, wanted | {"W_enc" + SCALE, "W_dec" + SCALE}))
    if decoder and not {"W_dec", "b_dec"} <= tensors.keys():
        raise SaerayError(
            f"{weights} holds no decoder: load it with decoder=False, or get the SAE with W_dec and b_dec"
        )
    if "W_enc" not in tensors or tensors["W_enc"].ndim != 2:
        raise SaerayError(f"{weights} has no matrix W_enc: found {', '.join(sorted(tensors)) or 'nothing'}")
    d_in, d_sae = tensors["W_enc"].shape
    if (config["d_in"] or d_in, config["d_sae"] or d_sae) != (d_in, d_sae):
        raise SaerayError(
            f"{weights}: W_enc must be [{config['d_in']}, {config['d_sae']}] by {CONFIG}, got [{d_in}, {d_sae}]"
        )
    sae = build(weights, config, tensors, dtype=dtype, decoder=decoder)
    if (here / PRESENCE).is_file():
        presence = read_tensors(here / PRESENCE, {"presence"})
        sae.presence = take(here / PRESENCE, presence, "presence", (d_sae,)).float()
    return sae


def dequantized(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices stored as int8 with a factor a latent, as float32; the rest as they are."""
    found = {name: value for name, value in tensors.items() if not name.endswith(SCALE)}
    for name, axis in (("W_enc", 0), ("W_dec", 1)):
        if name in found and found[name].dtype == torch.int8:
            d_sae = found[name].shape[1 - axis]
            factor = take(path, tensors, name + SCALE, (d_sae,))
            found[name] = found[name].float() * factor.unsqueeze(axis)
    return found


def quantized(name: str, matrix: Tensor) -> dict[str, Tensor]:
    """A matrix as int8 and a float32 factor a latent: 127 steps to the largest weight of each latent's vector."""
    axis = 0 if name == "W_enc" else 1
    factor = matrix.float().abs().amax(dim=axis).clamp(min=1e-12) / 127
    return {name: (matrix.float() / factor.unsqueeze(axis)).round().to(torch.int8), name + SCALE: factor}


def as_stored(weights: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """W_enc and W_dec of `weights` as they will be read back from a file in `dtype`, float32; the rest as it is."""
    found = dict(weights)
    for name in ("W_enc", "W_dec"):
        tensors = quantized(name, weights[name]) if dtype == torch.int8 else {name: weights[name].to(dtype)}
        found |= {name: dequantized(Path(), tensors)[name].float()}
    return found


def build(path: Path, config: dict[str, Any], tensors: dict[str, Tensor], *, dtype: torch.dtype, decoder: bool) -> SAE:
    """Fold the conventions of `config` into the encoder, and its inverse into the decoder.

    With s the input scale and n the decoder norms (1 where the SAE does not use them), the file means
    f = act(n * ((s x - b_dec) W + b)) and x' = ((f / n) W_dec + b_dec) / s.
    """
    d_in, d_sae = tensors["W_enc"].shape
    architecture = config["architecture"]

    def latent(name: str) -> Tensor:
        return take(path, tensors, name, (d_sae,)).float()

    W_enc = take(path, tensors, "W_enc", (d_in, d_sae))
    gate = latent("b_gate" if architecture == "gated" else "b_enc").double()
    b_mag, r_mag = (latent("b_mag").double(), latent("r_mag").double()) if architecture == "gated" else (None, None)
    b_dec = take(path, tensors, "b_dec", (d_in,)).double() if config["subtract_b_dec"] or decoder else None
    if config["subtract_b_dec"]:
        shift = fold_b_dec(W_enc, torch.zeros(d_sae), cast(Tensor, b_dec))
        gate = gate + shift
        if b_mag is not None and r_mag is not None:
            b_mag = b_mag + shift * r_mag.exp()

    scale = config["scale"]
    norms = None
    if config["decoder_norm"] or decoder:
        W_dec = take(path, tensors, "W_dec", (d_sae, d_in))
    if config["decoder_norm"]:
        norms = torch.linalg.vector_norm(W_dec, dim=1, dtype=torch.float32)
        gate = gate * norms
        W_enc = W_enc.float() * norms
    if scale != 1.0:
        W_enc = W_enc.float() * scale
    kept: dict[str, Any] = {"input_norm": cast(InputNorm, config["input_norm"])}
    if decoder and b_dec is not None:
        if "scaling_factor" in tensors:  # finetuning: latents are multiplied by it on their way to the decoder
            W_dec = W_dec.float() * latent("scaling_factor")[:, None]
        if norms is not None:
            W_dec = W_dec.float() / norms.clamp(min=1e-8)[:, None]
        if scale != 1.0:
            W_dec = W_dec.float() / scale
        kept |= {"W_dec": W_dec.to(dtype), "b_dec": b_dec / scale}
    W_enc = W_enc.to(dtype)
    if architecture == "relu":
        return ReLU(W_enc, gate, **kept)
    if architecture == "topk":
        return TopK(W_enc, gate, whole_k(path, config["k"]), **kept)
    if architecture == "gated":
        return Gated(W_enc, gate, cast(Tensor, r_mag), cast(Tensor, b_mag), **kept)
    kind = JumpReLU if architecture == "jumprelu" else BatchTopK
    return kind(W_enc, gate, read_threshold(path, tensors, d_sae), **kept)


def read_threshold(path: Path, tensors: dict[str, Tensor], d_sae: int) -> Tensor:
    """float32 [d_sae], or [] when the file repeats one number (a BatchTopK that SAELens saved as a JumpReLU)."""
    if "topk_threshold" in tensors:
        return take(path, tensors, "topk_threshold", tuple(tensors["topk_threshold"].shape)).float().reshape(())
    if "log_threshold" in tensors:
        threshold = take(path, tensors, "log_threshold", (d_sae,)).float().exp()
    elif "threshold" in tensors:
        threshold = take(path, tensors, "threshold", (d_sae,) if tensors["threshold"].ndim else ()).float()
    else:
        raise SaerayError(
            f"{path} has no threshold, and batch top-k without one depends on the batch: calibrate it first"
        )
    return threshold[0].clone() if threshold.ndim and bool((threshold == threshold[0]).all()) else threshold


def whole_k(path: Path, k: Any) -> int:
    if not isinstance(k, int | float) or k != int(k) or k < 1:
        raise SaerayError(f"{path.parent / CONFIG}: a topk SAE needs a whole k of at least 1, got {k!r}")
    return int(k)


def save_sae(
    sae: SAE, path: str, *, dtype: torch.dtype = torch.float16, metadata: dict[str, Any], decoder: bool
) -> None:
    """Write `sae` as a SAELens directory: cfg.json, sae_weights.safetensors, and presence.safetensors when it has any.

    Matrices are stored in `dtype` (int8: with a factor a latent, which SAELens does not read); biases and thresholds in
    float32, which costs nothing beside them. A BatchTopK is
    written as the jumprelu that it is at inference. b_dec is already part of the encoder's bias, hence
    apply_b_dec_to_input false. `metadata` (model_name, hook_name, l0, ...) must be JSON. Without the decoder the
    directory is half the size and saeray reads it, but SAELens, which insists on W_dec and b_dec, does not. Each file
    appears whole, cfg.json last. Raises SaerayError when a weight does not fit `dtype` or the decoder is not there.
    """
    if decoder and (sae.W_dec is None or sae.b_dec is None):
        raise SaerayError(f"{path}: this SAE was loaded without its decoder: load it with decoder=True to save it so")
    matrices = {"W_enc": sae.W_enc} | ({"W_dec": cast(Tensor, sae.W_dec)} if decoder else {})
    tensors = vectors(sae) | ({"b_dec": cast(Tensor, sae.b_dec).float()} if decoder else {})
    for name, matrix in matrices.items():
        tensors |= quantized(name, matrix) if dtype == torch.int8 else {name: matrix.to(dtype)}
    for name, value in tensors.items():
        if name != "threshold" and value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise SaerayError(f"{path}: {name} does not fit {dtype}: save in float32 or bfloat16")
    named = {"relu": "standard", "batchtopk": "jumprelu"}.get(sae.architecture, sae.architecture)
    config = {
        "architecture": named,
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        # What SAELens runs it in, thresholds included; the file's own dtype stands in its header.
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": sae.input_norm,
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": LAYOUT, **metadata},
    }
    if isinstance(sae, TopK):
        config |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    text = json.dumps(config, indent=2, allow_nan=False)
    here = Path(path)
    here.mkdir(parents=True, exist_ok=True)
    write_tensors(here / WEIGHTS, tensors)
    if sae.presence is None:
        (here / PRESENCE).unlink(missing_ok=True)
    else:
        write_tensors(here / PRESENCE, {"presence": sae.presence})
    part = here / (CONFIG + ".part")
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, here / CONFIG)


def vectors(sae: SAE) -> dict[str, Tensor]:
    """The encoder's per-latent tensors under SAELens's names, float32 [d_sae]."""
    if isinstance(sae, Gated):
        return {"b_gate": sae.b_enc.float(), "b_mag": sae.b_mag, "r_mag": sae.r_mag}
    bias = {"b_enc": sae.b_enc.float()}
    return {**bias, "threshold": sae.threshold.expand(sae.d_sae)} if isinstance(sae, JumpReLU) else bias


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    part = path.with_name(path.name + ".part")
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, part)
    part.chmod(0o644)  # safetensors lets only its owner read what it writes
    os.replace(part, path)
