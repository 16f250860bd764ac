"""`gold.gym_activity`: one row is a day of a member, or of an unknown address, in a gym.

Key: activity_date (UTC day of login), gym_id, user_id (NULL: unknown), mac_address. From `silver.gym_visits` and
`silver.workout_sessions`. A visit's minutes count once, however many workouts it holds.
"""

from __future__ import annotations

import sys

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs import job, rules
from spark_jobs.incremental import Changes, Table, run_table
from spark_jobs.slices import Slice

VISITS, SESSIONS = "silver.gym_visits", "silver.workout_sessions"
KEY = ("activity_date", "gym_id", "user_id", "mac_address")
STARTED = "started_at IS NOT NULL"


def on_day(visits: DataFrame) -> DataFrame:
    return visits.withColumn("activity_date", F.to_date("login_at"))


def activity(visits: DataFrame, sessions: DataFrame, other_visits: DataFrame) -> DataFrame:
    """All visits of some days (KEY), the sessions that start in them, all visits in which these start -> activity."""
    exercised = F.when(F.col("status") == "completed", rules.micros_between(F.col("started_at"), F.col("ended_at")))
    of_visit = (
        rules.visit_of_session(sessions.where(STARTED), other_visits)
        .where("visit_id IS NOT NULL")
        .groupBy("visit_id")
        .agg(F.collect_set("workout_id").alias("workouts"), rules.total(exercised).alias("exercised"))
    )
    inside = rules.micros_between(F.col("login_at"), F.col("logout_at"))
    return (
        on_day(visits)
        .join(of_visit, "visit_id", "left")
        .groupBy(*KEY)
        .agg(
            F.count("*").alias("visits"),
            F.array_sort(F.array_distinct(F.flatten(F.collect_list("workouts")))).alias("workouts"),
            rules.minutes(rules.total(inside)).alias("minutes_in_gym"),
            rules.minutes(F.coalesce(F.sum("exercised"), F.lit(0))).alias("minutes_exercising"),
        )
    )


def touched(changes: Changes) -> list[DataFrame]:
    visits = changes.job.table(VISITS)
    frames = []
    if (feed := changes.of(VISITS)) is not None:
        frames.append(on_day(feed).select(*KEY))
        # a visit that comes or goes also takes sessions from other visits, or gives them back
        held = Slice.of(feed.where("user_id IS NOT NULL").select("user_id", "login_at", "logout_at"))
        if held.frame is not None and not held.is_nothing:
            near = visits.where(held.within("user_id"))
            near = near.where(held.overlapping("login_at", "logout_at", "login_at", "logout_at"))
            frames.append(on_day(near).select(*KEY))
    if (feed := changes.of(SESSIONS)) is not None:
        starts = Slice.of(feed.where(STARTED).select("user_id", "started_at"))
        if starts.frame is not None and not starts.is_nothing:
            near = visits.where(starts.within("user_id"))
            near = near.where(starts.overlapping("login_at", "logout_at", "started_at", "started_at"))
            inside = F.expr(
                "visit.user_id = start.user_id AND login_at <= started_at"
                " AND (logout_at IS NULL OR started_at < logout_at)"
            )
            frames.append(
                on_day(near.alias("visit").join(starts.frame.alias("start"), inside, "left_semi")).select(*KEY)
            )
    return frames


def rows(run: job.Job, keys: Slice) -> DataFrame:
    all_visits, sessions = run.table(VISITS), run.table(SESSIONS)
    near = all_visits.where(keys.on_days("login_at", "activity_date")).where(keys.within("user_id"))
    visits = keys.among(on_day(near), *KEY).drop("activity_date")
    if keys.is_everything:
        return activity(visits, sessions, all_visits)
    held = Slice.of(visits.where("user_id IS NOT NULL").select("user_id", "login_at", "logout_at"))
    return activity(
        visits,
        sessions.where(held.within("user_id")).where(held.within("started_at", "login_at", "logout_at")),
        all_visits.where(held.within("user_id")).where(
            held.overlapping("login_at", "logout_at", "login_at", "logout_at")
        ),
    )


TABLE = Table(
    name="gold.gym_activity",
    key=KEY,
    row_key=KEY,
    clustering=("user_id", "activity_date"),
    sources={VISITS: "TRUE", SESSIONS: "TRUE"},
    touched=touched,
    rows=rows,
)


def main(argv: list[str]) -> int:
    return run_table(TABLE, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
