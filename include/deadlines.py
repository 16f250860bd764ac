"""From when a run is late. Airflow's built-in references do not fit:

`DAGRUN_LOGICAL_DATE` gives no deadline for runs started by assets or people, whose logical date is NULL, and clearing
tasks under `DAGRUN_QUEUED_AT` answers HTTP 500 (apache/airflow#70368). A class of our own, registered through
`plugins/fitness.py`, has neither fault. DAGs and plugin must import it from this module path.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import BaseDeadlineReference, DeadlineAlert, deadline_reference

from include.rebuild import PARAM
from include.settings import DagSettings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def due(
    run_type: str, run_after: datetime, queued_at: datetime | None, conf: dict[str, Any] | None, is_first: bool = False
) -> datetime | None:
    """When a run became due (UTC); None when lateness means nothing: backfills and rebuilds take what they take.

    The first run of a DAG is of a time before anybody could have run it.
    """
    if run_type == "backfill" or (conf or {}).get(PARAM):
        return None
    return run_after if run_type == "scheduled" and not is_first else queued_at or run_after


@deadline_reference
class RunDue(BaseDeadlineReference):
    """Counts from when the clock, an asset or a person wanted the run."""

    required_kwargs = {"dag_id", "run_id"}  # noqa: RUF012  (Airflow reads it from the class)

    def _evaluate_with(self, *, session: Session, dag_id: str, run_id: str, **_: Any) -> datetime | None:
        from airflow.models import DagRun  # the scheduler evaluates this; a DAG file must not load the models
        from sqlalchemy import select

        columns = (DagRun.run_type, DagRun.run_after, DagRun.queued_at, DagRun.conf)
        found = session.execute(select(*columns).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)).one()
        others = select(DagRun.id).where(DagRun.dag_id == dag_id, DagRun.run_id != run_id).limit(1)
        run_type, run_after, queued_at, conf = found
        return due(run_type, run_after, queued_at, conf, is_first=session.scalar(others) is None)


def deadline(dag: DagSettings, missed: Callable[[dict[str, Any]], Awaitable[None]]) -> DeadlineAlert:
    """Calls `missed` when a run has not succeeded `dag.deadline` after it was due; one that failed is late too."""
    return DeadlineAlert(reference=RunDue(), interval=dag.deadline, callback=AsyncCallback(missed))
