"""The whole stack: up in the order of what needs what, down in the opposite one, and what its state is."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from local import jars
from local.home import Home
from local.services import java
from local.services.part import Part, PartFailed, free_bytes, reason
from local.services.parts import PARTS
from local.services.supervisor import Supervisor, port_owner, sweep

Say = Callable[[str], None]

DISK_WANTED_BYTES = 2 * 1024**3
JVM_ARCHIVES = ("kafka", "connect", "spark")


@dataclass(frozen=True)
class Trouble:
    """A part that does not become healthy: why, and the last lines of its log."""

    part: str
    reason: str
    log: tuple[str, ...] = ()


@contextlib.contextmanager
def locked(home: Home, say: Say) -> Iterator[None]:
    """One `up`, `down` or `reset` of a stack at a time; a second one waits."""
    home.path.mkdir(parents=True, exist_ok=True)
    with (home.path / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another `fitness` works on this stack, waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def up(home: Home, say: Say, without: frozenset[str] = frozenset()) -> list[Trouble]:
    """Start what does not run, wait until all is healthy, bring all to its declared state. Empty = all is well.

    Raises PartFailed or JarsMissing, with a sentence for people, when nothing could be tried.
    """
    with locked(home, say):
        free = free_bytes(home.path)
        if free < DISK_WANTED_BYTES:
            raise PartFailed(
                f"The disk that holds {home.path} has {free / 1024**3:.1f} GiB free; the stack needs at least "
                f"{DISK_WANTED_BYTES / 1024**3:.0f}. Free some, or set FITNESS_HOME to a folder on another disk."
            )
        java.java_home()
        jars.resolve(say)
        supervisor = Supervisor(home)
        if supervisor.pid() is None:
            orphans = sweep(home)
            if orphans:
                say(f"ended {orphans} processes that a lost supervisor left behind")
            _require_free_ports(home, ["supervisor", *(port for part in PARTS.values() for port in part.ports)])
        supervisor.start(PARTS.values())
        states = supervisor.processes()
        idle = [part for part in PARTS.values() if states[part.name].pid is None and part.name not in without]
        _require_free_ports(home, [port for part in idle for port in part.ports])
        return _Start(home, supervisor, say, without).run()


def _require_free_ports(home: Home, names: list[str]) -> None:
    for name in names:
        owner = port_owner(home.port(name))
        if owner:
            raise PartFailed(
                f"Port {home.port(name)}, which {name} needs, is taken by {owner}. "
                "Stop that, or choose other ports with FITNESS_PORT_BASE."
            )


class _Start:
    """One `up`: a thread a part, each waiting for the parts it needs."""

    def __init__(self, home: Home, supervisor: Supervisor, say: Say, without: frozenset[str]) -> None:
        self.home, self.supervisor, self.say = home, supervisor, say
        self.parts = [part for part in PARTS.values() if part.name not in without]
        self.done = {part.name: threading.Event() for part in self.parts}
        self.troubles: dict[str, Trouble] = {}
        self.began = time.monotonic()

    def run(self) -> list[Trouble]:
        with ThreadPoolExecutor(len(self.parts)) as pool:
            for attempt in [pool.submit(self._bring_up, part) for part in self.parts]:
                attempt.result()
        return [self.troubles[part.name] for part in self.parts if part.name in self.troubles]

    def _bring_up(self, part: Part) -> None:
        try:
            for needed in part.needs:
                self.done[needed].wait()
            missing = [needed for needed in part.needs if needed in self.troubles]
            why = f"not started, as {' and '.join(missing)} did not become healthy" if missing else self._start(part)
        except Exception as error:
            why = reason(error)
        if why:
            log = () if why.startswith("not started") else tuple(last_lines(self.home, part.name))
            self.troubles[part.name] = Trouble(part.name, why, log)
            self.say(f"{part.name}: {why}")
        self.done[part.name].set()

    def _start(self, part: Part) -> str | None:
        """None once the part is healthy and settled, else why it is not."""
        if part.before:
            part.before(self.home)
        fresh = self.supervisor.processes()[part.name].pid is None
        self.supervisor.start_part(part.name)
        give_up = time.monotonic() + part.patience_seconds
        deaths = 0
        while True:
            process = self.supervisor.processes().get(part.name)
            if process is None:
                return "the supervisor is gone"
            if process.state in {"backoff", "exited", "fatal"}:
                deaths += 1
                if deaths >= 8 or process.state == "fatal":  # some seconds: one that dies once may be late for a lock
                    return "its process ends right after its start"
            elif process.state in {"running", "starting"} and (why := part.ready(self.home)) is None:
                break
            if time.monotonic() > give_up:
                return f"not healthy after {part.patience_seconds:.0f} s: {why}"
            time.sleep(0.25 if process.state != "backoff" else 1)
        if part.settle:
            part.settle(self.home)
        if fresh:
            self.say(f"{part.name}: healthy after {time.monotonic() - self.began:.0f} s")
        return None


def down(home: Home, say: Say) -> int:
    """Stop everything in order, then whatever is left. Returns how many processes had to be ended without order."""
    with locked(home, say):
        supervisor = Supervisor(home)
        if supervisor.pid() is not None:
            for level in stop_order(PARTS):
                with ThreadPoolExecutor(len(level)) as pool:
                    list(pool.map(supervisor.stop, level))
            supervisor.shutdown()
        left = sweep(home)
        if jars.jars_home().is_dir():
            for name in JVM_ARCHIVES:
                java.keep_archive(home, name)
        return left


def stop_order(parts: dict[str, Part]) -> list[list[str]]:
    """Names in groups: first those that nobody needs, then those that only stopped ones needed, and so on.

    PostgreSQL and Kafka come in the end whatever needs them: their logs should hold what the others say on leaving.
    """
    left = dict(parts)
    order = []
    while left:
        needed = {name for part in left.values() for name in part.needs}
        level = sorted(name for name in left if name not in needed)
        order.append(level)
        for name in level:
            del left[name]
    return order


def state(home: Home) -> dict[str, dict[str, Any]]:
    """What `status --json` prints: a part -> pid, port, state, healthy; and how to reach those that people reach."""
    processes = Supervisor(home).processes() if (home.path / "secrets.json").exists() else {}

    def look(part: Part) -> dict[str, Any]:
        process = processes.get(part.name)
        pid = process.pid if process else None
        trouble = part.ready(home) if pid else "not running"
        return {
            "pid": pid,
            "port": home.port(part.ports[0]) if part.ports else None,
            "state": process.state if process else "stopped",
            "healthy": trouble is None,
        }

    with ThreadPoolExecutor(len(PARTS)) as pool:
        return dict(zip(PARTS, pool.map(look, PARTS.values()), strict=True))


def last_lines(home: Home, part: str, count: int = 15) -> list[str]:
    """The end of a part's log, from its last 16 KiB."""
    file = home.logs / f"{part}.log"
    if not file.exists():
        return []
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - 16384))
        return log.read().decode(errors="replace").splitlines()[-count:]


# What a stack keeps below its home; `reset` deletes nothing else, whatever FITNESS_HOME points to.
STATE = (
    "airflow", "checkpoints", "connect", "dbfs", "heartbeats", "kafka", "lake", "ledger", "logs", "postgres", "run",
    "spark", "workspace", "secrets.json",
)  # fmt: skip


def reset(home: Home, say: Say) -> None:
    """Stop everything and delete the stack's state."""
    down(home, say)
    with locked(home, say):
        for name in STATE:
            path = home.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
