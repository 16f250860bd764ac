"""Who hears what: a missed deadline pages, a task that failed for good makes a ticket.

Alerts go to the targets of the settings: a file on one machine, a webhook (PagerDuty, Opsgenie, Teams and others take
one) on Azure. `dedup_key` is the same for every alert about the same trouble, so receivers can fold repetitions.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

import httpx
from airflow.sdk import Connection
from airflow.sdk.configuration import conf

from include.settings import AlertTarget, FileTarget, WebhookTarget, settings

log = logging.getLogger(__name__)

WEBHOOK_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Alert:
    """`dedup_key`: what is in trouble; `raised_at`: ISO-8601, UTC."""

    severity: Literal["page", "ticket"]
    title: str
    text: str
    dedup_key: str
    link: str | None
    raised_at: str


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def about_deadline(context: dict[str, Any]) -> Alert:
    """The alert for a missed deadline, from the small context that Airflow gives its callback."""
    run = context["dag_run"]
    base_url = conf.get("api", "base_url", fallback="")
    return Alert(
        severity="page",
        title=f"{run['dag_id']} missed its deadline",
        text=f"Run {run['dag_run_id']} is {run['state']}; it was due by {context['deadline']['deadline_time']}.",
        dedup_key=f"deadline/{run['dag_id']}",
        link=f"{base_url}/dags/{run['dag_id']}/runs/{quote(run['dag_run_id'], safe='')}",
        raised_at=_now(),
    )


def about_task(context: dict[str, Any]) -> Alert:
    """The alert for a task whose last try failed."""
    ti = context["ti"]
    error = str(context.get("exception") or "no exception was given")
    return Alert(
        severity="ticket",
        title=f"{ti.dag_id}.{ti.task_id} failed after {ti.try_number} tries",
        text=error.strip().splitlines()[0] if error.strip() else type(context["exception"]).__name__,
        dedup_key=f"task/{ti.dag_id}/{ti.task_id}",
        link=getattr(ti, "log_url", None),
        raised_at=_now(),
    )


async def deadline_missed(context: dict[str, Any]) -> None:
    """Airflow's callback for a missed deadline; runs in the triggerer.

    It must raise when the alert reached nobody: the callback's state `failed` is then the only trace.
    """
    await send(about_deadline(context))


def task_failed(context: dict[str, Any]) -> None:
    """Airflow's callback for a task that failed for good; runs in the task's process."""
    asyncio.run(send(about_task(context)))


async def send(alert: Alert) -> None:
    """Deliver to every target that wants the severity; raises ExceptionGroup when any could not be reached."""
    log.warning("%s: %s (%s)", alert.severity, alert.title, alert.text)
    failures = []
    for target in settings().alerts:
        try:
            await _deliver(target, alert)
        except Exception as failure:
            failures.append(failure)
    if failures:
        raise ExceptionGroup(f"The alert {alert.title!r} did not reach every target.", failures)


async def _deliver(target: AlertTarget, alert: Alert) -> None:
    match target:
        case FileTarget(path=path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as out:
                out.write(json.dumps(asdict(alert)) + "\n")
        case WebhookTarget(connection_id=connection_id, severities=severities) if alert.severity in severities:
            connection = await Connection.async_get(connection_id)
            headers = {"Authorization": f"Bearer {connection.password}"} if connection.password else {}
            async with httpx.AsyncClient(timeout=WEBHOOK_TIMEOUT_SECONDS) as client:
                answer = await client.post(_url(connection), json=asdict(alert), headers=headers)
            answer.raise_for_status()


def _url(connection: Connection) -> str:
    """The connection's host is the whole URL: webhooks have paths, for which a connection has no other field."""
    if not (connection.host or "").startswith(("https://", "http://")):
        raise ValueError(f"The host of the connection {connection.conn_id} must be the webhook's whole URL.")
    return str(connection.host)
