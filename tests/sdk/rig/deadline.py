"""Waiting for what will be true soon."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL = 0.02


def eventually(what: str, probe: Callable[[], T], within: float = 10.0) -> T:
    """What `probe` gives as soon as it gives something truthy."""
    deadline = time.monotonic() + within
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within} s in vain for {what}")
        time.sleep(POLL)
    return found
