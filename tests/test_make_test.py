"""`make test` is two processes: it fails when either does, shows what both say, and lets both clean up when stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUN = """
import sys, halves
from pathlib import Path
halves.TESTS, halves.PIPELINE = Path.cwd(), Path("pipeline").absolute()
sys.exit(halves.main([]))
"""
PASSES = "def test_passes(): pass\n"
FAILS = "def test_fails(): assert not 'a reason'\n"
WAITS = """
import pathlib, pytest, time
here = pathlib.Path(__file__).parent
@pytest.fixture
def server():
    (here / "up").touch()
    yield
    (here / "down").touch()
def test_waits(server): time.sleep(100)
"""


def start(place: Path, pipeline: str, others: str) -> subprocess.Popen[str]:
    (place / "pipeline").mkdir()
    (place / "pipeline" / "test_one.py").write_text(pipeline)
    (place / "test_other.py").write_text(others)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.Popen(
        [sys.executable, "-c", RUN],
        cwd=place,
        env=environment | {"PYTHONPATH": str(Path(__file__).parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("pipeline", "others", "told"),
    [(FAILS, PASSES, ("1 failed", "1 passed")), (PASSES, FAILS, ("1 passed", "1 failed"))],
)
def test_one_failure_fails_the_whole(pipeline: str, others: str, told: tuple[str, str], tmp_path: Path) -> None:
    """Whichever half it is in."""
    process = start(tmp_path, pipeline, others)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 1, said
    assert "a reason" in said
    ends = [line.split(" in ")[0] for line in said.splitlines()[-2:]]
    assert ends == [f"pipeline | {told[0]}", f"others   | {told[1]}"]


@pytest.mark.parametrize("whom", ["all", "it alone"])
def test_stopped_it_ends_what_both_halves_started(whom: str, tmp_path: Path) -> None:
    """Ctrl-C goes to all processes, a time limit's SIGTERM to the first alone; fixtures are torn down once in both."""
    process = start(tmp_path, WAITS, WAITS)
    places = [tmp_path, tmp_path / "pipeline"]
    end = time.monotonic() + 200
    while not all((place / "up").exists() for place in places):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    if whom == "all":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 2, said
    assert all((place / "down").exists() for place in places)
