"""Count which latents stand in the same documents, from one YAML file.

    ray job submit --working-dir . -- python jobs/cooccur.py --config cooccur.yaml

The file holds the fields of `saeray.config.CooccurConfig`. Run it again to go on where it stopped and add what is new.
"""

import argparse
import logging
from pathlib import Path

from saeray.config import CooccurConfig, load_yaml
from saeray.pipeline.cli import report_cooccur
from saeray.pipeline.cooccur import CooccurProgress, run
from saeray.terminal import reporting

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
        config = load_yaml(arguments.config, CooccurConfig)
        report_cooccur(run(config, show), config.out, arguments.json)


if __name__ == "__main__":
    main()
