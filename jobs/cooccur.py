"""Count which latents stand in the same documents, from one YAML file.

    ray job submit --working-dir . -- python jobs/cooccur.py --config cooccur.yaml

The file holds the fields of `saeray.config.CooccurConfig`. Run it again to go on where it stopped and add what is new.
"""

import logging

from saeray.config import CooccurConfig
from saeray.pipeline.cli import report_cooccur
from saeray.pipeline.cooccur import CooccurProgress, run
from saeray.terminal import run_job

log = logging.getLogger("saeray.job")


def show(progress: CooccurProgress) -> None:
    """One line a tile."""
    log.info("%d/%d tiles, %.0f s", progress.done, progress.total, progress.seconds)


def work(config: CooccurConfig, as_json: bool) -> None:
    report_cooccur(run(config, show), config.out, as_json)


if __name__ == "__main__":
    run_job(__doc__, CooccurConfig, work)
