"""From when a run is late, as Airflow's scheduler works it out."""

from datetime import UTC, datetime, timedelta

import pytest

from include.deadlines import RunDue, due

CLOCK, QUEUED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC), datetime(2026, 3, 1, 12, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("run_type", "queued_at", "conf", "expected"),
    [
        pytest.param("scheduled", QUEUED, {}, CLOCK, id="the clock wanted it then, however late it was queued"),
        pytest.param("asset_triggered", QUEUED, None, QUEUED, id="an asset wanted it when it was queued"),
        pytest.param("manual", QUEUED, {}, QUEUED, id="a person likewise"),
        pytest.param("manual", None, {}, CLOCK, id="not queued yet"),
        pytest.param("backfill", QUEUED, {}, None, id="a backfill is never late"),
        pytest.param("manual", QUEUED, {"rebuild": {"job": "silver.users", "full": True}}, None, id="nor is a rebuild"),
    ],
)
def test_due(run_type, queued_at, conf, expected):
    assert due(run_type, CLOCK, queued_at, conf) == expected


def test_the_first_run_of_a_dag_is_not_late_for_a_time_before_it():
    assert due("scheduled", CLOCK, QUEUED, {}, is_first=True) == QUEUED


def test_the_plugin_registers_the_reference_under_the_name_that_dags_store():
    from airflow import plugins_manager
    from airflow.serialization.helpers import find_registered_custom_deadline_reference

    assert plugins_manager.get_import_errors() == {}
    assert find_registered_custom_deadline_reference("include.deadlines.RunDue") is RunDue


def test_the_scheduler_gives_a_manual_run_of_gold_its_deadline(dagbag, metadata):
    """Through the database, as the scheduler does: the DAG is stored, read back, and a run of it created."""
    if dagbag.environment != "local":
        pytest.skip("the same in every environment")
    from airflow.models import DagRun
    from airflow.models.deadline import Deadline
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType, DagRunType
    from sqlalchemy import select

    from tests.dags.running import store

    store(dagbag)
    with create_session() as session:
        dag = SerializedDagModel.get_dag("gold", session=session)
        run = dag.create_dagrun(
            run_id="by-hand",
            run_after=CLOCK,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state="queued",
            session=session,
        )
        session.flush()
        assert session.scalar(select(DagRun.queued_at).where(DagRun.id == run.id)) == run.queued_at
        [found] = session.scalars(select(Deadline).where(Deadline.dagrun_id == run.id)).all()
        assert found.deadline_time == run.queued_at + timedelta(minutes=10)
