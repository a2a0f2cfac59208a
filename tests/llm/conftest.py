"""A Gemini stand-in for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stand_in import GeminiStandIn


@pytest.fixture
def server() -> Iterator[GeminiStandIn]:
    """A server that judges by keyword and has no trouble yet."""
    with GeminiStandIn() as running:
        yield running
