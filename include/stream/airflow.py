"""The supervisor as Airflow has it: the workspace through its connection, the heartbeat through ObjectStoragePath."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast

from airflow.exceptions import AirflowException
from airflow.providers.databricks.hooks.databricks import DatabricksHook
from airflow.sdk import ObjectStoragePath, get_current_context

from include import alerts
from include.kafka.airflow import client_settings
from include.settings import Settings, settings
from include.stream.heartbeats import Document
from include.stream.judge import Verdict
from include.stream.platform import Call
from include.stream.supervise import Supervisor, recall, summary

RUNBOOK = "docs/runbooks/bpm_stream.md"


class StreamUnwell(AirflowException):
    """The supervision did its work; what it found needs a person."""


class StillRuns(AirflowException):
    """The stream was asked to end at a batch's end, and has not."""


log = logging.getLogger(__name__)


def heartbeat(environment: Settings) -> Document:
    return cast(Document, ObjectStoragePath(environment.stream.heartbeat_for_airflow))


def hook_call(hook: DatabricksHook) -> Call:
    """The hook has no method for runs/list; its general call has authentication and retries for all."""

    def call(method: str, path: str, document: dict[str, Any]) -> dict[str, Any]:
        return dict(hook._do_api_call((method, path), document))

    return call


def supervisor() -> Supervisor:
    environment = settings()
    # Not as patient as other tasks: the next look comes in a minute.
    hook = DatabricksHook(environment.databricks.connection_id, retry_limit=3, retry_delay=1)
    return Supervisor(environment, hook_call(hook), heartbeat(environment), client_settings(environment), page=page)


def page(verdict: Verdict, told: str) -> None:
    """Wake the person on call, once: repetition is the decision's business. Called in a task, whose log it names."""
    alert = alerts.Alert(
        severity="page",
        title=f"The BPM stream is {verdict.state}",
        text=f"{told} Runbook: {RUNBOOK}",
        dedup_key="stream/bpm",
        link=getattr(get_current_context()["ti"], "log_url", None),
        raised_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    asyncio.run(alerts.send(alert))


async def deadline_missed(context: dict[str, Any]) -> None:
    """Airflow's callback for a run of `bpm_stream` that is red or late: pages, unless what it found has paged already.

    While an incident is open each minute's run is red, and each would page again when its deadline comes; and so would
    those of an incident that somebody has taken in hand.
    """
    if await asyncio.to_thread(is_known, context):
        log.info("An incident of the stream is open and has been paged, or somebody has dealt with it since.")
        return
    await alerts.deadline_missed(context)


def is_known(context: dict[str, Any]) -> bool:
    """Whether the supervision still looks, has paged and not yet seen ten minutes of health since, or somebody has
    started the stream by hand after this run; False when it cannot be told."""
    try:
        environment = settings()
        memory = recall(heartbeat(environment))
        due = datetime.fromisoformat(str(context["deadline"]["deadline_time"]))
    except Exception:  # whatever keeps us from knowing must not keep the page from being sent
        log.exception("Nobody can say whether this is known; it is taken for news.")
        return False
    wanted_at = due - environment.dag("bpm_stream").deadline

    def since(moment: datetime | None) -> bool:
        return moment is not None and wanted_at <= moment

    return (bool(memory.paged) and since(memory.looked_at)) or since(memory.taken_over_at)


def pause(seconds: float) -> None:
    """End the stream and let it rest until `resume`, at most `seconds`. Raises StillRuns; whatever is raised, the
    stream is not kept from running then, and where the worker dies for some minutes at most."""
    stream = supervisor()
    try:
        if not stream.pause(seconds):
            raise StillRuns(
                "The stream has not ended, or not at a batch's end. Nothing was done, and it goes on. Rebuild again"
                " after its next batch; see DAG bpm_stream."
            )
    except BaseException:
        stream.resume()
        raise


def resume() -> dict[str, Any]:
    """Let the stream run again, if it is wanted; returns the verdict and what was done."""
    return summary(*supervisor().resume())


def report(table: str) -> str:
    """The file in which a rebuild's `prepare` says how many keys of a table differ, as its job sees it."""
    return _beside(settings().stream.heartbeat, table)


def _beside(heartbeat: str, table: str) -> str:
    return f"{heartbeat.rpartition('.')[0]}.differences.{table}.json"


def differences(rebuild: str, tables: Iterable[str]) -> int:
    """How many keys of these tables a rebuild has found to differ. Raises ValueError for the word of another one."""
    total = 0
    for table in tables:
        file = _beside(settings().stream.heartbeat_for_airflow, table)
        said = json.loads(ObjectStoragePath(file).read_text())
        if said["rebuild"] != rebuild:
            raise ValueError(f"{file} is of rebuild {said['rebuild']}.")
        log.info("%s: %s keys differ.", table, said["differences"])
        total += said["differences"]
    return total
