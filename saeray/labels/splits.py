"""Which documents a labeller may read, which choose among its candidates, and which score what it chose.

A label judged on the documents it was made from flatters itself. The split is by the text alone, so copies of one text
fall into one part, in every dataset and on every machine.
"""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["propose", "choose", "score"]


def split_of(text: str) -> Split:
    """The part of a document: propose (60%), choose (20%) or score (20%)."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=b"saeray-split").digest()
    tenth = int.from_bytes(digest, "big") % 10
    return "propose" if tenth < 6 else "choose" if tenth < 8 else "score"
