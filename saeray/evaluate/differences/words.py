"""The words that two sets of texts differ by: what a user without an encoder would look at.

Log-odds with an informative Dirichlet prior, the "fightin' words" of Monroe, Colaresi and Quinn 2008, Political
Analysis 16:372-403, section 3.5.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

#: Words, and runs of marks, so that "**", "##" and "!!" count as words as a reader of Markdown would have it.
TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]+")
#: Words of the prior: the texts themselves, both sides together, at this size. It outweighs what is seen a few times.
PRIOR = 1_000.0


def log_odds(target: Sequence[str], other: Sequence[str]) -> list[tuple[str, float]]:
    """(word, z) of every word, most of the target first; equal ones in alphabetical order.

    z is the log-odds ratio of the word between the sides over its standard deviation; the prior is the words of both
    sides, scaled to `PRIOR`.
    """
    a, b = _counts(target), _counts(other)
    words = sorted(a.keys() | b.keys())
    if not words:
        return []
    y = np.array([[side[word] for word in words] for side in (a, b)], np.float64)
    alpha = PRIOR * y.sum(axis=0) / y.sum()
    n = y.sum(axis=1, keepdims=True)
    rest = n + PRIOR - y - alpha
    # A side of one word alone has no odds; a tiny rest keeps its logarithm finite.
    odds = np.log(y + alpha) - np.log(np.maximum(rest, 1e-9))
    z = (odds[0] - odds[1]) / np.sqrt((1 / (y + alpha)).sum(axis=0))
    order = np.argsort(-np.round(z, 9), kind="stable")
    return [(words[i], float(z[i])) for i in order.tolist()]


def _counts(texts: Sequence[str]) -> Counter[str]:
    return Counter(word for text in texts for word in TOKEN.findall(text.lower()))
