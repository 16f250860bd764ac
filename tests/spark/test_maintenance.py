"""Maintenance makes few files of many and deletes what nobody refers to; no row changes, and jobs go on from it."""

from __future__ import annotations

from pathlib import Path

from tests.oracle import RegistrationVersion, World, at
from tests.spark.pipeline import Pipeline

START = at("2024-02-01T08:00:00")
JOBS = ("silver.users", "silver.user_devices")


def arrive(pipeline: Pipeline, users: range) -> None:
    """Each member in a commit, and a run of jobs, of its own."""
    for user in users:
        pipeline.land(World([RegistrationVersion(user, 10 * user, f"mac-{user}", START, user)]))
        pipeline.run_all(jobs=JOBS)


def files(pipeline: Pipeline, table: str) -> int:
    return int(pipeline.spark.sql(f"DESCRIBE DETAIL spark_catalog.{table}").collect()[0]["numFiles"])


def parquet(folder: Path) -> set[str]:
    return {file.name for file in folder.glob("**/*.parquet") if "_delta_log" not in file.parts}


def test_files_become_few_and_rows_stay(pipeline: Pipeline) -> None:
    arrive(pipeline, range(1, 5))
    books, users = pipeline.lake / "ops" / "job_runs", pipeline.lake / "silver" / "users"
    rows, of_books, of_users = sorted(map(str, pipeline.rows("silver.users"))), parquet(books), parquet(users)
    pipeline.run("ops.maintenance", "--many-files", "5")
    assert files(pipeline, "silver.users") == 4, "so few are left alone"
    assert files(pipeline, "ops.job_runs") == 2, "packed, and the outcome of this run"
    assert (parquet(books) > of_books, parquet(users)) == (True, of_users), "what was can still be read"

    pipeline.spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    pipeline.run("ops.maintenance", "--many-files", "2", "--retain-hours", "0")
    assert (files(pipeline, "silver.users"), sorted(map(str, pipeline.rows("silver.users")))) == (1, rows)
    assert len(parquet(users)) == 1 and not parquet(users) & of_users

    arrive(pipeline, range(5, 6))
    assert sorted(row["user_id"] for row in pipeline.rows("silver.users")) == [1, 2, 3, 4, 5]
    assert pipeline.outcome("silver.users")["mode"] == "incremental", "it had read all that is gone"
