"""SAE training: the hand-written gradients, resumption, calibration and what collection leaves out."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from saeray.errors import SaerayError
from saeray.saes.activations import shuffled_batches
from saeray.saes.train import CHECKPOINT, TrainConfig, Trainer, calibrate, evaluate, train

D_IN = 12


def vectors(n: int = 4096) -> np.ndarray:
    """Sparse combinations of 20 directions, off centre and of unequal scale."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(20, D_IN))
    codes = rng.exponential(size=(n, 20)) * (rng.random((n, 20)) < 0.1)
    return ((codes @ directions) * np.linspace(0.5, 4, D_IN) + 3).astype(np.float16)


class FakeActivations:
    """Stands where collected vectors stand: two arrays."""

    def __init__(self, key: str = "", tokens: int = 4096) -> None:
        both = vectors(tokens + 512)
        self.train, self.held_out = both[:tokens], both[tokens:]
        self.progress = SimpleNamespace(key=key)


def trainer_on(data: np.ndarray, **settings: object) -> Trainer:
    x = torch.from_numpy(data.astype(np.float32))
    config = TrainConfig(**({"d_sae": 48, "k": 3, "batch": 128, "tokens": 128 * 40, "warmup": 5} | settings))
    return Trainer(config, x.mean(0), x.std(0))


def autograd_update(trainer: Trainer, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradients of one step by autograd, from the definition: exact top-k over the batch, loss over mean square."""
    x = (batch.float() - trainer.mean) / trainer.scale
    parameters = {
        name: getattr(trainer, name).clone().requires_grad_() for name in ("enc", "dec", "enc_bias", "dec_bias")
    }
    z = torch.relu((x - parameters["dec_bias"]) @ parameters["enc"].T + parameters["enc_bias"])
    keep = z.flatten().topk(len(x) * trainer.config.k).indices
    f = torch.zeros_like(z).flatten().scatter(0, keep, z.flatten()[keep]).view_as(z)
    loss = (f @ parameters["dec"] + parameters["dec_bias"] - x).pow(2).sum(1).mean() / x.pow(2).sum(1).mean()
    loss.backward()
    return {name: parameter.grad for name, parameter in parameters.items()}


def test_gradients_are_autograds() -> None:
    """The science is right: hand-written gradients equal autograd's, once the decoder's radial part is taken out."""
    data = vectors()
    trainer = trainer_on(data)
    for step in range(3):
        batch = torch.from_numpy(data[step * 128 : (step + 1) * 128])
        expected = autograd_update(trainer, batch)
        radial = (expected["dec"] * trainer.dec).sum(1, keepdim=True) * trainer.dec
        expected["dec"] = expected["dec"] - radial
        norm = torch.stack([g.norm() for g in expected.values()]).norm()
        clip = min(1.0, 1.0 / float(norm))
        trainer.update(batch)
        for name, gradient in expected.items():
            found = getattr(trainer, name).grad
            torch.testing.assert_close(found, gradient * clip, rtol=1e-4, atol=1e-6)


def test_batch_topk_keeps_exactly_k_a_token_on_average() -> None:
    """L0 in training is k exactly, whatever the candidate floor."""
    data = vectors()
    trainer = trainer_on(data)
    for floor in (0.0, 0.5, 1e6):
        trainer.threshold = torch.tensor(floor)
        figures = trainer.update(torch.from_numpy(data[:128]))
        assert figures["l0"] == 3.0


def test_decoder_rows_keep_unit_norm_and_training_learns(tmp_path: Path) -> None:
    """A trained SAE reconstructs held-out vectors far better than the mean does."""
    activations = FakeActivations()
    trainer = train(
        activations, TrainConfig(d_sae=48, k=3, batch=128, tokens=128 * 1500, warmup=20, learning_rate=3e-3), tmp_path
    )
    torch.testing.assert_close(trainer.dec.norm(dim=1), torch.ones(48))
    weights = trainer.folded()
    threshold = calibrate(weights, activations.held_out[:256], 3)
    figures = evaluate(weights, threshold, activations.held_out[256:])
    assert figures["fvu_standardised"] < 0.35
    assert figures["l0"] == pytest.approx(3, rel=0.25)


def test_folding_gives_back_raw_residuals() -> None:
    """The shipped weights read raw residuals: standardisation is inside them."""
    data = vectors()
    trainer = trainer_on(data)
    for step in range(5):
        trainer.update(torch.from_numpy(data[step * 128 : (step + 1) * 128]))
    x = torch.from_numpy(data[:64].astype(np.float32))
    inner = (x - trainer.mean) / trainer.scale
    z = (inner - trainer.dec_bias) @ trainer.enc.T + trainer.enc_bias
    weights = trainer.folded()
    torch.testing.assert_close(x @ weights["W_enc"] + weights["b_enc"], z, rtol=1e-4, atol=1e-4)
    f = torch.relu(z)
    raw = (f @ trainer.dec + trainer.dec_bias) * trainer.scale + trainer.mean
    torch.testing.assert_close(f @ weights["W_dec"] + weights["b_dec"], raw, rtol=1e-4, atol=1e-4)


def test_the_auxiliary_loss_moves_dead_latents_and_no_others() -> None:
    """AuxK: a latent that lost every top-k gets a gradient once it counts as dead, and none before."""
    data = vectors()

    def gradients(silent: int) -> tuple[torch.Tensor, torch.Tensor]:
        trainer = trainer_on(data, dead_after=1000, aux_k=16)
        trainer.enc_bias[:10] = -2.0  # too weak for the top k, strong enough to be above zero somewhere
        trainer.silent[:10] = silent
        trainer.update(torch.from_numpy(data[:128]))
        return trainer.enc.grad[:10], trainer.enc.grad[10:]

    alive, others = gradients(0)
    lost = alive.abs().sum(1) == 0
    assert lost.any()
    dead, unmoved = gradients(10_000)
    assert (dead[lost].abs().sum(1) > 0).any()
    ratio = unmoved.norm() / others.norm()  # only the common clip may differ
    torch.testing.assert_close(unmoved, others * ratio, rtol=1e-4, atol=1e-7)


def test_resumes_to_the_same_weights(tmp_path: Path) -> None:
    """A training that was killed and run again ends in the same weights as one that was not."""
    activations = FakeActivations()
    config = TrainConfig(d_sae=48, k=3, batch=128, tokens=128 * 30, warmup=5, checkpoint_every=10)
    whole = train(activations, config, tmp_path / "whole")

    class Killed(Exception):
        pass

    broken = tmp_path / "broken"
    original = Trainer.update

    def update(self: Trainer, batch: torch.Tensor) -> dict[str, float]:
        if self.step == 17:
            raise Killed
        return original(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "update", update)
        with pytest.raises(Killed):
            train(activations, config, broken)
    resumed = train(activations, config, broken)
    for name in ("enc", "dec", "enc_bias", "dec_bias", "threshold"):
        assert torch.equal(getattr(whole, name), getattr(resumed, name)), name


def test_weights_of_other_vectors_are_not_continued(tmp_path: Path) -> None:
    """Another layer's vectors in the same directory start a training of their own."""
    config = TrainConfig(d_sae=48, k=3, batch=128, tokens=128 * 3, warmup=2)
    train(FakeActivations("layer 1"), config, tmp_path)
    again = train(FakeActivations("layer 1"), config, tmp_path)
    assert not Trainer(config, again.mean, again.scale).restore(tmp_path, "layer 2")
    assert Trainer(config, again.mean, again.scale).restore(tmp_path, "layer 1")


def test_batches_shuffle_across_documents_and_cover_everything() -> None:
    """One epoch reads every vector once, in an order that depends on the seed alone and can be entered anywhere."""
    data = np.arange(1000, dtype=np.float16)[:, None]
    batches = shuffled_batches(data, 100, seed=3, start=0)
    first = [next(batches) for _ in range(10)]
    assert sorted(np.concatenate(first).ravel().tolist()) == list(range(1000))
    assert np.ptp(first[0]) > 800
    again = shuffled_batches(data, 100, seed=3, start=4)
    np.testing.assert_array_equal(next(again), first[4])


def test_calibration_gives_the_l0_asked_for() -> None:
    """The threshold is where held-out tokens have the wanted number of active latents on average."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, D_IN)).astype(np.float16)
    weights = {"W_enc": torch.from_numpy(rng.normal(size=(D_IN, 300)).astype(np.float32)), "b_enc": torch.zeros(300)}
    for l0 in (2.0, 8.0):
        threshold = calibrate(weights, x, l0)
        z = torch.from_numpy(x.astype(np.float32)) @ weights["W_enc"]
        assert float((z > threshold).sum(1).float().mean()) == pytest.approx(l0, rel=0.02)


def test_too_little_text_is_refused_in_one_line(tmp_path: Path) -> None:
    """Bad input gets one clear line."""
    from saeray.config import TrainSAEConfig
    from saeray.pipeline.train_sae import finish

    activations = SimpleNamespace(progress=SimpleNamespace(held_out_tokens=10))
    with pytest.raises(SaerayError, match="held-out"):
        finish(TrainSAEConfig(inputs=["x"], out=str(tmp_path)), activations, {})


def test_a_grown_sae_keeps_its_latents_and_learns_more_with_new_ones(tmp_path: Path) -> None:
    """Width can be bought later: the known latents are as they were, and the further ones lower the error."""
    activations = FakeActivations(tokens=32_768)
    small = train(activations, TrainConfig(d_sae=16, k=3, batch=128, tokens=128 * 150, warmup=5), tmp_path / "small")
    config = TrainConfig(d_sae=48, k=3, batch=128, tokens=128 * 150, warmup=5, seed=1)
    grown = trainer_on(activations.train, d_sae=48)
    grown.grow(tmp_path / "small" / CHECKPOINT, torch.from_numpy(activations.train[:200].astype(np.float32)))
    for name in ("enc", "dec", "enc_bias"):
        assert torch.equal(getattr(grown, name)[:16], getattr(small, name))
    assert torch.equal(grown.mean, small.mean)
    assert torch.allclose(grown.dec.norm(dim=1), torch.ones(48))

    def held_out_error(trainer: Trainer) -> float:
        weights = trainer.folded()
        return evaluate(weights, calibrate(weights, activations.held_out, 3), activations.held_out)["fvu"]

    large = train(activations, config, tmp_path / "large", start=tmp_path / "small")
    assert held_out_error(large) < 0.8 * held_out_error(small)


def test_a_checkpoint_of_another_width_cannot_be_grown(tmp_path: Path) -> None:
    """One clear line, not a shape error from deep inside."""
    activations = FakeActivations()
    train(activations, TrainConfig(d_sae=48, k=3, batch=128, tokens=128 * 2, warmup=5), tmp_path)
    with pytest.raises(SaerayError, match="48 latents of width 12"):
        trainer_on(activations.train, d_sae=16).grow(tmp_path / CHECKPOINT, torch.zeros(64, D_IN))
