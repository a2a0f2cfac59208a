"""Connecting to Ray: a cluster when RAY_ADDRESS names one or a job runs on it, else a private one on this machine."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from saeray.errors import SaerayError, first_line

log = logging.getLogger(__name__)

# Actor pools hold their CPUs for a whole run, so a machine of two cores could not run a reader beside an encoder. These
# are logical CPUs for scheduling; torch's threads are set by the actors themselves.
LEAST_LOGICAL_CPUS = 4
_own = False  # whether the connection that is there is to a cluster which `connected` started


@contextmanager
def connected() -> Iterator[bool]:
    """Connects to Ray for the time of a job; yields whether the cluster is this process's own.

    A cluster of one's own is started with `address="local"`: plain `ray.init()` would attach to whatever was last
    started on the machine. A connection that is there already is used and left open.
    """
    global _own
    if ray.is_initialized():
        yield _own
        return
    address = os.environ.get("RAY_ADDRESS")
    quiet = logging.ERROR
    if address:
        try:
            ray.init(address=address, logging_level=quiet, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise SaerayError(f"no Ray cluster answers at RAY_ADDRESS={address}: {first_line(error)}") from error
    else:
        cpus = max(LEAST_LOGICAL_CPUS, available_cpus() + 2)
        # Every actor pool prints an alarming line about its constructor arguments (ray issue 53727); ours are small.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        try:
            with _announcements_held():
                ray.init(
                    address="local", num_cpus=cpus, include_dashboard=False, logging_level=quiet, log_to_driver=False
                )
        except Exception as error:  # Ray has no type of its own for "timed out during startup"
            raise SaerayError(
                f"Ray did not start on this machine ({first_line(error)[:120]}): it may be overloaded or short of "
                "memory; try again"
            ) from error
    _own = not address
    try:
        yield _own
    finally:
        _own = False
        ray.shutdown()


def result_of(reference: Any, died: str) -> Any:
    """What a task returned. A SaerayError that it raised is raised as it is; `died` is the line for workers that died
    of it as often as it was retried."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, SaerayError):
            raise error.cause from None
        raise
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise SaerayError(died) from error


def memory_of_a_node() -> int:
    """Bytes that a task can ask for at most and still be placed."""
    return int(max(node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]))


def available_cpus() -> int:
    """Cores this process may use: its affinity, and the quota of its control group where there is one."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


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
