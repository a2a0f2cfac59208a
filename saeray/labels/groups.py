"""Latents that mean the same, as one finding with one name.

Of 400 latents that differ between two models dozens have one label ("apologies") or fire on the same documents; a list
of them reads as one thing said forty times. Groups are stars, not chains: every member is like the group's first
latent itself, so "cats", "cats and dogs", "dogs and wolves", "wolves" do not end up as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saeray.analysis.diff.presence import presence as present_in
from saeray.analysis.sides import Side, spread
from saeray.labels.coactivity import pairs_above

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

SAME_LABEL, NEAR_LABEL, SAME_DOCUMENTS = "same label", "near label", "same documents"
#: Similarity beyond chance of the sets of documents (saeray.labels.coactivity).
JACCARD = 0.7
#: Fewer documents say little: two latents that each met one document, the same, have a Jaccard similarity of 1.
MIN_SUPPORT = 10
#: Documents that are looked at. A Jaccard similarity of 0.7 among 50 documents is known to within 0.13.
DOCUMENTS = 5_000
#: Cosine of labels that mean the same, by all-MiniLM-L6-v2. Of 79,800 pairs of 400 automatic labels drawn at random 5
#: pass it, and all 5 read alike; the median pair has 0.29, the quantile 0.999 is 0.72, and from 0.80 to 0.82 stand
#: labels that share a topic ("oven", "recipe") but not a meaning.
NEAR = 0.85
#: For another embedder: the share of random pairs of labels that are less near than its level (0.82 for MiniLM).
QUANTILE = 0.9999
#: Labels that the level is measured on: 2,000 make 2 million pairs, 200 of them above the quantile.
LEVEL_LABELS = 2_000
_BLOCK = 2048


@dataclass(frozen=True)
class LatentGroup:
    """Latents that are one finding, the representative first; `why`: how the others are like it, "" for one alone."""

    name: str
    latents: tuple[int, ...]
    why: str


def group(
    latents: Sequence[int],
    *,
    labels: Mapping[int, str],
    embeddings: Float32 | None = None,
    documents_csr: sparse.csr_matrix | None = None,
    near: float = NEAR,
    jaccard: float = JACCARD,
    min_support: int = MIN_SUPPORT,
    weight: Sequence[float] | NDArray[np.float64] | None = None,
) -> list[LatentGroup]:
    """Every latent in exactly one group; heaviest representative first, and the members of each by weight.

    `latents`: distinct. `labels`: latent -> text; a missing or empty one is like no other. `embeddings`: float32
    [len(latents), n], unit rows, of their labels. `documents_csr`: [documents, len(latents)], an entry where present.
    `near`: least cosine of two labels (`near_level` measures one for another embedder). `weight`: who represents
    and names a group, a score or a frequency; None is the document frequency, or the given order where there are no
    documents. The heaviest latent takes all that are like it, then the heaviest of the rest.
    """
    n = len(latents)
    texts = [_plain(labels.get(int(latent), "")) for latent in latents]
    text_of, first_of = _distinct(texts)
    rank = _rank(n, weight, documents_csr)
    near_texts = _no_pairs(len(first_of))
    if embeddings is not None and len(first_of) > 1:
        own = np.asarray(embeddings, np.float32)[first_of]
        near_texts = _adjacency(*_near_pairs(own, near), len(first_of))
    same_documents = _no_pairs(n)
    if documents_csr is not None and n > 1:
        same_documents = _adjacency(*pairs_above(documents_csr, jaccard, min_support), n)
    latents_of: list[list[int]] = [[] for _ in first_of]
    for i in range(n):
        if text_of[i] >= 0:
            latents_of[text_of[i]].append(i)
    taken = np.zeros(n, bool)
    place = np.empty(n, np.int64)
    place[rank] = np.arange(n)
    groups = []
    for head in rank.tolist():
        if taken[head]:
            continue
        reasons: dict[int, str] = {head: ""}
        own_text = int(text_of[head])
        candidates = [(i, SAME_LABEL) for i in (latents_of[own_text] if own_text >= 0 else ())]
        if own_text >= 0:
            candidates += [(i, NEAR_LABEL) for t in _neighbours(near_texts, own_text) for i in latents_of[t]]
        candidates += [(i, SAME_DOCUMENTS) for i in _neighbours(same_documents, head)]
        for i, reason in candidates:
            if not taken[i]:
                reasons.setdefault(i, reason)
        members = sorted(reasons, key=lambda i: int(place[i]))
        taken[members] = True
        named = next((i for i in members if texts[i]), head)
        why = [reason for reason in (SAME_LABEL, NEAR_LABEL, SAME_DOCUMENTS) if reason in reasons.values()]
        name = labels.get(int(latents[named]), "").strip() or f"latent {int(latents[head])}"
        groups.append(LatentGroup(name, tuple(int(latents[i]) for i in members), ", ".join(why)))
    return groups


def groups_of_side(
    side: Side,
    latents: Sequence[int],
    *,
    labels: Mapping[int, str],
    embeddings: Float32 | None = None,
    near: float = NEAR,
    jaccard: float = JACCARD,
    min_support: int = MIN_SUPPORT,
    weight: Sequence[float] | NDArray[np.float64] | None = None,
    documents: int = DOCUMENTS,
) -> list[LatentGroup]:
    """`group` with the presence of `latents` in `documents` documents drawn from `side`; one pass."""
    return group(
        latents,
        labels=labels,
        embeddings=embeddings,
        documents_csr=presence(side, latents, documents),
        near=near,
        jaccard=jaccard,
        min_support=min_support,
        weight=weight,
    )


def presence(side: Side, latents: Sequence[int], documents: int = DOCUMENTS) -> sparse.csr_matrix:
    """[documents, len(latents)] float32, 1 where present, of `documents` documents drawn from `side`, in scan order."""
    wanted, place = np.unique(np.asarray(latents, np.int64), return_inverse=True)
    found = present_in(side.where(spread(side.n_documents, documents)), wanted)
    return sparse.csr_matrix(found[:, place].astype(np.float32))


def near_level(embeddings: Float32, quantile: float = QUANTILE) -> float:
    """The cosine that only 1 - `quantile` of random pairs of different labels pass: what this embedder calls near.

    `embeddings`: float32 [n, d], unit rows, one for each different label. 1.0, which only equals pass, when there are
    too few pairs for the quantile.
    """
    step = max(1, -(-len(embeddings) // LEVEL_LABELS))
    own = embeddings[::step]
    cosine = (own @ own.T)[np.triu_indices(len(own), 1)]
    if len(cosine) * (1 - quantile) < 1:
        return 1.0
    return float(np.quantile(cosine, quantile))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")


def _distinct(texts: Sequence[str]) -> tuple[Int64, Int64]:
    """Number of each text (-1 for an empty one), and where each different text is first."""
    numbers: dict[str, int] = {}
    first: list[int] = []
    text_of = np.full(len(texts), -1, np.int64)
    for i, text in enumerate(texts):
        if text:
            if text not in numbers:
                first.append(i)
            text_of[i] = numbers.setdefault(text, len(numbers))
    return text_of, np.asarray(first, np.int64)


def _rank(
    n: int, weight: Sequence[float] | NDArray[np.float64] | None, documents_csr: sparse.csr_matrix | None
) -> Int64:
    """Indices, heaviest first; of equals the one given first."""
    if weight is not None:
        heavy = np.nan_to_num(np.asarray(weight, np.float64), nan=-np.inf)
    elif documents_csr is not None:
        heavy = np.asarray(documents_csr.astype(bool).sum(axis=0), np.float64).ravel()
    else:
        heavy = np.zeros(n)
    return np.argsort(-heavy, kind="stable")


def _near_pairs(embeddings: Float32, level: float) -> tuple[Int64, Int64]:
    found: list[tuple[Int64, Int64]] = []
    for start in range(0, len(embeddings), _BLOCK):
        for other in range(start, len(embeddings), _BLOCK):
            cosine = embeddings[start : start + _BLOCK] @ embeddings[other : other + _BLOCK].T
            i, j = np.nonzero(cosine >= level)
            i, j = i + start, j + other
            found.append((i[i < j], j[i < j]))
    return np.concatenate([i for i, _ in found]), np.concatenate([j for _, j in found])


def _adjacency(i: Int64, j: Int64, n: int) -> sparse.csr_matrix:
    both = (np.concatenate([i, j]), np.concatenate([j, i]))
    return sparse.csr_matrix((np.ones(2 * len(i), bool), both), shape=(n, n))


def _no_pairs(n: int) -> sparse.csr_matrix:
    return sparse.csr_matrix((n, n), dtype=bool)


def _neighbours(adjacency: sparse.csr_matrix, i: int) -> list[int]:
    found: list[int] = adjacency.indices[adjacency.indptr[i] : adjacency.indptr[i + 1]].tolist()
    return found
