"""Latent frequencies of encoded documents, from one YAML file or as the command takes them.

    ray job submit --working-dir . -- python jobs/stats.py --config stats.yaml
    ray job submit --working-dir . -- python jobs/stats.py NAME --store s3://… --out s3://…

The file holds the fields of `saeray.config.StatsConfig`. Run it again to go on where it stopped.
"""

import argparse
import logging
import sys
from pathlib import Path

from saeray.analysis.counting import Progress
from saeray.cli import app
from saeray.config import StatsConfig, load_yaml
from saeray.pipeline.stats import stats
from saeray.terminal import finish, reporting

log = logging.getLogger("saeray.job")


def show(progress: Progress) -> None:
    """One line a shard: what a job's log can show of a progress bar."""
    log.info("%d/%d shards counted, %.0f s", progress.done, progress.total, progress.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    with reporting(arguments.json):
        logging.getLogger("saeray").setLevel(logging.INFO)
        config = load_yaml(arguments.config, StatsConfig)
        finish(stats(config, show), config.out, arguments.json)


if __name__ == "__main__":
    if any(word.split("=")[0] == "--config" for word in sys.argv):
        main()
    else:
        sys.argv.insert(1, "stats")
        app()
