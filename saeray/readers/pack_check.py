"""Do packs give what documents give alone, on this very device? Asked once, when a reader is loaded.

The kernels behind packs differ from card to card and from torch to torch, and a kernel that takes an edge for its
neighbour's raises nothing: it gives plausible rows. So a few short documents are read as one pack, and one at a time by
transformers' own attention. Where the two differ by more than rounding, packs are read with that attention, document by
document inside the pack; where that differs too they are not read at all.

What rounding accounts for depends on depth, precision and the model (a random one of width 32 in eight bits turns one
rounding into a third of a vector), so it is measured and not assumed: it is how far two of torch's own attentions are
apart on the same documents. The check costs a dozen readings of at most 217 tokens (and one sequence 16
longer than attention's own window where it has one): by arithmetic half a second for 51 blocks of a 70B in bfloat16,
nearly all of it fetching weights from memory.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from saeray.errors import first_line
from saeray.readers.budget import is_out_of_memory
from saeray.readers.lost import is_lost
from saeray.readers.packed import CannotPack, Kernel, PackedReader

# Both sides of the tiles of 16, 64 and 128 that attention kernels work in.
LENGTHS = (1, 5, 17, 64, 130)
# Times the distance between two of torch's own attentions. An honest kernel (float64 inside, or weights rounded before
# they are used) was at 0.6 to 1.1 of it in float32, bf16 and fp8, on the embedded reader and on random ones of 4 and 51
# blocks. One that sees a neighbour, has an edge one token off, looks ahead, mixes up heads or forgets its scale was at
# 3 and more (its scale, 51 random blocks in fp8), else at 4.8 and more; in the embedded reader at 45 and more in bf16,
# at 6.7 in fp8.
MOST = 2.5
# Where the two are one and the same: half a step of float32 as cards have it in TF32, or of bfloat16, twice a block and
# added up like a random walk. The embedded reader's 20 blocks in bf16: 0.0247, and 0.0243 measured.
_HALF_STEP = {torch.float32: 2.0**-11}
_HALF_STEP_16 = 2.0**-8


class PacksWrong(CannotPack):
    """On this device no kernel reads packs rightly; what is loaded must be read in rectangles."""


def check_packs(reader: PackedReader, window: int) -> str | None:
    """Leaves `reader` with a kernel that is right on its device; one line when that is not the one it had, else None.

    window: the longest sequence that will be read. Raises PacksWrong when no kernel is right, CannotPack for an
    architecture that tells only now that it cannot be packed; out of memory and a lost device are raised as they are.
    """
    ids = _documents(reader, window)
    alone = _one_by_one(reader, ids)
    with sdpa_kernel(SDPBackend.MATH):
        measured = distance(_one_by_one(reader, ids), alone)
    walked = _HALF_STEP.get(reader.dtype, _HALF_STEP_16) * (2 * len(reader.blocks)) ** 0.5
    most = MOST * max(measured, walked)
    asked = reader.kernel
    wrong = _disagreement(reader, ids, alone, most, asked)
    if wrong is None:
        return None
    if asked == "exact" or _disagreement(reader, ids, alone, most, "exact") is not None:
        raise PacksWrong(f"packs are not read rightly on {reader.device}: {wrong}")
    reader.kernel = "exact"
    return (
        f"the variable-length attention is not right on {reader.device}: {wrong}; inside a pack documents attend one "
        "by one instead, which is right and slower"
    )


def distance(found: Tensor, expected: Tensor) -> float:
    """The largest |found - expected| / |expected| of the rows of two [tokens, d_in]; infinite where not a number."""
    far = (found.float() - expected.float()).norm(dim=1) / expected.float().norm(dim=1)
    return float(far.nan_to_num(nan=torch.inf).max())


def _disagreement(
    reader: PackedReader, ids: list[npt.NDArray[np.int64]], alone: Tensor, most: float, kernel: Kernel
) -> str | None:
    """What is wrong with a pack read by `kernel`, in numbers or torch's words; None when nothing is."""
    try:
        far = distance(reader.read(replace(reader.pack(ids), kernel=kernel)), alone)
    except RuntimeError as error:
        if is_out_of_memory(error) or is_lost(error):
            raise
        return first_line(error)[:160]
    if far <= most:
        return None
    return (
        f"in a pack of {len(ids)} short documents a token's vector is off by {far:.2g} of its length, and rounding "
        f"accounts for {most:.2g}"
    )


def _one_by_one(reader: PackedReader, ids: list[npt.NDArray[np.int64]]) -> Tensor:
    """[tokens, d_in] of documents read alone by transformers' own attention."""
    return torch.cat([reader.read(replace(reader.pack([one]), kernel="exact")) for one in ids])


def _documents(reader: PackedReader, window: int) -> list[npt.NDArray[np.int64]]:
    """Random tokens in documents of LENGTHS, and one just past attention's own window where sequences reach it."""
    sliding = getattr(reader.model.config.get_text_config(), "sliding_window", None)
    longer = (sliding + 16,) if sliding and sliding + 16 <= window else ()
    vocabulary = int(reader.model.get_input_embeddings().num_embeddings)
    random = np.random.default_rng(0)
    return [random.integers(0, vocabulary, n) for n in (*LENGTHS, *longer)]
