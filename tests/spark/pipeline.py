"""All batch jobs of silver and gold in their order, in this process, on one folder as the lake.

Sources are fed by writing bronze (and for readings `silver.heart_rate`, which the stream fills) as intake would.
"""

from __future__ import annotations

import functools
import importlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pyspark.sql import Row, SparkSession

from spark_jobs.declarations import declared, register
from spark_jobs.platform import Platform
from tests.oracle import ProfileChange, Reading, RegistrationVersion, VisitVersion, WorkoutEvent, World
from tests.oracle.facts import PROFILE_FIELDS, instant

SILVER = (
    "users",
    "user_devices",
    "user_profile_changes",
    "user_profile",
    "user_profile_history",
    "gym_visits",
    "workout_events",
    "workout_sessions",
    "workout_heart_rate",
)
GOLD = ("workout_summary", "workout_completion", "gym_activity", "user_activity")
JOBS = (*(f"silver.{name}" for name in SILVER), *(f"gold.{name}" for name in GOLD))
NOW = datetime(2024, 3, 2, 12, tzinfo=UTC)
ARRIVAL = datetime(2024, 3, 2, 11, tzinfo=UTC)

REGISTRATIONS = """user_id BIGINT, device_id BIGINT, mac_address STRING, registered_at TIMESTAMP, row_version BIGINT,
    is_deleted BOOLEAN, ingested_at TIMESTAMP"""
VISITS = """visit_id BIGINT, mac_address STRING, gym_id BIGINT, login_at TIMESTAMP, logout_at TIMESTAMP,
    row_version BIGINT, is_deleted BOOLEAN, ingested_at TIMESTAMP"""
RECORDS = """topic STRING, partition INT, offset BIGINT, kafka_timestamp TIMESTAMP, key BINARY, value BINARY,
    headers ARRAY<STRUCT<key: STRING, value: BINARY>>, ingested_at TIMESTAMP, event_date DATE"""
READINGS = "device_id BIGINT, read_at TIMESTAMP, bpm DOUBLE"


@dataclass
class Pipeline:
    """`tables`: those that are there from the start; by default all. A job makes its own."""

    spark: SparkSession
    home: Path
    tables: Sequence[str] = (*declared(), "gold.member_bpm_trends")
    offsets: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.forget()
        if self.tables:
            empty = Path(_empty_lake(self.spark).name)
            for folder in (table.replace(".", "/") for table in self.tables):
                if (empty / folder).exists():  # a view has none
                    shutil.copytree(empty / folder, self.lake / folder)
        register(self.spark, Platform(str(self.lake)), "spark_catalog", *self.tables)

    @property
    def lake(self) -> Path:
        return self.home / "lake"

    def forget(self) -> None:
        """Drop all tables, so that another lake can have their names; their files go with the schema."""
        for schema in ("bronze", "silver", "gold", "ops"):
            self.spark.sql(f"DROP SCHEMA IF EXISTS spark_catalog.{schema} CASCADE")

    def run(self, job: str, *arguments: str, now: datetime = NOW) -> None:
        module = importlib.import_module(f"spark_jobs.{job}")
        common = ["--catalog", "spark_catalog", "--storage-root", str(self.lake), "--now", now.isoformat()]
        assert module.main([*common, *arguments]) == 0

    def run_all(self, *arguments: str, now: datetime = NOW, jobs: Sequence[str] = JOBS) -> None:
        for job in jobs:
            self.run(job, *arguments, now=now)

    def rows(self, table: str) -> list[Row]:
        """All rows, times aware of UTC."""
        return self.spark.table(f"spark_catalog.{table}").toArrow().to_pylist()

    def versions(self) -> dict[str, int]:
        """The version of each table of silver and gold."""
        tables = [table for table in declared() if table.startswith(("silver.", "gold."))]
        return {
            table: len(list((self.lake / table.replace(".", "/") / "_delta_log").glob("*.json"))) for table in tables
        }

    def outcome(self, job: str) -> dict[str, Any]:
        """What the job said last of itself."""
        said = [row for row in self.rows("ops.job_runs") if row["job"] == job]
        return max(said, key=lambda row: row["ended_at"])

    def write(self, table: str, rows: Iterable[tuple[Any, ...]], schema: str) -> None:
        given = list(rows)
        if given:
            self.spark.createDataFrame(given, schema).writeTo(f"spark_catalog.{table}").append()

    def produce(self, topic: str, values: Iterable[bytes | None], key: bytes | None = None) -> None:
        """Records of one partition of a topic, as they stand in bronze."""
        first = self.offsets.get(topic, 0)
        rows = [
            (topic, 0, first + number, ARRIVAL, key, value, [], ARRIVAL, ARRIVAL.date())
            for number, value in enumerate(values)
        ]
        self.offsets[topic] = first + len(rows)
        self.write("bronze.kafka_multiplex", rows, RECORDS)

    def land(self, world: World) -> None:
        """Let all that a world's sources say arrive, in the order given."""
        self.write("bronze.registrations", map(registration_row, world.registrations), REGISTRATIONS)
        self.write("bronze.gym_visits", map(visit_row, world.visits), VISITS)
        self.produce("user_profile", map(profile_message, world.profile_changes))
        self.produce("workout", map(workout_message, world.workout_events))
        self.write("silver.heart_rate", map(_reading, world.readings), READINGS)


@functools.cache
def _empty_lake(spark: SparkSession) -> tempfile.TemporaryDirectory[str]:
    """All tables as they are when just made: to copy and register them takes an eighth of the time of making them."""
    kept = tempfile.TemporaryDirectory(prefix="fitness-empty-lake-")
    with tempfile.TemporaryDirectory() as folder:
        made = Pipeline(spark, Path(folder), tables=())
        register(spark, Platform(str(made.lake)), "spark_catalog", *declared())
        shutil.copytree(made.lake, kept.name, dirs_exist_ok=True)
        made.forget()
    return kept


def registration_row(version: RegistrationVersion) -> tuple[Any, ...]:
    said = (version.user_id, version.device_id, version.mac_address, instant(version.registered_at))
    return (*said, version.row_version, version.is_deleted, ARRIVAL)


def visit_row(version: VisitVersion) -> tuple[Any, ...]:
    login = None if version.login_at is None else instant(version.login_at)
    logout = None if version.logout_at is None else instant(version.logout_at)
    said = (version.visit_id, version.mac_address, version.gym_id, login, logout)
    return (*said, version.row_version, version.is_deleted, ARRIVAL)


def _reading(reading: Reading) -> tuple[Any, ...]:
    return reading.device_id, instant(reading.read_at), reading.bpm


def workout_message(event: WorkoutEvent) -> bytes:
    message = event._asdict()
    seconds, micros = divmod(message.pop("occurred_at"), 1_000_000)
    return json.dumps(message).replace("}", f', "timestamp": {seconds}.{micros:06d}}}').encode()


def profile_message(change: ProfileChange) -> bytes:
    """The change as Debezium's PostgreSQL connector tells it (dates as days, zoned timestamps as text)."""
    image: dict[str, Any] = {"user_id": change.user_id}
    for name in PROFILE_FIELDS:
        image[name] = getattr(change, name)
    if change.date_of_birth:
        image["date_of_birth"] = (change.date_of_birth - date(1970, 1, 1)).days
    changed_at = None if change.changed_at is None else instant(change.changed_at)
    image["changed_at"] = changed_at and changed_at.isoformat().replace("+00:00", "Z")
    committed = change.committed_at if change.committed_at is not None else change.changed_at
    deleted = change.op == "d"
    source = {"connector": "postgresql", "lsn": change.position[0], "ts_us": committed, "ts_ms": committed // 1000}
    return json.dumps(
        {"before": image if deleted else None, "after": None if deleted else image, "source": source, "op": change.op}
    ).encode()
