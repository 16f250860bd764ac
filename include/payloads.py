"""What is sent to the workspace to run a job: pure functions from settings to Databricks' Jobs 2.2 payloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from include.pipeline import Job, Needs
from include.settings import DagSettings, Settings

ENVIRONMENT_KEY = "default"


def python_file(settings: Settings, job_name: str) -> str:
    """Where a job's file lies for the workspace: `silver.users` -> `<code root>/spark_jobs/silver/users.py`."""
    return f"{settings.databricks.code_root}/spark_jobs/{job_name.replace('.', '/')}.py"


def common_arguments(settings: Settings, run_id: str) -> list[str]:
    """The arguments of every job: where the tables are, and whose run this is."""
    storage = ["--storage-root", settings.storage_root] if settings.storage_root else []
    secrets = ["--secret-scope", settings.secret_scope] if settings.secret_scope else []
    return ["--catalog", settings.catalog, *storage, *secrets, "--run-id", run_id]


def kafka_arguments(settings: Settings, topics: Sequence[str]) -> list[str]:
    """How a job reads Kafka, and where it remembers how far. No secrets: those come from the job's environment."""
    options = [part for item in settings.kafka.options.items() for part in ("--kafka-option", "=".join(item))]
    return [
        *("--checkpoint-root", settings.checkpoint_root),
        *("--bootstrap-servers", settings.kafka.bootstrap_servers),
        *options,
        *("--topics", ",".join(topics)),
    ]


def batch_arguments(settings: Settings, job: Job, run_id: str) -> list[str]:
    """The full argument list of a batch job."""
    arguments = common_arguments(settings, run_id)
    if Needs.KAFKA in job.needs:
        arguments += kafka_arguments(settings, job.topics)
    if Needs.SQL in job.needs:
        arguments += ["--jdbc-url", settings.sql.jdbc_url, "--sql-user", settings.sql.user]
    return arguments


def batch_run(settings: Settings, dag: DagSettings, job: Job, run_id: str) -> dict[str, Any]:
    """The body of `runs/submit` for one batch job on serverless compute.

    The platform must not retry by itself: Airflow does, with a new idempotency token, so that a person sees every try.
    """
    timeout_seconds = int(dag.job_timeout.total_seconds())
    spec: dict[str, Any] = {"environment_version": settings.batch.environment_version}
    if settings.batch.dependencies:
        spec["dependencies"] = list(settings.batch.dependencies)
    optional = {
        "performance_target": settings.batch.performance_target,
        "usage_policy_id": settings.batch.usage_policy_id,
    }
    return {
        "run_name": job.name,
        "timeout_seconds": timeout_seconds,
        "queue": {"enabled": True},
        "environments": [{"environment_key": ENVIRONMENT_KEY, "spec": spec}],
        "tasks": [
            {
                "task_key": job.table,
                "environment_key": ENVIRONMENT_KEY,
                "spark_python_task": {
                    "python_file": python_file(settings, job.name),
                    "parameters": batch_arguments(settings, job, run_id),
                },
                "timeout_seconds": timeout_seconds,
                "max_retries": 0,
                # Serverless "auto-optimization" retries failed tasks in spite of max_retries.
                "disable_auto_optimization": True,
            }
        ],
        **{name: value for name, value in optional.items() if value is not None},
    }


def stream_cluster(settings: Settings) -> dict[str, Any]:
    """The stream's `new_cluster`, without what is not set."""
    return settings.stream.cluster.model_dump(exclude_none=True)
