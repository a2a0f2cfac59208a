"""Which documents have some latents, as sparse rows: what tests of pairs need beyond counts.

The tests take a few latents of all documents at a time, so the more documents, the more pieces. The rows are read once
for all of them: what memory does not hold lies in temporary files meanwhile, a file a run of latents. Rejected: a pass
over the rows a piece, which is quadratic in documents (488 passes at 100,000 documents and 20,000 latents).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, vstack

from saeray.analysis.diff.given import Partner
from saeray.analysis.sides import Side
from saeray.errors import SaerayError
from saeray.stats.frequency import flat, lengths

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

#: Documents x latents of all sides taken at a time: the tests of pairs make a handful of dense arrays of this many
#: doubles (32 MB each).
CELLS = 1 << 22
#: Postings of all sides held at a time: 16 bytes each while they are sorted, 5 after. More wait in files, 8 bytes each.
POSTINGS = 1 << 26

#: Pieces of the latents tested, in runs that are held together.
Runs = list[list[slice]]


@dataclass(frozen=True)
class Rows:
    """Sparse presence [documents, m] of one side, `length` int64[documents, 1]: class of length; `given`: presence in
    the other channel."""

    here: csr_array
    length: Int64
    given: csr_array | None = None

    def where(self, keep: NDArray[np.bool_]) -> Rows:
        """Those of a mask of the documents."""
        return Rows(self.here[keep], self.length[keep], None if self.given is None else self.given[keep])

    @staticmethod
    def pooled(sides: Sequence[Rows]) -> Rows:
        """Several sides, one after the other."""
        given = [one.given for one in sides if one.given is not None]
        here = csr_array(vstack([one.here for one in sides]))
        length = np.concatenate([one.length for one in sides])
        return Rows(here, length, csr_array(vstack(given)) if given else None)


def runs(postings: Int64, documents: int) -> Runs:
    """Pieces of latents whose presence in that many documents is at most `CELLS`, in runs of some `POSTINGS` postings.
    `postings` int64[m]: of each latent tested, of all sides."""
    step = max(1, CELLS // max(documents, 1))
    found: dict[int, list[slice]] = {}
    before = 0
    for at in range(0, postings.size, step):
        cut = slice(at, min(at + step, postings.size))
        found.setdefault(before // POSTINGS, []).append(cut)
        before += int(postings[cut].sum())
    return list(found.values())


def rows_of(side: Side, latents: Int64, taken: Runs, inner: Int64, partner: Partner | None = None) -> Iterator[Rows]:
    """The rows of a side, a piece of the `latents` (ascending) at a time, in one pass over them and one more over those
    of a `partner`. `inner`: edges of the classes of length.

    Memory is 16 bytes a posting of a run. SaerayError when several runs find no room for their temporary files.
    """
    length = np.searchsorted(inner, side.lengths, side="right").astype(np.int64)[:, None]
    here = _by_piece(side, latents, taken)
    if partner is None:
        return (Rows(one, length) for one in here)
    there = _by_piece(side, latents, taken, partner)
    return (Rows(one, length, given) for one, given in zip(here, there, strict=True))


def presence(side: Side, latents: Int64) -> csr_array:
    """Sparse int8[documents, len(latents)] in scan order, 1 where present. `latents` ascending. One pass; memory is
    16 bytes a posting."""
    return csr_array(_matrix(_postings(side, latents, None), side.n_documents, 0, latents.size))


def _by_piece(side: Side, latents: Int64, taken: Runs, partner: Partner | None = None) -> Iterator[csr_array]:
    ends = [run[-1].stop for run in taken]
    # Not strict: where nothing is taken the rows are not read.
    for run, held in zip(taken, _by_run(side, latents, ends, partner), strict=False):
        first = run[0].start
        for cut in run:
            yield csr_array(held[:, cut.start - first : cut.stop - first])


def _by_run(side: Side, latents: Int64, ends: Sequence[int], partner: Partner | None) -> Iterator[csc_array]:
    """Presence of latents [0, ends[0]), then [ends[0], ends[1]) and so on."""
    found = _postings(side, latents, partner)
    if len(ends) == 1:
        yield _matrix(found, side.n_documents, 0, ends[0])
        return
    try:
        place = TemporaryDirectory(prefix="saeray-")
    except OSError as error:
        raise _no_room() from error
    with place as folder:
        files = [Path(folder, str(run)) for run in range(len(ends))]
        for some in found:
            _append(files, some, np.searchsorted(ends, some[:, 1], side="right"))
        for file, first, end in zip(files, [0, *ends], ends, strict=False):
            held = np.fromfile(file, np.int32).reshape(-1, 2) if file.exists() else np.zeros((0, 2), np.int32)
            file.unlink(missing_ok=True)
            yield _matrix([held], side.n_documents, first, end)


def _append(files: Sequence[Path], postings: Int32, run: Int64) -> None:
    for number in np.unique(run).tolist():
        try:
            with files[number].open("ab") as file:
                postings[run == number].tofile(file)
        except OSError as error:
            raise _no_room() from error


def _no_room() -> SaerayError:
    try:
        where = gettempdir()
    except OSError:  # none of those it knows can be written to
        where = "any temporary directory"
    return SaerayError(
        f"no room in {where} for which documents have which latents (8 bytes for each latent of each document); "
        "set TMPDIR to a larger disk"
    )


def _postings(side: Side, latents: Int64, partner: Partner | None) -> Iterator[Int32]:
    """int32[n, 2] of each batch: document, in scan order, and place in `latents` of every latent wanted."""
    batches: Iterator[tuple[pa.RecordBatch, Int64, Int64]]
    if partner is None:
        batches = ((batch, *_own(batch)) for table in side.scan(["latents"]) for batch in table.to_batches())
    else:
        batches = partner.beside(side, ["n_tokens"])
    first = 0
    for batch, row, latent in batches:
        place = np.minimum(np.searchsorted(latents, latent), max(latents.size - 1, 0))
        wanted = latents[place] == latent if latents.size else np.zeros(latent.size, np.bool_)
        yield np.stack([row[wanted] + first, place[wanted]], axis=1).astype(np.int32)
        first += batch.num_rows


def _own(batch: pa.RecordBatch) -> tuple[Int64, Int64]:
    return (
        np.repeat(np.arange(batch.num_rows), lengths(batch, "latents")),
        flat(batch, "latents").astype(np.int64),
    )


def _matrix(postings: Iterable[Int32], documents: int, first: int, end: int) -> csc_array:
    """Sparse int8[documents, end - first]."""
    found = [np.zeros((0, 2), np.int32), *postings]
    row, place = (np.concatenate([one[:, i] for one in found]) for i in range(2))
    del found  # 8 bytes a posting, which building the matrix would come on top of
    place -= first
    return csc_array((np.ones(row.size, np.int8), (row, place)), shape=(documents, end - first))
