"""The half of the documents that proposes what differs, and when there are enough of them for two halves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeray.analysis.diff.design import Design
from saeray.analysis.sides import Side
from saeray.errors import UsageError
from saeray.stats.halves import proposing

#: Least documents (keys, when paired) of every side in either half. Of 50 a side, a difference of 40 points is found
#: among 20,000 latents; fewer would only cost what little power there is.
LEAST = 50


def halve(design: Design, names: pa.StringArray | None, wanted: bool | None) -> tuple[Design, dict[str, Any]]:
    """The design with its halves, where there are any, and what to say of them: `halves`, `halves_by`, and
    `why_no_halves`.

    `names`: the keys as text by number, when paired; documents that share a key, or a text, are in one half. `wanted`
    None: where either half has `LEAST` of every side. Raises UsageError when they are wanted and there are too few.
    """
    if wanted is False:
        return design, _without("they were not asked for (--no-halves)")
    size = [side.n_documents if names is None else len(names) for side in design.sides]
    masks = halves_of(design.sides, None if names is None else (names, design.keys or ()))
    least = min(_least(mask, design, s) for s, mask in enumerate(masks)) if min(size) >= 2 * LEAST else 0
    if least < LEAST:
        of = "documents of every side" if names is None else "keys"
        short = f"either half needs {LEAST} {of}, and " + (
            f"the smaller one has {least}" if least else f"there are {min(size)} in all"
        )
        if wanted:
            raise UsageError(f"too few for halves: {short}; leave out --halves")
        return design, _without(short)
    stored = all("text" in side.stored for side in design.sides)
    by = "keys and texts" if stored else "keys alone, as the texts are not stored"
    return replace(design, proposing=masks), {"halves": True, "halves_by": by, "why_no_halves": None}


def halves_of(
    sides: Sequence[Side], paired: tuple[pa.StringArray, Sequence[NDArray[np.int64]]] | None = None
) -> tuple[NDArray[np.bool_], ...]:
    """Of each side which documents propose. `paired`: the keys as text and each document's number; else its doc_id."""
    keys: list[str] = []
    texts: list[str] = []
    for s, side in enumerate(sides):
        own = side.doc_ids.to_pylist() if paired is None else paired[0].take(pa.array(paired[1][s])).to_pylist()
        keys += own
        texts += _digests(side, own)
    cuts = np.cumsum([side.n_documents for side in sides])[:-1]
    return tuple(np.split(proposing(keys, texts), cuts))


def _digests(side: Side, keys: Sequence[str]) -> list[str]:
    """A digest of each text; of a document without one its key, which joins it to nothing else."""
    if "text" not in side.stored:
        return [f"key {key}" for key in keys]
    found: list[str] = []
    for table in side.scan(["text"]):
        for text in table.column("text").to_pylist():
            own = f"key {keys[len(found)]}" if not text else None
            found.append(own or hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest())
    return found


def _least(mask: NDArray[np.bool_], design: Design, side: int) -> int:
    """Documents, or keys, of one side in its smaller half."""
    if design.keys is None:
        return int(min(mask.sum(), (~mask).sum()))
    keys = design.keys[side]
    return min(np.unique(keys[mask]).size, np.unique(keys[~mask]).size)


def _without(why: str) -> dict[str, Any]:
    return {"halves": False, "halves_by": None, "why_no_halves": why}
