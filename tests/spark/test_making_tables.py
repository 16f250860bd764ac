"""Making a table where somebody died while making it, before the first commit."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from spark_jobs import conflicts
from spark_jobs.declarations import ABANDONED_SECONDS, register
from spark_jobs.platform import Platform
from tests.spark.pipeline import Pipeline

TABLE = "ops.job_runs"
DRAFT = "_delta_log/.00000000000000000000.json.3897ac10-ac45-4a5a-bf7b-275d167f47a7.tmp"


def leave(folder: Path, name: str, seconds_ago: float) -> Path:
    """What Delta leaves of a table that it could not finish, and when."""
    file = folder / name
    (folder / "_delta_log" / "_staged_commits").mkdir(parents=True)
    file.touch()
    for path in (file, *folder.rglob("*"), folder):
        os.utime(path, 2 * (time.time() - seconds_ago,))
    return file


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_table_is_made_where_one_was_begun_and_given_up(spark: SparkSession, tmp_path: Path, scheme: str) -> None:
    lake = Pipeline(spark, tmp_path, tables=()).lake
    draft = leave(lake / "ops" / "job_runs", DRAFT, seconds_ago=2 * ABANDONED_SECONDS)
    register(spark, Platform(f"{scheme}{lake}"), "spark_catalog", TABLE)
    assert spark.table(f"spark_catalog.{TABLE}").count() == 0
    assert not draft.exists()


@pytest.mark.parametrize(
    ("name", "seconds_ago"),
    [(DRAFT, 0.0), ("part-00000.parquet", 2 * ABANDONED_SECONDS), ("_delta_log/notes", 2 * ABANDONED_SECONDS)],
    ids=["being made now", "data of somebody", "something else in the log"],
)
def test_nothing_else_is_removed_for_a_table(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, seconds_ago: float
) -> None:
    monkeypatch.setattr(conflicts, "ATTEMPTS", 1)
    lake = Pipeline(spark, tmp_path, tables=()).lake
    left = leave(lake / "ops" / "job_runs", name, seconds_ago)
    with pytest.raises(PySparkException, match="NON_EMPTY_LOCATION"):
        register(spark, Platform(str(lake)), "spark_catalog", TABLE)
    assert left.exists()
