"""Who runs the stream: its driver processes as they are seen, its runs and attempts as the platform wrote them down."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import psutil

from local.home import Home
from local.workspace.processes import MARK as ATTEMPT

JOB_FILE = "spark_jobs/streaming/bpm.py"
LOOK_SECONDS = 0.25
GROWN_SECONDS = 60.0  # a process of this age is what it will be: `spark-submit` begins as a shell and becomes a JVM


@dataclass(frozen=True)
class Span:
    """Something that lived from `begun` to `ended` (epoch seconds)."""

    name: str
    begun: float
    ended: float


def overlaps(spans: Iterable[Span]) -> list[tuple[Span, Span]]:
    """Pairs that lived at the same time."""
    return [
        (first, second)
        for first, second in combinations(sorted(spans, key=lambda span: span.begun), 2)
        if second.begun < first.ended
    ]


def attempts(home: Home) -> list[Span]:
    """Every attempt to run the stream, exact to the millisecond, from what its runner wrote; one that goes on ends now.

    An attempt begins before its driver's first instruction and ends after its last process.
    """
    found = []
    for spec in (home.path / "workspace" / "attempts").glob("*/*/spec.json"):
        with suppress(FileNotFoundError, ValueError):
            if not any(str(argument).endswith(JOB_FILE) for argument in json.loads(spec.read_text())["argv"]):
                continue
            begun, ended = spec.stat().st_mtime, time.time()
            with suppress(FileNotFoundError):
                result = json.loads(spec.with_name("result.json").read_text())
                begun, ended = result["start_ms"] / 1000, result["end_ms"] / 1000
            found.append(Span(f"attempt {_name(spec.parent)}", begun, ended))
    return found


class DriverWatch(threading.Thread):
    """Looks every quarter of a second which drivers live. A driver is what can write: Python and its JVM."""

    def __init__(self, home: Home, clock: Callable[[], float] = time.time) -> None:
        super().__init__(daemon=True, name="drivers")
        self._home, self._clock = home, clock
        self._ended = threading.Event()
        self._known: dict[tuple[int, float], str | None] = {}  # process (pid, create time) -> attempt
        self._seen: dict[str, Span] = {}

    def run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self.look()

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def look(self) -> None:
        """Note which attempts have a living driver now."""
        now = self._clock()
        known: dict[tuple[int, float], str | None] = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                identity = process.pid, process.create_time()
                attempt = self._known[identity] if identity in self._known else self._attempt_of(process)
                if attempt is not None or now - process.create_time() > GROWN_SECONDS:
                    known[identity] = attempt
                if attempt is not None and process.status() != psutil.STATUS_ZOMBIE:
                    begun = self._seen[attempt].begun if attempt in self._seen else now
                    self._seen[attempt] = Span(f"driver of {attempt}", begun, now)
        self._known = known

    def spans(self) -> list[Span]:
        return list(self._seen.values())

    def _attempt_of(self, process: psutil.Process) -> str | None:
        """The attempt whose driver the process belongs to; None for any other process."""
        folder = process.environ().get(ATTEMPT)
        if folder is None or not Path(folder).is_relative_to(self._home.path.resolve()):
            return None
        if JOB_FILE not in (Path(folder) / "spec.json").read_text():
            return None
        is_python = any(argument.endswith(JOB_FILE) for argument in process.cmdline()[:4])  # `-m warm_driver FILE` too
        return _name(Path(folder)) if is_python or process.name() == "java" else None


def _name(attempt: Path) -> str:
    return "/".join(attempt.parts[-2:])
