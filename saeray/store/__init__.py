"""The store: what was encoded, planned and committed exactly once, as plain Parquet at any URI."""

from saeray.store.commits import Commit, adopt_shard, commit_shard
from saeray.store.dataset import Dataset
from saeray.store.files import Location, location
from saeray.store.inputs import Input, list_inputs
from saeray.store.lease import Lease
from saeray.store.plan import Plan, PlanSettings, Shard
from saeray.store.planning import plan_inputs
from saeray.store.selectors import Selector, parse
from saeray.store.shard_rows import REJECTS_SCHEMA, ShardInput, read_shard
from saeray.store.store import Store, canonical_json, encoder_fingerprint
from saeray.store.verify import VerifyReport

__all__ = [
    "REJECTS_SCHEMA",
    "Commit",
    "Dataset",
    "Input",
    "Lease",
    "Location",
    "Plan",
    "PlanSettings",
    "Selector",
    "Shard",
    "ShardInput",
    "Store",
    "VerifyReport",
    "adopt_shard",
    "canonical_json",
    "commit_shard",
    "encoder_fingerprint",
    "list_inputs",
    "location",
    "parse",
    "plan_inputs",
    "read_shard",
]
