"""The server's side of an attempt's process: launch it, see whether it lives, ask it to end, read how it ended."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from local.workspace import runner

MARK = "FITNESS_ATTEMPT"  # in the environment of every process of an attempt: the attempt's folder
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Outcome:
    """How a job's process ended. `how`: exited, timedout or stopped; `exit_code` is negative for a signal."""

    how: str
    exit_code: int | None
    error: str
    start_ms: int
    end_ms: int


class Process:
    """The process of one attempt, known by its folder; works the same for one that another server launched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def launch(self, spec: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """Returns at once; the runner is then on its own. `spec` is that of `job_spec`."""
        self.folder.mkdir(parents=True, mode=0o700)
        (self.folder / "spec.json").write_text(json.dumps(spec))
        bury_children()
        start_runner(self.folder, environment)

    def never_began(self) -> bool:
        """True when no runner has taken this attempt; then none ever will, as it is taken here."""
        if self.folder.is_symlink() and not self.folder.exists():  # to what stood by and is no more
            self.folder.unlink()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = runner.claim(self.folder)
        if descriptor is None:
            return False
        os.close(descriptor)
        return True

    def lives(self) -> bool:
        """Whether a runner holds this attempt."""
        try:
            with (self.folder / "runner").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return has_runner(self.folder)
        except BlockingIOError:
            return True
        return False

    def outcome(self) -> Outcome | None:
        """How it ended; None while it goes on, and when it died without saying."""
        try:
            raw = json.loads((self.folder / "result.json").read_text())
        except FileNotFoundError:
            return None
        return Outcome(raw["outcome"], raw["exit_code"], raw["error"], raw["start_ms"], raw["end_ms"])

    def ask_to_end(self) -> None:
        """SIGTERM now, SIGKILL after the grace period; asking twice does no harm."""
        if self.lives() and (pid := self._pid("runner")):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def end_leftovers(self) -> None:
        """Kills what a runner that died left behind, and a runner that hangs."""
        mine = str(self.folder.resolve())
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and process.environ().get(MARK) == mine:
                    process.kill()
            except psutil.Error:
                continue

    def remove(self) -> None:
        shutil.rmtree(self.folder.resolve(), ignore_errors=True)
        if self.folder.is_symlink():
            self.folder.unlink()

    def _pid(self, name: str) -> int | None:
        try:
            return int((self.folder / name).read_text())
        except (FileNotFoundError, ValueError):
            return None


def job_spec(argv: list[str], timeout_seconds: float, grace_seconds: float, nice: int = 0) -> dict[str, Any]:
    """What a runner is told. `nice`: how far the job gives way to others (0 to 19)."""
    return {"argv": argv, "nice": nice, "timeout_seconds": timeout_seconds, "grace_seconds": grace_seconds}


def start_runner(folder: Path, environment: Mapping[str, str], standby: Sequence[str] = ()) -> None:
    """Of the attempt in `folder`, or of `standby`, which waits there to become one."""
    with (folder / "runner.log").open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", runner.__file__, str(folder.resolve()), *standby],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**environment, MARK: str(folder.resolve())},
            start_new_session=True,
        )
    _children.append(child)


def has_runner(folder: Path) -> bool:
    """Whether this process has started a runner there that lives."""
    mine = str(folder.resolve())
    return any(child.poll() is None and mine in child.args for child in _children)  # type: ignore[operator]


def end_all(processes: list[Process], grace_seconds: float) -> None:
    """Asks all to end and waits until they have; what does not is killed by its runner after the grace period."""
    deadline = time.monotonic() + grace_seconds + 10
    while (living := [process for process in processes if process.lives()]) and time.monotonic() < deadline:
        for process in living:
            process.ask_to_end()
        time.sleep(0.1)
    for process in processes:
        if process.outcome() is None:
            process.end_leftovers()


def bury_children() -> None:
    """Runners are this process's children until it restarts; the ended ones must not stay zombies."""
    _children[:] = [child for child in _children if child.poll() is None]
