"""Asking LLMs: one client over any backend, which caches, counts, caps and validates. Knows no Ray."""

from saeray.llm.base import CapReached, DeadKey, Reply, Request, Stop, Usage
from saeray.llm.budget import Cap
from saeray.llm.cache import Cache
from saeray.llm.client import Client, Progress
from saeray.llm.connect import LLMConfig, connect
from saeray.llm.throttle import Limits

__all__ = [
    "Cache",
    "Cap",
    "CapReached",
    "Client",
    "DeadKey",
    "LLMConfig",
    "Limits",
    "Progress",
    "Reply",
    "Request",
    "Stop",
    "Usage",
    "connect",
]
