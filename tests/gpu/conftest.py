"""Every test here is asked of each device: of the CPU in float32 wherever that makes sense, so that its logic is known
to work, and of a GPU in bfloat16 where there is one. `pytest -m gpu` runs the latter alone."""

from __future__ import annotations

import pytest
import torch

NO_GPU = "no GPU that torch can use"
GPU = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)])


@pytest.fixture(params=["cpu", GPU])
def device(request: pytest.FixtureRequest) -> str:
    """Where packs are read."""
    return str(request.param)


@pytest.fixture(params=[GPU])
def gpu(request: pytest.FixtureRequest) -> str:
    """For what only a GPU has."""
    return str(request.param)
