"""Latent frequencies of encoded documents, from one YAML file or as the command takes them.

    ray job submit --working-dir . -- python jobs/stats.py --config stats.yaml
    ray job submit --working-dir . -- python jobs/stats.py NAME --store s3://… --out s3://…

The file holds the fields of `saeray.config.StatsConfig`. Run it again to go on where it stopped.
"""

import logging
import sys

from saeray.analysis.counting import Progress
from saeray.cli import app
from saeray.config import StatsConfig
from saeray.pipeline.stats import stats
from saeray.terminal import finish, run_job

log = logging.getLogger("saeray.job")


def show(progress: Progress) -> None:
    """One line a shard: what a job's log can show of a progress bar."""
    log.info("%d/%d shards counted, %.0f s", progress.done, progress.total, progress.seconds)


def work(config: StatsConfig, as_json: bool) -> None:
    finish(stats(config, show), config.out, as_json)


if __name__ == "__main__":
    if any(word.split("=")[0] == "--config" for word in sys.argv):
        run_job(__doc__, StatsConfig, work)
    else:
        sys.argv.insert(1, "stats")
        app()
