"""The lease of a dataset, held for the time of a run: it keeps a second run from doing the same work.

What a killed run left behind is taken over at once where its process can be seen to be gone, on this machine; elsewhere
the lease ends by itself within a minute.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from saeray.errors import SaerayError
from saeray.store import Dataset

log = logging.getLogger(__name__)
RENEW_SECONDS = 10.0


@contextmanager
def hold_lease(dataset: Dataset) -> Iterator[None]:
    """Holds the dataset's lease, renewed by a thread. It only saves work: without it two runs would still agree.

    Raises SaerayError when another run, that is not known to be dead, holds it.
    """
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    lease = dataset.acquire_lease(owner)
    if lease.owner != owner and _is_dead(lease.owner):
        dataset.release_lease(lease.owner)
        lease = dataset.acquire_lease(owner)
    if lease.owner != owner:
        raise SaerayError(
            f"another run ({lease.owner.rsplit(':', 1)[0]}) is encoding {dataset.name}; if it is dead, its lease "
            "ends within a minute"
        )
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(RENEW_SECONDS):
            try:
                dataset.renew_lease(owner)
            except SaerayError as error:  # a lost lease costs double work at worst
                log.warning("could not renew the lease: %s", error)

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=RENEW_SECONDS)
        dataset.release_lease(owner)


def _is_dead(owner: str) -> bool:
    """Whether the run of this lease was on this machine and its process is gone."""
    host, pid, _ = [*owner.split(":"), "", ""][:3]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
