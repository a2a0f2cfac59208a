"""The words that are latents in the toy corpus of these tests: latent i is word i."""

WORDS = ["table", "sorry", "great", "river", "seven", "the", "cat", "sat", "on", "mat", "."]
