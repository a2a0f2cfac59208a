"""Kinds of documents, so that a pair can be held against what its kinds alone would bring together.

A latent of film reviews and one of chat meet by surprise where both are frequent in all documents and rare in each
kind. Kinds are found, not given: documents of like profiles (`saeray.analysis.correlate.pairs.Profiles`), by spherical
k-means. They need not be right; they need only be finer than the corpus.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

#: Most kinds. Of 50 injected texts 30 kinds bring 44% among the findings, 100 bring 41%, and none 25%.
MOST = 30
#: Documents that a kind has on average, at least: one of a few dozen may be the very documents that a pair is about.
DOCUMENTS = 300
#: Documents that kinds are learnt on: 600 for each of the most.
LEARNT_ON = 20_000
ROUNDS = 20


def kinds_of(profiles: Sequence[Float32], kept: Sequence[Bool]) -> Float32:
    """Centres of the kinds, unit rows float32 [kinds, n], of documents in parts: `profiles` unit rows, `kept` bool of
    the same length. The same for the same input; a single kind where documents are few."""
    n = sum(int(own.sum()) for own in kept)
    every = np.concatenate([profile[own] for profile, own in zip(profiles, kept, strict=True)])
    rng = np.random.default_rng(0)
    if n > LEARNT_ON:
        every = every[np.sort(rng.choice(n, LEARNT_ON, replace=False))]
    number = int(np.clip(n // DOCUMENTS, 1, MOST))
    centres = every[np.sort(rng.choice(len(every), min(number, len(every)), replace=False))]
    for _ in range(ROUNDS):
        at = nearest(every, centres)
        sums = np.zeros_like(centres)
        np.add.at(sums, at, every)
        size = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(size > 0, sums / np.maximum(size, 1e-12), centres).astype(np.float32)
    return centres


def nearest(profile: Float32, centres: Float32) -> Int64:
    """The kind of each document, int64: the centre with the largest cosine, the first of equals."""
    found: Int64 = np.argmax(profile @ centres.T, axis=1).astype(np.int64)
    return found
