"""The always-on BPM stream: a job of the workspace, not a process of supervisord. Wanted at `up`, ended at `down`."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import httpx

from local.home import REPO, Home
from local.services.part import base_environment, reason
from local.services.supervisor import leftovers
from local.workspace.store import launches_of

NAME = "bpm_stream"
PATIENCE_SECONDS = 240
DRAIN_SECONDS = 25  # for a batch to end; whatever is lost of one is read again


def up(home: Home) -> str | None:
    """Make sure that the stream's job exists and runs, and wait for its heartbeat. None, or why it is not well."""
    if state(home)["verdict"] == "healthy":
        return None
    run = command(home, "ensure", timeout_seconds=120)
    if run.returncode != 0:
        return f"it could not be started: {last_line(run)}"
    give_up = time.monotonic() + PATIENCE_SECONDS
    while trouble := state(home)["trouble"]:
        if time.monotonic() > give_up:
            return f"not healthy after {PATIENCE_SECONDS} s: {trouble}"
        time.sleep(1)
    return None


def down(home: Home) -> None:
    """Let the stream finish its batch and end. What does not end is ended with the workspace."""
    try:
        command(home, "stop", timeout_seconds=DRAIN_SECONDS)
    except subprocess.TimeoutExpired:
        return


def state(home: Home) -> dict[str, Any]:
    """pid, the platform's state of its run, the verdict of its supervision, and `trouble`: None when all is well."""
    shown: dict[str, Any] = {"pid": process_id(home), "state": "stopped", "verdict": None, "trouble": None}
    try:
        with supervision(home) as stream:
            seen = stream.look()
            if seen.active_runs:
                shown["state"] = seen.active_runs[0].state.lower()
            verdict = _judge(stream, seen)
    except (httpx.HTTPError, ValueError) as error:
        shown["trouble"] = f"the workspace does not answer ({reason(error)})"
        return shown
    shown["verdict"] = str(verdict.state)
    # one of an earlier version does its work; the bpm_stream DAG rolls it
    if verdict.state not in ("healthy", "catching_up", "outdated"):
        shown["trouble"] = f"{verdict.state}: {verdict.reason}"
    return shown


def log_file(home: Home) -> Path | None:
    """The log of its newest attempt, which the workspace keeps; None when it never ran."""
    from include.settings import load
    from include.stream.job import job_name

    workspace = home.path / "workspace"
    name = job_name(load("local", home.environment))
    launches = launches_of(workspace / "workspace.db", name)
    folders = (workspace / "attempts" / str(attempt) / str(launch) for attempt, launch in launches)
    return next((folder / "log" for folder in folders if (folder / "spec.json").exists()), None)


@contextmanager
def supervision(home: Home) -> Iterator[Any]:
    from include.settings import load
    from include.stream.__main__ import http_call
    from include.stream.supervise import Supervisor

    settings = load("local", home.environment)
    heartbeat = Path(unquote(urlparse(settings.stream.heartbeat).path))
    call = http_call(home.workspace_url, home.secrets["workspace_token"])
    kafka = {"bootstrap.servers": settings.kafka.bootstrap_servers, **settings.kafka.options}
    yield Supervisor(settings, call, heartbeat, kafka)


def _judge(stream: Any, seen: Any) -> Any:
    from include.stream.judge import judge

    return judge(stream.desired(), seen, stream.limits)


def process_id(home: Home) -> int | None:
    """The process of its newest attempt, if it lives: the one whose child is the JVM."""
    log = log_file(home)
    try:
        pid = int(log.with_name("job").read_text()) if log else None
    except (FileNotFoundError, ValueError):  # its runner has only just begun
        return None
    return pid if any(process.pid == pid for process in leftovers(home)) else None


def command(home: Home, name: str, timeout_seconds: float) -> subprocess.CompletedProcess[str]:
    """What `python -m include.stream NAME` says in the stack's environment. Raises subprocess.TimeoutExpired."""
    return subprocess.run(
        [sys.executable, "-m", "include.stream", name],
        env=base_environment(home) | home.secret_environment,
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
    )


def last_line(run: subprocess.CompletedProcess[str]) -> str:
    lines = (run.stderr + run.stdout).strip().splitlines()
    return lines[-1][:400] if lines else f"exit code {run.returncode}"
