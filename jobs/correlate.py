"""Find the concepts that travel together, from one YAML file.

    ray job submit --working-dir . -- python jobs/correlate.py --config correlate.yaml

The file holds the fields of `saeray.analysis.correlate.options.CorrelateConfig`. Run it again to add what is new.
"""

import logging

from saeray.analysis.correlate.llm import with_llm
from saeray.analysis.correlate.options import CorrelateConfig
from saeray.pipeline.cooccur import CooccurProgress
from saeray.pipeline.correlate import correlate
from saeray.terminal import finish, run_job

log = logging.getLogger("saeray.job")


def show(progress: CooccurProgress) -> None:
    """One line a tile."""
    log.info("%d/%d tiles, %.0f s", progress.done, progress.total, progress.seconds)


def work(config: CorrelateConfig, as_json: bool) -> None:
    finish(with_llm(config, lambda: correlate(config, show)), config.out, as_json)


if __name__ == "__main__":
    run_job(__doc__, CorrelateConfig, work)
