"""
# Rebuild: compute a table's rows anew

## What flows
Nothing by itself: this DAG checks what was asked for, says what it would do, and (unless `dry_run`) lets the layer's
own DAG do it in its turn, with the job told to recompute the keys, days or table named. What depends on the table
follows as always.

## Why this schedule
None: a person starts it, after a bug was fixed or when a table is doubted. A rebuild that finds everything right
changes nothing.

## Triage notes
- **`plan` is red**: the request was not understood; its log says why. Nothing was touched.
- **`run` waits long**: a layer runs one run at a time; a rebuild queues, and ordinary runs queue behind it.
- A rebuild has no deadline in its layer: it takes what it takes.
- Stopping a rebuild halfway is safe; each table is merged in one commit.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param, task

from include.dag import fitness_dag
from include.rebuild import EXTENT_PARAMS, REBUILT, Rebuild
from include.settings import settings
from include.tags import Tag

PARAMS = {
    "job": Param("silver.workout_sessions", type="string", enum=REBUILT, description="The table to rebuild."),
    **EXTENT_PARAMS,
    "dry_run": Param(True, type="boolean", description="Only say what would be done."),
}

with fitness_dag("rebuild", doc=__doc__, tags={Tag.REFINE, Tag.TIER_3, Tag.MANUAL}, params=PARAMS):

    @task.short_circuit(multiple_outputs=True)
    def plan(params: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """The conf for the layer's DAG; None ends a dry run here."""
        request = dict(params or {})
        dry_run = request.pop("dry_run")
        rebuild = Rebuild.model_validate(request)
        logging.getLogger(__name__).info(
            "%s: DAG %s with %s", "Would run" if dry_run else "Runs", rebuild.dag_id, rebuild.conf()
        )
        return None if dry_run else {"dag_id": rebuild.dag_id, "conf": rebuild.conf()}

    planned: Any = plan()
    TriggerDagRunOperator(
        task_id="run",
        trigger_dag_id="{{ ti.xcom_pull(task_ids='plan')['dag_id'] }}",
        conf=planned["conf"],
        wait_for_completion=True,
        poke_interval=settings().databricks.polling_seconds,
        deferrable=True,  # may wait for hours for its turn
    )
