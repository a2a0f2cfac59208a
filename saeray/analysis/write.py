"""A result on disk: result.parquet, summary.json and report.html, each whole or not there."""

from __future__ import annotations

import json
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from saeray.store import location


class Result(Protocol):
    """What every analysis returns."""

    @property
    def rows(self) -> pa.Table: ...

    def summary(self) -> dict[str, Any]: ...

    def page(self) -> str: ...


def write(result: Result, out: str) -> dict[str, str]:
    """Write the three files below `out` (a path or any fsspec URI), replacing those there; returns name -> URI.

    The files depend on the result alone: no date and no machine goes into them, so a repeated run writes the same
    bytes.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(result.rows, sink, compression="zstd")
    summary = json.dumps(result.summary(), indent=2, ensure_ascii=False, allow_nan=False)
    files = {
        "result.parquet": sink.getvalue().to_pybytes(),
        "summary.json": (summary + "\n").encode(),
        "report.html": result.page().encode(),
    }
    folder = location(out)
    for name, data in files.items():
        (folder / name).replace(data)
    return {name: (folder / name).uri for name in files}
