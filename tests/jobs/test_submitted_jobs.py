"""Guards the way to a cluster: `ray job submit … -- python jobs/NAME.py --config …` does what the command does."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from clusters import quiet_ray
from runs import assert_whole, random_texts, write_jsonl

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
START_SECONDS = 200.0


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def environment() -> dict[str, str]:
    """What both the cluster and its clients need beside `quiet_ray`: this Python first on the path, and no token of the
    user's."""
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    path = f"{BIN}{os.pathsep}{env['PATH']}"
    return env | {"PATH": path, "RAY_AUTH_MODE": "disabled"}


@pytest.fixture
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a one-node cluster with its dashboard, on ports of its own."""
    with quiet_ray(tmp_path_factory.mktemp("cache")):
        yield from head_of(tmp_path_factory.mktemp("ray"))


def head_of(directory: Path) -> Iterator[str]:
    gcs, port, agent, runtime, client = free_ports(5)
    head = subprocess.Popen(
        [
            BIN / "ray", "start", "--head", "--block", "--num-cpus=4", f"--port={gcs}", "--dashboard-host=127.0.0.1",
            f"--dashboard-port={port}", f"--dashboard-agent-listen-port={agent}", f"--runtime-env-agent-port={runtime}",
            f"--ray-client-server-port={client}", "--disable-usage-stats", f"--temp-dir={directory}",
        ],
        env=environment(), cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(f"{address}/api/version", head)
        yield address
    finally:
        # Its own processes and no others: `ray stop` would end every Ray of the machine, SIGTERM takes half a minute.
        own = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
        for process in own:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        head.communicate(timeout=60)


def wait_until_up(url: str, head: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert head.poll() is None, head.stdout and head.stdout.read()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"nothing answers at {url}")


def submit(dashboard: str, job: str, config: Path, fields: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    config.write_text(yaml.safe_dump(fields))
    command = [
        BIN / "ray", "job", "submit", "--address", dashboard, "--working-dir", ".", "--", "python", f"jobs/{job}.py",
        "--config", str(config), "--json",
    ]  # fmt: skip
    return subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=280)


def found_in(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON object that a job printed, among the lines of its log."""
    assert done.returncode == 0, done.stdout + done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(line)


def test_submitted_jobs_encode_and_reduce_and_say_why_they_cannot(
    dashboard: str, encoder: Path, tmp_path: Path
) -> None:
    """A corpus goes through every job on one cluster; input that is not there is one line."""
    inputs = write_jsonl(tmp_path / "a.jsonl", random_texts(1, 12, (20, 60)))
    store = str(tmp_path / "store")
    fields = {
        "inputs": [str(inputs)],
        "dataset": "texts",
        "store": store,
        "encoder": str(encoder),
        "shard_tokens": 300,
        "workers": 1,
    }
    done = submit(dashboard, "encode", tmp_path / "encode.yaml", fields)
    assert found_in(done)["documents"] == 12
    assert "documents, " in done.stdout  # a line of progress a shard
    assert_whole(tmp_path / "store")

    pairs = {"selection": "texts", "store": store, "band": [0.1, 0.9], "min_support": 2}
    asked: dict[str, dict[str, Any]] = {
        "refused": {**fields, "inputs": [str(tmp_path / "no.jsonl")]},
        "stats": {"selector": "texts", "store": store, "out": str(tmp_path / "stats")},
        "index": {"dataset": "texts", "store": store},
        "cooccur": {**pairs, "out": str(tmp_path / "cooccur"), "floor": -1},
        "correlate": {**pairs, "out": str(tmp_path / "correlate"), "floor": 0.1},
    }
    with ThreadPoolExecutor(len(asked)) as pool:
        jobs = {
            name: pool.submit(
                submit, dashboard, "encode" if name == "refused" else name, tmp_path / f"{name}.yaml", config
            )
            for name, config in asked.items()
        }
        results = {name: job.result() for name, job in jobs.items()}
    refused = results.pop("refused")
    assert refused.returncode != 0
    assert f"there is no input {tmp_path / 'no.jsonl'}" in refused.stdout
    assert "Traceback" not in refused.stdout
    figures = {name: found_in(result) for name, result in results.items()}
    assert figures["stats"]["documents"] == figures["index"]["documents"] == 12
    assert figures["cooccur"]["edges"] > 0
    for name in ("stats", "cooccur", "correlate"):
        assert sorted(one.name for one in (tmp_path / name).iterdir()) == [
            "report.html",
            "result.parquet",
            "summary.json",
        ]
