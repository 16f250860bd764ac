"""`gold.workout_summary`: one row is a completed session, also one without readings.

Key: user_id, workout_id, session_id. From `silver.workout_sessions`, `silver.workout_heart_rate`, `silver.gym_visits`
(the visit in which it starts) and `silver.user_profile` (as it is now; only the age is that of the day).
"""

from __future__ import annotations

import sys

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_jobs import job, rules
from spark_jobs.gold.touches import members_of_changed_profiles, sessions_of_members, sessions_of_visits
from spark_jobs.incremental import Changes, Table, run_table
from spark_jobs.rules import LONGEST_SESSION, SESSION, THREE_HOURS
from spark_jobs.slices import Slice

SESSIONS, READINGS = "silver.workout_sessions", "silver.workout_heart_rate"
VISITS, PROFILES = "silver.gym_visits", "silver.user_profile"
COMPLETED = "status = 'completed'"
FIRST_TIME = "TIMESTAMP'2000-01-01 00:00:00Z'"  # nothing is older


def summaries(sessions: DataFrame, readings: DataFrame, visits: DataFrame, profiles: DataFrame) -> DataFrame:
    """Completed sessions, their readings, and the visits and profiles of their members -> summaries."""
    beats = readings.groupBy(*SESSION).agg(
        F.min("bpm").alias("min_bpm"),
        rules.average(F.col("bpm")).alias("avg_bpm"),
        F.max("bpm").alias("max_bpm"),
        F.count("bpm").alias("readings"),
    )
    profile = profiles.select("user_id", "date_of_birth", "gender", "city", "state")
    return (
        rules.visit_of_session(sessions, visits)
        .join(beats, [*SESSION], "left")
        .join(profile, "user_id", "left")
        .select(
            *SESSION,
            "started_at",
            "ended_at",
            rules.minutes(rules.micros_between(F.col("started_at"), F.col("ended_at"))).alias("minutes_exercising"),
            "min_bpm",
            "avg_bpm",
            "max_bpm",
            F.coalesce("readings", F.lit(0)).alias("readings"),
            "gym_id",
            rules.age_band(F.col("date_of_birth"), F.to_date("started_at")).alias("age_band"),
            "gender",
            "city",
            "state",
        )
    )


def touched(changes: Changes) -> list[DataFrame]:
    run = changes.job
    sessions = run.table(SESSIONS).where(COMPLETED)
    keyed: list[Column | str] = [*SESSION, F.col("started_at").alias("since"), F.col("started_at").alias("until")]
    frames = []
    if (feed := changes.of(SESSIONS)) is not None:
        frames.append(feed.where(COMPLETED).select(*keyed))
    if (feed := changes.of(READINGS)) is not None:
        # One that lost readings may have moved, and this table may know that already: then it is somewhere else.
        moved = F.max(F.col("_change_type") == "delete")
        begins = F.min(F.expr(f"read_at - {LONGEST_SESSION}"))
        since, until = F.when(moved, F.expr(FIRST_TIME)).otherwise(begins), F.when(~moved, F.max("read_at"))
        frames.append(feed.groupBy(*SESSION).agg(since.alias("since"), until.alias("until")))
    if (feed := changes.of(VISITS)) is not None:
        frames.append(sessions_of_visits(sessions, feed).select(*keyed))
    if (feed := changes.of(PROFILES)) is not None:
        members = members_of_changed_profiles(feed, "date_of_birth", "gender", "city", "state")
        frames.append(sessions_of_members(sessions, members).select(*keyed))
    return frames


def rows(run: job.Job, keys: Slice) -> DataFrame:
    sessions = run.table(SESSIONS).where(COMPLETED).where(keys.within("started_at", "since", "until"))
    readings = run.table(READINGS).where(keys.within("read_at", "since", "until", longer=THREE_HOURS))
    visits = run.table(VISITS).where(keys.overlapping("login_at", "logout_at", "since", "until"))
    return summaries(
        keys.among(sessions, *SESSION),
        keys.among(readings, *SESSION),
        visits.where(keys.within("user_id")),
        run.table(PROFILES).where(keys.within("user_id")),
    )


TABLE = Table(
    name="gold.workout_summary",
    key=SESSION,
    row_key=SESSION,
    clustering=("user_id", "started_at"),
    sources={SESSIONS: "TRUE", READINGS: "TRUE", VISITS: "user_id IS NOT NULL", PROFILES: "TRUE"},
    touched=touched,
    rows=rows,
    time="started_at",
)


def main(argv: list[str]) -> int:
    return run_table(TABLE, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
