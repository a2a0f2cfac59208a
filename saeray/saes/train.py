"""Training a BatchTopK sparse autoencoder on collected residual vectors.

BatchTopK (Bussmann et al. 2024): over a batch of B tokens the B*k largest latent values stay, so L0 is k on average and
free to differ from token to token; at inference a threshold calibrated on held-out text stands in for the batch. Dead
latents are revived by an auxiliary loss (AuxK, Gao et al. 2024) and decoder rows keep unit norm.

Gradients are written out by hand: only B*k of the B*d_sae latent values are non-zero, so of the five products of a
step (2 B d_in d_sae multiply-adds each) only the encoder's is dense and the other four are sums over B*k rows.
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from saeray.errors import SaerayError
from saeray.saes.activations import Activations, shuffled_batches

log = logging.getLogger(__name__)
CHECKPOINT = "checkpoint.safetensors"
SLICE = 8192  # active latents gathered at a time: 8,192 rows of 576 float32 are 19 MB


@dataclass(frozen=True)
class TrainConfig:
    """d_sae latents, k active a token on average; `tokens` counts training tokens over all epochs."""

    d_sae: int = 16_384
    k: int = 32
    tokens: int = 4_000_000
    batch: int = 2048
    learning_rate: float = 6e-4
    warmup: int = 100
    seed: int = 0
    dead_after: int = 250_000  # tokens without firing; shorter and rare latents are dragged away from what they mean
    aux_k: int = 256
    aux_weight: float = 1 / 32
    precision: str = "float32"  # of the encoder's product: bfloat16 on a GPU; everything else is float32
    checkpoint_every: int = 200

    @property
    def steps(self) -> int:
        return self.tokens // self.batch


class Trainer:
    """An SAE in training, on standardised inputs `(x - mean) / scale`.

    enc, dec: float32 [d_sae, d_in]; enc_bias [d_sae]; dec_bias [d_in]. threshold: running mean of the smallest value
    that BatchTopK let through. silent: tokens since each latent last fired.
    """

    def __init__(self, config: TrainConfig, mean: Tensor, scale: Tensor, device: str = "cpu") -> None:
        self.config, self.mean, self.scale = config, mean.to(device), scale.to(device)
        self.device = torch.device(device)
        self.dtype = getattr(torch, config.precision)
        d_in = len(mean)
        rows = torch.randn(config.d_sae, d_in, generator=torch.Generator().manual_seed(config.seed)).to(device)
        self.dec = rows / rows.norm(dim=1, keepdim=True)
        self.enc = self.dec.clone()
        self.enc_bias = torch.zeros(config.d_sae, device=device)
        self.dec_bias = torch.zeros(d_in, device=device)
        self.threshold = torch.zeros((), device=device)
        self.silent = torch.zeros(config.d_sae, dtype=torch.int64, device=device)
        self.step = 0
        self._optimizer = torch.optim.Adam(
            [self.enc, self.dec, self.enc_bias, self.dec_bias], lr=config.learning_rate, betas=(0.9, 0.999), fused=True
        )

    def update(self, batch: Tensor) -> dict[str, float]:
        """One step on raw vectors [B, d_in]; returns fvu, L0 and the share of dead latents of this batch."""
        config = self.config
        x = (batch.to(self.device).float() - self.mean) / self.scale
        n, xc = len(x), x - self.dec_bias
        z = (xc.to(self.dtype) @ self.enc.to(self.dtype).T).float()
        z += self.enc_bias
        values, where, smallest = self._batch_topk(z, n * config.k)
        del z
        rows, latents = where // config.d_sae, where % config.d_sae
        by_row, by_latent = rows.argsort(stable=True), latents.argsort(stable=True)
        decoded = _weighted_sums(self.dec, latents[by_row], values[by_row], rows[by_row], n)
        error = decoded + self.dec_bias - x
        variance = x.pow(2).sum(1).mean()
        # The loss is mean |error|^2 over the inputs' mean square: scale-free, so one learning rate fits every layer.
        g = error * (2 / (n * variance))
        slope = torch.cat(
            [(g[rows[i : i + SLICE]] * self.dec[latents[i : i + SLICE]]).sum(1) for i in range(0, len(rows), SLICE)]
        )
        order = (rows[by_latent], latents[by_latent], config.d_sae)
        grad_dec = _weighted_sums(g, order[0], values[by_latent], *order[1:])
        grad_enc = _weighted_sums(xc, order[0], slope[by_latent], *order[1:])
        grad_bias = torch.zeros_like(self.enc_bias).index_add_(0, latents, slope)
        grad_dec_bias = g.sum(0) - grad_bias @ self.enc
        counts = torch.bincount(latents, minlength=config.d_sae)
        self.silent = torch.where(counts > 0, 0, self.silent + n)
        dead = torch.nonzero(self.silent > config.dead_after).flatten()
        if len(dead):
            self._add_auxiliary(dead, xc, -error, grad_enc, grad_dec, grad_bias)
        self._descend(grad_enc, grad_dec, grad_bias, grad_dec_bias)
        self.threshold = smallest if self.step == 0 else self.threshold.lerp(smallest, 0.01)
        self.step += 1
        return {
            "fvu": float(error.pow(2).sum() / (x - x.mean(0)).pow(2).sum()),
            "l0": len(where) / n,
            "dead": len(dead) / config.d_sae,
            "threshold": float(self.threshold),
        }

    def _batch_topk(self, z: Tensor, keep: int) -> tuple[Tensor, Tensor, Tensor]:
        """The `keep` largest positive values of z, their flat positions, and the smallest of them.

        Sorting all of z costs more than every product of the step; a floor below the running threshold leaves some
        twice `keep` candidates, and the exact choice is made among those.
        """
        flat = z.view(-1)
        floor = float(self.threshold) * 0.8
        where = _positions(flat > floor)
        while len(where) < keep and floor > 0:
            floor = floor / 2 if floor > 1e-3 else 0.0
            where = _positions(flat > floor)
        values = flat[where]
        if len(where) > keep:
            values, chosen = values.topk(keep, sorted=False)
            where = where[chosen]
        smallest = values.min() if len(values) else torch.zeros((), device=z.device)
        return values, where, smallest

    def _add_auxiliary(
        self, dead: Tensor, xc: Tensor, rest: Tensor, grad_enc: Tensor, grad_dec: Tensor, grad_bias: Tensor
    ) -> None:
        """Adds the gradient of AuxK: dead latents learn to reconstruct what the living ones left over."""
        with torch.enable_grad():
            enc, dec = self.enc[dead].requires_grad_(), self.dec[dead].requires_grad_()
            bias = self.enc_bias[dead].requires_grad_()
            z = torch.relu(xc @ enc.T + bias)
            top = z.topk(min(self.config.aux_k, len(dead)), dim=1)
            f = torch.zeros_like(z).scatter(1, top.indices, top.values)
            loss = (f @ dec - rest).pow(2).sum() / rest.pow(2).sum() * self.config.aux_weight
            gradients = torch.autograd.grad(loss, [enc, dec, bias])
        for total, part in zip((grad_enc, grad_dec, grad_bias), gradients, strict=True):
            total.index_add_(0, dead, part)

    def _descend(self, grad_enc: Tensor, grad_dec: Tensor, grad_bias: Tensor, grad_dec_bias: Tensor) -> None:
        # Only the part of a decoder row's gradient across the row moves it; along the row it would change the norm.
        grad_dec -= (grad_dec * self.dec).sum(1, keepdim=True) * self.dec
        gradients = (grad_enc, grad_dec, grad_bias, grad_dec_bias)
        norm = float(torch.stack([g.norm() for g in gradients]).norm())
        clip = min(1.0, 1.0 / (norm + 1e-9))
        for parameter, gradient in zip((self.enc, self.dec, self.enc_bias, self.dec_bias), gradients, strict=True):
            parameter.grad = gradient.mul_(clip)
        self._optimizer.param_groups[0]["lr"] = self.config.learning_rate * self._schedule()
        self._optimizer.step()
        self.dec /= self.dec.norm(dim=1, keepdim=True)

    def _schedule(self) -> float:
        """Linear warm-up, then flat, then linear to zero over the last quarter."""
        done = (self.step + 1) / self.config.steps
        return min(1.0, (self.step + 1) / self.config.warmup, (1 - done) * 4 + 1e-3)

    def save(self, directory: Path, key: str = "") -> None:
        """Writes a checkpoint that `restore` continues from, replacing the last one in a single step.

        key: what the vectors are made of; a checkpoint of other vectors is not continued.
        """
        state = {"enc": self.enc, "dec": self.dec, "enc_bias": self.enc_bias, "dec_bias": self.dec_bias}
        state |= {"threshold": self.threshold, "silent": self.silent, "mean": self.mean, "scale": self.scale}
        for i, slot in enumerate(self._optimizer.state.values()):
            state |= {f"adam.{i}.{name}": tensor for name, tensor in slot.items()}
        scratch = directory / "checkpoint.tmp"
        note = {"step": str(self.step), "config": json.dumps(asdict(self.config), sort_keys=True), "key": key}
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, scratch, note)
        scratch.replace(directory / CHECKPOINT)

    def restore(self, directory: Path, key: str = "") -> bool:
        """Continues from the directory's checkpoint when there is one of the same configuration and vectors."""
        from safetensors import safe_open

        path = directory / CHECKPOINT
        if not path.is_file():
            return False
        with safe_open(path, framework="pt") as file:
            note = file.metadata()
        if (note["config"], note.get("key")) != (json.dumps(asdict(self.config), sort_keys=True), key):
            return False
        state = load_file(path, device=str(self.device))
        for name in ("enc", "dec", "enc_bias", "dec_bias"):
            getattr(self, name).copy_(state[name])
        for name in ("threshold", "silent", "mean", "scale"):
            setattr(self, name, state[name])
        for i, parameter in enumerate(self._optimizer.param_groups[0]["params"]):
            self._optimizer.state[parameter] = {
                name: state[f"adam.{i}.{name}"] for name in ("step", "exp_avg", "exp_avg_sq")
            }
        self.step = int(note["step"])
        return True

    def grow(self, checkpoint: Path, sample: Tensor) -> None:
        """Starts from a finished training's latents; the further ones start at what those leave unexplained.

        sample: raw vectors [tokens, d_in], at least one for each new latent. A new latent's direction is the
        reconstruction error of one of them, drawn in proportion to its square; Adam starts afresh.
        """
        state = load_file(checkpoint, device=str(self.device))
        known, d_in = state["enc"].shape
        if d_in != len(self.mean) or known > self.config.d_sae:
            raise SaerayError(
                f"{checkpoint} has {known} latents of width {d_in}; it can start an SAE of width {d_in} with at least "
                f"as many latents, not {self.config.d_sae} of width {len(self.mean)}"
            )
        self.mean, self.scale = state["mean"], state["scale"]
        self.dec_bias.copy_(state["dec_bias"])
        self.threshold = state["threshold"]
        for name in ("enc", "dec", "enc_bias"):
            getattr(self, name)[:known] = state[name]
        new = self.config.d_sae - known
        if not new:
            return
        errors = torch.cat([self._error(part, known) for part in sample.split(4096)])  # type: ignore[no-untyped-call]
        generator = torch.Generator().manual_seed(self.config.seed)
        drawn = torch.multinomial(errors.pow(2).sum(1).cpu(), new, generator=generator)
        direction = torch.nn.functional.normalize(errors[drawn.to(errors.device)], dim=1)
        size = state["enc"].norm(dim=1).median()
        self.dec[known:], self.enc[known:] = direction, direction * size
        # A random direction passes the threshold on a tenth of all tokens; from this far below, it begins with its own.
        self.enc_bias[known:] = -3 * float(self.threshold)

    def _error(self, batch: Tensor, known: int) -> Tensor:
        """What the first `known` latents leave of raw vectors [B, d_in], standardised."""
        x = (batch.to(self.device).float() - self.mean) / self.scale
        z = (x - self.dec_bias) @ self.enc[:known].T + self.enc_bias[:known]
        error: Tensor = x - self.dec_bias - torch.where(z > self.threshold, z, 0) @ self.dec[:known]
        return error

    def folded(self) -> dict[str, Tensor]:
        """Weights on raw residuals: W_enc [d_in, d_sae], b_enc, W_dec [d_sae, d_in], b_dec; standardisation folded in.

        z = ((x - mean) / scale - dec_bias) enc^T + enc_bias, so W_enc = (enc / scale)^T; latent values keep the
        standardised space's size, and W_dec gives back raw residuals.
        """
        w_enc = (self.enc / self.scale).T.contiguous()
        b_enc = self.enc_bias - (self.mean / self.scale + self.dec_bias) @ self.enc.T
        return {
            "W_enc": w_enc,
            "b_enc": b_enc,
            "W_dec": self.dec * self.scale,
            "b_dec": self.mean + self.dec_bias * self.scale,
        }


def _weighted_sums(table: Tensor, index: Tensor, weight: Tensor, group: Tensor, groups: int) -> Tensor:
    """[groups, d]: per group the sum of weight * table[index]; `group` is ascending."""
    offsets = torch.searchsorted(group, torch.arange(groups, device=group.device))
    return torch.nn.functional.embedding_bag(index, table, offsets, mode="sum", per_sample_weights=weight)


def _positions(mask: Tensor) -> Tensor:
    """Where a flat mask is true; NumPy takes 30 ms for 33 million entries on a CPU, torch.nonzero some 150."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return torch.nonzero(mask).flatten()


def train(
    activations: Activations, config: TrainConfig, directory: Path, device: str = "cpu", start: Path | None = None
) -> Trainer:
    """Trains from where `directory` stands to the last step; logs L0, FVU and dead share every 50 steps.

    start: the directory of a finished training whose latents this one begins with.
    """
    directory.mkdir(parents=True, exist_ok=True)
    sample = torch.from_numpy(activations.train[:: max(1, len(activations.train) // 200_000)].astype(np.float32))
    trainer = Trainer(config, sample.mean(0), sample.std(0).clamp_min(1e-6), device)
    key = activations.progress.key
    if trainer.restore(directory, key):
        log.info("continuing at step %d of %d", trainer.step, config.steps)
    elif start is not None:
        trainer.grow(start / CHECKPOINT, sample[: max(2 * config.d_sae, 1)])
    begin, first = time.monotonic(), trainer.step
    batches = shuffled_batches(activations.train, config.batch, config.seed, trainer.step)
    with (directory / "log.jsonl").open("a") as record:
        while trainer.step < config.steps:
            figures = trainer.update(torch.from_numpy(next(batches)))
            if trainer.step % 50 == 0 or trainer.step == config.steps:
                rate = (trainer.step - first) * config.batch / (time.monotonic() - begin)
                line: dict[str, Any] = {"step": trainer.step, **{k: round(v, 5) for k, v in figures.items()}}
                record.write(json.dumps(line | {"tokens_per_second": round(rate)}) + "\n")
                record.flush()
                log.info("step %d of %d: %s, %.0f tokens/s", trainer.step, config.steps, figures, rate)
            if trainer.step % config.checkpoint_every == 0:
                trainer.save(directory, key)
    trainer.save(directory, key)
    return trainer


@torch.inference_mode()
def calibrate(weights: dict[str, Tensor], vectors: npt.NDArray[np.float16], l0: float) -> float:
    """The threshold at which `l0` latents a token are active on held-out vectors [tokens, d_in]."""
    w_enc, b_enc = weights["W_enc"], weights["b_enc"]
    keep = min(math.ceil(l0 * 8), w_enc.shape[1])  # of each token: more than are ever above the threshold
    tops = [
        torch.addmm(b_enc, torch.from_numpy(part.astype(np.float32)).to(w_enc.device), w_enc).topk(keep).values
        for part in _slices(vectors)
    ]
    ranked = torch.cat(tops).flatten().sort(descending=True).values
    return max(0.0, float(ranked[min(len(ranked) - 1, round(l0 * len(vectors)))]))


@torch.inference_mode()
def evaluate(weights: dict[str, Tensor], threshold: float, vectors: npt.NDArray[np.float16]) -> dict[str, float]:
    """L0, FVU (raw residual space and standardised), dead share and density figures on vectors [tokens, d_in]."""
    w_enc, b_enc, w_dec, b_dec = (weights[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec"))
    mean = torch.from_numpy(vectors.astype(np.float32).mean(0)).to(w_enc.device)
    scale = torch.from_numpy(vectors.astype(np.float32).std(0)).to(w_enc.device)
    error = total = error_std = total_std = active = 0.0
    fired = torch.zeros(w_enc.shape[1], dtype=torch.int64, device=w_enc.device)
    for part in _slices(vectors):
        x = torch.from_numpy(part.astype(np.float32)).to(w_enc.device)
        f = torch.addmm(b_enc, x, w_enc)
        f = torch.where(f > threshold, f, 0)
        rest = x - (f @ w_dec + b_dec)
        error += float(rest.pow(2).sum())
        total += float((x - mean).pow(2).sum())
        error_std += float((rest / scale).pow(2).sum())
        total_std += float(((x - mean) / scale).pow(2).sum())
        active += float((f > 0).sum())
        fired += (f > 0).sum(0)
    density = fired.double() / len(vectors)
    return {
        "tokens": len(vectors),
        "l0": active / len(vectors),
        "fvu": error / total,
        "fvu_standardised": error_std / total_std,
        "dead": float((fired == 0).double().mean()),
        "latents_denser_than_10_percent": int((density > 0.1).sum()),
    }


def _slices(vectors: npt.NDArray[np.float16], rows: int = 1024) -> list[npt.NDArray[np.float16]]:
    return [vectors[i : i + rows] for i in range(0, len(vectors), rows)]
