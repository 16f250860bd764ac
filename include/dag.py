"""What all DAGs have in common, in one place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, CronTriggerTimetable

from include.alerts import deadline_missed, task_failed
from include.deadlines import deadline
from include.settings import settings
from include.tags import Tag

if TYPE_CHECKING:
    from airflow.timetables.base import Timetable

OWNER = "data-platform"
FIRST_DAY = datetime(2000, 1, 1, tzinfo=UTC)  # no reading is older, and Airflow runs no task for a day before
MISSED_BY = timedelta(minutes=1)  # a tick so long ago is not missed: the scheduler has not come to it


def fitness_dag(
    dag_id: str,
    *,
    doc: str | None,
    tags: set[Tag],
    started_by: Asset | None = None,
    schedule: Timetable | None = None,
    can_wait: bool = False,
    params: dict[str, Any] | None = None,
    missed: Callable[[dict[str, Any]], Awaitable[None]] = deadline_missed,
) -> DAG:
    """A DAG with the schedule, deadline, retries and alerts that the settings give it.

    One run at a time: a table has one writer, and a run that is behind takes over what the next ones would have done.
    `doc` is the module's docstring: the page that the person on call reads. `started_by` or `schedule` replaces the
    clock of the settings. A DAG that `can_wait` starts with the clock's next tick: the others, when they are new, start
    at once, and what it would look at they have yet to make. `missed` is called when a run has missed its deadline.
    """
    environment = settings()
    own = environment.dag(dag_id)
    clock: Any = schedule or own.schedule
    if can_wait and own.schedule:
        clock = CronTriggerTimetable(own.schedule, timezone="UTC", run_immediately=MISSED_BY)
    return DAG(
        dag_id,
        schedule=[started_by] if started_by else clock,
        start_date=None if can_wait else FIRST_DAY,  # a clock asks for a first run at once when it knows a first day
        catchup=False,
        max_active_runs=1,
        max_active_tasks=own.max_active_tasks,
        deadline=deadline(own, missed),
        doc_md=doc,
        tags=sorted(tags),
        params=params or {},
        is_paused_upon_creation=environment.paused_at_creation,
        default_args={
            "owner": OWNER,
            "retries": own.retries,
            "retry_delay": own.retry_delay,
            "retry_exponential_backoff": 2,
            "max_retry_delay": own.job_timeout,
            "on_failure_callback": task_failed,
        },
    )


def announce(done: Asset) -> EmptyOperator:
    """A last task that tells the next layer to start, whatever became of the tasks before it.

    As a teardown it runs when all tasks before it have ended, and leaves the colour of the run to them: a run in which
    one source failed is red, and yet the others' data goes on.
    """
    return EmptyOperator(task_id="announce", outlets=[done]).as_teardown()
