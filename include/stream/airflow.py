"""The supervisor as Airflow has it: the workspace through its connection, the heartbeat through ObjectStoragePath."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

from airflow.exceptions import AirflowException, AirflowNotFoundException
from airflow.providers.databricks.hooks.databricks import DatabricksHook
from airflow.sdk import Connection, ObjectStoragePath

from include import alerts
from include.settings import Settings, settings
from include.stream.heartbeats import Document
from include.stream.judge import Verdict
from include.stream.platform import Call
from include.stream.supervise import Supervisor

RUNBOOK = "docs/runbooks/bpm_stream.md"
KAFKA_CONNECTION = (
    "kafka_default"  # its extra: a confluent client's configuration; wanted where the brokers ask who we are
)


class StreamUnwell(AirflowException):
    """The supervision did its work; what it found needs a person."""


def heartbeat(environment: Settings) -> Document:
    return cast(Document, ObjectStoragePath(environment.stream.heartbeat))


def hook_call(hook: DatabricksHook) -> Call:
    """The hook has no method for runs/list; its general call has authentication and retries for all."""

    def call(method: str, path: str, document: dict[str, Any]) -> dict[str, Any]:
        return dict(hook._do_api_call((method, path), document))

    return call


def kafka(environment: Settings) -> dict[str, str]:
    known = {"bootstrap.servers": environment.kafka.bootstrap_servers, **environment.kafka.options}
    try:
        return known | {name: str(value) for name, value in Connection.get(KAFKA_CONNECTION).extra_dejson.items()}
    except AirflowNotFoundException:
        return known


def supervisor() -> Supervisor:
    environment = settings()
    # Not as patient as other tasks: the next look comes in a minute.
    hook = DatabricksHook(environment.databricks.connection_id, retry_limit=3, retry_delay=1)
    return Supervisor(environment, hook_call(hook), heartbeat(environment), kafka(environment))


def page(verdict: Verdict, told: str) -> None:
    """Wake the person on call, once: repetition is the decision's business."""
    alert = alerts.Alert(
        severity="page",
        title=f"The BPM stream is {verdict.state}",
        text=f"{told} Runbook: {RUNBOOK}",
        dedup_key="stream/bpm",
        link=None,
        raised_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    asyncio.run(alerts.send(alert))
