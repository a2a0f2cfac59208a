"""A run's lease on a dataset: it spares two runs the same work, and nothing depends on it.

Two runs that both believe to hold it still commit every shard once, so on object storage a plain overwrite is enough.
A lease that claims to last longer than one can is a clock gone wrong, and does not count.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

from saeray.store.files import Location

LEASE_SECONDS = 60.0


@dataclass(frozen=True)
class Lease:
    """Who runs, and until when (seconds since 1970)."""

    owner: str
    expires: float

    @property
    def is_live(self) -> bool:
        """True while it counts."""
        return 0.0 < self.expires - time.time() <= LEASE_SECONDS + 1.0


def read_lease(place: Location) -> Lease | None:
    """The lease at `place`; None when there is none, or none that can be read."""
    data = place.read_if_there()
    try:
        content = json.loads(data or b"")
        return Lease(str(content["owner"]), float(content["expires"]))
    except (ValueError, KeyError, TypeError):
        return None


def acquire(place: Location, owner: str, seconds: float = LEASE_SECONDS) -> Lease:
    """Takes the lease for `owner` unless another's is live. Returns the lease that is then in force."""
    mine = Lease(owner, time.time() + min(seconds, LEASE_SECONDS))
    data = json.dumps(asdict(mine)).encode()
    if place.create(data):
        return mine
    other = read_lease(place)
    if other is not None and other.owner != owner and other.is_live:
        return other
    place.replace(data)
    return read_lease(place) or mine


def renew(place: Location, owner: str, seconds: float = LEASE_SECONDS) -> bool:
    """Extends `owner`'s lease. False when another run holds it by now."""
    return acquire(place, owner, seconds).owner == owner


def release(place: Location, owner: str) -> None:
    """Gives the lease back, when it is still `owner`'s."""
    held = read_lease(place)
    if held is not None and held.owner == owner:
        place.delete()
