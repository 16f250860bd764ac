"""`./fitness demo`: start everything, feed it, wait until all four flows have reached gold, say what to look at.

The stack stays up, with the live simulator feeding it, until `./fitness down`.
"""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import httpx
from rich.console import Console
from rich.live import Live
from rich.table import Table

from local.home import Home

MEMBERS, DAYS, SEED = 60, 7, 7
TIMEOUT_SECONDS = 1800

console = Console()


class DemoFailed(Exception):
    """The demo cannot go on; the message says why and where to look."""


@dataclass(frozen=True)
class Flow:
    """One of the four flows, and the question whose answer says that it has reached gold."""

    name: str
    path: str
    rows: str


FLOWS = (
    Flow(
        "registration, login/logout",
        "app.registered_users, app.gym_visits -> gold.gym_activity",
        "SELECT count(*) FROM gold.gym_activity WHERE user_id IS NOT NULL",
    ),
    Flow(
        "profile changes",
        "app.user_profile -> Debezium -> Kafka -> gold.workout_summary.city",
        "SELECT count(*) FROM gold.workout_summary WHERE city IS NOT NULL",
    ),
    Flow(
        "heart rate",
        "Kafka bpm -> stream -> gold.bpm_trends",
        "SELECT count(*) FROM gold.bpm_trends",
    ),
    Flow(
        "workouts",
        "app.workout_events -> Debezium -> Kafka -> gold.workout_summary with its readings",
        "SELECT count(*) FROM gold.workout_summary WHERE readings > 0",
    ),
)


def demo() -> None:
    """Run the demo; raises DemoFailed with one clear sentence, or CalledProcessError when a step has said it itself."""
    home = Home.from_environment()
    _fitness("up")
    # Airflow is told to read only afterwards, so the simulator must not wait for it.
    history = ("--members", str(MEMBERS), "--days", str(DAYS), "--seed", str(SEED))
    _fitness("simulate", *history, "--wait-for-extraction", "0")
    _trigger(home, "bronze")
    _wait_for_gold(home)
    _say_what_to_look_at(home)


def _fitness(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "local.cli", *arguments], check=True)


def _trigger(home: Home, dag_id: str) -> None:
    """Start a run of a DAG now, rather than at its next schedule."""
    run: Mapping[str, object] = {"dag_run_id": f"demo-{uuid.uuid4()}", "logical_date": None, "conf": {}}
    for _ in range(60):  # a DAG of a first start is known some seconds after the DAG processor is healthy
        with suppress(httpx.TimeoutException):  # it may have been heard: the same run is asked for again
            if _is_started(home, dag_id, run):
                return
        time.sleep(1)
    raise DemoFailed(f"Airflow does not start the DAG {dag_id!r}: see `./fitness logs airflow_dag_processor`.")


def _is_started(home: Home, dag_id: str, run: Mapping[str, object]) -> bool:
    """Ask Airflow for a run of this name; False while it does not know the DAG."""
    with httpx.Client(base_url=home.airflow_url, timeout=30) as airflow:
        password = home.secrets["airflow_password"]
        token = airflow.post("/auth/token", json={"username": "admin", "password": password}).raise_for_status().json()
        airflow.headers["Authorization"] = f"Bearer {token['access_token']}"
        answer = airflow.post(f"/api/v2/dags/{dag_id}/dagRuns", json=run)
    if answer.status_code not in (404, 409):  # 409: there is a run of this name
        answer.raise_for_status()
    return answer.status_code != 404


def _count(workspace: httpx.Client, statement: str) -> int:
    """The number that a statement returns; 0 while its tables do not exist yet, or nobody has time to answer."""
    body = {"warehouse_id": "local", "statement": statement, "wait_timeout": "30s"}
    try:
        answer = workspace.post("/api/2.0/sql/statements", json=body)
    except httpx.TimeoutException:
        return 0
    if answer.status_code >= 500:
        return 0
    result = answer.json()
    if result.get("status", {}).get("state") != "SUCCEEDED":
        return 0
    return int(result["result"]["data_array"][0][0])


def _wait_for_gold(home: Home) -> None:
    started = time.monotonic()
    rows = dict.fromkeys(FLOWS, 0)
    told: dict[Flow, int] = {}
    headers = {"Authorization": f"Bearer {home.secrets['workspace_token']}"}
    with (
        httpx.Client(base_url=home.workspace_url, headers=headers, timeout=60) as workspace,
        Live(console=console, refresh_per_second=2, transient=True) as live,
    ):
        while not all(rows.values()):
            waited = time.monotonic() - started
            if waited > TIMEOUT_SECONDS:
                missing = ", ".join(flow.name for flow, count in rows.items() if not count)
                raise DemoFailed(
                    f"After {TIMEOUT_SECONDS} s nothing of these flows is in gold: {missing}. "
                    f"See the failed runs at {home.workspace_url}/ and {home.airflow_url}/."
                )
            for flow in FLOWS:
                rows[flow] = rows[flow] or _count(workspace, flow.rows)
            if console.is_terminal:
                live.update(_progress(rows, waited))
            elif rows != told:  # a log gets a line when there is something to say
                told = dict(rows)
                reached = ", ".join(flow.name for flow, count in rows.items() if count) or "nothing yet"
                console.print(f"in gold after {waited:.0f} s: {reached}")
            time.sleep(2)


def _progress(rows: dict[Flow, int], waited_seconds: float) -> Table:
    table = Table(title=f"Waiting for gold, {waited_seconds:.0f} s", title_justify="left")
    for column in ("flow", "its way", "rows"):
        table.add_column(column, justify="right" if column == "rows" else "left")
    for flow, count in rows.items():
        table.add_row(flow.name, flow.path, str(count) if count else "...")
    return table


def _say_what_to_look_at(home: Home) -> None:
    console.print(
        f"""
All four flows are in gold. The stack stays up, fed by the simulator, until `make down`.

  Dashboard  {home.workspace_url}/dashboard   heart rates as they come, completed workouts, gym activity
  Job runs   {home.workspace_url}/            each run with its parameters, log and error
  Airflow    {home.airflow_url}/            the DAGs bronze, silver, gold, bpm_stream, connectors

  Sign in to Airflow as admin; `./fitness status --json` prints its password and the workspace's token.
  The Delta tables lie in {home.lake}.
"""
    )
