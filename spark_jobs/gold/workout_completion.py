"""`gold.workout_completion`: one row is a day, gym and age band.

Key: workout_date, gym_id (NULL: outside of any visit), age_band. From `silver.workout_sessions` (those with a start,
by its UTC day), `silver.gym_visits` (the visit in which a session starts) and `silver.user_profile`. A day is
recomputed as a whole, so a session that changes its gym or band leaves the row where it was counted before.
"""

from __future__ import annotations

import sys

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs import job, rules
from spark_jobs.gold.touches import members_of_changed_profiles, sessions_of_members, sessions_of_visits
from spark_jobs.incremental import Changes, Table, run_table
from spark_jobs.slices import Slice

SESSIONS, VISITS, PROFILES = "silver.workout_sessions", "silver.gym_visits", "silver.user_profile"
STARTED = "started_at IS NOT NULL"


def completion(sessions: DataFrame, visits: DataFrame, profiles: DataFrame) -> DataFrame:
    """All sessions that start on some days, and the visits and profiles of their members -> rates of these days."""
    day = F.to_date("started_at")
    born = profiles.select("user_id", "date_of_birth")
    of_day = (
        rules.visit_of_session(sessions.where(STARTED), visits)
        .join(born, "user_id", "left")
        .groupBy(day.alias("workout_date"), "gym_id", rules.age_band(F.col("date_of_birth"), day).alias("age_band"))
    )
    return of_day.agg(
        F.count("*").alias("started"),
        *(F.count_if(F.col("status") == status).alias(status) for status in ("completed", "abandoned", "open")),
    ).withColumn("completion_rate", F.col("completed") / F.col("started"))


def touched(changes: Changes) -> list[DataFrame]:
    sessions = changes.job.table(SESSIONS).where(STARTED)
    frames = []
    if (feed := changes.of(SESSIONS)) is not None:
        frames.append(feed.where(STARTED))
    if (feed := changes.of(VISITS)) is not None:
        frames.append(sessions_of_visits(sessions, feed))
    if (feed := changes.of(PROFILES)) is not None:
        frames.append(sessions_of_members(sessions, members_of_changed_profiles(feed, "date_of_birth")))
    return [frame.select(F.to_date("started_at").alias("workout_date")) for frame in frames]


def rows(run: job.Job, keys: Slice) -> DataFrame:
    sessions = run.table(SESSIONS).where(keys.on_days("started_at", "workout_date"))
    on_the_day = keys.among(sessions.withColumn("workout_date", F.to_date("started_at")), "workout_date")
    visits = run.table(VISITS).where(keys.meeting_days("login_at", "logout_at", "workout_date"))
    return completion(on_the_day, visits, run.table(PROFILES))


TABLE = Table(
    name="gold.workout_completion",
    key=("workout_date",),
    row_key=("workout_date", "gym_id", "age_band"),
    clustering=("workout_date",),
    sources={SESSIONS: "TRUE", VISITS: "user_id IS NOT NULL", PROFILES: "TRUE"},
    touched=touched,
    rows=rows,
)


def main(argv: list[str]) -> int:
    return run_table(TABLE, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
