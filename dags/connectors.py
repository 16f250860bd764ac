"""
# Connectors: what Kafka Connect should run

## What flows
The files of `include/connectors/<dialect>/`, one a connector, are compared with what the Connect cluster runs, and the
difference is applied: missing connectors are created, changed ones updated, failed ones restarted (three times at most
in a run), paused ones resumed. Connectors without a file are left alone.
Through them `app.workout_events` and `app.user_profile` reach the topics `workout` and `user_profile`.

## Why this schedule
Every few minutes: Connect does not restart a failed task by itself, and a cluster that lost its state starts empty.

## Triage notes
- **`apply` is red**: its log names the connector, its tasks' states and the root cause of Connect's stack trace.
- **Red with a database error**: the source refuses; nothing here helps. Once it is back the next run restarts the task.
- **Somebody paused a connector on purpose**: it is resumed here; pause this DAG first.
- Data is not lost while a connector is down: it goes on where it stopped, as long as the source keeps its log.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import task

from include.dag import fitness_dag
from include.kafka_connect import Connect, desired, reconcile
from include.settings import settings
from include.tags import Tag

CONNECTORS = Path(__file__).parent.parent / "include" / "connectors"

with fitness_dag("connectors", doc=__doc__, tags={Tag.INGEST, Tag.TIER_1}):

    @task(execution_timeout=settings().dag("connectors").job_timeout)
    def apply() -> list[str]:
        """Returns what was done; nothing, when all was as it should be."""
        target = settings().connect
        with Connect(target.url) as connect:
            return [str(step) for step in reconcile(connect, desired(CONNECTORS / target.dialect))]

    apply()
