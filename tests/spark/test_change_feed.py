"""A table's change feed and its rows in one query: each must be itself."""

from __future__ import annotations

from spark_jobs.incremental import change_feed
from spark_jobs.job import Job, Rebuild, instant
from spark_jobs.platform import Platform
from tests.spark.pipeline import READINGS, Pipeline


def test_the_feed_of_a_table_and_its_rows_do_not_replace_each_other(pipeline: Pipeline) -> None:
    table = "silver.heart_rate"
    for number in (1, 2):
        pipeline.write(table, [(number, instant(1_700_000_000_000_000), 70.0)], READINGS)
    job = Job("test", pipeline.spark, Platform(), "spark_catalog", "run", instant(0), Rebuild(), None)
    feed, rows = change_feed(job, table, 2, 2).select("device_id"), job.table(table).select("device_id")
    assert sorted(row.device_id for row in feed.union(rows).collect()) == [1, 2, 2]
    assert sorted(row.device_id for row in rows.union(feed).collect()) == [1, 2, 2]
