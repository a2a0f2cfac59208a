"""What a replica of the encoder is given: the device it works on, its GPUs, and how it reads.

A replica is one actor. An actor never spans nodes, and Ray shows it its own GPUs alone, as cuda:0, cuda:1 and so on.
"""

from __future__ import annotations

import logging
from typing import Any

import ray

from saeray.config import EncodeConfig
from saeray.errors import SaerayError, UsageError

log = logging.getLogger(__name__)


def device_of(config: EncodeConfig) -> str:
    """Where a run's encoders work: the device asked for, else `cuda` when it asks for GPUs, else `cpu`."""
    return config.device or ("cuda" if config.num_gpus else "cpu")


def reading_of(config: EncodeConfig) -> dict[str, Any]:
    """How an encoder of the run reads, as `saeray.loading.encoder_of` takes it: packs on GPUs unless the run says
    otherwise, and packs in stages where a replica has several.
    """
    gpus = max(1, int(config.num_gpus))
    if gpus > 1 and config.packing == "off":
        raise UsageError(f"{gpus} GPUs a replica read packs alone: leave packing on, or give one GPU a replica")
    packed = config.packing == "on" or (config.packing == "auto" and device_of(config).startswith("cuda"))
    return {"packed": packed, "gpus": gpus}


def check_gpus(num_gpus: float, own_cluster: bool) -> None:
    """Whether `num_gpus` for each replica can be had: all of one node, for a replica is one process.

    Raises SaerayError when they cannot; of a cluster, which may grow, it is said that they are waited for.
    """
    if num_gpus > 1 and num_gpus % 1:
        raise UsageError(f"{num_gpus:g} GPUs a replica: give a whole number, or a part of one")
    most = max(_gpus_of_nodes(), default=0)
    if not num_gpus or num_gpus <= most:
        return
    if own_cluster and not most:
        raise SaerayError("a GPU was asked for and this machine has none; leave out --num-gpus")
    if own_cluster:
        raise SaerayError(
            f"{num_gpus:g} GPUs a replica were asked for and this machine has {most:g}; give --num-gpus {most:g}"
        )
    log.warning("no node of the cluster has %g GPU(s) yet; waiting for one to join", num_gpus)


def replicas_of_gpus(num_gpus: float) -> int:
    """How many replicas of `num_gpus` there is room for; three GPUs on each of two nodes hold two replicas of two."""
    return sum(int(gpus / num_gpus) for gpus in _gpus_of_nodes())


def _gpus_of_nodes() -> list[float]:
    return [float(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]]
