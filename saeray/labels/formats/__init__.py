"""Labels from elsewhere and to elsewhere: what a path holds, read into the label store, and Neuronpedia's layout out.

One module a format. All of a file is read and checked before anything is written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from saeray.errors import SaerayError, UsageError
from saeray.labels.formats import delphi, index_json, neuronpedia, table
from saeray.labels.formats.base import EXPLANATIONS, Format, Found, look
from saeray.labels.store import LabelStore, check_latents, check_values, fit, source_name, with_text
from saeray.store import Store, location

FORMATS: dict[str, Format] = {
    name: cast(Format, module)
    for name, module in (
        ("neuronpedia", neuronpedia),
        ("delphi", delphi),
        ("index_json", index_json),
        ("table", table),
    )
}
KINDS_READ = 'a JSON object {"latent": "label"}, Neuronpedia batches, a delphi directory, CSV or Parquet'


def detect_format(path: str) -> str:
    """The name of the format at `path`. Raises UsageError when nothing is there, or nothing that is read."""
    return _detect(look(path))


def import_labels(
    store: Store,
    path: str,
    *,
    source: str | None = None,
    model: str | None = None,
    format: str | None = None,
    date: str | None = None,
) -> dict[str, Any]:
    """Reads the labels at `path` (local or a URI) into `store`, each source replaced as a whole.

    source: whose labels they are; None takes what each row says, and else the format's or file's name. model, date
    (YYYY-MM-DD): for rows that do not say. format: one of FORMATS instead of the detected one. Returns JSON-ready
    figures: `format`, `sources`, `labels`, `latents`, `skipped` (empty texts). Raises SaerayError or UsageError, and
    leaves the store as it was, when the labels cannot be read or are not those of the store's SAE.
    """
    if date is not None and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", date):
        raise UsageError(f"not a day: {date!r}; write YYYY-MM-DD")
    labels = LabelStore.of(store)
    found = look(path)
    name = _known(format) if format else _detect(found)
    read = FORMATS[name].read(found)
    check_latents(read.column("latent"), labels.d_sae, found.name)
    rows = _filled(fit(read), "model", model)
    rows = _filled(rows, "date", date)
    rows = _sourced(rows, source, _default_source(found, name))
    kept = with_text(rows)
    if not kept.num_rows:
        raise SaerayError(f"{found.name} holds no labels ({rows.num_rows:,} rows, all without text)")
    check_values(kept, found.name)
    sources = sorted(kept.column("source").unique().to_pylist())
    for one in sources:
        labels.add(kept.filter(pc.equal(kept.column("source"), one)), one)
    return {
        "format": name,
        "sources": sources,
        "labels": kept.num_rows,
        "latents": pc.count_distinct(kept.column("latent")).as_py(),
        "skipped": rows.num_rows - kept.num_rows,
    }


def export_labels(
    store: Store, out: str, *, sources: Sequence[str] | None = None, model_id: str, source_id: str
) -> dict[str, Any]:
    """Writes labels (of `sources`, or all) as OUT/explanations/batch-N.jsonl.gz, Neuronpedia's layout.

    model_id, source_id: Neuronpedia's names of the reader and the SAE, e.g. llama3.3-70b-it and 50-resid-post-gf. The
    bytes depend on the labels and these alone. Returns figures: `files`, `labels`, `latents`, `uri`. Raises UsageError
    when there is nothing to write, or batches beyond those to be written are there, which a reader would take for
    part of them.
    """
    labels = LabelStore.of(store)
    rows = pa.concat_tables([labels.table(one) for one in dict.fromkeys(sources)]) if sources else labels.table()
    if not rows.num_rows:
        raise UsageError(f"{store.uri} has no labels to export: import some, or run `saeray labels auto`")
    files = dict(neuronpedia.batches(rows.combine_chunks(), model_id, source_id))
    place = location(out) / EXPLANATIONS
    if other := [name for name in place.names() if neuronpedia.is_batch(name) and name not in files]:
        raise UsageError(
            f"{place.uri} holds other batches ({other[0]}, {len(other)} in all): export to a new directory"
        )
    for name, data in files.items():
        (place / name).replace(data)
    latents = pc.count_distinct(rows.column("latent")).as_py()
    return {"files": len(files), "labels": rows.num_rows, "latents": latents, "uri": place.uri}


def _detect(found: Found) -> str:
    for name, one in FORMATS.items():
        if one.detect(found):
            return name
    there = f" (it holds {', '.join(found.names[:4])[:120] or 'no files'})" if found.names is not None else ""
    raise UsageError(f"{found.place.uri} is in no format of labels that is read{there}: give {KINDS_READ}")


def _known(name: str) -> str:
    if name not in FORMATS:
        raise UsageError(f"no label format {name!r}: known are {', '.join(FORMATS)}")
    return name


def _default_source(found: Found, name: str) -> str:
    """neuronpedia or delphi; else the file's name without its endings, in the characters of a source's name."""
    if name in ("neuronpedia", "delphi"):
        return name
    stem = re.sub(r"\.(json|csv|tsv|parquet|pq)(\.gz)?$", "", found.name.lower())
    return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._")[:64].strip("-._") or "imported"


def _filled(rows: pa.Table, name: str, value: str | None) -> pa.Table:
    if value is None:
        return rows
    return rows.set_column(rows.column_names.index(name), name, pc.fill_null(rows.column(name), value))


def _sourced(rows: pa.Table, source: str | None, default: str) -> pa.Table:
    """`rows` with the names of their sources, in lower case."""
    said = rows.column("source") if source is None else pa.nulls(rows.num_rows, pa.string())
    filled = pc.fill_null(said, source_name(source or default))
    names = filled.unique()
    lower = pa.array([source_name(name) for name in names.to_pylist()], pa.string())
    return rows.set_column(
        rows.column_names.index("source"), "source", lower.take(pc.index_in(filled, value_set=names))
    )
