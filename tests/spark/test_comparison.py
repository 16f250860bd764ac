"""How two layers are compared while one of them goes on."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import SparkSession

from spark_jobs.quality.comparison import compared, finding
from spark_jobs.slices import Slice


def test_what_a_source_changes_after_it_was_asked_what_is_pending_is_no_defect(
    spark: SparkSession, tmp_path: Path
) -> None:
    source = f"delta.`{tmp_path}/source`"
    spark.range(4).selectExpr("id AS key", "10 * id AS value").write.format("delta").save(f"{tmp_path}/source")
    existing = spark.range(5).selectExpr("id AS key", "10 * id AS value")

    def pending() -> Slice:
        told = Slice.of(spark.range(4, 5).selectExpr("id AS key"))
        spark.sql(f"DELETE FROM {source} WHERE key = 3")
        return told

    found = finding("source = bronze", "a table", compared(spark.table(source), existing, ["key"]), ["key"], pending)
    assert (found.defects, found.pending, found.detail) == (0, 1, None)
    again = finding("source = bronze", "a table", compared(spark.table(source), existing, ["key"]), ["key"])
    assert (again.unexpected, again.detail) == (2, "unexpected key=3; unexpected key=4")
