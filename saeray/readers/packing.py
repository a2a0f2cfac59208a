"""Which sequences share a pack: one row of tokens, sequence after sequence, without padding.

A rectangle of real documents wastes what its longest row leaves over; a pack wastes nothing, and every product of the
reader sees the whole of it. What a sequence is packed with may change its last bits on a GPU (see `packed`), so packs
are a pure function of the lengths, as `batches` are: the same shard is always packed in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Sequences in one pack. Each that is pooled has a row of d_sae x 16 bytes while the pack is: 512 x 65,536 are 0.5 GiB.
MOST_SEQUENCES = 512


def packs(lengths: Sequence[int], budget: int, most_sequences: int = MOST_SEQUENCES) -> list[list[int]]:
    """Indices of `lengths` in packs of at most `budget` tokens and `most_sequences` sequences.

    First fit, longest first, equal lengths by index: each sequence goes into the first pack with room. At most 11/9 of
    the fewest possible packs and one more (Dosa 2007). A sequence longer than the budget goes alone. The lengths that
    meet in a pack do not depend on the order in which sequences come, only on what lengths there are.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    result: list[list[int]] = []
    room = np.zeros(len(lengths), np.int64)  # tokens free in each pack, 0 for a full one
    for i in order:
        fits = np.flatnonzero(room[: len(result)] >= lengths[i])
        if not len(fits):
            result.append([i])
            room[len(result) - 1] = max(budget - lengths[i], 0) if most_sequences > 1 else 0
            continue
        pack = fits[0]
        result[pack].append(i)
        room[pack] = room[pack] - lengths[i] if len(result[pack]) < most_sequences else 0
    return result


def utilisation(lengths: Sequence[int], found: Sequence[Sequence[int]], budget: int) -> float:
    """Tokens over the packs' budgets, 0..1: how full the packs are. Padding is 0 whatever this is.

    A sequence longer than the budget counts as a full pack of its own length.
    """
    sizes = [sum(lengths[i] for i in pack) for pack in found]
    return sum(sizes) / max(sum(max(size, budget) for size in sizes), 1)


def layout(lengths: Sequence[int]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """(edges int32[n + 1], positions int64[tokens]) of sequences laid end to end.

    Sequence i is tokens edges[i]..edges[i + 1]; positions start at 0 in each.
    """
    edges = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=edges[1:])
    return edges, np.arange(edges[-1], dtype=np.int64) - np.repeat(edges[:-1], lengths)
