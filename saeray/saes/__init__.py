"""Sparse autoencoders: the residual stream of a reader into latents, from every checkpoint format that is read."""

from saeray.saes.base import SAE
from saeray.saes.load import detect_format, inspect_sae, load_sae, sae_digest
from saeray.saes.sae_lens import save_sae

__all__ = ["SAE", "detect_format", "inspect_sae", "load_sae", "sae_digest", "save_sae"]
