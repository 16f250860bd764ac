"""What the stream tells of a stretch of batches in `ops.stream_progress`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from pyspark.sql import SparkSession

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
    stretch.write_when_due(offsets(20, 20), at_once=True)

    told: list[dict[str, Any]] = []
    for row in sorted(pipeline.rows("ops.stream_progress"), key=lambda row: row["first_batch"]):
        maps = {name: dict(row[name]) for name in ("start_offsets", "end_offsets", "durations_ms")}
        told.append({**row, **maps})
    first, second = told
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
