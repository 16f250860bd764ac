"""The process of one attempt: however its job fails to start, its end is written down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from local.workspace import runner
from tests.waiting import until

AUTOGROUP = Path("/proc/self/autogroup")  # where Linux shares processor time out among sessions


def run(tmp_path: Path, argv: list[str], nice: int = 0) -> dict[str, Any]:
    spec = {"argv": argv, "nice": nice, "timeout_seconds": 0, "grace_seconds": 1}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    subprocess.run([sys.executable, "-I", "-S", runner.__file__, str(tmp_path)], check=False, capture_output=True)
    return json.loads((tmp_path / "result.json").read_text())


@pytest.mark.parametrize("argv", [["/no/such/program"], [sys.executable, "a\0b"]], ids=["missing", "nul"])
def test_a_job_that_cannot_be_started_leaves_a_result_that_says_so(argv: list[str], tmp_path: Path) -> None:
    result = run(tmp_path, argv)
    assert result["exit_code"] is None
    assert result["error"].startswith("The job could not be started: ")


@pytest.mark.parametrize("nice", [0, 5])
def test_a_job_gives_way_as_it_was_told_and_so_does_its_session(nice: int, tmp_path: Path) -> None:
    said = "import os, sys; print(os.nice(0), *(open(name).read() for name in sys.argv[1:]))"
    files = [str(AUTOGROUP)] if AUTOGROUP.exists() else []
    assert run(tmp_path, [sys.executable, "-c", said, *files], nice)["exit_code"] == 0
    own, *session = (tmp_path / "log").read_text().split()
    assert int(own) == os.nice(0) + nice
    assert not session or int(session[-1]) == nice


LEAVES_A_CHILD = """
import os, signal, subprocess, sys
at_ease = "import pathlib, time; time.sleep(2); pathlib.Path('mark').touch(); time.sleep(1000)"
print(subprocess.Popen([sys.executable, "-c", at_ease]).pid, flush=True)
{end}
"""


@pytest.mark.parametrize(
    ("end", "code", "has_time"), [("os.kill(os.getpid(), signal.SIGKILL)", -9, False), ("sys.exit(3)", 3, True)]
)
def test_what_a_job_leaves_is_ended_and_has_time_to_end_itself_if_the_job_was_not_killed(
    end: str, code: int, has_time: bool, tmp_path: Path
) -> None:
    assert run(tmp_path, [sys.executable, "-c", LEAVES_A_CHILD.format(end=end)])["exit_code"] == code
    assert (tmp_path / "mark").exists() == has_time
    assert not Path("/proc", (tmp_path / "log").read_text().strip()).exists()


@pytest.mark.parametrize("full", ["job", "result.tmp"])
def test_a_job_that_succeeds_on_a_full_disk_has_succeeded(full: str, tmp_path: Path) -> None:
    spec = {"argv": [sys.executable, "-c", "print('done', flush=True)"]} | PATIENT
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    (tmp_path / full).symlink_to("/dev/full")
    process = subprocess.Popen([sys.executable, "-I", "-S", runner.__file__, str(tmp_path)])
    log = tmp_path / "log"
    until(lambda: log.exists() and "done" in log.read_text())
    until(lambda: process.poll() is not None or not children(process.pid))
    (tmp_path / full).unlink(missing_ok=True)
    assert process.wait(30) == 0
    assert json.loads((tmp_path / "result.json").read_text())["exit_code"] == 0


STANDS_BY = """
import json, os, pathlib, sys
print("warming", flush=True)
pathlib.Path("ready").touch()
called = sys.stdin.readline()
told = [pathlib.Path(file).read_text() if "autogroup" in file else file for file in json.loads(called)]
print("as", os.getpid(), *told)
"""
PATIENT = {"nice": 0, "timeout_seconds": 0, "grace_seconds": 1}


def stand_by(folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    os.mkfifo(folder / "bell")
    command = [sys.executable, "-I", "-S", runner.__file__, str(folder), sys.executable, "-c", STANDS_BY]
    process = subprocess.Popen(command)
    until((folder / "ready").exists)
    return process


def test_what_stands_by_becomes_the_job_that_is_asked_for_and_its_log_begins_then(tmp_path: Path) -> None:
    waiting = stand_by(tmp_path / "standby")
    spec = {"argv": ["python", "job.py", "--name", "a b"]} | PATIENT
    (tmp_path / "standby" / "spec.json").write_text(json.dumps(spec))
    assert not (tmp_path / "standby" / "runner").exists()  # nobody's attempt yet
    (tmp_path / "standby" / "bell").write_bytes(runner.CALL)
    assert waiting.wait(30) == 0
    job = (tmp_path / "standby" / "job").read_text()
    assert (tmp_path / "standby" / "log").read_text() == f"as {job} --name a b\n"
    assert json.loads((tmp_path / "standby" / "result.json").read_text())["exit_code"] == 0


def test_what_stands_by_goes_when_it_is_told_to_and_leaves_nothing(tmp_path: Path) -> None:
    waiting = stand_by(tmp_path / "standby")
    [child] = children(waiting.pid)
    (tmp_path / "standby" / "bell").write_bytes(runner.GO)
    assert waiting.wait(30) == 0
    assert not (tmp_path / "standby").exists()
    assert not Path(f"/proc/{child}").exists()


def test_what_stands_by_and_dies_takes_its_runner_with_it_and_leaves_its_last_words(tmp_path: Path) -> None:
    waiting = stand_by(tmp_path / "standby")
    [child] = children(waiting.pid)
    os.kill(child, signal.SIGKILL)
    assert waiting.wait(30) == 0
    assert (tmp_path / "standby" / "log").read_text() == "warming\n"
    assert not (tmp_path / "standby" / "runner").exists()


def test_what_stands_by_for_an_attempt_that_a_server_has_taken_is_no_use(tmp_path: Path) -> None:
    waiting = stand_by(tmp_path / "standby")
    [child] = children(waiting.pid)
    descriptor = runner.claim(tmp_path / "standby")
    assert descriptor is not None
    os.close(descriptor)
    assert waiting.wait(30) == 0
    assert not Path(f"/proc/{child}").exists()
    assert (tmp_path / "standby" / "runner").exists()


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="processor time is not shared out among sessions")
def test_what_stands_by_gives_way_from_when_it_is_told_to_until_it_may_go_ahead_or_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "standby"
    waiting = stand_by(folder)
    [child] = children(waiting.pid)

    def until_nice(nice: int) -> None:
        until(lambda: Path(f"/proc/{child}/autogroup").read_text().split()[-1] == str(nice))

    until_nice(0)
    (folder / "bell").write_bytes(runner.GIVE_WAY)
    until_nice(runner.GIVES_WAY)
    (folder / "bell").write_bytes(runner.GO_AHEAD)
    until_nice(0)
    (folder / "bell").write_bytes(runner.PAUSE)
    until(lambda: psutil.Process(child).status() == psutil.STATUS_STOPPED)
    (folder / "bell").write_bytes(runner.GIVE_WAY)
    until(lambda: psutil.Process(child).status() != psutil.STATUS_STOPPED)
    until_nice(runner.GIVES_WAY)
    (folder / "spec.json").write_text(json.dumps({"argv": ["python", "job.py", str(AUTOGROUP)]} | PATIENT))
    (folder / "bell").write_bytes(runner.CALL)
    assert waiting.wait(30) == 0
    assert (folder / "log").read_text().split()[-1] == "0"


def children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]
