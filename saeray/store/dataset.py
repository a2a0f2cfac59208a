"""A dataset: its plans, what of them is committed, and the rows that readers may see."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from saeray.errors import SaerayError, UsageError
from saeray.store import lease
from saeray.store.commits import Commit, part_name
from saeray.store.files import Location
from saeray.store.inputs import Input, changed
from saeray.store.lease import LEASE_SECONDS, Lease
from saeray.store.parts import documents_schema
from saeray.store.plan import Plan, PlanSettings, Shard
from saeray.store.planning import HASH, Hashes, plan_inputs
from saeray.store.scan import count_part, scan_part
from saeray.store.selectors import Condition, Selector
from saeray.store.shard_rows import REJECTS_SCHEMA
from saeray.store.verify import VerifyReport, verify_dataset

if TYPE_CHECKING:
    from saeray.store.store import Store

# Small files of object storage are fetched this many at a time: one takes 5 to 50 ms, and they are independent.
FETCH_THREADS = 16
SELF_CHECK = "selfcheck.json"
NUMBERED = re.compile(r"(\d{5,})\.json")


class Dataset:
    """`datasets/NAME` of a store. Plans and commits never change once written, so what was read is kept."""

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name
        self.root: Location = store.root / "datasets" / name
        self._plans: list[Plan] = []
        self._commits: dict[int, Commit] = {}

    # Plans

    def plans(self) -> list[Plan]:
        """Every plan, in order."""
        there = _numbers((self.root / "plans").names())
        if there != list(range(len(there))):
            raise SaerayError(f"plans of {self.name} are missing in {self.root.uri}/plans: restore them from a copy")
        for number in there[len(self._plans) :]:
            place = self.root / "plans" / f"{number:05d}.json"
            self._plans.append(Plan.from_json(place.read_bytes(), place.uri))
        return list(self._plans)

    def add_plan(self, inputs: Sequence[Input], settings: PlanSettings) -> Plan | None:
        """Plans those of `inputs` that no plan has yet. Returns the new plan, or None when nothing is new.

        Raises UsageError when `settings` differ from the first plan's, SaerayError when a planned input has changed.
        When another planner is quicker, what its plan left out is planned anew.
        """
        while True:
            plans = self.plans()
            if plans:
                plans[0].settings.check_same(settings)
            known = {one.name: one for plan in plans for one in plan.inputs}
            for one in inputs:
                before = known.get(one.name)
                if before is not None and (before.size, before.mark) != (one.size, one.mark):
                    raise changed(before, one.size)
            fresh = [one for one in inputs if one.name not in known]
            if not fresh:
                return None
            shards = sum(len(plan.shards) for plan in plans)
            types = plans[0].keep_types if plans else None
            plan, hashes = plan_inputs(
                fresh, settings, number=len(plans), first_shard=shards, keep_types=types, seen=self._seen(plans)
            )
            if hashes is not None:
                plan = replace(plan, ids=self._write_hashes(plan.number, hashes))
            if (self.root / "plans" / f"{plan.number:05d}.json").create(plan.to_json()):
                return plan

    def shards(self) -> list[Shard]:
        """Every planned shard, by number."""
        return [shard for plan in self.plans() for shard in plan.shards]

    def plan_of(self, shard: Shard) -> Plan:
        """The plan that `shard` is of."""
        if shard.plan >= len(self._plans):
            self.plans()
        return self._plans[shard.plan]

    def schema(self) -> pa.Schema:
        """The columns of the dataset's documents."""
        if not self._plans and not self.plans():
            raise SaerayError(f"dataset {self.name} has no plan yet: encode something into it")
        return documents_schema(self._plans[0])

    # Commits

    def committed(self) -> list[int]:
        """Numbers of the committed shards, from a listing alone."""
        return _numbers((self.root / "commits").names())

    def commit(self, shard: int) -> Commit | None:
        """The commit of a shard, or None."""
        if shard not in self._commits:
            place = self.root / "commits" / f"{shard:05d}.json"
            data = place.read_if_there()
            if data is None:
                return None
            self._commits[shard] = Commit.from_json(data, place.uri)
        return self._commits[shard]

    def commits(self) -> list[Commit]:
        """Every commit, by shard."""
        with ThreadPoolExecutor(FETCH_THREADS) as pool:
            found = list(pool.map(self.commit, self.committed()))
        return [one for one in found if one is not None]

    def missing(self) -> list[Shard]:
        """Planned shards that are not committed."""
        done = set(self.committed())
        return [shard for shard in self.shards() if shard.shard not in done]

    # Rows

    def scan(self, selector: Selector | None = None, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The selected committed rows by shard, a table for each row group with any (at most 65,536 rows and some
        2**24 latents). `columns`: which, in order; all by default. Reads no other columns but the conditions'."""
        self._check(selector, columns)
        for number in self.committed():
            yield from self.scan_shard(number, selector, columns)

    def scan_shard(
        self, number: int, selector: Selector | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pa.Table]:
        """`scan` of one shard. Raises SaerayError when it is not committed."""
        self._check(selector, columns)
        if self.commit(number) is None:
            raise SaerayError(f"shard {number} of {self.name} is not committed: encode the rest first")
        names = self.schema().names if columns is None else list(columns)
        yield from scan_part(self.root / "documents" / part_name(number), selector, names)

    def count(self, selector: Selector | None = None) -> int:
        """How many committed rows are selected."""
        if selector is None:
            return sum(commit.rows for commit in self.commits())
        self._check(selector, None)
        return sum(count_part(self.root / "documents" / part_name(number), selector) for number in self.committed())

    def require(self, selector: Selector) -> int:
        """`count`, but raises UsageError when nothing is selected, with what the columns hold instead."""
        rows = self.count(selector)
        if not rows:
            held = "; ".join(self._held(condition) for condition in selector.conditions) or "it has no rows"
            raise UsageError(f"nothing is selected by {selector}: {held}")
        return rows

    def rejects(self) -> pa.Table:
        """The rejects of all committed shards (REJECTS_SCHEMA), in order."""
        tables = [REJECTS_SCHEMA.empty_table()]
        for commit in self.commits():
            if commit.rejects:
                data = (self.root / "rejects" / f"{commit.shard:05d}.parquet").read_bytes()
                tables.append(pq.read_table(pa.BufferReader(data)).select(REJECTS_SCHEMA.names))
        return pa.concat_tables(tables)

    def verify(self) -> VerifyReport:
        """Recounts and digests everything that is committed."""
        return verify_dataset(self)

    # What was measured of the encoder on this dataset's own text

    def self_check(self) -> dict[str, Any] | None:
        """The figures that `record_self_check` kept, or None."""
        place = self.root / SELF_CHECK
        data = place.read_if_there()
        try:
            found = None if data is None else json.loads(data)
        except ValueError as error:
            raise SaerayError(f"{place.uri} is not JSON ({error}): delete it, and the next encode makes it") from error
        if not isinstance(found, dict | None):
            raise SaerayError(f"{place.uri} holds no figures: delete it, and the next encode makes it")
        return found

    def record_self_check(self, figures: dict[str, Any]) -> None:
        """Keeps the figures; those of the first run stay."""
        (self.root / SELF_CHECK).create((json.dumps(figures, indent=2, allow_nan=False) + "\n").encode())

    # Upkeep

    def sweep(self) -> int:
        """Removes temporary files, older than an hour, of killed writers. Returns how many."""
        places = [self.root, *(self.root / name for name in ("plans", "documents", "commits", "rejects"))]
        return sum(place.sweep() for place in places)

    def acquire_lease(self, owner: str, seconds: float = LEASE_SECONDS) -> Lease:
        """The lease in force after asking for it: `owner`'s, or that of a run which is alive."""
        return lease.acquire(self.root / "lease.json", owner, seconds)

    def renew_lease(self, owner: str, seconds: float = LEASE_SECONDS) -> bool:
        """Extends the lease; False when another run holds it."""
        return lease.renew(self.root / "lease.json", owner, seconds)

    def release_lease(self, owner: str) -> None:
        """Gives the lease back."""
        lease.release(self.root / "lease.json", owner)

    def _check(self, selector: Selector | None, columns: Sequence[str] | None) -> None:
        schema = self.schema()
        for name in columns or ():
            if name not in schema.names:
                raise UsageError(f"no such column {name} in dataset {self.name}; it has: {', '.join(schema.names)}")
        if selector is not None:
            if selector.dataset != self.name:
                raise ValueError(f"a selector of {selector.dataset} for dataset {self.name}")
            selector.check(schema)

    def _held(self, condition: Condition) -> str:
        """What the column of a condition holds, in a few words."""
        values = pa.chunked_array(
            [chunk for table in self.scan(None, [condition.column]) for chunk in table.column(0).chunks],
            self.schema().field(condition.column).type,
        )
        if pa.types.is_list(values.type):
            values = pc.list_flatten(values)
        if len(values) == values.null_count:
            return f"{condition.column} has no values"
        if pa.types.is_string(values.type) or pa.types.is_boolean(values.type):
            counts = sorted(pc.value_counts(values).to_pylist(), key=lambda one: -int(one["counts"]))
            shown = ", ".join(str(one["values"])[:40] for one in counts[:8])
            return f"{condition.column} has {shown}" + (f" and {len(counts) - 8} more" if len(counts) > 8 else "")
        ends = pc.min_max(values).as_py()
        return f"{condition.column} is {ends['min']} to {ends['max']}"

    def _seen(self, plans: list[Plan]) -> Hashes | None:
        """The hashes of the ids of all `plans`, or None when there is no id column."""
        files = [plan.ids for plan in plans if plan.ids is not None]
        if not files:
            return None
        parts = []
        for name in files:
            table = pq.read_table(pa.BufferReader((self.root / "plans" / name).read_bytes()))
            part = np.empty(table.num_rows, HASH)
            part["high"], part["low"] = table.column("high").to_numpy(), table.column("low").to_numpy()
            parts.append(part)
        return np.concatenate(parts)

    def _write_hashes(self, number: int, hashes: Hashes) -> str:
        """Writes the id hashes of a plan under a name made from them, so that a planner which loses the race, or is
        killed before its plan, leaves nothing that a later plan could mistake for its own."""
        sink = io.BytesIO()
        table = pa.table({"high": hashes["high"].copy(), "low": hashes["low"].copy()})
        pq.write_table(table, sink, compression="none", use_dictionary=False)
        name = f"{number:05d}-{hashlib.sha256(sink.getbuffer()).hexdigest()[:16]}.ids.parquet"
        (self.root / "plans" / name).create(sink.getvalue())
        return name


def _numbers(names: Sequence[str]) -> list[int]:
    return sorted(int(match[1]) for name in names if (match := NUMBERED.fullmatch(name)))
