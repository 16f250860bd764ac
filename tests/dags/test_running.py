"""The real DAGs, run by Airflow against a real workspace server."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from airflow.models import DagRun
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

from include.pipeline import jobs_of
from include.stream import airflow as stream
from tests.dags.running import OBEDIENT, run_dag, states, tiny_jobs

FAILING = 'def match(address):\n    raise ValueError(f"no member has {address}")\n\nmatch("aa:bb")\n'


def all_calls(folder: Path, layer: str) -> list[list[str]]:
    file = folder / "spark_jobs" / layer / "calls.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def calls(folder: Path, layer: str) -> dict[str, list[str]]:
    return {line[0]: line[1:] for line in all_calls(folder, layer)}


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


# Stands for a prepare that finds so many keys, and for its switch, which it writes down.
PREPARED = (
    OBEDIENT
    + """
said = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if said["--phase"] == "prepare":
    report = pathlib.Path(said["--report"].removeprefix("file://"))
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps({"rebuild": said["--rebuild"], "differences": COUNT}))
elif SWITCH_FAILS:
    raise ValueError("no space")
"""
)
SWITCHED = ("switch.heart_rate", "switch.bpm_trends")


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """What the stream is told."""
    told: list[str] = []
    monkeypatch.setattr(stream, "pause", lambda seconds: told.append(f"pause {seconds:.0f}"))
    monkeypatch.setattr(stream, "resume", lambda: told.append("resume"))
    return told


def rebuild_readings(folder: Path, differences: int, *, fails: bool = False, **conf: Any) -> Any:
    source = PREPARED.replace("COUNT", str(differences)).replace("SWITCH_FAILS", str(fails))
    with tiny_jobs(folder, {"silver.heart_rate": source, "gold.bpm_trends": source}) as bag:
        return run_dag(bag, "rebuild_readings", {"keys": ["7"], **conf})


def test_readings_are_found_beside_the_stream_and_switched_while_it_rests(home, metadata, tmp_path, said):
    run = rebuild_readings(tmp_path, 2, dry_run=False)
    assert set(states(run).values()) == {"success"}
    assert said == ["pause 7500", "resume"]
    told = all_calls(tmp_path, "silver") + all_calls(tmp_path, "gold")
    assert [call[0] for call in told] == ["heart_rate", "heart_rate", "bpm_trends", "bpm_trends"]
    for phase, call in zip(("prepare", "switch") * 2, told, strict=True):
        assert call[call.index("--phase") :][:4] == ["--phase", phase, "--rebuild", run.run_id]
        assert call[-1] == "--keys=7"
        if phase == "switch":  # two of them, an hour each, while the stream rests for 7500 s
            begin_by = datetime.fromisoformat(call[call.index("--begin-by") + 1])
            assert timedelta(minutes=60) < begin_by - datetime.now(UTC) < timedelta(minutes=65)


@pytest.mark.parametrize(("differences", "dry_run"), [(0, False), (2, True)], ids=["nothing differs", "dry run"])
def test_the_stream_is_left_alone_when_nothing_is_to_be_switched(home, metadata, tmp_path, said, differences, dry_run):
    found = states(rebuild_readings(tmp_path, differences, dry_run=dry_run))
    assert {task for task, state in found.items() if state == "skipped"} == {"pause", *SWITCHED, "resume"}
    assert said == []


def test_the_stream_goes_on_when_the_switch_failed(home, metadata, tmp_path, said):
    run = rebuild_readings(tmp_path, 2, fails=True, dry_run=False)
    found = states(run)
    assert [found[task] for task in SWITCHED] == ["failed", "upstream_failed"]
    assert (found["resume"], said[-1], run.state) == ("success", "resume", "failed")


def test_a_stream_that_does_not_end_is_not_switched_under(home, metadata, tmp_path, said, monkeypatch):
    def refuse(seconds: float) -> None:
        raise stream.StillRuns

    monkeypatch.setattr(stream, "pause", refuse)
    found = states(rebuild_readings(tmp_path, 2, dry_run=False))
    assert found["pause"] == "failed"
    assert {found[task] for task in SWITCHED} == {"upstream_failed"}


def test_what_the_readings_rebuild_does_not_understand_touches_nothing(home, metadata, tmp_path, said):
    found = states(rebuild_readings(tmp_path, 2, full=True))
    assert found.pop("plan") == "failed"
    assert set(found.values()) == {"upstream_failed"}
