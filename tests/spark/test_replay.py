"""A replay takes in what the present rules accept, once, and says what became of each record."""

from __future__ import annotations

from typing import Any

import pytest

from spark_jobs.declarations import register
from spark_jobs.ops import quarantine_replay
from spark_jobs.platform import Platform
from tests.oracle import VisitVersion, World
from tests.oracle.facts import HOUR, at
from tests.spark.pipeline import Pipeline

GOOD = b'{"user_id": 7, "workout_id": 1, "session_id": 1, "action": "start", "timestamp": 1700000000.0}'
BAD = b'{"user_id": "7"}'
NOON = at("2024-01-05T12:00:00")


def refused_earlier(pipeline: Pipeline, topic: str, offset: int, value: bytes) -> None:
    """A record that stricter rules have put into quarantine."""
    columns = pipeline.spark.table("spark_catalog.ops.quarantine").schema
    row = {"source": "kafka", "topic": topic, "partition": 0, "offset": offset, "reason": "wrong_type", "value": value}
    found = pipeline.rows("bronze.kafka_multiplex")[0]["ingested_at"]
    told = tuple(found if name == "first_seen_at" else row.get(name) for name in columns.names)
    pipeline.spark.createDataFrame([told], columns).writeTo("spark_catalog.ops.quarantine").append()


def status(pipeline: Pipeline) -> list[tuple[Any, ...]]:
    register(pipeline.spark, Platform(str(pipeline.lake)), "spark_catalog", "ops.quarantine_status")
    rows = pipeline.rows("ops.quarantine_status")
    return sorted((row["topic"] or row["source"], row["offset"], row["is_accepted"], row["replays"]) for row in rows)


def test_what_is_accepted_now_is_taken_in_once_and_the_rest_is_refused_again(pipeline: Pipeline) -> None:
    pipeline.produce("workout", [BAD])
    pipeline.run("silver.workout_events")
    pipeline.produce("workout", [GOOD])  # arrived under rules that refused it
    refused_earlier(pipeline, "workout", 1, GOOD)

    pipeline.run("ops.quarantine_replay", "--label", "workout")
    assert status(pipeline) == [("workout", 0, False, 0), ("workout", 1, False, 0)], "a dry run writes nothing"
    assert pipeline.rows("silver.workout_events") == []

    pipeline.run("ops.quarantine_replay", "--label", "workout", "--dry-run", "false")
    assert status(pipeline) == [("workout", 0, False, 1), ("workout", 1, True, 1)]
    assert [row["user_id"] for row in pipeline.rows("silver.workout_events")] == [7]

    pipeline.run("ops.quarantine_replay", "--label=workout", "--reason=", "--first-day=", "--dry-run=False")
    assert status(pipeline) == [("workout", 0, False, 2), ("workout", 1, True, 1)], "what is accepted is done"
    assert len(pipeline.rows("silver.workout_events")) == 1


def test_a_visit_is_judged_by_its_row_version(pipeline: Pipeline) -> None:
    pipeline.land(
        World(visits=[VisitVersion(1, "mac", 7, NOON, NOON - HOUR, 5), VisitVersion(2, "mac", 7, None, None, 5)])
    )
    pipeline.run("silver.gym_visits")
    pipeline.run(
        "ops.quarantine_replay", "--label", "app.gym_visits", "--reason", "ends_before_start", "--dry-run", "false"
    )
    outcomes = pipeline.rows("ops.quarantine_outcomes")
    assert [(row["key"], row["outcome"], row["reason"]) for row in outcomes] == [(b"1", "refused", "ends_before_start")]


def test_a_reading_that_conflicts_still_does(pipeline: Pipeline) -> None:
    said = [b'{"device_id":1,"time":1700000000,"heartrate":%d}' % bpm for bpm in (60, 70)]
    pipeline.produce("bpm", said)
    pipeline.spark.sql("INSERT INTO spark_catalog.silver.heart_rate VALUES (1, '2023-11-14T22:13:20Z', 60.0)").collect()
    refused_earlier(pipeline, "bpm", 1, said[1])
    pipeline.run("ops.quarantine_replay", "--label", "bpm", "--dry-run", "false")
    assert [row["reason"] for row in pipeline.rows("ops.quarantine_outcomes")] == ["conflicting_reading"]


def test_an_unknown_reason_is_no_choice(pipeline: Pipeline) -> None:
    with pytest.raises(SystemExit):
        quarantine_replay.arguments().parse_args(["--catalog", "c", "--reason", "no_such_reason"])
