"""What the stream tells of a stretch of batches in `ops.stream_progress`."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import SparkSession

from spark_jobs.streaming import bpm
from spark_jobs.streaming.batch import Report
from spark_jobs.streaming.bpm import Stretch
from tests.spark.pipeline import Pipeline

BEGUN = datetime(2024, 3, 2, 12, 0, 0, 123456, tzinfo=UTC)
FRONT = datetime(1999, 5, 1, 2, 3, 4, 987654, tzinfo=UTC)


def report(number: int, front: datetime | None) -> Report:
    begun = BEGUN + timedelta(seconds=2 * number)
    rows = {"in": 5, "accepted": 3, "duplicate": 1, "quarantined": 1}
    return Report(number, begun, rows, {"parse": 12, "judge": 5}, front, begun + timedelta(seconds=1))


def offsets(end: int | None, latest: int | None) -> dict[str, Any]:
    return {
        "end_offsets": None if end is None else {"bpm": {"0": end}},
        "latest_offsets": None if latest is None else {"bpm": {"0": latest}},
    }


def test_a_stretch_is_a_row_and_the_next_begins_where_it_ended(spark: SparkSession, pipeline: Pipeline) -> None:
    job: Any = SimpleNamespace(spark=spark, catalog="spark_catalog", register=lambda table: None)
    heart: Any = SimpleNamespace(run_id='run "1"', version="v", epoch=3)
    stretch = Stretch(job, heart)
    stretch.add(report(0, FRONT))
    stretch.add(report(1, None))
    stretch.write_when_due(offsets(10, 13), at_once=True)
    stretch.add(report(2, None))
    stretch.write_when_due(offsets(None, None), at_once=True)
    for _again in range(2):
        stretch.write_when_due(offsets(20, 20), at_once=True)  # said when the batch is no news any more

    told: list[dict[str, Any]] = []
    for row in sorted(pipeline.rows("ops.stream_progress"), key=lambda row: row["ended_at"]):
        maps = {name: dict(row[name]) for name in ("start_offsets", "end_offsets", "durations_ms")}
        told.append({**row, **maps})
    first, second, third = told
    assert first == {
        "query": "bpm",
        "run_id": 'run "1"',
        "version": "v",
        "epoch": 3,
        "first_batch": 0,
        "last_batch": 1,
        "started_at": BEGUN,
        "ended_at": BEGUN + timedelta(seconds=3),
        "rows_in": 10,
        "rows_accepted": 6,
        "rows_duplicate": 2,
        "rows_quarantined": 2,
        "rows_per_second": 10 / 3,
        "start_offsets": {},
        "end_offsets": {"bpm-0": 10},
        "lag": 3,
        "max_event_time": FRONT,
        "max_batch_seconds": 1.0,
        "durations_ms": {"parse": 24, "judge": 10},
    }
    assert second["start_offsets"] == {"bpm-0": 10} and second["end_offsets"] == {}
    assert (second["lag"], second["max_event_time"]) == (None, None)
    assert (third["last_batch"], third["rows_in"], third["end_offsets"], third["lag"]) == (2, 0, {"bpm-0": 20}, 0)


def test_a_run_that_finds_nothing_to_read_says_how_far_the_one_before_it_came(
    spark: SparkSession, pipeline: Pipeline
) -> None:
    job: Any = SimpleNamespace(spark=spark, catalog="spark_catalog", register=lambda table: None)
    stretch = Stretch(job, SimpleNamespace(run_id="1", version="v", epoch=3))  # type: ignore[arg-type]
    stretch.write_when_due(offsets(None, None), at_once=True)
    stretch.write_when_due(offsets(7, 7), at_once=True)
    [row] = pipeline.rows("ops.stream_progress")
    assert (row["first_batch"], row["last_batch"], dict(row["end_offsets"])) == (-1, -1, {"bpm-0": 7})


def test_the_heart_does_not_wait_for_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpm, "PROGRESS_SECONDS", 0.0)
    busy = threading.Event()
    job: Any = SimpleNamespace(spark=None, catalog="c", register=lambda table: bool(busy.wait(60)))
    stretch = Stretch(job, SimpleNamespace(run_id="1", version="v", epoch=3))  # type: ignore[arg-type]
    for number in range(2):
        stretch.add(report(number, None))
        stretch.write_when_due(offsets(10, 13))  # returns; and while one is written no other is
    assert [told.number for told in stretch._reports] == [1]
    busy.set()
    stretch.write_when_due(offsets(10, 13), at_once=True)
    assert not stretch._writer.is_alive() and not stretch._reports


def test_a_stretch_is_recorded_also_while_the_batch_after_it_is_under_way(
    spark: SparkSession, pipeline: Pipeline
) -> None:
    """A batch's writes have its number, and Delta leaves out what comes with a number that has been."""
    job: Any = SimpleNamespace(spark=spark, catalog="spark_catalog", register=lambda table: None)
    stretch = Stretch(job, SimpleNamespace(run_id="1", version="v", epoch=3))  # type: ignore[arg-type]
    transaction = {"spark.databricks.delta.write.txnAppId": "bpm-1", "spark.databricks.delta.write.txnVersion": "7"}
    for setting, value in transaction.items():
        spark.conf.set(setting, value)
    try:
        for number in (6, 7):
            stretch.add(report(number, None))
            stretch.write_when_due(offsets(10, 13), at_once=True)
    finally:
        for setting in transaction:
            spark.conf.unset(setting)
    assert sorted(row["last_batch"] for row in pipeline.rows("ops.stream_progress")) == [6, 7]
