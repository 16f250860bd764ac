"""`python -m include.stream ensure | status | stop | supervise`: the stream without Airflow, for `./fitness` and you.

ensure     the stream is wanted: create or correct its job and start it, unless it runs; 0 when a run is active
supervise  one observe -> judge -> act, as Airflow does every minute
status     print verdict, heartbeat and what happened lately as JSON; 0 when healthy, starting or catching up
stop       end it at a batch's end, and keep it so until the next `ensure`

FITNESS_ENV names the environment, whose settings name other variables. On one machine `./fitness stream` gives all that
is needed, FITNESS_WORKSPACE_URL and FITNESS_WORKSPACE_TOKEN too. Without these two it goes by Airflow's connections, as
the DAG does: run it where Airflow runs.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import httpx

from include.settings import SettingsError, settings
from include.stream.judge import State, judge
from include.stream.platform import Call
from include.stream.supervise import NothingRuns, Supervisor, summary

WELL = {State.HEALTHY, State.STARTING, State.CATCHING_UP}
TIMEOUT_SECONDS = 30


def http_call(url: str, token: str) -> Call:
    """Calls to a workspace with a bearer token; raises httpx.HTTPError with the platform's own words."""
    client = httpx.Client(base_url=f"{url}/api/", headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT_SECONDS)

    def call(method: str, path: str, document: dict[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = {"params": document} if method == "GET" else {"json": document}
        answer = client.request(method, path, **given)
        if answer.is_error:
            message = f"{method} {path}: {answer.status_code} {answer.text}"
            raise httpx.HTTPStatusError(message, request=answer.request, response=answer)
        return dict(answer.json())

    return call


def supervisor() -> Supervisor:
    """One that pages nobody: who types a command sees what it says."""
    if "FITNESS_WORKSPACE_URL" not in os.environ:
        from include.stream.airflow import supervisor as airflows  # takes a second

        return replace(airflows(), page=None)
    environment = settings()
    return Supervisor(
        environment,
        http_call(os.environ["FITNESS_WORKSPACE_URL"], os.environ["FITNESS_WORKSPACE_TOKEN"]),
        Path(unquote(urlparse(environment.stream.heartbeat).path)),
        {"bootstrap.servers": environment.kafka.bootstrap_servers, **environment.kafka.options},
    )


def ensure() -> tuple[int, dict[str, Any]]:
    said = summary(*supervisor().start())
    stream = supervisor()
    job_id = stream.job.find()
    return 0 if job_id is not None and stream.job.active_runs(job_id) else 1, said


def supervise() -> tuple[int, dict[str, Any]]:
    verdict, decision = supervisor().once()
    return 0 if verdict.state in WELL else 1, summary(verdict, decision)


def status() -> tuple[int, dict[str, Any]]:
    stream = supervisor()
    memory, seen = stream.recall(), stream.look()
    verdict = judge(stream.desired(), seen, stream.limits)
    shown = {
        "state": str(verdict.state),
        "reason": verdict.reason,
        "runs": [{"run_id": run.run_id, "state": run.state, "attempt": run.attempt} for run in seen.active_runs],
        "end_position": seen.end_position,
        "heartbeat": seen.heartbeat.document if seen.heartbeat else None,
        "changes": list(memory.changes),
    }
    return 0 if verdict.state in WELL else 1, shown


def stop() -> tuple[int, dict[str, Any]]:
    ended = supervisor().stop()
    return 0 if ended else 1, {"ended": ended}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m include.stream", description=__doc__)
    commands = {"ensure": ensure, "supervise": supervise, "status": status, "stop": stop}
    parser.add_argument("command", choices=commands)
    command = commands[parser.parse_args(argv).command]
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        with redirect_stdout(sys.stderr):  # where Airflow would log
            code, said = command()
    except (NothingRuns, SettingsError, httpx.HTTPError) as error:
        logging.getLogger(__name__).error("%s: %s", type(error).__name__, error)
        return 1
    print(json.dumps(said, indent=1 if command is status else None))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
