"""Connecting to Ray: a cluster when RAY_ADDRESS names one or a job runs on it, else a private one on this machine."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import ray

log = logging.getLogger(__name__)

# Actor pools hold their CPUs for a whole run, so a machine of two cores could not run a reader beside an encoder. These
# are logical CPUs for scheduling; torch's threads are set by the actors themselves.
LEAST_LOGICAL_CPUS = 4


@contextmanager
def connected() -> Iterator[bool]:
    """Connects to Ray for the time of a job; yields whether the cluster is this process's own.

    A cluster of one's own is started with `address="local"`: plain `ray.init()` would attach to whatever was last
    started on the machine. A connection that is there already is used and left open.
    """
    if ray.is_initialized():
        yield False
        return
    address = os.environ.get("RAY_ADDRESS")
    quiet = logging.ERROR
    if address:
        ray.init(address=address, logging_level=quiet, log_to_driver=False)
    else:
        cpus = max(LEAST_LOGICAL_CPUS, (os.cpu_count() or 1) + 2)
        # Every actor pool prints an alarming line about its constructor arguments (ray issue 53727); ours are small.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        with _announcements_held():
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, logging_level=quiet, log_to_driver=False)
    try:
        yield not address
    finally:
        ray.shutdown()


@contextmanager
def _announcements_held() -> Iterator[None]:
    """Holds back what Ray's core writes to file descriptor 2 as it starts (its log level); shows it when that fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        except BaseException:
            sink.seek(0)
            os.write(kept, sink.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
