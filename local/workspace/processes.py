"""The server's side of an attempt's process: launch it, see whether it lives, ask it to end, read how it ended."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from local.workspace import joblog, runner

log = logging.getLogger("workspace.processes")

MARK = "FITNESS_ATTEMPT"  # in the environment of every process of an attempt: the attempt's folder
LAST_WORDS_BYTES = 2000
LAST_WORDS_BYTES = 2000
LISTEN = b""  # rings without a tone
END_SECONDS = 10.0  # in which one that stands by goes when it is told to
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
        environment: Mapping[str, str],
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
        if standby is not None and standby.is_for(argv[1], environment):
            standby.call(self.folder, spec)
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
            return any(_runs(child, self.folder.resolve()) for child in _children)
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

    There is one, for the always-on task that was last said to go on. What it is made for and whether it is warm stands
    in its folder, so a server finds the one that a killed server has left.
    """

    def __init__(self, below: Path) -> None:
        """Takes over what stands by in a folder below `below`."""
        self._below = below
        self._not_before = 0.0
        self.folder: Path | None = None
        for folder in below.glob("*"):
            if (folder / "runner").exists() or (folder / "spec.json").exists():
                continue  # an attempt's
            if self.folder is None and _ring(folder, LISTEN):
                self.folder = folder.resolve()
            elif not _ring(folder, runner.GO):
                shutil.rmtree(folder, ignore_errors=True)

    def keep(self, python_file: str, environment: Mapping[str, str]) -> None:
        """See to it that there is one for this file and environment, or will be."""
        if self.folder and not _ring(self.folder, LISTEN) and not any(_runs(child, self.folder) for child in _children):
            said = joblog.tail(self.folder / "log", LAST_WORDS_BYTES).text
            log.warning("The driver that stood by has ended; its last words: %s", said)
            self.end()
        if self.folder and not self._made_for(python_file, environment):
            self.end()
        if self.folder is None and time.monotonic() >= self._not_before:
            self._not_before = time.monotonic() + ANOTHER_SECONDS
            self._below.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder = Path(tempfile.mkdtemp(dir=self._below)).resolve()
            (self.folder / "made_for").write_text(_digest(python_file, environment))
            os.mkfifo(self.folder / "bell", 0o600)
            _start_runner(self.folder, environment, [sys.executable, "-m", "local.workspace.warm_driver", python_file])

    def is_for(self, python_file: str, environment: Mapping[str, str]) -> bool:
        """Whether it is warm, and what it waits for is this."""
        if self.folder is None or not (self.folder / "ready").exists():
            return False
        return self._made_for(python_file, environment) and _ring(self.folder, LISTEN)

    def call(self, attempt: Path, spec: Mapping[str, Any]) -> None:
        """It becomes the attempt of `spec` and its folder the attempt's; it is this one's no more."""
        assert self.folder is not None
        attempt.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        attempt.symlink_to(self.folder)
        (self.folder / "spec.json").write_text(json.dumps(spec))
        _ring(self.folder, runner.CALL)
        self.folder, self._not_before = None, 0.0

    def end(self) -> None:
        """Nobody will call it."""
        if self.folder is None:
            return
        _ring(self.folder, runner.GO)
        deadline = time.monotonic() + END_SECONDS
        while _ring(self.folder, LISTEN) and time.monotonic() < deadline:
            time.sleep(0.05)
        Process(self.folder).end_leftovers()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = None

    def _made_for(self, python_file: str, environment: Mapping[str, str]) -> bool:
        assert self.folder is not None
        try:
            return (self.folder / "made_for").read_text() == _digest(python_file, environment)
        except FileNotFoundError:
            return False


def _ring(folder: Path, tone: bytes) -> bool:
    """Whether the runner that stands by in `folder` hears it; not one whose attempt was taken."""
    try:
        bell = os.open(folder / "bell", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # nobody has it open, or it is gone
        return False
    try:
        os.write(bell, tone)
    finally:
        os.close(bell)
    return not (folder / "runner").exists()


def _digest(python_file: str, environment: Mapping[str, str]) -> str:
    """Of secrets too, so not the text itself."""
    return hashlib.sha256(json.dumps([python_file, dict(environment)], sort_keys=True).encode()).hexdigest()


def _start_runner(folder: Path, environment: Mapping[str, str], standby: Sequence[str] = ()) -> None:
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


def _runs(child: subprocess.Popen[bytes], folder: Path) -> bool:
    return child.poll() is None and str(folder) in child.args  # type: ignore[operator]


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
