"""Train an SAE from one YAML file: `ray job submit --working-dir . -- python jobs/train_sae.py --config sae.yaml`.

The file holds the fields of `saeray.config.TrainSAEConfig`. With `device: cuda` the work runs as a Ray task that holds
one GPU, wherever the cluster has it; `out` must then be a directory that all nodes share.
"""

import argparse
import json
import logging
from pathlib import Path

import ray

from saeray.config import TrainSAEConfig, load_yaml
from saeray.pipeline.cluster import connected
from saeray.pipeline.train_sae import make_sae
from saeray.terminal import reporting


def work(config: TrainSAEConfig) -> dict[str, object]:
    logging.basicConfig(level=logging.INFO)
    return make_sae(config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    arguments = parser.parse_args()
    with reporting(False), connected():
        config = load_yaml(arguments.config, TrainSAEConfig)
        gpus = 1 if config.device.startswith("cuda") else 0
        print(json.dumps(ray.get(ray.remote(num_cpus=1, num_gpus=gpus)(work).remote(config))))


if __name__ == "__main__":
    main()
