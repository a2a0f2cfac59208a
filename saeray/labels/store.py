"""Labels of latents: many a latent, each with who said so, what wrote it, when, and how well it was found to hold.

One Parquet file a source, replaced as a whole, so that a source is always all of one import or run. Label texts come
from files and models: they are cleaned on the way in, and still only data.
"""

from __future__ import annotations

import functools
import io
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from saeray.errors import SaerayError, UsageError, first_line
from saeray.store import Location, Store

LABEL_SCHEMA = pa.schema(
    {
        "latent": pa.uint32(),
        "text": pa.string(),
        "source": pa.string(),
        "model": pa.string(),
        "date": pa.string(),
        "score": pa.float32(),
        "kind": pa.string(),
        "evidence": pa.string(),
    }
)
#: The source that `saeray labels llm` writes.
LLM = "llm"
KINDS = ("form", "word", "topic", "position", "unclear")
#: Characters of a label. Published ones run to some 300; what is longer is a mishap, and would fill a page.
MAX_TEXT = 500
#: Name of the labels inside an SAE's directory, and of the SAE's digest in that file's metadata.
SHIPPED = "labels.parquet"
_SHIPPED_FOR = b"saeray.sae.sha256"

_SOURCE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# Control characters but white space, and the invisible ones that turn the direction of text or hide in it. The joiners
# that words and emoji are spelled with (U+200C, U+200D) stay.
_CONTROL = r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\x{200b}\x{200e}\x{200f}\x{202a}-\x{202e}\x{2060}-\x{206f}\x{feff}]"
_SPACES = r"[\s\x{b}\x{85}\pZ]+"
_ORDER = [("latent", "ascending"), ("source", "ascending"), ("score", "descending"), ("text", "ascending")]
_TIES = [("model", "ascending"), ("date", "descending"), ("kind", "ascending"), ("evidence", "ascending")]


class LabelStore:
    """The labels of one encoder's `d_sae` latents, below `root`; `shipped` is a label file that came with the SAE."""

    def __init__(self, root: Location, d_sae: int, shipped: Path | None = None) -> None:
        self.root = root
        self.d_sae = d_sae
        self._shipped = shipped

    @classmethod
    def of(cls, store: Store) -> LabelStore:
        """The labels of `store`. Raises SaerayError when no encoder has claimed it yet."""
        store.fingerprint()
        sae = (store.encoder() or {})["sae"]
        return cls(store.root / "labels", int(sae["d_sae"]), _shipped_with(str(sae.get("sha256")), int(sae["d_sae"])))

    def add(self, table: pa.Table, source: str) -> int:
        """Makes `table` all that `source` says; returns how many labels that is (empty texts are dropped).

        `table` has at least `latent` (whole numbers) and `text`; what else of LABEL_SCHEMA it lacks is null, and
        `source` is filled in. Raises SaerayError, and writes nothing, for latents that the encoder does not have (with
        their count), scores outside 0..1, unknown kinds, and evidence that is not a JSON object.
        """
        name = source_name(source)
        rows = with_text(fit(table))
        check_latents(rows.column("latent"), self.d_sae, f"source {name}")
        names = pa.array([name], pa.string()).take(pa.array(np.zeros(rows.num_rows, np.int64)))
        rows = rows.set_column(LABEL_SCHEMA.get_field_index("source"), "source", names)
        check_values(rows, f"source {name}")
        (self.root / f"{name}.parquet").replace(_written(rows.cast(LABEL_SCHEMA).sort_by(_ORDER + _TIES)))
        return int(rows.num_rows)

    def sources(self) -> list[dict[str, Any]]:
        """By name: `name`, `labels`, `latents` (labelled), `models`, `mean_score` (null: none scored), `shipped`."""
        table, own, found = self.table(), set(self._own()), []
        for name in sorted(table.column("source").unique().to_pylist()):
            rows = table.filter(pc.equal(table.column("source"), name))
            found.append(
                {
                    "name": name,
                    "labels": rows.num_rows,
                    "latents": pc.count_distinct(rows.column("latent")).as_py(),
                    "models": sorted(rows.column("model").drop_null().unique().to_pylist()),
                    "mean_score": pc.mean(rows.column("score")).as_py(),
                    "shipped": name not in own,
                }
            )
        return found

    def table(self, source: str | None = None) -> pa.Table:
        """LABEL_SCHEMA, one row a label, by latent, source, highest score, text. A source here hides the one of the
        same name that came with the SAE. Raises UsageError when there is no such `source`."""
        own = self._own()
        parts = [self._read(name) for name in own if source in (None, name)]
        if self._shipped is not None and source not in own:
            shipped = _parsed(self._shipped.read_bytes(), str(self._shipped), self.d_sae)
            parts.append(shipped.filter(pc.invert(pc.is_in(shipped.column("source"), pa.array(own, pa.string())))))
        found = pa.concat_tables([LABEL_SCHEMA.empty_table(), *parts])
        if source is not None:
            found = found.filter(pc.equal(found.column("source"), source))
            if not found.num_rows and source not in own:
                raise self._unknown([source])
        return found.sort_by(_ORDER + _TIES).combine_chunks()

    def best(self, sources: Sequence[str] | None = None) -> dict[int, str]:
        """One text a latent, ascending. Labels of `sources` come first, in that order; then those of an LLM, which
        are there only because they were better than the others on the same documents; then the highest score, the
        newest date, the first source by name. What is not scored or dated comes after what is."""
        table = self.table()
        wanted = list(sources or ())
        if missing := [name for name in wanted if name not in set(table.column("source").unique().to_pylist())]:
            raise self._unknown(missing)
        preferred = wanted if LLM in wanted else [*wanted, LLM]
        rank = pc.index_in(table.column("source"), value_set=pa.array(preferred, pa.string()))
        keys = [("latent", "ascending"), ("rank", "ascending"), ("score", "descending"), ("date", "descending")]
        rows = table.append_column("rank", rank).sort_by([*keys, ("source", "ascending"), ("text", "ascending")])
        latents = rows.column("latent").to_numpy()
        first = np.flatnonzero(np.diff(latents.astype(np.int64), prepend=-1))
        return dict(zip(latents[first].tolist(), rows.column("text").take(pa.array(first)).to_pylist(), strict=True))

    def _own(self) -> list[str]:
        names = (name.removesuffix(".parquet") for name in self.root.names() if name.endswith(".parquet"))
        return [name for name in names if _SOURCE.fullmatch(name)]

    def _read(self, source: str) -> pa.Table:
        place = self.root / f"{source}.parquet"
        return _parsed(place.read_bytes(), place.uri, self.d_sae)

    def _unknown(self, names: Sequence[str]) -> UsageError:
        there = ", ".join(one["name"] for one in self.sources()) or "none yet"
        return UsageError(f"no labels of source {', '.join(names)} in {self.root.uri}; there are: {there}")


def source_name(name: str) -> str:
    """`name` in lower case, when it can name a file of labels. Raises UsageError when it cannot."""
    lower = name.strip().lower()
    if not _SOURCE.fullmatch(lower):
        raise UsageError(f"not a name for a source of labels: {name[:80]!r}; use a-z, 0-9, '.', '_', '-', at most 64")
    return lower


def ship(table: pa.Table, sae: Path) -> None:
    """Writes `table` (LABEL_SCHEMA) as the labels that come with the SAE in directory `sae`, marked with its digest."""
    from saeray.saes.load import sae_digest

    digest = sae_digest(str(sae)).encode()
    rows = with_text(fit(table)).cast(LABEL_SCHEMA).sort_by(_ORDER + _TIES)
    (sae / SHIPPED).write_bytes(_written(rows.replace_schema_metadata({_SHIPPED_FOR: digest})))


def check_latents(latents: pa.ChunkedArray, d_sae: int, where: str) -> None:
    """Raises SaerayError when `latents` (whole numbers) are not all of an encoder with `d_sae`; `where` names them."""
    above = pc.unique(pc.filter(latents, pc.greater_equal(latents, d_sae)))
    if len(above):
        raise SaerayError(
            f"{where} names {len(above):,} latents of {d_sae:,} or above (highest {pc.max(above).as_py():,}); this "
            f"store's encoder has {d_sae:,}: it is for another SAE"
        )
    if latents.null_count or pc.any(pc.less(latents, 0)).as_py():
        raise SaerayError(f"{where} has labels without a latent's index: each needs one from 0 to {d_sae - 1:,}")


def check_values(rows: pa.Table, where: str) -> None:
    """Raises SaerayError for scores outside 0..1, unknown kinds, and evidence that is not a JSON object."""
    score = rows.column("score").drop_null()
    if outside := pc.sum(pc.or_(pc.less(score, 0), pc.greater(score, 1))).as_py():
        raise SaerayError(
            f"{where} has {outside:,} scores outside 0..1 (from {pc.min(score).as_py():g} to "
            f"{pc.max(score).as_py():g}): a score is a share"
        )
    if other := sorted(set(rows.column("kind").drop_null().unique().to_pylist()) - set(KINDS)):
        raise SaerayError(f"{where} has labels of kind {other[0][:40]!r}; kinds are {', '.join(KINDS)}")
    if broken := sum(not _is_object(text) for text in rows.column("evidence").drop_null().unique().to_pylist()):
        raise SaerayError(f"{where} has evidence that is not a JSON object ({broken:,} different texts)")


def fit(table: pa.Table) -> pa.Table:
    """`table` in the columns of LABEL_SCHEMA, but `latent` as int64, texts cleaned and days as YYYY-MM-DD or null."""
    columns = {}
    try:
        for field in LABEL_SCHEMA:
            kind = pa.int64() if field.name == "latent" else field.type
            there = field.name in table.column_names
            columns[field.name] = table.column(field.name).cast(kind) if there else pa.nulls(table.num_rows, kind)
    except pa.ArrowException as error:
        raise SaerayError(f"the labels' column {field.name!r} does not hold {kind}: {first_line(error)}") from error
    columns["text"], columns["model"] = cleaned(columns["text"]), cleaned(columns["model"])
    day = pc.utf8_slice_codeunits(columns["date"], 0, 10)
    columns["date"] = pc.if_else(pc.match_substring_regex(day, r"^\d{4}-\d{2}-\d{2}$"), day, None)
    columns["score"] = pc.if_else(pc.is_nan(columns["score"]), None, columns["score"])
    return pa.table(columns)


def with_text(rows: pa.Table) -> pa.Table:
    """The rows whose text is not empty."""
    return rows.filter(pc.is_valid(rows.column("text")))


def cleaned(texts: Any) -> Any:
    """String array: control characters out, white space as single spaces, at most MAX_TEXT characters, empty as null.

    Cleaning what is clean changes nothing.
    """
    plain = pc.replace_substring_regex(texts, _CONTROL, "")
    plain = pc.utf8_trim_whitespace(pc.replace_substring_regex(plain, _SPACES, " "))
    cut = pc.binary_join_element_wise(
        pc.utf8_rtrim_whitespace(pc.utf8_slice_codeunits(plain, 0, MAX_TEXT - 1)), "…", ""
    )
    plain = pc.if_else(pc.greater(pc.utf8_length(plain), MAX_TEXT), cut, plain)
    return pc.if_else(pc.equal(plain, ""), None, plain)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _written(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()


def _parsed(data: bytes, where: str, d_sae: int) -> pa.Table:
    try:
        table = pq.read_table(pa.BufferReader(data)).select(LABEL_SCHEMA.names).cast(LABEL_SCHEMA)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise SaerayError(f"{where} is not a file of labels ({first_line(error)}): import them again") from error
    check_latents(table.column("latent"), d_sae, where)
    return table


def _shipped_with(sha256: str, d_sae: int) -> Path | None:
    """The labels of the SAE of that digest among those that saeray ships, or None."""
    for path in sorted(Path(str(resources.files("saeray"))).glob(f"saes/builtin/*/{SHIPPED}")):
        if _is_for(path, d_sae) == sha256:
            return path
    return None


@functools.cache
def _is_for(labels: Path, d_sae: int) -> str:
    """Digest of the SAE that `labels` lies beside: as the file says, which spares a report from loading torch (2 s) and
    reading the weights, or from the weights. "" when that SAE has not `d_sae` latents."""
    if json.loads((labels.parent / "cfg.json").read_text()).get("d_sae") != d_sae:
        return ""
    if marked := (pq.read_schema(labels).metadata or {}).get(_SHIPPED_FOR):
        return str(marked.decode())
    from saeray.saes.load import sae_digest

    return sae_digest(str(labels.parent))
