"""Turn a dataset latent-major, from one YAML file.

    ray job submit --working-dir . -- python jobs/index.py --config index.yaml

The file holds the fields of `saeray.config.IndexConfig`. Run it again to add what is new.
"""

import logging

from saeray.config import IndexConfig
from saeray.pipeline.cli import report_index
from saeray.pipeline.index import IndexProgress, index
from saeray.store import Store
from saeray.terminal import run_job

log = logging.getLogger("saeray.job")


def show(progress: IndexProgress) -> None:
    """One line a block."""
    documents, postings = progress.documents, progress.postings
    log.info("%d/%d blocks, %d documents, %d postings", progress.done, progress.total, documents, postings)


def work(config: IndexConfig, as_json: bool) -> None:
    report_index(index(Store.open(config.store), config.dataset, show, config.check), as_json)


if __name__ == "__main__":
    run_job(__doc__, IndexConfig, work)
