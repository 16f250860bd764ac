"""Maintenance makes few files of many and deletes what nobody refers to; no row changes, and jobs go on from it."""

from __future__ import annotations

from pathlib import Path

from pyarrow import parquet as pq
from pyspark.sql import functions as F

from spark_jobs import packing
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


def test_of_the_multiplex_the_topics_are_packed_that_the_stream_does_not_pack(pipeline: Pipeline) -> None:
    for topic in ("workout", "bpm") * 3:
        pipeline.produce(topic, [b"{}"])
    pipeline.run("ops.maintenance", "--many-files", "2")
    held = pipeline.spark.table("spark_catalog.bronze.kafka_multiplex").inputFiles()
    assert [sum(f"topic={topic}" in file for file in held) for topic in ("workout", "bpm")] == [1, 3]


def test_in_a_packed_file_rows_of_a_device_lie_together(pipeline: Pipeline) -> None:
    """Whoever looks for a few devices reads a few groups of rows, whatever order the readings came in."""
    spark, table = pipeline.spark, "spark_catalog.silver.heart_rate"
    shuffled = spark.range(600_000).select(
        (F.col("id") % 1000).alias("device_id"),
        F.timestamp_micros(F.lit(START) + F.col("id") * 1000).alias("read_at"),
        (60 + F.rand(1) * 100).alias("bpm"),
    )
    shuffled.writeTo(table).append()
    before = spark.table(table).agg(F.sum("device_id"), F.sum("bpm")).collect()
    packing.configure(spark)
    packing.pack(spark, table)
    [packed] = spark.table(table).inputFiles()
    groups = pq.ParquetFile(packed.removeprefix("file://")).metadata
    spreads = []
    for number in range(groups.num_row_groups):
        ends = groups.row_group(number).column(0).statistics
        spreads.append(ends.max - ends.min)
    assert len(spreads) > 1 and min(spreads) < 999 * 0.6, "with the order of arrival each group has all devices"
    after = spark.table(table).agg(F.sum("device_id"), F.sum("bpm")).collect()
    assert after[0][0] == before[0][0] and abs(after[0][1] - before[0][1]) < 1e-3
