"""A warm driver stands by for an always-on task: a real JVM, which the task's next attempt finds running."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.services.spark import write_configuration
from local.services.supervisor import leftovers
from local.workspace.processes import MARK
from tests.workspace.server import Server, until

pytestmark = pytest.mark.spark
WARM_SECONDS = 300

DRIVER = """
import os, sys, time
from pyspark.sql import SparkSession
import helper
session = SparkSession.builder.getOrCreate()
java = session._jvm.java.lang.ProcessHandle.current().pid()
print(os.getpid(), java, session.range(3).count(), helper.VERSION, *sys.argv[1:], sep="|", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def eager(tmp_path: Path) -> Iterator[Server]:
    """A server that has a driver standing by as soon as an always-on task runs."""
    server = Server(tmp_path, FITNESS_STANDBY_AFTER_SECONDS="0")
    write_configuration(server.home)
    server.job_file("driver", DRIVER)
    server.job_file("helper", "VERSION = 1\n")
    yield server
    server.stop()
    assert not leftovers(server.home)


def standing_by(server: Server) -> list[Path]:
    """Folders of drivers that are warm and not called."""
    ready = (server.home.path / "workspace" / "standby").glob("*/ready")
    return [file.parent for file in ready if not (file.parent / "spec.json").exists()]


def said(server: Server, run_id: int) -> list[str]:
    return next((line.split("|") for line in server.logs(run_id).splitlines() if "|" in line), [])


def test_the_next_attempt_is_a_driver_that_was_warm_before_whatever_became_of_the_server(eager: Server) -> None:
    run_id = eager.submit(eager.task("driver", "a b", "é", max_retries=-1))
    first = until(lambda: said(eager, run_id))
    [folder] = until(lambda: standing_by(eager), WARM_SECONDS)
    warm = {process.pid for process in leftovers(eager.home) if process.environ().get(MARK) == str(folder)}
    eager.job_file("helper", "VERSION = 2\n")
    eager.kill()
    eager.start()
    assert standing_by(eager) == [folder]
    os.kill(int(first[0]), signal.SIGKILL)
    until(lambda: len(eager.run(run_id).tasks or []) == 2)
    second = until(lambda: said(eager, run_id))
    assert second[2:] == ["3", "2", "a b", "é"]
    assert {int(second[0]), int(second[1])} < warm
    assert "warn" not in eager.logs(run_id).lower()  # what it said while it warmed itself is not the job's
    eager.client.jobs.cancel_run(run_id)
    assert eager.end_state(run_id) == ("TERMINATED", "CANCELED")
    until(lambda: warm.isdisjoint(process.pid for process in leftovers(eager.home)))


def test_one_that_still_warms_itself_breaks_off_when_it_is_called(eager: Server) -> None:
    run_id = eager.submit(eager.task("driver", "a b", max_retries=-1))
    first = until(lambda: said(eager, run_id))
    standby = eager.home.path / "workspace" / "standby"
    [awake] = until(lambda: list(standby.glob("*/awake")), WARM_SECONDS)
    assert not standing_by(eager)
    warm = {process.pid for process in leftovers(eager.home) if process.environ().get(MARK) == str(awake.parent)}
    os.kill(int(first[0]), signal.SIGKILL)
    until(lambda: len(eager.run(run_id).tasks or []) == 2)
    second = until(lambda: said(eager, run_id))
    assert second[2:] == ["3", "1", "a b"]
    assert {int(second[0]), int(second[1])} < warm
    assert not {"warn", "error", "exception"} & set(re.findall("[a-z]+", eager.logs(run_id).lower()))
    eager.client.jobs.cancel_run(run_id)
    assert eager.end_state(run_id) == ("TERMINATED", "CANCELED")
    until(lambda: warm.isdisjoint(process.pid for process in leftovers(eager.home)))
