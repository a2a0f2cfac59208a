"""What every label format shares: where its files lie, how they are read whole, and the table that comes of them."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from saeray.errors import SaerayError, UsageError
from saeray.store import Location, location
from saeray.store.failures import MissingFile

#: The largest file that is read, unzipped: 60,000 labels with an embedding each take 0.3 GB, a bomb takes more.
MOST_BYTES = 2**31 - 2
#: Files fetched at a time from object storage, all at once.
AT_ONCE = 256
#: The directory that Neuronpedia and delphi both keep labels in.
EXPLANATIONS = "explanations"


@dataclass(frozen=True)
class Found:
    """Where labels lie: a file (`names` is None), or a directory and its files' names, sorted."""

    place: Location
    names: tuple[str, ...] | None

    @property
    def name(self) -> str:
        """Its last name, as people know it."""
        return self.place.path.rstrip("/").rsplit("/", 1)[-1]


class Format(Protocol):
    """A module that knows one layout. `read` gives int64 `latent`, `text` and what else of LABEL_SCHEMA the layout has
    (never a null latent), or raises SaerayError naming the file that cannot be read."""

    def detect(self, found: Found) -> bool: ...

    def read(self, found: Found) -> pa.Table: ...


def look(path: str) -> Found:
    """What is at `path` (local or any URI of a store); a directory that has `explanations` in it means that one.

    `DIR/HOOKPOINT`, where DIR holds `HOOKPOINT_latent….txt`, means those files. Raises UsageError: nothing there.
    """
    place = location(path)
    try:
        kind = place.info()["type"]
    except MissingFile:
        above, _, start = place.path.rstrip("/").rpartition("/")
        names = _parent(place).names() if above and start else []
        if of_hookpoint := tuple(name for name in names if name.startswith(f"{start}_latent")):
            return Found(_parent(place), of_hookpoint)
        raise UsageError(f"there are no labels at {place.uri}: check the path") from None
    if kind != "directory":
        return Found(place, None)
    if EXPLANATIONS in place.directories():
        place = place / EXPLANATIONS
    return Found(place, tuple(place.names()))


def beside(place: Location, name: str) -> Location:
    """The place `name` in the directory that `place` lies in."""
    return _parent(place) / name


def _parent(place: Location) -> Location:
    return location(place.uri.rstrip("/").rpartition("/")[0] or "/")


def read_plain(place: Location) -> bytes:
    """The whole file, unzipped when its name ends in .gz."""
    return unzipped(place.read_bytes(), place.uri)


def read_many(place: Location, names: Sequence[str]) -> list[bytes]:
    """The files `names` of directory `place`, in order, unzipped; from object storage many at a time."""
    if place.is_local:
        return [read_plain(place / name) for name in names]
    found: list[bytes] = []
    for start in range(0, len(names), AT_ONCE):
        paths = [(place / name).path for name in names[start : start + AT_ONCE]]
        data: dict[str, bytes] = place.retrying("read", lambda paths=paths: place.fs.cat(paths))  # type: ignore[misc]
        found += [unzipped(data[path], path) for path in paths]
    return found


def unzipped(data: bytes, name: str) -> bytes:
    """`data`, unzipped when `name` ends in .gz. Raises SaerayError when it is cut short or too large to be labels."""
    if name.endswith(".gz"):
        try:
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise SaerayError(f"{name} is not whole as a gzip file ({error}): fetch it again") from error
    if len(data) > MOST_BYTES:
        raise SaerayError(f"{name} is larger than 2 GiB, which no file of labels is")
    return data


def indices(column: Any, where: str) -> pa.ChunkedArray:
    """int64 of a column of latents, which layouts write as numbers or as texts. Raises SaerayError with the count of
    those that are not whole numbers from 0."""
    texts = pc.utf8_trim_whitespace(pa.chunked_array([pa.array([], pa.string()), *_chunks(column.cast(pa.string()))]))
    whole = pc.fill_null(pc.match_substring_regex(texts, r"^[0-9]{1,18}(\.0)?$"), False)
    if wrong := len(whole) - (pc.sum(whole).as_py() or 0):
        first = pc.filter(pc.fill_null(texts, "nothing"), pc.invert(whole))[0].as_py()
        raise SaerayError(f"{where} has {wrong:,} labels whose latent is not a whole number, e.g. {first[:40]!r}")
    return pc.replace_substring_regex(texts, r"\.0$", "").cast(pa.int64())


def strings(values: Sequence[Any], where: str) -> pa.Array:
    """A string array of JSON values, null as null. Raises SaerayError with the count of those that are not text."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # halves of surrogate pairs, which JSON may spell and UTF-8 cannot
        return strings([v.encode("utf-8", "replace").decode() if isinstance(v, str) else v for v in values], where)
    except (pa.ArrowException, TypeError):
        wrong = [value for value in values if not isinstance(value, str | None)]
        what = type(wrong[0]).__name__.strip("_").lower() if wrong else "nothing"
        raise SaerayError(f"{where} has {len(wrong):,} labels that are not text (the first: {what})") from None


def one_sae(found: Found, saes: Collection[str]) -> None:
    """Raises UsageError when what was found belongs to several SAEs (hookpoints, layers)."""
    if len(saes) > 1:
        listed = ", ".join(sorted(saes)[:4]) + (", ..." if len(saes) > 4 else "")
        raise UsageError(f"{found.place.uri} holds the labels of {len(saes)} SAEs ({listed}): name those of one")


def _chunks(column: Any) -> list[pa.Array]:
    return list(column.chunks) if isinstance(column, pa.ChunkedArray) else [column]
