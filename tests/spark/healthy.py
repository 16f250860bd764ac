"""A small lake in which all flows have reached gold and nothing is wrong: what quality jobs are tried on.

Members 1 to 12, each with a device, a profile, and on a day of its own a visit with one workout and five readings.
Besides: a workout message, a visit and a reading that are refused, a reading said twice, and one that conflicts.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

from spark_jobs.streaming import readings
from spark_jobs.streaming.batch import Batch
from tests.oracle import ProfileChange, RegistrationVersion, VisitVersion, WorkoutEvent, World
from tests.oracle.facts import DAY, HOUR, MINUTE, SECOND, at
from tests.spark.pipeline import ARRIVAL, Pipeline

MEMBERS = range(1, 13)
NEW_YEAR = at("2024-01-01")
RECORD = """topic STRING, partition INT, offset BIGINT, kafka_timestamp TIMESTAMP, key BINARY, value BINARY,
    headers ARRAY<STRUCT<key: STRING, value: BINARY>>"""
TRANSACTION = ("spark.databricks.delta.write.txnAppId", "spark.databricks.delta.write.txnVersion")


def begins(member: int) -> int:
    """When a member's workout begins."""
    return NEW_YEAR + member * DAY + 10 * HOUR


def world(members: range = MEMBERS) -> World:
    return World(
        [RegistrationVersion(m, 100 + m, f"mac-{m}", NEW_YEAR, m) for m in members],
        [VisitVersion(m, f"mac-{m}", 7, begins(m) - HOUR, begins(m) + HOUR, m) for m in members],
        [ProfileChange((m, 0), "c", m, NEW_YEAR, date_of_birth=date(1980, 5, 5), city="X") for m in members],
        [
            WorkoutEvent(m, 1, 1, action, begins(m) + offset)
            for m in members
            for action, offset in (("start", 0), ("stop", MINUTE))
        ],
    )


def reading(member: int, second: int, bpm: float) -> bytes:
    return json.dumps(
        {"device_id": 100 + member, "time": begins(member) // SECOND + second, "heartrate": bpm}, separators=(",", ":")
    ).encode()


def stream(pipeline: Pipeline, messages: list[bytes], number: int) -> None:
    """One batch of the stream, and its word that it is done."""
    first = pipeline.offsets.get("bpm", 0)
    moments = [ARRIVAL + timedelta(milliseconds=first + place) for place in range(len(messages))]
    rows = [("bpm", 0, first + place, moments[place], None, value, []) for place, value in enumerate(messages)]
    pipeline.offsets["bpm"] = end = first + len(rows)
    spark = pipeline.spark
    batch = Batch("spark_catalog", transaction="checkpoint")
    try:
        report = batch.write(readings.parsed(spark.createDataFrame(rows, RECORD)), number)
    finally:
        for setting in TRANSACTION:
            spark.conf.unset(setting)
    said = {"rows_in": "in"} | {f"rows_{name}": name for name in ("accepted", "duplicate", "quarantined")}
    row = {column: report.rows[name] for column, name in said.items()} | {
        "query": "bpm",
        "run_id": "stream",
        "first_batch": number,
        "last_batch": number,
        "started_at": report.started_at,
        "ended_at": datetime.now(UTC),
        "start_offsets": {"bpm-0": first},
        "end_offsets": {"bpm-0": end},
        "durations_ms": {},
    }
    schema = spark.table("spark_catalog.ops.stream_progress").schema
    told = tuple(row.get(name) for name in schema.names)
    spark.createDataFrame([told], schema).writeTo("spark_catalog.ops.stream_progress").append()


def fill(pipeline: Pipeline) -> None:
    pipeline.land(world())
    pipeline.land(World(visits=[VisitVersion(99, "mac-1", 7, begins(1), begins(1) - HOUR, 99)]))
    pipeline.produce("workout", [b'{"user_id":"1"}', b"\xff"])
    said = [reading(m, second, 60.5 + second) for m in MEMBERS for second in range(1, 6)]
    stream(pipeline, [*said, said[0], reading(2, 1, 99), b"no reading"], 0)
    pipeline.run_all()
