"""`silver.workout_heart_rate`: one row is a reading inside a completed session.

Key: user_id, workout_id, session_id, read_at. From `silver.workout_sessions`, `silver.user_devices` and
`silver.heart_rate`: readings of the device that the member wore at that time, with started_at < read_at <= ended_at (a
reading speaks for the second before it). In overlapping sessions a reading counts in each.
"""

from __future__ import annotations

import sys

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_jobs import job
from spark_jobs.incremental import Changes, Table, run_table
from spark_jobs.rules import SESSION
from spark_jobs.slices import Slice

SESSIONS, DEVICES, READINGS = "silver.workout_sessions", "silver.user_devices", "silver.heart_rate"
COMPLETED = "status = 'completed'"


def worn_in(sessions: DataFrame, devices: DataFrame) -> DataFrame:
    """Completed sessions and periods of devices -> which device counts when: the session's key, device_id, after
    (exclusive, NULL if the device was put on later), since, until (inclusive), before (exclusive, or NULL)."""
    session, device = sessions.where(COMPLETED).alias("session"), devices.alias("device")
    meets = (
        (F.col("session.user_id") == F.col("device.user_id"))
        & (F.col("device.valid_from") <= F.col("session.ended_at"))
        & (F.col("device.valid_to").isNull() | (F.col("session.started_at") < F.col("device.valid_to")))
    )
    return session.join(device, meets).select(
        *(F.col(f"session.{column}") for column in SESSION),
        "device.device_id",
        F.col("session.started_at").alias("after"),
        F.greatest("session.started_at", "device.valid_from").alias("since"),
        F.col("session.ended_at").alias("until"),
        F.col("device.valid_to").alias("before"),
    )


def readings_in(worn: DataFrame, readings: DataFrame) -> DataFrame:
    """Which device counts when, and readings -> the readings of each session."""
    # an hour that both have makes the join an equality; a session meets at most five hours
    hours = F.explode(
        F.sequence(F.date_trunc("hour", "since"), F.date_trunc("hour", "until"), F.expr("INTERVAL 1 HOUR"))
    )
    period = worn.withColumn("hour", hours).alias("period")
    reading = readings.withColumn("hour", F.date_trunc("hour", "read_at")).alias("reading")
    inside = (
        (F.col("period.device_id") == F.col("reading.device_id"))
        & (F.col("period.hour") == F.col("reading.hour"))
        & (F.col("reading.read_at") > F.col("period.after"))
        & F.col("reading.read_at").between(F.col("period.since"), F.col("period.until"))
        & (F.col("period.before").isNull() | (F.col("reading.read_at") < F.col("period.before")))
    )
    return reading.join(period, inside).select(
        *(F.col(f"period.{column}") for column in SESSION), "reading.read_at", "reading.bpm"
    )


def touched(changes: Changes) -> list[DataFrame]:
    sessions, devices = changes.job.table(SESSIONS).where(COMPLETED), changes.job.table(DEVICES)
    keyed: list[Column | str] = [*SESSION, F.col("started_at").alias("since"), F.col("ended_at").alias("until")]
    frames = []
    if (feed := changes.of(SESSIONS)) is not None:
        frames.append(feed.where(COMPLETED).select(*keyed))
    if (feed := changes.of(DEVICES)) is not None:
        periods = Slice.of(feed.select("user_id", "valid_from", "valid_to"))
        met = sessions.where(periods.overlapping("started_at", "ended_at", "valid_from", "valid_to"))
        frames.append(periods.among(met, "user_id").select(*keyed))
    if (feed := changes.of(READINGS)) is not None:
        hourly = feed.groupBy("device_id", F.date_trunc("hour", "read_at").alias("hour"))
        read = Slice.of(hourly.agg(F.min("read_at").alias("first"), F.max("read_at").alias("last")), unique=True)
        worn = worn_in(
            sessions.where(read.overlapping("started_at", "ended_at", "first", "last")),
            devices.where(read.within("device_id")),
        )
        if read.frame is not None:
            frames.append(
                worn.alias("worn")
                .join(
                    read.frame.alias("read"),
                    F.expr("worn.device_id = read.device_id AND since <= read.last AND until >= read.first"),
                )
                .select(*SESSION, F.col("after").alias("since"), "until")
            )
    return frames


def rows(run: job.Job, keys: Slice) -> DataFrame:
    sessions = run.table(SESSIONS).where(keys.within("started_at", "since", "until"))
    worn = worn_in(keys.among(sessions, *SESSION), run.table(DEVICES).where(keys.within("user_id")))
    readings = run.table(READINGS)
    if not keys.is_everything:
        periods = Slice.of(worn, unique=True)
        assert periods.frame is not None
        worn = periods.frame
        readings = readings.where(periods.within("device_id")).where(periods.within("read_at", "since", "until"))
    return readings_in(worn, readings)


TABLE = Table(
    name="silver.workout_heart_rate",
    key=SESSION,
    row_key=(*SESSION, "read_at"),
    clustering=("user_id", "read_at"),
    sources={SESSIONS: "TRUE", DEVICES: "TRUE", READINGS: "TRUE"},
    touched=touched,
    rows=rows,
    time="read_at",
)


def main(argv: list[str]) -> int:
    return run_table(TABLE, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
