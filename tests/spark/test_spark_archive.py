"""What a server does before its classes are archived, on the tables as they are today."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import SparkSession

from local.services.spark_archive import train
from spark_jobs.streaming.bpm import TABLES
from tests.spark.pipeline import Pipeline


def test_the_training_reaches_every_table_of_the_stream(
    spark: SparkSession, pipeline: Pipeline, tmp_path: Path
) -> None:
    pipeline.forget()
    train(spark, tmp_path / "training")
    written = {table: len(pipeline.rows(table)) for table in TABLES}
    assert written == {"bronze.kafka_multiplex": 6, "silver.heart_rate": 2, "gold.bpm_trends": 1}
