"""The Ray modules: the only ones in saeray that import ray.

With them a model that actors hold can be asked like any other (`saeray.llm.connect`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from saeray.llm.connect import MAKERS

if TYPE_CHECKING:
    from saeray.llm import LLMConfig
    from saeray.llm.base import Backend


def _cluster(model: str, config: LLMConfig) -> tuple[Backend, str]:
    from saeray.pipeline.llm_actors import Actors

    return Actors(model, config), model


MAKERS["cluster"] = _cluster
