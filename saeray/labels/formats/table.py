"""Labels as a table, CSV or Parquet: one row a label, columns by the names that people give them."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from saeray.errors import SaerayError, UsageError, first_line
from saeray.labels.formats.base import Found, indices, read_plain

CSV = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
PARQUET = (".parquet", ".pq")
#: What a column may be called, the first one there is taken; case does not matter.
NAMES = {
    "latent": ("latent", "index", "feature", "feature_id", "feature_index", "latent_id", "neuron"),
    "text": ("text", "label", "description", "explanation"),
    "source": ("source",),
    "model": ("model", "explanationmodelname", "explainer"),
    "date": ("date", "createdat", "created_at"),
    "score": ("score",),
    "kind": ("kind",),
    "evidence": ("evidence",),
}


def detect(found: Found) -> bool:
    """A file named as CSV (also .tsv and .gz) or Parquet."""
    return found.names is None and found.name.lower().endswith(CSV + PARQUET)


def read(found: Found) -> pa.Table:
    """The columns of NAMES that there are. Raises UsageError when there is no latent or no text among them."""
    data = read_plain(found.place)
    try:
        table = _parquet(data) if found.name.lower().endswith(PARQUET) else _csv(data, found.name)
        table.validate(full=True)  # Parquet does not check that text is UTF-8
    except (pa.ArrowException, OSError) as error:
        raise SaerayError(f"{found.name} cannot be read as a table ({first_line(error)}): is it whole?") from error
    names = [name.strip().lower() for name in table.column_names]
    columns = {}
    for name, aliases in NAMES.items():
        there = next((alias for alias in aliases if alias in names), None)
        if there is not None:
            columns[name] = table.column(names.index(there))
        elif name in ("latent", "text"):
            raise UsageError(
                f"{found.name} has no column for the {name}: call it {' or '.join(aliases[:2])}; it has "
                f"{', '.join(table.column_names)[:200]}"
            )
    return pa.table(columns | {"latent": indices(columns["latent"], found.name)})


def _parquet(data: bytes) -> pa.Table:
    file = pq.ParquetFile(pa.BufferReader(data))
    known = {alias for aliases in NAMES.values() for alias in aliases}
    wanted = [name for name in file.schema_arrow.names if name.strip().lower() in known]
    return file.read(columns=wanted) if wanted else file.schema_arrow.empty_table()


def _csv(data: bytes, name: str) -> pa.Table:
    """Every column as text, as it stands: types guessed from labels such as 007 or true would change them."""
    parse = pcsv.ParseOptions(delimiter="\t" if ".tsv" in name.lower() else ",", newlines_in_values=True)
    # One block: Arrow refuses a row that does not fit one.
    blocks = pcsv.ReadOptions(use_threads=False, block_size=max(len(data), 1))
    with pcsv.open_csv(io.BytesIO(data), read_options=blocks, parse_options=parse) as reader:
        names = reader.schema.names
    convert = pcsv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    return pcsv.read_csv(io.BytesIO(data), read_options=blocks, parse_options=parse, convert_options=convert)
