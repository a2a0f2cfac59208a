"""Find the concepts that travel together, from one YAML file.

    ray job submit --working-dir . -- python jobs/correlate.py --config correlate.yaml

The file holds the fields of `saeray.analysis.options.CorrelateConfig`. Run it again to add what is new.
"""

import argparse
import logging
from pathlib import Path

from saeray.analysis.options import CorrelateConfig
from saeray.config import load_yaml
from saeray.pipeline.cooccur import CooccurProgress
from saeray.pipeline.correlate import correlate
from saeray.terminal import finish, reporting

log = logging.getLogger("saeray.job")


def show(progress: CooccurProgress) -> None:
    """One line a tile."""
    log.info("%d/%d tiles, %.0f s", progress.done, progress.total, progress.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    with reporting(arguments.json):
        logging.getLogger("saeray").setLevel(logging.INFO)
        config = load_yaml(arguments.config, CorrelateConfig)
        finish(correlate(config, show), config.out, arguments.json)


if __name__ == "__main__":
    main()
