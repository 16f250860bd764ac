"""Kafka's records on their way into bronze, with a folder of files in Kafka's place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame

from spark_jobs import job
from spark_jobs.bronze import kafka_multiplex
from tests.spark.pipeline import Pipeline

MORE = ("--bootstrap-servers", "none", "--topics", "workout,user_profile")


def take_in(pipeline: Pipeline) -> None:
    pipeline.run("bronze.kafka_multiplex", "--checkpoint-root", str(pipeline.home / "checkpoints"), *MORE)


@pytest.fixture
def topic(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each file in it is a batch of records."""
    folder = tmp_path / "topic"
    folder.mkdir()
    schema = pipeline.spark.table("spark_catalog.bronze.kafka_multiplex").schema

    def records(run: job.Job) -> DataFrame:
        return run.spark.readStream.schema(schema).option("maxFilesPerTrigger", 1).parquet(str(folder))

    monkeypatch.setattr(kafka_multiplex, "records", records)
    monkeypatch.setattr(kafka_multiplex, "offsets", lambda ends: {})
    return folder


def say(pipeline: Pipeline, topic: Path, *numbers: int) -> None:
    rows = pipeline.spark.createDataFrame([(number,) for number in numbers], "offset BIGINT").selectExpr(
        "'workout' AS topic", "0 AS partition", "offset", "current_timestamp() AS kafka_timestamp",
        "CAST(NULL AS BINARY) AS key", "CAST('{}' AS BINARY) AS value",
        "CAST(array() AS ARRAY<STRUCT<key: STRING, value: BINARY>>) AS headers",
        "current_timestamp() AS ingested_at", "current_date() AS event_date",
    )  # fmt: skip
    rows.coalesce(1).write.mode("append").parquet(str(topic))


def held(pipeline: Pipeline) -> list[int]:
    return sorted(row["offset"] for row in pipeline.rows("bronze.kafka_multiplex"))


def checkpoint(pipeline: Pipeline) -> Path:
    return pipeline.home / "checkpoints" / "bronze.kafka_multiplex"


def test_a_new_checkpoint_takes_what_bronze_lacks_and_nothing_twice(pipeline: Pipeline, topic: Path) -> None:
    say(pipeline, topic, 0, 1)
    take_in(pipeline)
    say(pipeline, topic, 2)
    take_in(pipeline)
    assert held(pipeline) == [0, 1, 2]
    pipeline.spark.sql("DELETE FROM bronze.kafka_multiplex WHERE offset = 1")
    checkpoint(pipeline).rename(checkpoint(pipeline).with_name("before"))
    say(pipeline, topic, 3)
    take_in(pipeline)
    assert held(pipeline) == [0, 1, 2, 3]


def test_a_new_checkpoint_that_was_not_read_to_its_end_goes_on_the_same_way(
    pipeline: Pipeline, topic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        say(pipeline, topic, number)
    take_in(pipeline)
    checkpoint(pipeline).rename(checkpoint(pipeline).with_name("before"))

    def dies(self: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(kafka_multiplex.Beginning, "over", dies)
    with pytest.raises(KeyboardInterrupt):
        take_in(pipeline)
    monkeypatch.undo()
    assert not kafka_multiplex.Beginning(str(checkpoint(pipeline))).is_past


def test_a_checkpoint_of_a_time_without_notes_is_past_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "metadata").write_text("{}")
    assert kafka_multiplex.Beginning(str(tmp_path)).is_past
    assert not kafka_multiplex.Beginning(str(tmp_path / "new")).is_past
