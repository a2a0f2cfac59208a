"""The LLM stand-in and its clients lie with the tests of `saeray.llm`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "llm"))
