"""
# Backfill: compute days anew, in silver and then in gold

## What flows
Nothing by itself. Airflow backfills only DAGs that have a clock, and `silver` and `gold` are started by assets; so a
backfill is asked of this DAG. Its run for a UTC day lets `silver`, then `gold`, recompute that day in each of their
tables, in their turn, as the DAG `rebuild` does for one table. The day is that of the fact (a session's start, a
reading, a login, a change of a profile), never that of its arrival. Heart rates are the stream's: DAG
`rebuild_readings`.

## Why this schedule
One run a day of a backfill (the day is the run's logical date) and none besides: a run that the clock had made would be
in the way of the backfill, which by default leaves out days that have a run (`include/timetables.py`). By hand it takes
its days from `from_date` and `to_date`, in one run: quicker than a backfill when there are many.

## Triage notes
- **To start it**: Trigger, Backfill, the days; or
  `airflow backfill create --dag-id backfill --from-date ... --to-date ...`.
- **"No runs" or fewer than days**: a day that was backfilled before has its run; ask for all runs (`completed`).
- **Runs stay queued**: the DAG is paused, or the backfill is; runs of a paused DAG wait, they are not lost.
- **`silver` or `gold` waits long**: a layer runs one run at a time; this one queues (for ever while it is paused).
- A backfill has no deadline; a run by hand has that of its DAG, and pages when it takes longer: many days may.
- Stopping either halfway is safe; each table is merged in one commit.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param, chain, task
from airflow.sdk.types import DagRunProtocol

from include.dag import fitness_dag
from include.rebuild import Rebuild
from include.settings import settings
from include.tags import Tag
from include.timetables import DAYS

LAYERS = ("silver", "gold")
OPTIONAL = ["null", "string"]
PARAMS = {
    "from_date": Param(None, type=OPTIONAL, format="date", description="By hand: from this UTC day ..."),
    "to_date": Param(
        None,
        type=OPTIONAL,
        format="date",
        description="... to this one, both inclusive. A backfill brings its own days.",
    ),
}

with fitness_dag("backfill", doc=__doc__, tags={Tag.REFINE, Tag.TIER_3, Tag.MANUAL}, schedule=DAYS, params=PARAMS):

    @task(multiple_outputs=True)
    def plan(params: dict[str, Any] | None = None, dag_run: DagRunProtocol | None = None) -> dict[str, Any]:
        """The conf for each layer's DAG."""
        assert params is not None
        assert dag_run is not None
        days = dict(params)
        if dag_run.run_type == "backfill":
            assert dag_run.logical_date is not None
            days = dict.fromkeys(PARAMS, dag_run.logical_date.date())
        return {layer: Rebuild.model_validate({"layer": layer, **days}).conf() for layer in LAYERS}

    planned: Any = plan()
    chain(
        *(
            TriggerDagRunOperator(
                task_id=layer,
                trigger_dag_id=layer,
                conf=planned[layer],
                wait_for_completion=True,
                poke_interval=settings().databricks.polling_seconds,
                deferrable=True,  # may wait for hours for its turn
            )
            for layer in LAYERS
        )
    )
