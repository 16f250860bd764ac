"""What the Jobs API takes and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from local.workspace import payloads
from local.workspace.errors import ApiError

PYTHON = {"python_file": "/Workspace/fitness/spark_jobs/silver/users.py"}


def task(key: str = "a", **fields: Any) -> dict[str, Any]:
    return {"task_key": key, "spark_python_task": PYTHON, **fields}


def test_numbers_may_be_text() -> None:
    given = {"timeout_seconds": "60", "tasks": [task(max_retries="-1", min_retry_interval_millis="5")]}
    kept = payloads.parse(payloads.JobSettings, given).kept()
    assert kept["timeout_seconds"] == 60
    assert (kept["tasks"][0]["max_retries"], kept["tasks"][0]["min_retry_interval_millis"]) == (-1, 5)


def test_what_the_server_does_not_act_on_is_kept() -> None:
    given = {
        "name": "j",
        "tags": {"owner": "data"},
        "schedule": {"quartz_cron_expression": "0 0 * * * ?", "timezone_id": "UTC"},
        "email_notifications": {"on_failure": ["a@b.c"]},
        "tasks": [
            task(description="d", libraries=[{"whl": "x.whl"}], new_cluster={"num_workers": 2, "spark_conf": {}})
        ],
    }
    assert payloads.parse(payloads.JobSettings, given).kept() == given


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"tasks": []}, "tasks"),
        ({"tasks": [task("a b")]}, "task_key"),
        ({"tasks": [task(), task()]}, "given twice"),
        ({"tasks": [task(depends_on=[{"task_key": "z"}])]}, "depends on z, which does not exist"),
        ({"tasks": [task(depends_on=[{"task_key": "a"}])]}, "wait for each other"),
        ({"tasks": [{"task_key": "a", "notebook_task": {}}]}, "not notebook_task"),
        ({"tasks": [task(environment_key="e")]}, "environments has no 'e'"),
        ({"tasks": [task(job_cluster_key="c")]}, "job_clusters has no 'c'"),
        ({"tasks": [task(new_cluster={}, existing_cluster_id="x")]}, "give one of"),
        ({"tasks": [task(new_cluster={"spark_conf": ["a"]})]}, "spark_conf"),
        ({"tasks": [task(new_cluster={"spark_env_vars": {"A": {}}})]}, "spark_env_vars"),
        ({"tasks": [task(max_retries=-2)]}, "max_retries"),
        ({"tasks": [task(timeout_seconds="soon")]}, "timeout_seconds"),
        ({"tasks": [task(run_if="MAYBE")]}, "run_if"),
        ({"tasks": [task()], "idempotency_token": "x" * 65}, "idempotency_token"),
        (
            {"tasks": [{"task_key": "a", "spark_python_task": {**PYTHON, "parameters": ["{{job.parameters.x}}"]}}]},
            "job",
        ),
        ({"tasks": [{"task_key": "a", "spark_python_task": {**PYTHON, "parameters": ["{{job.nothing}}"]}}]}, "job.no"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_payload_is_refused_with_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ApiError) as refused:
        payloads.parse(payloads.Submit, given)
    assert refused.value.status == 400
    assert sentence in refused.value.message


def test_the_old_single_task_shape_takes_the_run_name_as_its_task_key() -> None:
    given = {"run_name": "load users", "spark_python_task": PYTHON, "timeout_seconds": 5}
    assert payloads.with_tasks(given) == {
        "run_name": "load users",
        "timeout_seconds": 5,
        "tasks": [{"task_key": "load_users", "spark_python_task": PYTHON}],
    }


def test_a_repair_says_what_to_rerun_in_one_way() -> None:
    for given in ({"run_id": 1}, {"run_id": 1, "rerun_tasks": ["a"], "rerun_all_failed_tasks": True}):
        with pytest.raises(ApiError, match="either rerun_tasks or rerun_all_failed_tasks"):
            payloads.parse(payloads.RepairRun, given)


def test_job_parameters_have_defaults_and_may_be_overridden() -> None:
    settings = {"parameters": [{"name": "day", "default": "today"}, {"name": "full", "default": "no"}]}
    assert payloads.resolved_job_parameters(settings, {"full": "yes"}) == {"day": "today", "full": "yes"}


def test_more_than_ten_thousand_bytes_of_python_params_are_refused() -> None:
    with pytest.raises(ApiError, match="10000 are allowed"):
        payloads.parse(payloads.RunNow, {"job_id": 1, "python_params": ["x" * 10_000]})
