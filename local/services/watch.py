"""Mends what hangs. supervisord restarts what dies; a process can also live on without doing its work.

Seen: a scheduler that loses its database ends its loop, then waits for its running tasks, for as long as those take; a
transaction that Kafka ended nowhere, behind which Connect and every reader wait for ever.
"""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException

from local.home import Home
from local.services import transactions
from local.services.part import Part, PartFailed
from local.services.parts import PARTS
from local.services.supervisor import Supervisor

log = logging.getLogger("watch")

LOOK_SECONDS = 10


@dataclass(frozen=True)
class Sight:
    """A part as seen now: when its process was started, and since when it is in trouble (epoch seconds; None: well)."""

    started_at: float
    trouble_since: float | None = None
    trouble: str = ""


def stuck(parts: Mapping[str, Part], seen: Mapping[str, Sight], now: float) -> list[str]:
    """Names of running parts to restart: in trouble for longer than they may be, though all they need is well.

    One that is still starting is not judged, nor one that waits for another: a restart would help neither.
    """
    return [
        name
        for name, sight in seen.items()
        if sight.trouble_since is not None
        and now - sight.trouble_since > parts[name].stuck_seconds
        and now - sight.started_at > parts[name].patience_seconds
        and all(needed in seen and seen[needed].trouble_since is None for needed in parts[name].needs)
    ]


def look(home: Home, supervisor: Supervisor, before: Mapping[str, Sight]) -> dict[str, Sight]:
    """Every part whose process runs. Trouble counts from its first sight in the same process."""
    seen = {}
    for name, process in supervisor.processes().items():
        if name not in PARTS or process.state != "running":
            continue
        trouble = PARTS[name].ready(home, process.started_at)
        last = before.get(name)
        known = last.trouble_since if last and last.started_at == process.started_at else None
        since = (known or time.time()) if trouble else None
        seen[name] = Sight(process.started_at, since, trouble or "")
    return seen


def main() -> None:
    """Look, mend what is stuck, for ever; what it does stands in logs/watch.log."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.Formatter.converter = time.gmtime
    home = Home.from_environment()
    supervisor = Supervisor(home)
    seen: dict[str, Sight] = {}
    while True:
        time.sleep(LOOK_SECONDS)
        seen = look(home, supervisor, seen)
        for name in stuck(PARTS, seen, time.time()):
            log.warning("%s is restarted: %s", name, seen[name].trouble)
            supervisor.stop(name)
            supervisor.start_part(name)
        if "kafka" in seen and seen["kafka"].trouble_since is None:
            end_hanging_transactions(home)


def end_hanging_transactions(home: Home) -> None:
    try:
        for found in transactions.end_hanging(home):
            log.warning("A hanging transaction was ended: %s", found)
    except (KafkaException, PartFailed, OSError, subprocess.SubprocessError, TimeoutError):
        log.exception("Whether transactions hang cannot be said.")


if __name__ == "__main__":
    main()
