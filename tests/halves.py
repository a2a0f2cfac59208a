"""Runs all tests in two pytest processes at once: those of the pipeline, and the others (`make test`).

Tests of the pipeline wait as much as they work: for a cluster, for workers that import torch, for what was killed. The
others keep the cores busy meanwhile. pytest-xdist would deal tests out as they come, and two Rays that start at once on
two cores have timed out: here the pipeline's starts first and stays, the others start theirs one by one, minutes later.

python tests/halves.py [what both pytests shall be told beside their paths]
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

TESTS = Path(__file__).parent
PIPELINE = TESTS / "pipeline"
NO_TESTS = 5  # pytest's exit code where the arguments leave a half empty


class Half:
    """One pytest, whose lines are shown as they come, under its name. told: the last of them, with its counts."""

    def __init__(self, name: str, *arguments: str) -> None:
        self.name, self.told = name, ""
        colour = ["--color=yes"] if sys.stdout.isatty() else []
        self.process = subprocess.Popen(
            # -v: a line a file; pytest's own dots would be a line after minutes
            [sys.executable, "-m", "pytest", "-v", *colour, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        self._shown = Thread(target=self._show, daemon=True)
        self._shown.start()

    def _show(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            sys.stdout.write(f"{self.name:8} | {line}")
            sys.stdout.flush()
            self.told = line.strip(" =\n") or self.told

    def wait(self) -> int:
        """Its exit code, once all that it said is shown."""
        code = self.process.wait()
        self._shown.join(timeout=10)  # an orphan of a failed test could hold the pipe open
        return code


def main(arguments: list[str]) -> int:
    """0 when both halves passed; else the exit code of one that did not."""
    halves = [
        Half("pipeline", str(PIPELINE), *arguments),
        Half("others", str(TESTS), f"--ignore={PIPELINE}", *arguments),
    ]
    # Ctrl-C reaches both pytests by itself, who end their clusters and servers; whoever stops this process alone means
    # the same.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: [half.process.send_signal(signal.SIGINT) for half in halves] and None)
    codes = [half.wait() for half in halves]
    for half in halves:
        print(f"{half.name:8} | {half.told}")
    wrong = [code for code in codes if code not in (0, NO_TESTS)]
    return wrong[0] if wrong else min(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
