"""The simulator: members, devices and gyms that make data all day."""

from __future__ import annotations

import sys
import time

from local.home import Home
from local.services.part import Launch, Part, base_environment

SETTLED_SECONDS = 3


def _prepare(home: Home) -> Launch:
    environment = base_environment(home) | home.secret_environment
    return Launch([sys.executable, "-m", "local.simulator", "live"], environment, home.ledger)


def _ready(home: Home, started_at: float) -> str | None:
    """It serves nothing that could be asked; one that stays is well, as it ends when it cannot send."""
    return None if time.time() - started_at >= SETTLED_SECONDS else "has just been started"


PART = Part(name="simulator", prepare=_prepare, ready=_ready, needs=("postgres", "kafka", "connect"))
