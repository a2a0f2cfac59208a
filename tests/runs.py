"""Encode runs for tests: corpora, what a run left in its store, and drivers in processes of their own, to be killed.

driver = Driver(inputs, store, encoder, "--workers", "2")
driver.wait_for_commits(3)
os.kill(driver.encoders()[0].pid, signal.SIGKILL)
assert driver.wait() == 0
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from saeray.config import EncodeConfig
from saeray.store import Dataset, Store

DATASET = "texts"
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "she", "sells", "shells", "by", "sea"]
# Two documents of some 6,000 words (5 bytes each) a shard: 12,500 tokens, a quarter of a second of a core.
LONG_SHARD_TOKENS = 17_500
SOAK_SHARD_TOKENS = 35_000  # twice that: what figures of docs/benchmarks.md were taken with
# On a machine that others use too, Ray took two minutes to start; a quiet one needs ten seconds.
PATIENCE_SECONDS = 240.0


def random_texts(seed: int, documents: int, words: tuple[int, int]) -> list[str]:
    """Texts of random words, between `words[0]` and `words[1]` of them."""
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randint(*words))) for _ in range(documents)]


def write_jsonl(path: Path, texts: list[str], **columns: list[Any]) -> Path:
    """A JSONL file of texts and further columns; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"text": text} | {name: values[i] for name, values in columns.items()} for i, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def encode_config(inputs: Path, store: Path | str, encoder: Path, **fields: Any) -> EncodeConfig:
    """A run's configuration: some four documents of `random_texts` a shard, one worker of one thread."""
    defaults = {"dataset": DATASET, "shard_tokens": 300, "workers": 1, "threads": 1}
    return EncodeConfig(inputs=[str(inputs)], store=str(store), encoder=str(encoder), **(defaults | fields))


def dataset_of(store: Path | str, name: str = DATASET) -> Dataset:
    """A dataset as a fresh process would see it."""
    return Store.open(str(store)).dataset(name)


def contents(store: Path | str, name: str = DATASET) -> dict[str, Any]:
    """Every file of a dataset, as bytes; of commits all but the seconds, which are a measurement.

    Leases and what a killed writer left half written are no part of what readers see.
    """
    root = dataset_of(store, name).root
    found: dict[str, Any] = {}
    for folder in ("plans", "documents", "rejects", "commits"):
        for file in (root / folder).names():
            data = (root / folder / file).read_bytes()
            if folder == "commits":
                found[f"{folder}/{file}"] = {key: value for key, value in json.loads(data).items() if key != "seconds"}
            else:
                found[f"{folder}/{file}"] = data
    return found


def shards_in(files: dict[str, Any]) -> int:
    """How many committed shards there are in what `contents` found."""
    return sum(name.startswith("commits/") for name in files)


def files_below(directory: Path) -> dict[str, bytes]:
    """Every file below a local directory, by relative name."""
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


def assert_whole(store: Path | str, name: str = DATASET) -> None:
    """`verify` finds nothing missing, nothing twice, and that encoded + rejected = input."""
    report = dataset_of(store, name).verify()
    assert report.ok, report
    assert not report.stray, report
    assert report.documents + report.rejected == report.input_rows


class Driver:
    """A `saeray encode` process, and the Ray workers that work for it. It does not outlive its `with` block.

    ray_address: a running cluster; without one the driver starts its own, whose processes are its descendants.
    begun: a file in which every shard that an encoder begins is noted.
    """

    def __init__(
        self,
        inputs: Path,
        store: Path | str,
        encoder: Path,
        *arguments: str,
        ray_address: str | None = None,
        begun: Path | None = None,
        shard_tokens: int = LONG_SHARD_TOKENS,
    ) -> None:
        self.store = str(store)
        program = [str(Path(sys.executable).parent / "saeray")]
        env = {**os.environ, "RAY_worker_niceness": "0"}
        env.pop("RAY_ADDRESS", None)
        if begun is not None:
            program = [sys.executable, str(Path(__file__).parent / "counted.py")]
            env["SAERAY_TEST_BEGUN"] = str(begun)
        command = [
            *program, "encode", str(inputs), "--dataset", DATASET, "--store", self.store, "--encoder", str(encoder),
            "--shard-tokens", str(shard_tokens), "--workers", "2", "--json", *arguments,
        ]  # fmt: skip
        if ray_address:
            env["RAY_ADDRESS"] = ray_address
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True
        )
        self.stdout = self.stderr = ""

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_running():
            self.kill()

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_running(self) -> bool:
        return self.process.poll() is None

    def encoders(self) -> list[psutil.Process]:
        """The actors that encode, among the processes below this driver."""
        return encoders_below(self.pid)

    def wait_for_commits(self, count: int) -> None:
        """Until `count` shards are committed; fails when the driver ends first."""
        self.wait_until(lambda: committed(self.store) >= count, f"{count} commits")

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Until `condition` holds; fails when the driver ends first, or it takes too long."""
        for _ in ticks():
            if condition():
                return
            assert self.is_running(), f"ended before {what}: {self.wait()} {self.stdout} {self.stderr}"
        self.kill()
        raise AssertionError(f"no {what} in {PATIENCE_SECONDS:.0f} s: {self.stdout} {self.stderr}")

    def wait(self) -> int:
        """Its exit code, once it has ended; `stdout` and `stderr` are then what it said."""
        out, err = self.process.communicate(timeout=PATIENCE_SECONDS)
        self.stdout, self.stderr = self.stdout + out, self.stderr + err
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL to the driver alone; what it started has to notice for itself."""
        self.process.kill()
        self.wait()


def encoders_below(pid: int) -> list[psutil.Process]:
    """The processes below `pid` that are encode actors with a model loaded or loading."""
    found = []
    try:
        below = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    for process in below:
        try:
            if "MapWorker(MapBatches(Encode))" in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            continue
    return found


def committed(store: str, name: str = DATASET) -> int:
    """How many shards of a dataset are committed; 0 before there is one."""
    try:
        return len(dataset_of(store, name).committed())
    except Exception:
        return 0


def ticks(seconds: float = PATIENCE_SECONDS, pause: float = 0.05) -> Iterator[None]:
    """A tick every `pause` seconds, for `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(pause)
