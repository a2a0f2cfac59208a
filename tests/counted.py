"""The `saeray` command, with a line in the file $SAERAY_TEST_BEGUN for every shard that an encoder begins: what is
there beyond one line a shard is the work that kills have cost."""

from __future__ import annotations

import os
from typing import Any

from saeray import cli
from saeray.pipeline import encode as pipeline
from saeray.pipeline import stages

BEGUN = os.environ["SAERAY_TEST_BEGUN"]


class Encode(stages.Encode):
    """The product's, under the product's name, so that it is found by it."""

    def _encode(self, row: dict[str, Any]) -> dict[str, Any]:
        with open(BEGUN, "a") as file:
            file.write(f"{row['shard']} {os.getpid()}\n")
        return super()._encode(row)


if __name__ == "__main__":
    pipeline.Encode = Encode
    cli.main()
