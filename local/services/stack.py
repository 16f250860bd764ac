"""The whole stack: up in the order of what needs what, down in the opposite one, and what its state is."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import http.client
import os
import shutil
import threading
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import jars
from local.home import CONNECT_USER, Home
from local.services import java, postgres, spark, spark_archive, stream
from local.services.part import Part, PartFailed, free_bytes, reason
from local.services.parts import PARTS, STOP_ORDER
from local.services.supervisor import WATCH, Process, Supervisor, port_owner, sweep

Say = Callable[[str], None]

LOCK = ".lock"
DISK_WANTED_BYTES = 2 * 1024**3
OPTIONAL = frozenset({"simulator"})


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
    with (home.path / LOCK).open("w") as lock:
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
        close(home)
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
            shutil.rmtree(home.temporary, ignore_errors=True)
            spark_archive.ensure(home, say)
        home.temporary.mkdir(exist_ok=True)
        supervisor.start(PARTS.values())
        states = supervisor.processes()
        idle = [part for part in PARTS.values() if states[part.name].pid is None and part.name not in without]
        _require_free_ports(home, [port for part in idle for port in part.ports])
        return _Start(home, supervisor, say, without).run()


def close(home: Home) -> None:
    """Let nobody but its owner into a home, also into one that was made when everybody might enter.

    A folder that holds more than a stack's state is somebody else's too (FITNESS_HOME=/tmp) and stays as open as it is.
    """
    for name in STATE:
        path = home.path / name
        if path.exists():
            path.chmod(0o700 if path.is_dir() else 0o600)
    if {path.name for path in home.path.iterdir()} <= {*STATE, LOCK}:
        folder = postgres.data_folder(home).parent
        foreign = folder.exists() and folder.stat().st_uid != os.geteuid()
        home.path.chmod(postgres.PASSABLE if foreign else 0o700)


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
        with ThreadPoolExecutor(len(self.parts) + 1) as pool:
            attempts = [
                pool.submit(self._bring_up, part.name, part.needs, functools.partial(self._start, part))
                for part in self.parts
            ]
            attempts.append(pool.submit(self._bring_up, stream.NAME, ("workspace", "kafka"), self._start_stream))
            for attempt in attempts:
                attempt.result()
        return list(self.troubles.values())

    def _bring_up(self, name: str, needs: tuple[str, ...], start: Callable[[], str | None]) -> None:
        try:
            for needed in needs:
                self.done[needed].wait()
            missing = [needed for needed in needs if needed in self.troubles]
            if missing:
                self.troubles[name] = Trouble(name, f"not started, as {' and '.join(missing)} did not become healthy")
            elif why := start():
                self.troubles[name] = Trouble(name, why, tuple(last_lines(self.home, name)))
        except Exception as error:
            self.troubles[name] = Trouble(name, reason(error), tuple(last_lines(self.home, name)))
        if name in self.troubles:
            self.say(f"{name}: {self.troubles[name].reason}")
        if name in self.done:
            self.done[name].set()

    def _start_stream(self) -> str | None:
        why = stream.up(self.home)
        if why is None:
            self.say(f"{stream.NAME}: healthy after {time.monotonic() - self.began:.0f} s")
        return why

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
            elif (
                process.state in {"running", "starting"} and (why := part.ready(self.home, process.started_at)) is None
            ):
                break
            if time.monotonic() > give_up:
                return f"not healthy after {part.patience_seconds:.0f} s: {why}"
            time.sleep(0.5)
        if part.settle:
            part.settle(self.home)
        if fresh:
            self.say(f"{part.name}: healthy after {time.monotonic() - self.began:.0f} s")
        return None


def down(home: Home, say: Say) -> int:
    """Stop everything in order, then whatever is left. Returns how many processes had to be ended without order."""
    with locked(home, say):
        return _down(home)


def _down(home: Home) -> int:
    supervisor = Supervisor(home)
    if supervisor.pid() is not None:
        # it may die on the way; whatever then still runs is swept away
        with contextlib.suppress(OSError, http.client.HTTPException, xmlrpc.client.Error):
            _stop_in_order(home, supervisor)
    left = sweep(home)
    shutil.rmtree(spark.scratch(home), ignore_errors=True)  # what drivers that were killed have left
    for name in ("kafka", "connect", spark.archive_name()):
        java.keep_archive(home, name)
    return left


def _stop_in_order(home: Home, supervisor: Supervisor) -> None:
    supervisor.stop(WATCH)
    with ThreadPoolExecutor() as pool:
        stream_ends = pool.submit(stream.down, home)
        for level in STOP_ORDER:
            if "workspace" in level:
                stream_ends.result()
            list(pool.map(supervisor.stop, level))
    supervisor.shutdown()


def state(home: Home) -> dict[str, dict[str, Any]]:
    """What `status --json` prints: a part -> pid, port, state, healthy; and how to reach what people reach."""
    known = (home.path / "secrets.json").exists()
    supervisor = Supervisor(home)
    processes = supervisor.processes() if known else {}

    def look(part: Part) -> dict[str, Any]:
        process = processes.get(part.name, Process(part.name, None, "stopped"))
        # one that was left out on purpose is as it should be; after `down` nothing is
        off = part.name in OPTIONAL and process.state == "stopped" and bool(processes)
        healthy = process.state == "running" and part.ready(home, process.started_at) is None
        return {
            "pid": process.pid,
            "port": home.port(part.ports[0]) if part.ports else None,
            "state": "off" if off else process.state,
            "healthy": healthy or off,
        }

    def look_at_stream() -> dict[str, Any]:
        if not processes:
            return {"pid": None, "port": None, "state": "stopped", "healthy": False}
        seen = stream.state(home)
        return {"pid": seen["pid"], "port": None, "state": seen["state"], "healthy": seen["trouble"] is None}

    with ThreadPoolExecutor(len(PARTS) + 1) as pool:
        of_stream = pool.submit(look_at_stream)
        shown = dict(zip(PARTS, pool.map(look, PARTS.values()), strict=True))
        simulator = shown.pop("simulator")
        shown |= {stream.NAME: of_stream.result(), "simulator": simulator}
    secrets = home.secrets if known else {}
    shown["workspace"] |= {"url": home.workspace_url, "token": secrets.get("workspace_token")}
    shown["connect"] |= {"user": CONNECT_USER, "password": secrets.get("connect_password")}
    shown["postgres"] |= {"database": "fitness", "user": "fitness", "password": secrets.get("postgres_password")}
    shown["airflow"] = {"url": home.airflow_url, "user": "admin", "password": secrets.get("airflow_password")}
    return shown


def log_file(home: Home, name: str) -> Path | None:
    """Where a part's log is; it need not exist yet."""
    return stream.log_file(home) if name == stream.NAME else home.logs / f"{name}.log"


def last_lines(home: Home, part: str, count: int = 15) -> list[str]:
    """The end of a part's log, from its last 16 KiB."""
    file = log_file(home, part)
    if file is None or not file.exists():
        return []
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - 16384))
        return log.read().decode(errors="replace").splitlines()[-count:]


# What a stack keeps below its home; `reset` deletes nothing else, whatever FITNESS_HOME points to.
STATE = (
    "airflow", "checkpoints", "connect", "dbfs", "heartbeats", "kafka", "lake", "ledger", "logs", "postgres", "run",
    "spark", "tmp", "workspace", "secrets.json",
)  # fmt: skip


def reset(home: Home, say: Say) -> None:
    """Stop everything and delete the stack's state; not the lock's file, for which others may wait."""
    with locked(home, say):
        _down(home)
        for name in STATE:
            path = home.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
