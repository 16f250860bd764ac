"""A driver that is warm before an always-on task needs one (`warm_driver.py`): it becomes the task's next attempt.

Like an attempt it is known by its folder and outlives its server. There it waits for the `bell`, a named pipe; what it
is made for and whether it is warm stands beside it. When it is called, the attempt's folder is a link to its own.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.workspace import joblog, runner
from local.workspace.processes import Process, has_runner, start_runner

log = logging.getLogger("workspace.standby")

WARM_DRIVER = (sys.executable, "-m", "local.workspace.warm_driver")
LAST_WORDS_BYTES = 2000
CALL_SECONDS = 5.0  # in which one that is called begins
END_SECONDS = 10.0  # in which one that is told to go goes
ANOTHER_SECONDS = 300.0  # between two tries, where one dies before it is called
WARM_SECONDS = 1800.0  # in which one is warm, or it hangs


class Standby:
    """The one driver that stands by, if there is one, in a folder below `below`."""

    def __init__(self, below: Path) -> None:
        self._below = below
        self._not_before = 0.0
        self.folder: Path | None = None

    def adopt(self) -> None:
        """Take over one that a former server has left, once all attempts are adopted."""
        for folder in self._below.glob("*/"):
            if (folder / "runner").exists() or (folder / "spec.json").exists():
                continue  # an attempt's
            if self.folder is None and _hears(folder):
                self.folder = folder.resolve()
            else:
                _end(folder)

    def is_made_for(self, python_file: str, environment: Mapping[str, str]) -> bool:
        if self.folder is None:
            return False
        try:
            return (self.folder / "made_for").read_text() == _digest(python_file, environment)
        except FileNotFoundError:
            return False

    def keep(self, python_file: str, environment: Mapping[str, str], *, gives_way: bool = False) -> None:
        """See to it that there is one for this file and environment, or will be, and that it goes on warming itself.

        `gives_way`: with what others leave of the machine's time, once it is awake; until then it is no help at all.
        """
        if self.folder and self._is_broken():
            said = joblog.tail(self.folder / "log", LAST_WORDS_BYTES).text
            log.warning("The driver that stood by has ended; its last words: %s", said)
            self.end()
        elif self.folder and not self.is_made_for(python_file, environment):
            self.end()
            self._not_before = 0.0
        if self.folder is None and time.monotonic() >= self._not_before:
            self._not_before = time.monotonic() + ANOTHER_SECONDS
            self._below.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder = Path(tempfile.mkdtemp(dir=self._below)).resolve()
            (self.folder / "made_for").write_text(_digest(python_file, environment))
            os.mkfifo(self.folder / "bell", 0o600)
            start_runner(self.folder, environment, [*WARM_DRIVER, python_file])
        elif self.folder:
            gives_way = gives_way and (self.folder / "awake").exists()
            _ring(self.folder, runner.GIVE_WAY if gives_way else runner.GO_AHEAD)

    def becomes(self, attempt: Process, spec: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
        """Make it the attempt of `spec`, if it is awake and made for it; whether it has become that, and is this one's
        no more. Waits until it has begun, some milliseconds as a rule; one that does not come when called is ended.

        One that is made for it and not awake yet pauses until `keep`: the attempt, which starts cold, comes first.
        """
        folder = self.folder
        if folder is None or not _hears(folder) or not self.is_made_for(spec["argv"][1], environment):
            return False
        if not (folder / "awake").exists():
            _ring(folder, runner.PAUSE)
            return False
        attempt.folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        attempt.folder.symlink_to(folder)
        try:
            (folder / "spec.json").write_text(json.dumps(spec))
        except OSError:  # a full disk; it can still become the next one
            attempt.folder.unlink()
            (folder / "spec.json").unlink(missing_ok=True)
            raise
        self.folder, self._not_before = None, 0.0
        _ring(folder, runner.CALL)
        deadline = time.monotonic() + CALL_SECONDS
        while not (folder / "runner").exists() and _hears(folder) and time.monotonic() < deadline:
            time.sleep(0.005)
        try:
            if (folder / "runner").exists() or not attempt.never_began():
                return True
        except OSError:  # nobody can say whose it is
            _end(folder)
            raise
        _end(folder)
        attempt.folder.unlink()
        return False

    def end(self) -> None:
        """Nobody will call it."""
        folder, self.folder = self.folder, None
        if folder:
            _end(folder)

    def _is_broken(self) -> bool:
        assert self.folder is not None
        if not _hears(self.folder) and not has_runner(self.folder):
            return True
        age = time.time() - (self.folder / "made_for").stat().st_mtime
        return age > WARM_SECONDS and not (self.folder / "ready").exists()


def _hears(folder: Path) -> bool:
    """Whether a runner waits there, whose attempt nobody has taken."""
    return _ring(folder, b"") and not (folder / "runner").exists()


def _ring(folder: Path, tone: bytes) -> bool:
    """Whether somebody had the bell open."""
    try:
        bell = os.open(folder / "bell", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        os.write(bell, tone)
    except BrokenPipeError:
        return False
    except BlockingIOError:  # it has heard nothing for a long time, and is to be given up
        return tone == b""
    finally:
        os.close(bell)
    return True


def _end(folder: Path) -> None:
    _ring(folder, runner.GO)
    deadline = time.monotonic() + END_SECONDS
    while _hears(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    Process(folder).end_leftovers()
    shutil.rmtree(folder, ignore_errors=True)


def _digest(python_file: str, environment: Mapping[str, str]) -> str:
    """Of secrets too, so not the text itself."""
    return hashlib.sha256(json.dumps([python_file, dict(environment)], sort_keys=True).encode()).hexdigest()
