"""A store: one encoder's datasets at one URI. Another encoder's rows never get in."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from saeray.errors import SaerayError, UsageError
from saeray.store.dataset import Dataset
from saeray.store.files import Location, location
from saeray.store.selectors import Selector, check_name, parse


class Store:
    """A directory or bucket prefix. `open` it; `claim_encoder` before anything is encoded into it."""

    def __init__(self, root: Location) -> None:
        self.root = root
        self._encoder: dict[str, Any] | None = None

    @classmethod
    def open(cls, uri: str, create: bool = False) -> Store:
        """The store at `uri`. With `create` it need not be there yet; nothing is written before `claim_encoder`."""
        store = cls(location(uri))
        store.root.check_bucket()
        if store.root.is_local and os.path.exists(store.root.path) and not os.path.isdir(store.root.path):
            raise UsageError(f"{store.uri} is a file: a store is a directory")
        if not create and store.encoder() is None:
            raise UsageError(f"there is no store at {store.uri}: encode something into it, or check --store")
        return store

    @property
    def uri(self) -> str:
        """Where it is."""
        return self.root.uri

    def encoder(self) -> dict[str, Any] | None:
        """What encoder.json holds, with its `fingerprint`; None before an encoder has claimed the store."""
        if self._encoder is None:
            place = self.root / "encoder.json"
            data = place.read_if_there()
            if data is not None:
                self._encoder = _parsed(data, place.uri)
        return self._encoder

    def fingerprint(self) -> str:
        """The encoder's fingerprint. Raises SaerayError when none has claimed the store."""
        encoder = self.encoder()
        if encoder is None:
            raise SaerayError(f"no encoder has claimed the store {self.uri} yet: encode something into it")
        return str(encoder["fingerprint"])

    def claim_encoder(self, description: dict[str, Any]) -> dict[str, Any]:
        """Makes `description` the store's encoder, or finds that it is. Returns what encoder.json holds.

        Raises SaerayError, naming what differs, when the store is another encoder's.
        """
        content = {key: value for key, value in description.items() if key != "fingerprint"}
        mine = {**content, "fingerprint": encoder_fingerprint(content)}
        if self.encoder() is None:
            (self.root / "encoder.json").create((canonical_json(mine) + "\n").encode())
        there = self.encoder() or mine
        if there["fingerprint"] != mine["fingerprint"]:
            unequal = "; ".join(_differences(there, json.loads(canonical_json(mine)))[:3])
            raise SaerayError(f"the store {self.uri} is another encoder's ({unequal}): use another --store")
        return there

    def datasets(self) -> list[str]:
        """Names of the datasets that have a plan, sorted."""
        names = (self.root / "datasets").directories()
        return [name for name in names if "00000.json" in (self.root / "datasets" / name / "plans").names()]

    def dataset(self, name: str, create: bool = False) -> Dataset:
        """The dataset of that name. With `create` it need not be there; its first plan makes it."""
        dataset = Dataset(self, check_name(name))
        if not create and not dataset.plans():
            there = ", ".join(self.datasets()) or "none yet"
            raise UsageError(f"there is no dataset {name} in {self.uri}; there is: {there}")
        return dataset

    def select(self, text: str) -> tuple[Dataset, Selector]:
        """The dataset and selector that `NAME:cond,cond` means. Raises UsageError: no such dataset or column, or a
        value that the column cannot have."""
        selector = parse(text)
        dataset = self.dataset(selector.dataset)
        selector.check(dataset.schema())
        return dataset, selector

    def sweep(self) -> int:
        """Removes temporary files, older than an hour, that killed writers left. Returns how many."""
        return self.root.sweep() + sum(self.dataset(name).sweep() for name in self.datasets())


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values, equal text. NaN and infinities have no form in it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def encoder_fingerprint(description: dict[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON of an encoder's description."""
    return hashlib.sha256(canonical_json(description).encode()).hexdigest()


def _parsed(data: bytes, uri: str) -> dict[str, Any]:
    try:
        content = json.loads(data)
        claimed = content["fingerprint"]
        described = {key: value for key, value in content.items() if key != "fingerprint"}
        if encoder_fingerprint(described) != claimed:
            raise ValueError("its fingerprint is not that of what it says")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SaerayError(f"{uri} is not an encoder description ({error}): restore it from a copy") from error
    return dict(content)


def _differences(there: Any, mine: Any, path: str = "") -> list[str]:
    """`a.b is X there, Y asked for` for each leaf that differs."""
    if isinstance(there, dict) and isinstance(mine, dict):
        found = []
        for key in sorted({*there, *mine} - {"fingerprint"}):
            found += _differences(there.get(key), mine.get(key), f"{path}.{key}" if path else key)
        return found
    if there == mine:
        return []
    return [f"{path} is {_shown(there)} there, {_shown(mine)} asked for"]


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
