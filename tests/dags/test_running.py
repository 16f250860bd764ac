"""The real DAGs, run by Airflow against a real workspace server."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from airflow.models import DagRun
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

from include.pipeline import jobs_of
from tests.dags.running import run_dag, states, tiny_jobs

FAILING = 'def match(address):\n    raise ValueError(f"no member has {address}")\n\nmatch("aa:bb")\n'


def calls(folder: Path, layer: str) -> dict[str, list[str]]:
    file = folder / "spark_jobs" / layer / "calls.jsonl"
    return {line[0]: line[1:] for line in map(json.loads, file.read_text().splitlines())}


def xcom(run, task_id: str, key: str):
    with create_session() as session:
        query = select(XComModel.value).where(
            XComModel.run_id == run.run_id, XComModel.task_id == task_id, XComModel.key == key
        )
        return session.scalars(query).one()


def conf_of_last_run(dag_id: str) -> dict:
    with create_session() as session:
        newest = select(DagRun.conf).where(DagRun.dag_id == dag_id).order_by(DagRun.id.desc()).limit(1)
        return session.scalars(newest).one()


@pytest.mark.parametrize("deferrable", [False, True], ids=["waits in the task", "waits in the triggerer"])
def test_gold_runs_every_job_with_its_arguments_and_rebuilds_what_was_asked(home, metadata, tmp_path, deferrable):
    request = {"job": "gold.user_activity", "from_date": "2026-02-01", "to_date": "2026-02-28"}
    with tiny_jobs(tmp_path, {}, deferrable=deferrable) as bag:
        run = run_dag(bag, "gold", {"rebuild": request})
    assert set(states(run).values()) == {"success"}
    told = calls(tmp_path, "gold")
    assert set(told) == {"workout_summary", "workout_completion", "gym_activity", "user_activity"}
    assert told["gym_activity"] == [
        *("--catalog", "spark_catalog"),
        *("--storage-root", f"file://{tmp_path}/lake"),
        *("--run-id", f"gold/{run.run_id}/gym_activity/1"),
    ]
    assert told["user_activity"][-4:] == ["--from-date", "2026-02-01", "--to-date", "2026-02-28"]


@pytest.mark.parametrize("deferrable", [False, True], ids=["waits in the task", "waits in the triggerer"])
def test_a_failing_job_shows_its_python_error_and_a_link_to_its_run(home, metadata, tmp_path, capfd, deferrable):
    with tiny_jobs(tmp_path, {"bronze.gym_visits": FAILING}, deferrable=deferrable) as bag:
        run = run_dag(bag, "bronze")
    log = "".join(capfd.readouterr())
    assert "ValueError: no member has aa:bb" in log
    assert 'raise ValueError(f"no member has {address}")' in log, "the trace, not only the message"

    page = xcom(run, "gym_visits", "run_page_url")
    assert page in log
    assert xcom(run, "gym_visits", "_link_DatabricksJobRunLink") == page
    token = home.secrets["workspace_token"]
    assert httpx.get(page, headers={"Authorization": f"Bearer {token}"}, trust_env=False).is_success

    assert states(run) == {
        "kafka_multiplex": "success",
        "registrations": "success",
        "gym_visits": "failed",
        "announce": "success",
    }
    assert run.state == "failed", "what the others brought goes on, and yet the run is red"


def test_a_table_that_failed_stops_only_those_that_need_it(home, metadata, tmp_path):
    with tiny_jobs(tmp_path, {"silver.workout_events": FAILING}) as bag:
        run = run_dag(bag, "silver")
    found = states(run)
    assert {task for task, state in found.items() if state == "upstream_failed"} == {
        "workout_sessions",
        "workout_heart_rate",
    }
    assert found["gym_visits"] == found["announce"] == "success"


def test_the_rebuild_dag_does_nothing_by_default(home, metadata, tmp_path):
    with tiny_jobs(tmp_path, {}) as bag:
        run = run_dag(bag, "rebuild", {"job": "gold.user_activity", "full": True})
    assert states(run) == {"plan": "success", "run": "skipped"}


def test_a_rebuild_is_handed_to_the_dag_of_its_layer(home, metadata, tmp_path):
    with tiny_jobs(tmp_path, {}) as bag:
        bag.dags["rebuild"].get_task("run").wait_for_completion = False  # nobody runs gold here
        run = run_dag(bag, "rebuild", {"job": "gold.user_activity", "keys": ["12"], "dry_run": False})
    assert states(run) == {"plan": "success", "run": "success"}
    assert conf_of_last_run("gold") == {"rebuild": {"job": "gold.user_activity", "keys": ["12"]}}


def test_silver_recomputes_days_in_all_its_tables(home, metadata, tmp_path):
    with tiny_jobs(tmp_path, {}) as bag:
        run = run_dag(
            bag, "silver", {"rebuild": {"layer": "silver", "from_date": "2024-03-01", "to_date": "2024-03-01"}}
        )
    assert set(states(run).values()) == {"success"}
    told = calls(tmp_path, "silver")
    assert set(told) == {job.table for job in jobs_of("silver")}
    for arguments in told.values():
        assert arguments[-4:] == ["--from-date", "2024-03-01", "--to-date", "2024-03-01"]


def test_a_backfill_by_hand_hands_its_days_to_silver_and_then_gold(home, metadata, tmp_path):
    days = {"from_date": "2024-03-01", "to_date": "2024-03-02"}
    with tiny_jobs(tmp_path, {}) as bag:
        for layer in ("silver", "gold"):
            bag.dags["backfill"].get_task(layer).wait_for_completion = False  # nobody runs them here
        run = run_dag(bag, "backfill", days)
    assert states(run) == {"plan": "success", "silver": "success", "gold": "success"}
    for layer in ("silver", "gold"):
        assert conf_of_last_run(layer) == {"rebuild": {"layer": layer, **days}}


def test_a_backfill_by_hand_without_days_says_so(home, metadata, tmp_path, capfd):
    with tiny_jobs(tmp_path, {}) as bag:
        run = run_dag(bag, "backfill")
    assert states(run) == {"plan": "failed", "silver": "upstream_failed", "gold": "upstream_failed"}
    assert "say what to rebuild" in "".join(capfd.readouterr())
