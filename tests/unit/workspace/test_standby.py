"""What stands by becomes an attempt once, whole, and is never in the way of one."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from local.workspace import runner, standby
from local.workspace.processes import MARK, Process, job_spec
from local.workspace.standby import Standby
from tests.waiting import until

FILE = "/some/job.py"
ENVIRONMENT = {"NAME": "value"}
WAITS = """
import json, os, pathlib, sys
pathlib.Path("awake").touch()
print("warm", sys.argv[1], os.environ["NAME"], *json.loads(sys.stdin.readline()))
"""
SPEC = job_spec([sys.executable, FILE, "--name", "a b"], timeout_seconds=0, grace_seconds=1)
COLD = job_spec([sys.executable, "-c", "print('cold')"], timeout_seconds=0, grace_seconds=1)


@pytest.fixture
def warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standby]:
    """One that is warm, for FILE."""
    monkeypatch.setattr(standby, "WARM_DRIVER", (sys.executable, "-c", WAITS))
    found = Standby(tmp_path / "standby")
    found.keep(FILE, ENVIRONMENT)
    assert found.folder
    until((found.folder / "awake").exists)
    yield found
    found.end()


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path / "attempts" / "7" / "0")
    yield made
    made.end_leftovers()


def ended(attempt: Process) -> int | None:
    until(attempt.outcome)
    outcome = attempt.outcome()
    return outcome.exit_code if outcome else None


def processes_of(folder: Path) -> list[psutil.Process]:
    """The runner and what waits."""
    found = []
    for process in psutil.process_iter(["environ", "status"]):
        if (process.info["environ"] or {}).get(MARK) == str(folder):
            found.append(process)
    return sorted(found, key=lambda process: process.pid)


def adopted(by: Standby) -> Standby:
    """As another server finds it."""
    other = Standby(by._below)
    other.adopt()
    return other


@pytest.mark.parametrize("whose", [lambda own: own, adopted], ids=["own", "adopted"])
def test_it_becomes_the_attempt_that_it_was_made_for(
    warm: Standby, attempt: Process, whose: Callable[[Standby], Standby]
) -> None:
    found = whose(warm)
    assert found.becomes(attempt, SPEC, ENVIRONMENT)
    assert attempt.lives() or attempt.outcome()  # at once: what does not live and has no result is given up for lost
    assert ended(attempt) == 0
    assert attempt.log.read_text() == f"warm {FILE} value --name a b\n"
    assert not found.becomes(Process(attempt.folder.parent / "1"), SPEC, ENVIRONMENT)
    warm.folder = None  # it has gone with the attempt


@pytest.mark.parametrize(
    ("file", "environment"), [("/another.py", ENVIRONMENT), (FILE, {"NAME": "other"})], ids=["file", "environment"]
)
def test_it_is_not_taken_for_something_else_and_made_anew_for_it(
    warm: Standby, attempt: Process, file: str, environment: dict[str, str]
) -> None:
    before = warm.folder
    assert before
    assert not warm.becomes(attempt, {**SPEC, "argv": [sys.executable, file]}, environment)
    assert not attempt.folder.exists()
    warm.keep(file, environment)
    assert warm.folder != before
    assert not before.exists()
    assert not processes_of(before)


def test_one_that_died_a_moment_ago_costs_the_attempt_nothing(warm: Standby, attempt: Process) -> None:
    assert warm.folder
    its_runner, waiting = processes_of(warm.folder)
    os.kill(its_runner.pid, signal.SIGSTOP)  # so that it cannot have noticed
    os.kill(waiting.pid, signal.SIGKILL)
    until(lambda: waiting.status() == psutil.STATUS_ZOMBIE)
    os.kill(its_runner.pid, signal.SIGCONT)
    assert not warm.becomes(attempt, SPEC, ENVIRONMENT)
    attempt.launch(COLD, ENVIRONMENT)
    assert ended(attempt) == 0
    assert attempt.log.read_text() == "cold\n"


def test_a_runner_that_does_not_come_when_called_costs_the_attempt_nothing(
    warm: Standby, attempt: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "CALL_SECONDS", 0.2)
    monkeypatch.setattr(standby, "END_SECONDS", 0.2)
    folder = warm.folder
    assert folder
    os.kill(processes_of(folder)[0].pid, signal.SIGSTOP)
    assert not warm.becomes(attempt, SPEC, ENVIRONMENT)
    assert not folder.exists()
    attempt.launch(COLD, ENVIRONMENT)
    assert ended(attempt) == 0


def test_a_full_disk_leaves_neither_a_half_attempt_nor_loses_what_stands_by(
    warm: Standby, attempt: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            warm.becomes(attempt, SPEC, ENVIRONMENT)
    assert not attempt.folder.is_symlink()
    assert warm.becomes(attempt, SPEC, ENVIRONMENT)
    assert ended(attempt) == 0


def test_a_server_that_dies_before_it_calls_starts_the_attempt_elsewhere(warm: Standby, attempt: Process) -> None:
    folder = warm.folder
    assert folder
    attempt.folder.parent.mkdir(parents=True)
    attempt.folder.symlink_to(folder)
    (folder / "spec.json").write_text(json.dumps(SPEC))  # and no call
    assert attempt.never_began()
    other = adopted(warm)
    assert other.folder is None
    until(lambda: not processes_of(folder))
    attempt.remove()
    assert not folder.exists()
    assert not attempt.folder.is_symlink()


def test_one_that_is_not_awake_yet_pauses_while_a_cold_attempt_starts(
    tmp_path: Path, attempt: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "WARM_DRIVER", (sys.executable, "-c", f"import time; time.sleep(1)\n{WAITS}"))
    found = Standby(tmp_path / "standby")
    found.keep(FILE, ENVIRONMENT)
    folder = found.folder
    assert folder
    until(lambda: len(processes_of(folder)) == 2)
    assert not found.becomes(attempt, SPEC, ENVIRONMENT)
    until(lambda: processes_of(folder)[1].status() == psutil.STATUS_STOPPED)
    found.keep(FILE, ENVIRONMENT)
    until((folder / "awake").exists)
    assert found.becomes(attempt, SPEC, ENVIRONMENT)
    assert ended(attempt) == 0


def test_there_is_no_other_at_once_when_one_has_died(warm: Standby) -> None:
    assert warm.folder
    for process in processes_of(warm.folder):
        process.kill()
    until(lambda: processes_of(warm.folder) == [] if warm.folder else True)
    warm.keep(FILE, ENVIRONMENT)
    assert warm.folder is None


def test_none_is_left_when_it_is_told_to_go(warm: Standby) -> None:
    folder = warm.folder
    assert folder
    found = processes_of(folder)
    assert len(found) == 2
    begun = time.monotonic()
    warm.end()
    assert time.monotonic() - begun < standby.END_SECONDS  # it went itself
    assert not folder.exists()
    until(lambda: not processes_of(folder))


def test_one_that_was_warm_when_it_was_told_to_pause_works_when_it_is_called(warm: Standby, attempt: Process) -> None:
    assert warm.folder
    (warm.folder / "bell").write_bytes(runner.PAUSE)
    until(lambda: warm.folder and processes_of(warm.folder)[1].status() == psutil.STATUS_STOPPED)
    assert warm.becomes(attempt, SPEC, ENVIRONMENT)
    assert ended(attempt) == 0


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="no niceness of sessions")
def test_one_that_is_awake_gives_way_as_long_as_it_is_told_to(warm: Standby) -> None:
    assert warm.folder
    autogroup = Path(f"/proc/{processes_of(warm.folder)[1].pid}/autogroup")

    def until_nice(nice: int) -> None:
        until(lambda: autogroup.read_text().split()[-1] == str(nice))

    for gives_way, nice in ((True, runner.GIVES_WAY), (False, 0), (True, runner.GIVES_WAY)):
        warm.keep(FILE, ENVIRONMENT, gives_way=gives_way)
        until_nice(nice)
    (warm.folder / "awake").unlink()
    warm.keep(FILE, ENVIRONMENT, gives_way=True)
    until_nice(0)


def test_a_paused_one_goes_too(warm: Standby) -> None:
    assert warm.folder
    folder = warm.folder
    (folder / "bell").write_bytes(runner.PAUSE)
    warm.end()
    until(lambda: not processes_of(folder))


def test_what_is_no_folder_is_left_alone(warm: Standby) -> None:
    stray = warm._below / "note"
    stray.touch()
    assert adopted(warm).folder == warm.folder
    assert stray.exists()
