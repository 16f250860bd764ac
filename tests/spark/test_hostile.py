"""Thousands of messages that nobody would send: each judged as the oracle does, none lost, none counted twice."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from spark_jobs.messages import parse_profile_changes, parse_readings, parse_workouts
from spark_jobs.streaming import readings
from spark_jobs.streaming.batch import Batch
from spark_jobs.streaming.limits import RefusalLimit
from tests.hostile import corpus
from tests.oracle import ProfileChange, World, differences, expected_tables
from tests.oracle.facts import PROFILE_FIELDS, Reading, Refusal, WorkoutEvent, instant
from tests.oracle.messages import ToldChange, judge_profile_change, judge_reading, judge_workout
from tests.oracle.tables import KEYS
from tests.spark.pipeline import NOW, Pipeline
from tests.spark.test_messages import judged
from tests.spark.test_stream_batch import SCHEMA, expected, found, records

ROUNDS = int(os.environ.get("FITNESS_WORLDS", 1))
MESSAGES = 2_000
ARRIVED_MICROS = int(datetime(2024, 3, 2, 12, tzinfo=UTC).timestamp()) * 1_000_000

Judge = Callable[[bytes | None], Any]
PARSERS: dict[str, tuple[str, Callable[[DataFrame], DataFrame], Judge]] = {
    "readings": ("bpm", parse_readings, lambda value: judge_reading(value, ARRIVED_MICROS)),
    "readings by the short cut": ("bpm", readings.parsed, lambda value: judge_reading(value, ARRIVED_MICROS)),
    "workouts": ("workout", parse_workouts, judge_workout),
    "profile changes": ("user_profile", parse_profile_changes, judge_profile_change),
}


@pytest.mark.parametrize("seed", range(ROUNDS))
@pytest.mark.parametrize("parser", PARSERS)
def test_every_message_is_judged_as_the_rules_say(spark: SparkSession, parser: str, seed: int) -> None:
    topic, parse, judge = PARSERS[parser]
    values = corpus(topic, seed, MESSAGES)
    rows = judged(spark, parse, {str(number): value for number, value in enumerate(values)})
    verdicts, wrong = Counter(), []
    for number, value in enumerate(values):
        wanted, row = said(judge(value)), told(topic, rows[str(number)])
        verdicts[wanted[wanted[0] == "refused"] if wanted else "tombstone"] += 1
        if wanted != row:
            wrong.append(f"{value!r:.600}\n  expected {wanted}\n  found    {row}")
    assert not wrong, f"{len(wrong)} of {len(values)}:\n" + "\n".join(wrong[:20])
    assert verdicts["accepted"] > MESSAGES / 5 and len(verdicts) > 8, "the corpus has become one-sided"


def said(verdict: Any) -> tuple[Any, ...] | None:
    """A verdict of the oracle in a form that rows can have too; None of a tombstone."""
    match verdict:
        case None:
            return None
        case Refusal():
            return ("refused", verdict.reason)
        case ToldChange():
            change = verdict.change
            fields = () if change.op == "d" else (change.changed_at, *(_text(change, name) for name in PROFILE_FIELDS))
            return ("accepted", change.op, change.user_id, change.committed_at, *fields)
        case Reading() | WorkoutEvent():
            return ("accepted", *verdict)
    raise TypeError(verdict)


def told(topic: str, row: dict[str, Any]) -> tuple[Any, ...] | None:
    """The same of a parsed row."""
    if row.get("is_tombstone"):
        return None
    if row["reason"] is not None:
        return ("refused", row["reason"])
    if topic == "bpm":
        return ("accepted", row["device_id"], _micros(row["read_at"]), row["bpm"])
    if topic == "workout":
        ids = (row["user_id"], row["workout_id"], row["session_id"])
        return ("accepted", *ids, row["action"], _micros(row["occurred_at"]))
    fields = () if row["op"] == "d" else (_micros(row["changed_at"]), *(row[name] for name in PROFILE_FIELDS))
    return ("accepted", row["op"], row["user_id"], _micros(row["committed_at"]), *fields)


def _text(change: ProfileChange, name: str) -> Any:
    """Half of a surrogate pair is no character: it is kept as a question mark."""
    value = getattr(change, name)
    return re.sub("[\ud800-\udfff]", "?", value) if isinstance(value, str) else value


def _micros(moment: datetime) -> int:
    since = moment - instant(0)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def test_jobs_account_for_every_message_in_any_parts_and_the_second_time_do_nothing(pipeline: Pipeline) -> None:
    workouts, changes = corpus("workout", 100, 1_000), corpus("user_profile", 100, 1_000)
    jobs = [
        "silver.user_profile_changes",
        "silver.user_profile",
        "silver.user_profile_history",
        "silver.workout_events",
        "silver.workout_sessions",
    ]
    sums: dict[str, Counter[str]] = {"workout": Counter(), "user_profile": Counter()}
    for first, end in ((0, 700), (700, 701), (701, None)):
        pipeline.produce("workout", workouts[first:end], key=b"\xff\x00'")
        pipeline.produce("user_profile", changes[first:end])
        pipeline.run_all(jobs=jobs)
        for label, job in (("workout", "silver.workout_events"), ("user_profile", "silver.user_profile_changes")):
            outcome = pipeline.outcome(job)
            for kind in ("in", "duplicate", "ignored", "quarantined"):
                sums[label][kind] += dict(outcome[f"rows_{kind}"])[label]
            sums[label]["accepted"] += dict(outcome["rows_out"]).get(job, 0)
    versions = pipeline.versions()
    pipeline.run_all(jobs=jobs)
    assert pipeline.versions() == versions

    verdicts = {
        "workout": [judge_workout(v) for v in workouts],
        "user_profile": [judge_profile_change(v) for v in changes],
    }
    refused = {
        (topic, offset): verdict.reason
        for topic, of_topic in verdicts.items()
        for offset, verdict in enumerate(of_topic)
        if isinstance(verdict, Refusal)
    }
    quarantine = pipeline.rows("ops.quarantine")
    assert {(row["topic"], row["offset"]): row["reason"] for row in quarantine} == refused
    assert len(quarantine) == len(refused)
    produced = {"workout": workouts, "user_profile": changes}
    assert all(row["value"] == produced[row["topic"]][row["offset"]] for row in quarantine)

    events = [verdict for verdict in verdicts["workout"] if isinstance(verdict, WorkoutEvent)]
    places = {(v.change.user_id, v.place) for v in verdicts["user_profile"] if isinstance(v, ToldChange)}
    for label, messages, rows in (("workout", workouts, len(set(events))), ("user_profile", changes, len(places))):
        count = sums[label]
        assert count["in"] == len(messages)
        assert count["accepted"] == rows
        assert count["ignored"] == (messages.count(None) if label == "user_profile" else 0)
        assert count["in"] == count["accepted"] + count["duplicate"] + count["ignored"] + count["quarantined"]

    wanted = expected_tables(World(workout_events=events), _micros(NOW))
    for table in ("silver.workout_events", "silver.workout_sessions"):
        assert not differences(table, wanted[table], pipeline.rows(table), KEYS[table])
    stored = Counter(row["user_id"] for row in pipeline.rows("silver.user_profile_changes"))
    assert stored == Counter(user_id for user_id, _ in places)


def test_the_stream_accounts_for_every_reading(spark: SparkSession, pipeline: Pipeline) -> None:
    rows = records(corpus("bpm", 100, 1_500))
    stream = Batch("spark_catalog", transaction="checkpoint", limit=RefusalLimit(minimum=10**9))
    total: Counter[str] = Counter()
    try:
        for number, batch in enumerate((rows[:900], rows[900:901], rows[901:])):
            parsed = readings.parsed(spark.createDataFrame(batch, SCHEMA)).localCheckpoint()
            total += Counter(stream.write(parsed, number).rows)
    finally:
        for setting in ("txnAppId", "txnVersion"):
            spark.conf.unset(f"spark.databricks.delta.write.{setting}")
    assert found(pipeline) == expected(rows)
    assert total["in"] == len(rows) == total["accepted"] + total["duplicate"] + total["quarantined"]
