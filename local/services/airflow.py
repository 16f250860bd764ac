"""Airflow as four processes: API server, scheduler, DAG processor and triggerer; their metadata in PostgreSQL.

`airflow standalone` is not used: its children outlive it. Everything is set by environment variables, so that no
airflow.cfg of an earlier version stays behind.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import TextIO

from local.home import REPO, Home
from local.services.part import Launch, Part, PartFailed, base_environment, get, reason, write_private

STALE_SECONDS = 30  # a heartbeat comes every 5 s
POOL = "databricks"  # include/environments/local.yaml
# Two run (`serverless` in local/workspace/engine.py) and a third is next; among all others Airflow's priorities choose.
# Fewer than PARALLELISM, so that the supervision of the stream never waits for jobs.
POOL_SLOTS = 3

_migration = threading.Lock()


def environment(home: Home) -> dict[str, str]:
    """Airflow's settings and connections; what a process needs that runs tasks, or any other of Airflow's."""
    folder = home.path / "airflow"
    password = home.secrets["airflow_database_password"]
    address = f"airflow:{password}@127.0.0.1:{home.port('postgres')}/airflow"
    settings = {
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",  # forks so many workers; two cores feel more
        "CORE__DAGS_FOLDER": str(REPO / "dags"),
        "CORE__PLUGINS_FOLDER": str(REPO / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__EXECUTION_API_SERVER_URL": f"{home.airflow_url}/execution/",
        "CORE__FERNET_KEY": _fernet_key(home.secrets["airflow_fernet_seed"]),
        "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
        "DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{address}",
        "DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg://{address}",
        "DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "API__BASE_URL": home.airflow_url,
        "API__HOST": "127.0.0.1",
        "API__PORT": str(home.port("airflow_api")),
        "API__WORKERS": "1",
        "API__INSTANCE_NAME": "Fitness Data Center",
        "API__SECRET_KEY": home.secrets["airflow_jwt"],
        "API_AUTH__JWT_SECRET": home.secrets["airflow_jwt"],
        "LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
        "LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS": "0o700",
        "LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS": "0o600",
        "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": str(STALE_SECONDS),
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",  # a server of the scheduler's own, which listens everywhere
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",  # tasks of a killed scheduler wait no longer
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "90",
        # tasks outlive a restart of the API server or of PostgreSQL
        "WORKERS__EXECUTION_API_RETRIES": "12",
        "WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "8",
        "WORKERS__EXECUTION_API_TIMEOUT": "30",
        "WORKERS__MAX_FAILED_HEARTBEATS": "10",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "15",  # new files; changed ones are seen first of all below
        "DAG_PROCESSOR__FILE_PARSING_SORT_MODE": "modified_time",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    connections = {
        # the provider wants the bare host, and the scheme in `schema`
        "databricks_default": {
            "conn_type": "databricks",
            "host": "127.0.0.1",
            "port": home.port("workspace"),
            "schema": "http",
            "password": home.secrets["workspace_token"],
        },
        "kafka_default": {
            "conn_type": "kafka",
            "extra": {"bootstrap.servers": home.kafka_bootstrap, "isolation.level": "read_committed"},
        },
        "connect_default": {
            "conn_type": "http",
            "login": home.connect_credentials[0],
            "password": home.connect_credentials[1],
        },
        "fitness_sql": {
            "conn_type": "postgres",
            "host": "127.0.0.1",
            "port": home.port("postgres"),
            "schema": "fitness",
            "login": "fitness",
            "password": home.secrets["postgres_password"],
        },
    }
    return (
        base_environment(home)
        | home.secret_environment
        | {"AIRFLOW_HOME": str(folder)}
        | {f"AIRFLOW__{name}": value for name, value in settings.items()}
        | {f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()}
        # titles of processes are written over the environment otherwise, by which `down` finds what is left
        | {"SPT_NOENV": "1"}
    )


def _fernet_key(seed: str) -> str:
    """32 bytes in URL-safe base64, as Fernet wants them."""
    return base64.urlsafe_b64encode(hashlib.sha256(seed.encode()).digest()).decode()


def _program() -> str:
    return str(Path(sys.executable).with_name("airflow"))


def migrate(home: Home) -> None:
    """Bring the metadata to the installed version: once, however many parts ask for it at once."""
    stamp = home.path / "airflow" / "migrated"
    done = f"{importlib.metadata.version('apache-airflow')}, {POOL_SLOTS} slots"
    with _migration:
        if stamp.exists() and stamp.read_text() == done:
            return
        stamp.parent.mkdir(parents=True, exist_ok=True)
        home.logs.mkdir(parents=True, exist_ok=True)
        with (home.logs / "airflow_migrate.log").open("w") as log:
            _airflow(home, log, "db", "migrate")
            _airflow(home, log, "pools", "set", POOL, str(POOL_SLOTS), "Spark jobs that run or are next")
        stamp.write_text(done)


def _airflow(home: Home, log: TextIO, *arguments: str) -> None:
    run = subprocess.run(
        [_program(), *arguments], env=environment(home), cwd=home.path / "airflow", capture_output=True, text=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    log.write(run.stdout + run.stderr)
    if run.returncode != 0:
        last = (run.stderr or run.stdout).strip().splitlines()[-1:]
        command = f"`airflow {' '.join(arguments[:2])}`"
        raise PartFailed(f"{command} failed: {''.join(last)[:300]} (all: logs/airflow_migrate.log)")


def _prepare(part: str, *arguments: str) -> Callable[[Home], Launch]:
    def prepare(home: Home) -> Launch:
        folder = home.path / "airflow"
        folder.mkdir(parents=True, exist_ok=True)
        if part == "airflow_api":
            write_private(folder / "passwords.json", json.dumps({"admin": home.secrets["airflow_password"]}))
        return Launch([_program(), *arguments], environment(home), folder, nice=0 if part == "airflow_api" else 5)

    return prepare


def _health(home: Home) -> dict[str, dict[str, str | None]]:
    status, body = get(home.port("airflow_api"), "/api/v2/monitor/health")
    if status != 200:
        raise ValueError(f"its health page says {status}")
    return dict(json.loads(body))


def _api_ready(home: Home, started_at: float) -> str | None:
    try:
        database = _health(home)["metadatabase"]["status"]
    except (OSError, HTTPException, ValueError, KeyError) as error:
        return f"no answer ({reason(error)})"
    return None if database == "healthy" else f"its database is {database}"


def _heartbeat_ready(component: str) -> Callable[[Home, float], str | None]:
    """Ready when the component's latest heartbeat is fresh, and not one of a process before this one."""

    def ready(home: Home, started_at: float) -> str | None:
        try:
            latest = _health(home)[component].get(f"latest_{component}_heartbeat")
        except (OSError, HTTPException, ValueError, KeyError) as error:
            return f"Airflow's API does not answer ({reason(error)})"
        return heartbeat_trouble(latest, started_at, datetime.now(UTC).timestamp())

    return ready


def heartbeat_trouble(latest: str | None, started_at: float, now: float) -> str | None:
    """None for an ISO time that is after the start (epoch seconds) and fresh; else what is wrong with it."""
    if latest is None:
        return "no heartbeat yet"
    beat_at = datetime.fromisoformat(latest).timestamp()
    if beat_at < started_at:
        return "no heartbeat since its start"
    age = now - beat_at
    return None if age < STALE_SECONDS else f"its last heartbeat is {age:.0f} s old"


def _component(name: str, command: str, patience_seconds: float = 240) -> Part:
    part = f"airflow_{name}"
    return Part(
        name=part,
        # their log servers listen on every address; the API server reads the same files without them
        prepare=_prepare(part, command, *(["--skip-serve-logs"] if name != "dag_processor" else [])),
        ready=_heartbeat_ready(name),
        # of its API: what the scheduler starts at once would fail without it
        needs=("postgres", "airflow_api") if name == "scheduler" else ("postgres",),
        before=migrate,
        patience_seconds=patience_seconds,
        stuck_seconds=20,  # beyond the 30 s after which a heartbeat is stale
        stop_seconds=10,  # a scheduler would wait for its tasks; the next one starts them anew
    )


PARTS = (
    Part(
        name="airflow_api",
        prepare=_prepare("airflow_api", "api-server"),
        ready=_api_ready,
        needs=("postgres",),
        before=migrate,
        ports=("airflow_api",),
        patience_seconds=240,
        stop_seconds=4,  # it would wait for every open page of a browser
    ),
    _component("scheduler", "scheduler"),
    _component("dag_processor", "dag-processor"),
    _component("triggerer", "triggerer"),
)
