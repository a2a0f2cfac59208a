"""The store on real object storage: conditional creates, killed workers, a server that goes away, clear refusals."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3_server import S3Server
from toy_encoder import encode_missing, new_dataset, write_inputs

from saeray.errors import SaerayError
from saeray.store import Dataset, PlanSettings, Store, list_inputs, location, plan_inputs, read_shard

TESTS = Path(__file__).parent.parent
WORK = """
import sys
from saeray.store import Store
from toy_encoder import encode_missing
dataset = Store.open(sys.argv[1]).dataset("toy")
print("ready", flush=True)
encode_missing(dataset, int(sys.argv[2]))
"""


def _workers(uri: str, seeds: range) -> list[subprocess.Popen[bytes]]:
    """Worker processes that have all said they are ready."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-c", WORK, uri]
    workers = [subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, env=environment) for seed in seeds]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
    return workers


def _files(dataset: Dataset) -> dict[str, bytes]:
    places = [dataset.root / name for name in ("documents", "rejects")]
    return {
        f"{place.path.rsplit('/')[-1]}/{name}": (place / name).read_bytes()
        for place in places
        for name in place.names()
    }


def test_create_is_conditional_and_reads_are_ranged(s3_uri: str) -> None:
    place = location(s3_uri) / "deep/x"
    assert place.read_if_there() is None
    assert place.create(b"one")
    assert not place.create(b"two")
    assert place.read_bytes() == b"one"
    assert (location(s3_uri).names(), location(s3_uri).directories()) == ([], ["deep"])
    assert (location(s3_uri) / "deep").names() == ["x"]
    place.replace(b"0123456789" * 100)
    with place.open(16) as file:
        file.seek(-5, os.SEEK_END)
        assert file.read() == b"56789"
        file.seek(500)
        assert file.read(3) == b"012"
    place.delete()
    place.delete()
    assert not place.exists()


def test_one_of_sixteen_racing_creates_wins(s3_uri: str) -> None:
    place, barrier, won = location(s3_uri) / "x", threading.Barrier(16), []

    def race(number: int) -> None:
        barrier.wait()
        if place.create(str(number).encode() * 1000):
            won.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert place.read_bytes() == str(won[0]).encode() * 1000


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "csv", "parquet"])
def test_inputs_are_read_where_they_lie(s3_uri: str, tmp_path: Path, suffix: str) -> None:
    texts = [f"text {i} é" for i in range(300)]
    if suffix == "parquet":
        pq.write_table(pa.table({"text": texts}), tmp_path / "x", row_group_size=64)
        data = (tmp_path / "x").read_bytes()
    else:
        rows = ["text", *texts] if suffix == "csv" else [json.dumps({"text": text}) for text in texts]
        data = "\n".join(rows).encode()
        data = pa.compress(data, codec="gzip", asbytes=True) if suffix.endswith("gz") else data
    place = location(f"{s3_uri}/sub/a.{suffix}")
    place.create(data)
    name = f"a.{suffix}"
    for given, named in ((s3_uri, f"sub/{name}"), (f"{s3_uri}/*/a.*", f"sub/{name}"), (f"{s3_uri}/sub/{name}", name)):
        inputs = list_inputs([given])
        plan, _ = plan_inputs(inputs, PlanSettings(shard_tokens=100))
        assert len(plan.shards) > 5
        found = [text for shard in plan.shards for text in read_shard(plan, shard).documents.column("text").to_pylist()]
        assert found == texts
        assert [one.name for one in inputs] == [named]
    place.replace(data + b"\n")
    with pytest.raises(SaerayError, match="changed after it was planned"):
        read_shard(plan, plan.shards[0])


def test_racing_and_killed_workers_leave_what_one_leaves(s3_uri: str, tmp_path: Path) -> None:
    inputs, chance = write_inputs(tmp_path / "in"), random.Random(3)
    alone = new_dataset(str(tmp_path / "alone"), inputs)
    encode_missing(alone)
    dataset = new_dataset(s3_uri, inputs)
    for round_number in range(3):
        workers = _workers(s3_uri, range(2 * round_number, 2 * round_number + 2))
        time.sleep(chance.random() * 0.3)
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
            worker.communicate()
    workers = _workers(s3_uri, range(50, 52))
    for worker in workers:
        worker.communicate()
        assert worker.returncode == 0
    report = dataset.verify()
    assert report.ok
    assert report.stray == []
    assert _files(dataset) == _files(alone)
    _, selector = dataset.store.select("toy:model=A")
    found = pa.concat_tables(dataset.scan(selector, ["doc_id", "max"])).to_pylist()
    assert found == pa.concat_tables(alone.scan(selector, ["doc_id", "max"])).to_pylist()
    assert dataset.acquire_lease("me").owner == "me"
    assert dataset.acquire_lease("you").owner == "me"
    dataset.release_lease("me")


def test_a_server_that_is_killed_and_comes_back_is_waited_for(s3_uri: str, s3_server: S3Server, tmp_path: Path) -> None:
    dataset = new_dataset(s3_uri, write_inputs(tmp_path / "in"))
    encode_missing_in = threading.Thread(target=encode_missing, args=(dataset,))
    encode_missing_in.start()
    time.sleep(0.1)
    s3_server.restart()
    encode_missing_in.join()
    fresh = Store.open(s3_uri).dataset("toy")
    assert fresh.missing() == []
    assert fresh.verify().ok


def test_what_cannot_be_reached_is_one_line(s3_server: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saeray.store.files.RETRY_SECONDS", 0.5)
    bucket = s3_uri.rsplit("/", 1)[0]
    cases = [
        ({}, "s3://no-such-bucket/x", "there is no bucket s3://no-such-bucket"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, f"{bucket}/x", "are refused"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, f"{bucket}/x", "are refused"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, f"{bucket}/x", "no credentials"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, f"{bucket}/x", "does not answer"),
    ]
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    for changes, uri, words in cases:
        with monkeypatch.context() as patch:
            for name, value in changes.items():
                patch.setenv(name, value) if value else patch.delenv(name)
            fsspec.get_filesystem_class("s3").clear_instance_cache()
            with pytest.raises(SaerayError, match=words) as caught:
                Store.open(uri, create=True)
            assert "\n" not in str(caught.value)
            assert s3_server.env["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)
            assert "wrong" not in str(caught.value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
