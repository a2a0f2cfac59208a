"""Turn a dataset latent-major, from one YAML file.

    ray job submit --working-dir . -- python jobs/index.py --config index.yaml

The file holds the fields of `saeray.config.IndexConfig`. Run it again to add what is new.
"""

import argparse
import logging
from pathlib import Path

from saeray.config import IndexConfig, load_yaml
from saeray.pipeline.cli import report_index
from saeray.pipeline.index import IndexProgress, index
from saeray.store import Store
from saeray.terminal import reporting

log = logging.getLogger("saeray.job")


def show(progress: IndexProgress) -> None:
    """One line a block."""
    documents, postings = progress.documents, progress.postings
    log.info("%d/%d blocks, %d documents, %d postings", progress.done, progress.total, documents, postings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    with reporting(arguments.json):
        logging.getLogger("saeray").setLevel(logging.INFO)
        config = load_yaml(arguments.config, IndexConfig)
        report_index(index(Store.open(config.store), config.dataset, show, config.check), arguments.json)


if __name__ == "__main__":
    main()
