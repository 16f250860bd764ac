"""The server's side of an attempt's process: launch it, see whether it lives, ask it to end, read how it ended."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from local.workspace import joblog, runner

log = logging.getLogger("workspace.processes")

MARK = "FITNESS_ATTEMPT"  # in the environment of every process of an attempt: the attempt's folder
LAST_WORDS_BYTES = 2000
ANOTHER_SECONDS = 300.0  # between two tries to have a driver standing by, where it dies before it is called
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

    def launch(
        self,
        argv: list[str],
        environment: dict[str, str],
        timeout_seconds: float,
        grace_seconds: float,
        nice: int = 0,
        standby: Standby | None = None,
    ) -> None:
        """Returns at once; the runner is then on its own. `nice`: how far the job gives way to others (0 to 19).

        `standby` becomes the attempt if it is warm, its folder the attempt's.
        """
        spec = {"argv": argv, "nice": nice, "timeout_seconds": timeout_seconds, "grace_seconds": grace_seconds}
        bury_children()
        if standby is not None and standby.is_for(argv, environment):
            self.folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder.symlink_to(standby.folder)
            standby.call(spec)
        else:
            self.folder.mkdir(parents=True, mode=0o700)
            (self.folder / "spec.json").write_text(json.dumps(spec))
            _start_runner(self.folder, environment)

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
            mine = str(self.folder.resolve())
            return any(child.poll() is None and mine in child.args for child in _children)  # type: ignore[operator]
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
        """Kills what a runner that died left behind."""
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


class Standby:
    """A driver that is warm before an always-on task needs one (`warm_driver.py`): it becomes the task's next attempt.

    There is one, for the always-on task that was last said to go on. It ends with its server.
    """

    def __init__(self, folder: Path) -> None:
        """Everything below `folder` is this one's."""
        self._below = folder
        self._made_for: tuple[str, dict[str, str]] | None = None
        self._runner: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0
        self.folder = folder

    def keep(self, python_file: str, environment: dict[str, str]) -> None:
        """See to it that there is one for this file and environment, or will be."""
        wanted = (python_file, environment)
        if self._runner is not None and self._runner.poll() is not None:
            log.warning(
                "The driver that stood by has ended; its last words: %s", joblog.tail(self.folder / "log", 2000).text
            )
            self.end()
        if self._made_for != wanted:
            self.end()
        if self._runner is None and time.monotonic() >= self._not_before:
            self._not_before = time.monotonic() + ANOTHER_SECONDS
            self._made_for = wanted
            self._below.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder = Path(tempfile.mkdtemp(dir=self._below.resolve()))
            command = [sys.executable, "-m", "local.workspace.warm_driver", python_file]
            self._runner = _start_runner(self.folder, environment, command)

    def is_for(self, argv: list[str], environment: dict[str, str]) -> bool:
        """Whether it is warm, and what it waits for is this."""
        lives = self._runner is not None and self._runner.poll() is None
        return lives and self._made_for == (argv[1], environment) and (self.folder / "ready").exists()

    def call(self, spec: dict[str, Any]) -> None:
        """It becomes the attempt of `spec`, and is this one's no more."""
        called, self._runner, self._not_before = self._runner, None, 0.0
        (self.folder / "spec.json").write_text(json.dumps(spec))
        if called is not None and called.stdin is not None:
            with called.stdin as bell:
                bell.write(b"\n")

    def end(self) -> None:
        """Nobody will call it."""
        ended, self._runner = self._runner, None
        if ended is not None and ended.stdin is not None:
            ended.stdin.close()
            ended.wait()
            shutil.rmtree(self.folder, ignore_errors=True)  # of one that was killed; else it did so itself


def _start_runner(folder: Path, environment: dict[str, str], standby: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    with (folder / "runner.log").open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", runner.__file__, str(folder.resolve()), *standby],
            stdin=subprocess.PIPE if standby else subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            bufsize=0,
            env={**environment, MARK: str(folder.resolve())},
            start_new_session=True,
        )
    _children.append(child)
    return child


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
