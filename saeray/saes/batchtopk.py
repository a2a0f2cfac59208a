"""BatchTopK autoencoders at inference.

In training the k * n largest of a batch survive; encoding so would make a document's latents depend on its batch
mates. Inference uses a threshold calibrated on training batches instead (the mean smallest survivor), which makes it
a JumpReLU whose threshold is one number, or one a latent when it was calibrated so. It is saved as one, too.
"""

from saeray.saes.jumprelu import JumpReLU


class BatchTopK(JumpReLU):
    """f = z where z > max(threshold, 0), else 0; threshold is float32 [] or [d_sae]."""

    architecture = "batchtopk"
