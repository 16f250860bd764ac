"""
# Connectors: what Kafka Connect should run

## What flows
The files of `include/connectors/<dialect>/`, one a connector, are compared with what the Connect cluster runs, and the
difference is applied: missing connectors are created, changed ones updated, failed ones restarted (three times at most
in a run; then it is watched that they stay well), paused ones resumed. Connectors without a file are left alone.
Through them `app.workout_events` and `app.user_profile` reach the topics `workout` and `user_profile`. Beside it a task
looks whether a transaction hangs in a topic, behind which nothing would be read.

## Why this schedule
Every few minutes: Connect does not restart a failed task by itself, and a cluster that lost its state starts empty.

## Triage notes
- **`apply` is red**: its log names the connector, its tasks' states and the root cause of Connect's stack trace.
- **Red with a database error**: the source refuses; nothing here helps. Once it is back the next run restarts the task.
- **Red with "in each of 3 runs in a row"**: restarts help for a while only, usually as a row cannot be brought
  through; the log names the cause. It is restarted nevertheless, and green again once a run finds it well.
- **`look_for_hanging_transactions` is red**: the topics have records that no reader will get until somebody ends a
  transaction; all else looks well meanwhile. Go on with `docs/runbooks/hanging_transaction.md`.
- **Somebody paused a connector on purpose**: it is resumed here; pause this DAG first.
- Data is not lost while a connector is down: it goes on where it stopped, as long as the source keeps its log.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import Connection, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from include.assets import CONNECTORS
from include.dag import fitness_dag
from include.kafka import transactions
from include.kafka.airflow import client_settings
from include.kafka_connect import Connect, desired, reconcile, relapses
from include.settings import settings
from include.tags import Tag

FOLDER = Path(__file__).parent.parent / "include" / "connectors"
RUNBOOK = "docs/runbooks/hanging_transaction.md"
LONGEST_TRANSACTION_SECONDS = 300  # the brokers end Connect's after 10 s on one machine, after 60 s unless told
RELAPSES = 3  # runs in a row that find a connector failed, after which restarts are no cure


def credentials(connection: Connection) -> tuple[str, str] | None:
    return (connection.login, connection.password or "") if connection.login else None


with fitness_dag("connectors", doc=__doc__, tags={Tag.INGEST, Tag.TIER_1}):

    @task(execution_timeout=settings().dag("connectors").job_timeout, inlets=[CONNECTORS])
    def apply() -> list[str]:
        """Returns what was done; nothing, when all was as it should be."""
        target, context = settings().connect, get_current_context()
        memory: Any = context["asset_state_store"][CONNECTORS]  # of JSON values
        wanted = desired(FOLDER / target.dialect)
        with Connect(target.url, credentials(Connection.get(target.connection_id))) as connect:
            failed = {name: status.trouble for name in wanted if (status := connect.status(name)).failed}
            runs = relapses(memory.get("failed", {}), context["run_id"], failed, RELAPSES)
            memory.set("failed", runs)
            steps = reconcile(connect, wanted)
        lasting = [failed.get(name) or name for name, found in runs.items() if len(found) >= RELAPSES]
        if lasting:
            raise AirflowFailException(f"Failed in each of {RELAPSES} runs in a row: {'; '.join(lasting)}")
        return [str(step) for step in steps]

    @task(execution_timeout=settings().dag("connectors").job_timeout)
    def look_for_hanging_transactions() -> None:
        """Fails when there are some: all that lies behind them is never read, and nothing else shows it."""
        if found := transactions.hanging(client_settings(settings()), LONGEST_TRANSACTION_SECONDS):
            where = "; ".join(map(str, found))
            raise AirflowFailException(f"Transactions hang, and nobody reads what lies behind: {where}. See {RUNBOOK}.")

    apply()
    look_for_hanging_transactions()
