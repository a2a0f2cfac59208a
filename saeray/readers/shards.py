"""Tensors in safetensors files on this node: where each lies by the file's header, and the bytes of a range."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from saeray.errors import SaerayError, first_line

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I8": torch.int8, "U8": torch.uint8, "F8_E4M3": torch.float8_e4m3fn,
    "BOOL": torch.bool, "I16": torch.int16, "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64,
    "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
}  # fmt: skip
_LONGEST_HEADER = 100_000_000  # safetensors' own limit


@dataclass(frozen=True)
class Piece:
    """One tensor in a file: its bytes are begin..end of the file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def read_pieces(path: Path) -> list[Piece]:
    """The tensors of a safetensors file in file order, from its header; the file's length is checked against it."""
    with _one_line(path):
        size = path.stat().st_size
    length = int.from_bytes(_bytes(path, 0, 8), "little") if size >= 8 else 0
    if not 0 < length <= min(_LONGEST_HEADER, size - 8):
        raise SaerayError(f"cannot read the weights at {path}: it is truncated or no safetensors file; fetch it again")
    try:
        header = json.loads(_bytes(path, 8, 8 + length))
        header.pop("__metadata__", None)
        pieces = [
            Piece(name, DTYPES[one["dtype"]], tuple(one["shape"]), *(8 + length + at for at in one["data_offsets"]))
            for name, one in header.items()
        ]
    except KeyError as error:
        raise SaerayError(f"cannot read the weights at {path}: its header knows a {error} that is not read") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise SaerayError(f"cannot read the weights at {path}: its header is spoilt; fetch it again") from error
    pieces.sort(key=lambda piece: (piece.begin, piece.end))
    last = 8 + length
    for piece in pieces:
        expected = piece.dtype.itemsize * torch.Size(piece.shape).numel()
        if piece.end - piece.begin != expected or piece.begin < last:
            raise SaerayError(
                f"cannot read the weights at {path}: its header is spoilt at {piece.name}; fetch it again"
            )
        last = piece.end
    if last > size:
        raise SaerayError(
            f"cannot read the weights at {path}: it is truncated, {size:,} bytes of {last:,}; fetch it again"
        )
    return pieces


def read_range(path: Path, begin: int, into: memoryview) -> None:
    """Bytes of a file from `begin` on, as many as `into` has room for.

    Raises SaerayError when the file is shorter or cannot be read.
    """
    got, wanted = 0, len(into)
    with _one_line(path), path.open("rb", buffering=0) as file:
        file.seek(begin)
        while got < wanted and (count := file.readinto(into[got : got + 2**30])):
            got += count
    if got < wanted:
        raise SaerayError(f"cannot read {path}: it ends early, at byte {begin + got:,} instead of {begin + wanted:,}")


def _bytes(path: Path, begin: int, end: int) -> bytes:
    found = bytearray(end - begin)
    read_range(path, begin, memoryview(found))
    return bytes(found)


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """What the operating system raises, as one line that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise SaerayError(f"cannot read {path}: it is not there") from error
    except OSError as error:
        raise SaerayError(f"cannot read {path}: {first_line(error)}") from error
