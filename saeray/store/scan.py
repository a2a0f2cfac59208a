"""Reading parts: the columns asked for, of the rows selected, one row group at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from saeray.errors import SaerayError
from saeray.store.files import Location
from saeray.store.selectors import Selector

# Parquet asks object storage for whole column chunks itself; a larger buffer would only read what was not asked for.
RANGE_BUFFER_BYTES = 64 << 10


def scan_part(place: Location, selector: Selector | None, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Tables of `columns` (in that order), one for each row group that has a selected row."""
    with _opened(place) as file:
        for group in range(file.num_row_groups):
            if selector is None or not selector.conditions:
                if selector is None or not selector.negate:
                    yield _bare(file.read_row_group(group, columns=list(columns)), columns)
                continue
            asked = file.read_row_group(group, columns=selector.columns).select(selector.columns)
            mask = selector.mask(asked)
            if not mask.true_count:
                continue
            if not set(columns) <= set(selector.columns):
                asked = file.read_row_group(group, columns=list(columns))
            asked = _bare(asked, columns)
            yield asked if mask.true_count == len(mask) else asked.filter(mask)


def count_part(place: Location, selector: Selector) -> int:
    """How many rows of the part are selected."""
    with _opened(place) as file:
        if not selector.conditions:
            return 0 if selector.negate else int(file.metadata.num_rows)
        groups = (
            file.read_row_group(group, columns=selector.columns).select(selector.columns)
            for group in range(file.num_row_groups)
        )
        return sum(int(selector.mask(table).true_count) for table in groups)


def _bare(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The columns without the part's notes, so that tables of different parts go together."""
    return table.select(columns).replace_schema_metadata(None)


@contextmanager
def _opened(place: Location) -> Iterator[pq.ParquetFile]:
    try:
        with place.open(RANGE_BUFFER_BYTES) as stream, pq.ParquetFile(stream, pre_buffer=not place.is_local) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:120]
        raise SaerayError(f"cannot read {place.uri} ({reason}): see what `saeray verify` says") from error
