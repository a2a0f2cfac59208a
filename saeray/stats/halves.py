"""Two halves of the documents: one proposes what differs, the other says by how much.

An effect measured where it was picked is too large. A document and its like must not be in both halves: all rows of a
pairing key go together, and so do identical texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components


def proposing(keys: Sequence[str], texts: Sequence[str]) -> NDArray[np.bool_]:
    """Which documents propose, bool[documents]; the others verify.

    `keys`: the pairing key of each document (its doc_id where nothing is paired); `texts`: its text, or a digest of it.
    Give the documents of all sides in one call. Documents that share a key or a text, also by way of others, form a
    group; the group's half is a bit of the smallest hash among its keys. It hangs on nothing else: not on the order,
    on the side, on the number of documents or on a seed. New documents move an old one only by joining its group.

    The halves are as even as the groups are small: a canned answer to half of the prompts keeps these together.
    """
    if len(keys) != len(texts):
        raise ValueError(f"{len(keys)} keys of {len(texts)} texts")
    if not keys:
        return np.zeros(0, np.bool_)
    hashes = _hashes(keys)
    group = _groups(hashes, _hashes(texts))
    smallest = np.full(int(group.max()) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, group, hashes)
    # The lowest bit: the high ones of a smallest hash are nearly always 0.
    half: NDArray[np.bool_] = (smallest[group] & np.uint64(1)).astype(np.bool_)
    return half


def _groups(keys: NDArray[np.uint64], texts: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Connected components of documents, joined by equal keys and by equal texts; int64[documents]."""
    n = keys.size
    unique_keys, key = np.unique(keys, return_inverse=True)
    unique_texts, text = np.unique(texts, return_inverse=True)
    ends = np.concatenate([n + key, n + unique_keys.size + text])
    size = n + unique_keys.size + unique_texts.size
    edges = csr_array((np.ones(2 * n, np.int8), (np.tile(np.arange(n), 2), ends)), shape=(size, size))
    return np.asarray(connected_components(edges, directed=False)[1][:n], np.int64)


def _hashes(strings: Sequence[str]) -> NDArray[np.uint64]:
    """64 bits of each string: two of a million differing strings share them with a chance of 3e-8."""
    digests = (
        hashlib.blake2b(s.encode("utf-8", "surrogatepass"), digest_size=8, person=b"saeray-halves") for s in strings
    )
    return np.frombuffer(b"".join(d.digest() for d in digests), np.dtype("<u8")).astype(np.uint64)
