"""What every DAG must have, and that its edges are the data's."""

from datetime import UTC, datetime, timedelta

import pytest
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.timetables.base import TimeRestriction

from include.assets import BRONZE_DONE, SILVER_DONE
from include.databricks_tasks import SparkJobOperator
from include.deadlines import RunDue
from include.pipeline import LAYERS, edges, jobs_of
from include.settings import check_offline
from include.tags import SUBJECTS, TIERS, Tag

SECTIONS = ["## What flows", "## Why this schedule", "## Triage notes"]


@pytest.mark.parametrize("layer", LAYERS)
def test_edges_are_the_data_dependencies(dagbag, layer):
    dag = dagbag.dags[layer]
    found = {(task.task_id, below) for task in dag.tasks for below in task.downstream_task_ids if below != "announce"}
    assert found == {(upstream.split(".")[1], downstream.split(".")[1]) for upstream, downstream in edges(layer)}
    assert {task.task_id for task in dag.tasks} - {"announce"} == {job.table for job in jobs_of(layer)}


def test_silver_has_the_edges_of_the_contract():
    assert set(edges("silver")) == {
        ("silver.user_devices", "silver.gym_visits"),
        ("silver.user_devices", "silver.workout_heart_rate"),
        ("silver.user_profile_changes", "silver.user_profile"),
        ("silver.user_profile_changes", "silver.user_profile_history"),
        ("silver.workout_events", "silver.workout_sessions"),
        ("silver.workout_sessions", "silver.workout_heart_rate"),
    }
    assert edges("bronze") == edges("gold") == []


def test_a_layer_is_started_by_the_end_of_the_one_before(dagbag):
    def starters(dag_id):
        return {asset.name for asset in dagbag.dags[dag_id].timetable.asset_condition.objects}

    assert starters("silver") == {BRONZE_DONE.name}
    assert starters("gold") == {SILVER_DONE.name}
    assert dagbag.dags["bronze"].get_task("announce").outlets == [BRONZE_DONE]
    assert dagbag.dags["silver"].get_task("announce").outlets == [SILVER_DONE]


@pytest.mark.parametrize("layer", ["bronze", "silver"])
def test_announce_waits_for_every_job_and_leaves_the_run_its_colour(dagbag, layer):
    dag = dagbag.dags[layer]
    announce = dag.get_task("announce")
    assert announce.is_teardown
    assert not announce.on_failure_fail_dagrun
    assert dag.get_task("announce").get_flat_relative_ids(upstream=True) == {job.table for job in jobs_of(layer)}


@pytest.mark.parametrize("dag_id", ["bronze", "connectors", "bpm_stream"])
def test_what_the_tables_come_from_starts_at_once_on_a_new_stack(dagbag, dag_id):
    now = datetime.now(UTC)
    assert first_run(dagbag.dags[dag_id]) <= now


@pytest.mark.parametrize("dag_id", ["quality", "maintenance"])
def test_what_looks_after_the_tables_waits_for_its_next_tick_on_a_new_stack(dagbag, dag_id):
    """Started at once they had the few places for jobs, and bronze waited for minutes."""
    now = datetime.now(UTC)
    assert first_run(dagbag.dags[dag_id]) > now - timedelta(minutes=1)


def first_run(dag):
    restriction = TimeRestriction(dag.start_date, None, catchup=dag.catchup)
    clock = coerce_to_core_timetable(dag.timetable)
    return clock.next_dagrun_info(last_automated_data_interval=None, restriction=restriction).run_after


def test_every_job_announces_its_table(dagbag):
    for layer in LAYERS:
        for job in jobs_of(layer):
            assert [outlet.name for outlet in dagbag.dags[layer].get_task(job.table).outlets] == [job.name]


def test_tags_are_of_the_vocabulary(dagbag):
    for dag in dagbag.dags.values():
        assert dag.tags <= set(Tag), dag.dag_id
        assert len(dag.tags & SUBJECTS) == len(dag.tags & TIERS) == 1, dag.dag_id


def test_every_dag_is_a_page_for_the_person_on_call(dagbag):
    for dag in dagbag.dags.values():
        lines = (dag.doc_md or "").strip().splitlines()
        assert lines, dag.dag_id
        assert lines[0].startswith("# "), dag.dag_id
        assert [line for line in lines if line.startswith("## ")] == SECTIONS, dag.dag_id


def test_every_dag_has_the_policy_of_its_environment(dagbag):
    environment = check_offline(dagbag.environment)
    for dag in dagbag.dags.values():
        own = environment.dag(dag.dag_id)
        assert dag.max_active_runs == 1, dag.dag_id
        assert not dag.catchup, dag.dag_id
        assert dag.is_paused_upon_creation == environment.paused_at_creation, dag.dag_id
        [alert] = dag.deadline
        assert (alert.reference, alert.interval) == (RunDue(), own.deadline), dag.dag_id
        for task in dag.tasks:
            assert task.owner == "data-platform", task
            assert (task.retries, task.retry_delay) == (own.retries, own.retry_delay), task
            assert task.on_failure_callback, f"nobody hears when {task} fails for good"


def test_job_tasks_wait_as_their_environment_wants(dagbag):
    environment = check_offline(dagbag.environment).databricks
    for layer in LAYERS:
        for job in jobs_of(layer):
            task = dagbag.dags[layer].get_task(job.table)
            assert task.deferrable == environment.deferrable
            assert task.polling_period_seconds == environment.polling_seconds
            assert task.databricks_retry_limit >= 10
            assert task.pool == environment.pool


def test_what_is_under_way_goes_before_what_is_new_and_tidying_goes_last(dagbag):
    def weight(dag_id):
        jobs = [task for task in dagbag.dags[dag_id].tasks if isinstance(task, SparkJobOperator)]
        assert {str(task.weight_rule) for task in jobs} == {"absolute"}
        [weight] = {task.priority_weight for task in jobs}
        return weight

    weights = [weight(dag_id) for dag_id in ("gold", "silver", "bronze", "quality")]
    assert weights == sorted(set(weights), reverse=True)
    assert weight("maintenance") == weight("quality")
