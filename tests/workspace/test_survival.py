"""The server is killed at the worst moments; what it ran goes on, and the truth is told afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from databricks.sdk.service import jobs

from local.home import Home
from local.workspace import payloads, runner
from local.workspace.engine import STUCK_SECONDS, Engine, Limits
from local.workspace.processes import MARK, Process
from local.workspace.states import Phase, Result
from tests.ports import free_port_base
from tests.workspace.server import Server, until


def runner_pid(server: Server, run_id: int) -> int:
    attempt = (server.run(run_id).tasks or [])[-1].run_id
    return int((server.home.path / "workspace" / "attempts" / str(attempt) / "0" / "runner").read_text())


@pytest.mark.parametrize(("exit_code", "result"), [(0, "SUCCESS"), (4, "FAILED")])
def test_a_job_outlives_its_server_and_keeps_its_true_result(
    own_server: Server, tmp_path: Path, exit_code: int, result: str
) -> None:
    goes_on = own_server.submit(own_server.task("wait", str(tmp_path), str(exit_code)))
    until(lambda: own_server.logs(goes_on))
    own_server.kill()
    (tmp_path / "go").touch()
    own_server.start()
    assert own_server.end_state(goes_on) == ("TERMINATED", result)
    assert "went" in own_server.logs(goes_on)
    assert len(own_server.run(goes_on).tasks or []) == 1


def test_a_job_that_ends_after_the_server_is_back_is_adopted(own_server: Server, tmp_path: Path) -> None:
    run_id = own_server.submit(own_server.task("wait", str(tmp_path), "0"))
    job = int(until(lambda: own_server.logs(run_id)))
    own_server.kill()
    own_server.start()
    assert own_server.state(run_id) == ("RUNNING", None)
    assert Path(f"/proc/{job}").exists()
    (tmp_path / "go").touch()
    assert own_server.end_state(run_id) == ("TERMINATED", "SUCCESS")


def test_a_job_that_died_without_its_server_says_so(own_server: Server, tmp_path: Path) -> None:
    run_id = own_server.submit(own_server.task("wait", str(tmp_path), "0"))
    job = int(until(lambda: own_server.logs(run_id)))
    its_runner = runner_pid(own_server, run_id)
    own_server.kill()
    os.kill(its_runner, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{job}").exists())  # a job dies with its runner
    own_server.start()
    assert own_server.end_state(run_id) == ("INTERNAL_ERROR", "FAILED")
    assert "was killed" in (own_server.output(run_id).error or "")


def test_an_attempt_has_one_runner_at_most(tmp_path: Path) -> None:
    process = Process(tmp_path / "attempt")
    assert process.never_began()  # a server that finds no runner takes the attempt itself, to start it anew elsewhere
    late = subprocess.run([sys.executable, "-I", "-S", runner.__file__, str(process.folder)], check=False)
    assert late.returncode == 3
    assert process.outcome() is None and not process.lives() and not process.never_began()


def test_an_always_on_task_comes_back_after_a_crash(own_server: Server) -> None:
    run_id = own_server.submit(own_server.task("graceful", max_retries=-1))
    until(lambda: "ready" in own_server.logs(run_id))
    for attempts in (2, 3):
        job = next(
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and is_job_of(entry, own_server, "graceful.py")
        )
        os.kill(job, signal.SIGKILL)
        until(lambda wanted=attempts: len(own_server.run(run_id).tasks or []) == wanted)  # type: ignore[misc]
        until(lambda: "ready" in own_server.logs(run_id))
    own_server.client.jobs.cancel_run(run_id)
    assert own_server.end_state(run_id) == ("TERMINATED", "CANCELED")


def is_job_of(entry: Path, server: Server, file: str) -> bool:
    try:
        command = (entry / "cmdline").read_bytes().decode()
        environment = (entry / "environ").read_bytes().decode()
    except OSError:
        return False
    return command.split("\0")[1:2] == [str(server.home.path / "dbfs" / file)] and MARK in environment


def test_cancelling_across_a_restart_still_ends_the_job(own_server: Server, tmp_path: Path) -> None:
    run_id = own_server.submit(own_server.task("wait", str(tmp_path), "0"))
    until(lambda: own_server.logs(run_id))
    own_server.client.jobs.cancel_run(run_id)
    own_server.kill()
    own_server.start()
    assert own_server.end_state(run_id) == ("TERMINATED", "CANCELED")


def test_a_server_killed_between_telling_a_job_to_end_and_noting_it_still_says_cancelled(
    own_server: Server, tmp_path: Path
) -> None:
    run_id = own_server.submit(own_server.task("wait", str(tmp_path), "0"))
    until(lambda: own_server.logs(run_id))
    its_runner = runner_pid(own_server, run_id)
    own_server.kill()
    killed = Engine(own_server.home, Limits(), release_session=lambda session: True)  # what it did before it died
    killed.cancel(run_id)
    os.kill(its_runner, signal.SIGTERM)
    attempt = killed.attempts(run_id)[0]
    until(lambda: killed.process(attempt).outcome())
    killed.store.connection.close()
    own_server.start()
    assert own_server.end_state(run_id) == ("TERMINATED", "CANCELED")


def test_stopping_the_server_ends_its_jobs_and_says_so(own_server: Server) -> None:
    run_id = own_server.submit(own_server.task("stubborn"))
    child = int(until(lambda: own_server.logs(run_id).strip()))
    own_server.stop()
    assert not Path(f"/proc/{child}").exists()
    own_server.start()
    assert own_server.end_state(run_id) == ("INTERNAL_ERROR", "FAILED")
    assert "server was stopped" in (own_server.output(run_id).error or "")


def test_what_a_job_left_on_spark_is_ended_by_a_later_server_until_spark_confirms_it(tmp_path: Path) -> None:
    home, told, confirmed = Home(tmp_path, free_port_base()), [], [False, True]

    def release(session: str) -> bool:
        told.append(session)
        return confirmed.pop(0)

    first = Engine(home, Limits(), release)
    task = {"task_key": "a", "spark_python_task": {"python_file": "dbfs:/a.py"}}
    settings = {"run_name": "r", "tasks": [task]}
    run = first.submit(payloads.parse(payloads.Submit, settings), settings)
    [attempt] = first.attempts(run.id)
    attempt.session_id, attempt.phase, attempt.result = "s", Phase.TERMINATED, Result.SUCCESS
    first.store.save_attempt(attempt)
    first.store.connection.close()

    second = Engine(home, Limits(), release)
    second.start()
    until(lambda: told)
    second.stop()
    assert told == ["s", "s"]
    third = Engine(home, Limits(), release)
    assert third.store.attempts_with_session() == []
    third.store.connection.close()


def test_what_a_server_forgot_but_did_not_remove_is_removed_by_the_next(tmp_path: Path) -> None:
    engine = Engine(Home(tmp_path, free_port_base()), Limits(), lambda session: True)
    settings = {"tasks": [{"task_key": "a", "spark_python_task": {"python_file": "dbfs:/a.py"}}]}
    run = engine.submit(payloads.parse(payloads.Submit, settings), settings)
    [known] = [str(attempt.id) for attempt in engine.attempts(run.id)]
    for attempt in (known, "77"):
        (engine.folder / "attempts" / attempt / "0").mkdir(parents=True)
    engine.start()
    engine.stop()
    assert [folder.name for folder in (engine.folder / "attempts").iterdir()] == [known]


def test_whatever_keeps_a_task_from_its_start_is_told_and_keeps_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(Home(tmp_path, free_port_base()), Limits(), lambda session: True)
    (tmp_path / "dbfs").mkdir()
    (tmp_path / "dbfs" / "a.py").touch()
    python = {"python_file": "dbfs:/a.py"}
    settings = {"tasks": [{"task_key": key, "spark_python_task": python} for key in "ab"]}
    run = engine.submit(payloads.parse(payloads.Submit, settings), settings)

    def breaks(*_: object) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr(engine.standby, "becomes", breaks)
    engine.turn()
    told = [(attempt.phase, attempt.message) for attempt in engine.attempts(run.id)]
    assert told == [(Phase.INTERNAL_ERROR, "The job could not be started: 'unforeseen'.")] * 2
    engine.store.connection.close()


def test_serverless_tasks_wait_for_a_free_slot(own_server: Server, tmp_path: Path) -> None:
    first = own_server.submit(own_server.task("wait", str(tmp_path), "0", serverless=True))
    until(lambda: own_server.logs(first))
    second = own_server.submit(own_server.task("wait", str(tmp_path), "0", serverless=True))
    until(lambda: own_server.state(second)[0] == "QUEUED")
    status = own_server.run(second).status
    assert status and status.queue_details and status.queue_details.code
    assert status.queue_details.code is jobs.QueueDetailsCodeCode.ACTIVE_RUNS_LIMIT_REACHED
    (tmp_path / "go").touch()
    assert own_server.end_state(first) == own_server.end_state(second) == ("TERMINATED", "SUCCESS")


def test_a_second_server_on_the_same_home_is_refused(own_server: Server) -> None:
    environment = {**os.environ, **own_server.home.environment, **own_server.home.secret_environment}
    second = subprocess.run(
        [sys.executable, "-m", "local.workspace"], env=environment, capture_output=True, text=True, check=False
    )
    assert second.returncode == 1
    assert "already uses" in second.stderr


def test_an_engine_that_hangs_in_a_turn_is_told_by_its_health(tmp_path: Path) -> None:
    engine = Engine(Home(tmp_path, free_port_base()), Limits(), lambda session: True)
    engine.thread = threading.current_thread()
    assert not engine.is_stuck
    engine.turned_at -= STUCK_SECONDS + 1
    assert engine.is_stuck


def test_a_server_that_finds_its_port_taken_leaves_alone_what_runs(own_server: Server, tmp_path: Path) -> None:
    run_id = own_server.submit(own_server.task("wait", str(tmp_path), "0"))
    until(lambda: own_server.logs(run_id))
    own_server.kill()
    port = own_server.home.port("workspace")
    with socket.create_server(("127.0.0.1", port)):
        environment = {**os.environ, **own_server.home.environment, **own_server.home.secret_environment}
        refused = subprocess.run(
            [sys.executable, "-m", "local.workspace"], env=environment, capture_output=True, text=True, check=False
        )
    assert (refused.returncode, refused.stderr) == (1, f"Port {port} cannot be had: Address already in use.\n")
    own_server.start()
    (tmp_path / "go").touch()
    assert own_server.end_state(run_id) == ("TERMINATED", "SUCCESS")


def test_a_continuous_job_is_started_again_when_its_run_ends(own_server: Server) -> None:
    job_id = own_server.create(own_server.task("say"), name="for ever", continuous=jobs.Continuous())
    until(lambda: len(list(own_server.client.jobs.list_runs(job_id=job_id))) >= 2)
    paused = jobs.JobSettings(continuous=jobs.Continuous(pause_status=jobs.PauseStatus.PAUSED))
    own_server.client.jobs.update(job_id, new_settings=paused)
