"""Encode text into a store, from one YAML file.

    ray job submit --working-dir . -- python jobs/encode.py --config encode.yaml

The file holds the fields of `saeray.config.EncodeConfig`. Run it again to go on where it stopped.
"""

import argparse
import logging
from pathlib import Path

from saeray.cli import report_encode
from saeray.config import EncodeConfig, load_yaml
from saeray.pipeline.encode import Progress, encode
from saeray.terminal import reporting

log = logging.getLogger("saeray.job")


def show(progress: Progress) -> None:
    """One line a shard: what a job's log can show of a progress bar."""
    rate = progress.tokens / max(progress.seconds, 1e-9)
    log.info("%d/%d shards, %d documents, %.0f tokens/s", progress.done, progress.total, progress.documents, rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    with reporting(arguments.json):
        logging.getLogger("saeray").setLevel(logging.INFO)
        report_encode(encode(load_yaml(arguments.config, EncodeConfig), show), arguments.json)


if __name__ == "__main__":
    main()
