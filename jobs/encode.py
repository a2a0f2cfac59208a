"""Encode text into a store, from one YAML file.

    ray job submit --working-dir . -- python jobs/encode.py --config encode.yaml

The file holds the fields of `saeray.config.EncodeConfig`. Run it again to go on where it stopped.
"""

import logging

from saeray.cli import report_encode
from saeray.config import EncodeConfig
from saeray.pipeline.encode import Progress, encode
from saeray.terminal import run_job

log = logging.getLogger("saeray.job")


def show(progress: Progress) -> None:
    """One line a shard: what a job's log can show of a progress bar."""
    rate = progress.tokens / max(progress.seconds, 1e-9)
    log.info("%d/%d shards, %d documents, %.0f tokens/s", progress.done, progress.total, progress.documents, rate)


def work(config: EncodeConfig, as_json: bool) -> None:
    report_encode(encode(config, show), as_json)


if __name__ == "__main__":
    run_job(__doc__, EncodeConfig, work)
