"""Waiting for what happens in another process."""

from __future__ import annotations

import time
from collections.abc import Callable


def until[T](look: Callable[[], T], patience_seconds: float = 60) -> T:
    """What `look` returns once that is true; patience only ends a test that hangs."""
    deadline = time.monotonic() + patience_seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return seen
