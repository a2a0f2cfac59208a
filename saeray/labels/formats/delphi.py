"""delphi's directories: `explanations/HOOKPOINT_latentN.txt`, a JSON string each, and `scores/detection/` beside them.

A detection score becomes the balanced accuracy over the examples whose prediction parsed; delphi keeps them apart from
those that the explainer saw.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa

from saeray.errors import SaerayError
from saeray.labels.formats.base import EXPLANATIONS, Found, beside, indices, one_sae, read_many, strings

_NAME = re.compile(r"(.+)_latent(\d+)\.txt", re.DOTALL)


def detect(found: Found) -> bool:
    """A directory with files called HOOKPOINT_latentN.txt."""
    return found.names is not None and any(map(_NAME.fullmatch, found.names))


def read(found: Found) -> pa.Table:
    """Columns latent, text and score (null where there is no detection score).

    Raises SaerayError for files that are not JSON, UsageError for labels of several hookpoints.
    """
    names = [name for name in found.names or () if _NAME.fullmatch(name)]
    matches = [match for name in names if (match := _NAME.fullmatch(name))]
    one_sae(found, {match[1] for match in matches})
    texts = [_json(data, name) for data, name in zip(read_many(found.place, names), names, strict=True)]
    return pa.table(
        {
            "latent": indices(pa.array([match[2] for match in matches], pa.string()), found.name),
            "text": strings(texts, found.name),
            "score": pa.array(_scores(found, names), pa.float32()),
        }
    )


def balanced_accuracy(examples: Any) -> float | None:
    """Of a detection score's examples; None when nothing parsed, or all examples are of one kind."""
    right: dict[bool, list[bool]] = {True: [], False: []}
    for one in examples if isinstance(examples, list) else []:
        if isinstance(one, dict) and isinstance(one.get("activating"), bool) and one.get("prediction") is not None:
            right[one["activating"]].append(bool(one["prediction"]) == one["activating"])
    if not all(right.values()):
        return None
    return sum(sum(kind) / len(kind) for kind in right.values()) / 2


def _scores(found: Found, names: list[str]) -> list[float | None]:
    if not found.place.path.endswith(f"/{EXPLANATIONS}"):
        return [None] * len(names)
    place = beside(found.place, "scores") / "detection"
    there = set(place.names())
    scored = [name for name in names if name in there]
    files = zip(scored, read_many(place, scored), strict=True)
    scores = {name: balanced_accuracy(_json(data, name)) for name, data in files}
    return [scores.get(name) for name in names]


def _json(data: bytes, name: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SaerayError(f"{name} is not JSON, as delphi writes it ({type(error).__name__}): is it whole?") from error
