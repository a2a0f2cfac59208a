"""One JSON object, {"index": "text"}: how the labels of Goodfire's SAEs went round."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from saeray.errors import SaerayError, first_line
from saeray.labels.formats.base import Found, indices, read_plain, strings


class _Object(list[tuple[str, Any]]):
    """A JSON object's members in order; a dict would drop the first of two labels of one latent."""


def detect(found: Found) -> bool:
    """A file named .json or .json.gz."""
    return found.names is None and found.name.lower().endswith((".json", ".json.gz"))


def read(found: Found) -> pa.Table:
    """Columns latent and text, in the file's order."""
    try:
        content = json.loads(read_plain(found.place).decode("utf-8-sig"), object_pairs_hook=_Object)
    except (ValueError, RecursionError) as error:
        raise SaerayError(f"{found.name} is not JSON ({first_line(error)}): is it whole?") from error
    if not isinstance(content, _Object):
        raise SaerayError(f'{found.name} is not one JSON object of {{"latent": "label"}}: give labels in that form')
    latents = indices(strings([key for key, _ in content], found.name), found.name)
    return pa.table({"latent": latents, "text": strings([text for _, text in content], found.name)})
