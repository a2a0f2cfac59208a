"""A real S3 server (SeaweedFS, one process) for tests that kill and restart the storage under a running job."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCESS_KEY = "testkey"
SECRET_KEY = "testsecret"
BUCKET = "saeray"
START_SECONDS = 90.0


class S3Server:
    """`weed server` on free ports over its own directory. `endpoint` and `env` are what a client needs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bucket = BUCKET
        self._process: subprocess.Popen[bytes] | None = None
        # weed's gRPC ports are these plus 10,000, so both have to be free.
        self._master, self._volume, self._filer, self._s3 = _free_ports(4)
        self.endpoint = f"http://127.0.0.1:{self._s3}"
        self.env = {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        config = {
            "identities": [
                {
                    "name": "test",
                    "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                    "actions": ["Admin", "Read", "List", "Tagging", "Write"],
                }
            ]
        }
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "s3.json").write_text(json.dumps(config))

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Starts the server and waits until a bucket can be listed and written."""
        weed = Path(sys.executable).parent / "weed"
        data = self.directory / "data"
        data.mkdir(exist_ok=True)
        command = [
            str(weed if weed.exists() else shutil.which("weed")), "server", f"-dir={data}", "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1", f"-master.port={self._master}", f"-volume.port={self._volume}", "-filer=true",
            f"-filer.port={self._filer}", "-s3", f"-s3.port={self._s3}", f"-s3.config={self.directory / 's3.json'}",
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64", "-volume.max=100",
            "-master.telemetry=false",
            "-master.electionTimeout=1s",  # a restart takes 4 s; with the default of 10 s it takes 17 to 24
        ]  # fmt: skip
        with open(self.directory / "weed.log", "ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            if self._answers():
                return
            time.sleep(0.2)
        raise RuntimeError("weed did not start:\n" + (self.directory / "weed.log").read_text()[-3000:])

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kills the server and starts it again over the same data."""
        self.kill()
        self.start()

    def filesystem(self):
        """A fresh s3fs file system for the server."""
        import s3fs

        return s3fs.S3FileSystem(
            key=ACCESS_KEY,
            secret=SECRET_KEY,
            endpoint_url=self.endpoint,
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def make_bucket(self) -> None:
        fs = self.filesystem()
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if not fs.exists(self.bucket):
                    fs.mkdir(self.bucket)
                fs.pipe_file(f"{self.bucket}/.ready", b"1")
                return
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.endpoint, timeout=2):
                return True
        except urllib.error.HTTPError as error:
            return error.code == 403  # it is up, and wants a signature
        except OSError:
            return False


def _free_ports(count: int) -> list[int]:
    """Ports below 22,768, whose gRPC twins are below 32,768: there no outgoing connection is given one of them while
    the server is down."""
    ports: list[int] = []
    candidate = 20000 + os.getpid() * 37 % 2700
    while len(ports) < count:
        candidate = candidate + 1 if candidate < 22700 else 20000
        if candidate not in ports and _is_free(candidate) and _is_free(candidate + 10000):
            ports.append(candidate)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
