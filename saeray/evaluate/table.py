"""Properties summed up by what they are about: form, topic, tone, and all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ALL = "all"
Row = Mapping[str, Any]


def kinds_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of every kind, then of each; one kind alone is not told twice."""
    kinds = sorted({row["kind"] for row in rows})
    each = {kind: [row for row in rows if row["kind"] == kind] for kind in kinds}
    return {ALL: list(rows), **each} if len(kinds) > 1 else each


def mean_of(rows: Sequence[Row], name: str) -> float:
    """Mean of a measure over properties, to four digits: the fifth is below what another draw would change."""
    return round(float(np.mean([row[name] for row in rows])), 4)


def median_of(rows: Sequence[Row], name: str) -> float:
    """Median of a measure over properties."""
    return float(np.median([row[name] for row in rows]))
