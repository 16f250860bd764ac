"""DAG `backfill` as Airflow's scheduler and its backfills see it."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from tests.dags.running import store

DAYS = [datetime(2024, 2, 28, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)]


@pytest.fixture
def stored(dagbag, metadata):
    if dagbag.environment != "local":
        pytest.skip("the same in every environment")
    store(dagbag)


def backfill(**changes):
    from airflow.models.backfill import ReprocessBehavior, _create_backfill

    asked = {
        "dag_id": "backfill",
        "from_date": DAYS[0],
        "to_date": DAYS[-1],
        "max_active_runs": 1,
        "reverse": False,
        "dag_run_conf": None,
        "triggering_user_name": "somebody",
        "reprocess_behavior": ReprocessBehavior.NONE,
    }
    return _create_backfill(**(asked | changes))


def runs():
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return list(session.scalars(select(DagRun).where(DagRun.dag_id == "backfill", DagRun.run_type == "backfill")))


@pytest.mark.usefixtures("stored")
def test_the_layers_themselves_cannot_be_backfilled():
    from airflow.models.backfill import DagNonPeriodicScheduleException

    for layer in ("silver", "gold"):
        with pytest.raises(DagNonPeriodicScheduleException):
            backfill(dag_id=layer)


@pytest.mark.usefixtures("stored")
def test_a_backfill_makes_one_run_a_day_and_airflow_may_run_it():
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.ti_deps.deps.exec_date_after_start_date_dep import ExecDateAfterStartDateDep
    from airflow.utils.session import create_session

    backfill()
    assert sorted(run.logical_date for run in runs()) == DAYS
    with create_session() as session:
        dag = SerializedDagModel.get_dag("backfill", session=session)
        [first, *_] = [session.merge(run) for run in runs()]
        for task_instance in first.task_instances:
            task_instance.task = dag.get_task(task_instance.task_id)
            assert ExecDateAfterStartDateDep().is_met(task_instance, session=session)


def test_a_run_of_a_backfill_takes_its_own_day(dagbag):
    plan = dagbag.dags["backfill"].get_task("plan").python_callable
    run = SimpleNamespace(run_type="backfill", logical_date=DAYS[1])
    day = {"from_date": "2024-02-29", "to_date": "2024-02-29"}
    for params in ({"from_date": None, "to_date": None}, {"from_date": "2020-01-01", "to_date": "2020-01-01"}):
        assert plan(params=params, dag_run=run) == {
            layer: {"rebuild": {"layer": layer, **day}} for layer in ("silver", "gold")
        }


def test_the_clock_makes_no_run_that_would_be_in_a_backfills_way(dagbag):
    from airflow.serialization.serialized_objects import DagSerialization

    dag = DagSerialization.from_dict(DagSerialization.to_dict(dagbag.dags["backfill"]))
    assert dag.timetable.periodic
    assert dag.next_dagrun_info(last_automated_run_info=None) is None
