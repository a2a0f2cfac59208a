"""A GPU that is lost, and how torch says so.

After an illegal address, a failed launch, a device-side assertion or an uncorrectable memory error, every further call
of the process on that GPU fails with the same words: the CUDA context is gone, and with it the weights. No document is
to blame, nothing can be mended from inside, and what asks again in a new process may well get an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from saeray.errors import DeviceLost, SaerayError, first_line
from saeray.readers.budget import is_out_of_memory

# How torch begins: of the runtime, and of the driver, which its allocator asks for memory.
_SPOKEN = ("CUDA error:", "CUDA driver error:", "HIP error:", "HIP driver error:")
# Each call on its own may fail with these and the next succeed: what was asked for was too much or not to be had.
_PASSING = ("out of memory", "CUBLAS_STATUS_", "CUDNN_STATUS_", "invalid configuration argument", "no kernel image")


def is_lost(error: BaseException) -> bool:
    """Whether `error` says that the device is gone. Out of memory and a library that refuses one call do not."""
    line = first_line(error)
    spoken = isinstance(error, torch.AcceleratorError) or line.startswith(_SPOKEN)
    return spoken and not any(words in line for words in _PASSING)


def lost(error: BaseException, device: torch.device) -> DeviceLost:
    """The one line: which device, and torch's own words for it."""
    return DeviceLost(f"the reader's device {device} was lost: {first_line(error)[:160]}")


@contextmanager
def loading_on(device: str) -> Iterator[None]:
    """Raises DeviceLost when the device is lost as something is loaded there, SaerayError when its memory is short."""
    try:
        yield
    except RuntimeError as error:
        if is_lost(error):
            raise lost(error, torch.device(device)) from error
        if is_out_of_memory(error):
            raise SaerayError(f"the encoder does not fit on {device}: {first_line(error)[:160]}") from error
        raise
