"""`gold.user_activity`: one row is a member's day with a visit, a session or a workout reading.

Key: user_id, activity_date (UTC). From `silver.gym_visits`, `silver.workout_sessions`, `silver.workout_heart_rate` and
`silver.user_profile` (date of birth). A reading speaks for the time since the previous one of its session, or since
the session's start, at most 15 s; its zone follows from twelve decimals of its bpm. The streak counts the consecutive
days up to this one with a visit or a session's start; a day that has only readings, of a session that started the day
before, has none.
"""

from __future__ import annotations

import sys
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from spark_jobs import job, rules
from spark_jobs.gold.touches import members_of_changed_profiles
from spark_jobs.incremental import Changes, Table, run_table
from spark_jobs.rules import SESSION, THREE_HOURS
from spark_jobs.slices import DAY, Slice

VISITS, SESSIONS = "silver.gym_visits", "silver.workout_sessions"
READINGS, PROFILES = "silver.workout_heart_rate", "silver.user_profile"
KEY = ("user_id", "activity_date")
KNOWN, STARTED = "user_id IS NOT NULL", "started_at IS NOT NULL"
LONGEST_SPAN = timedelta(seconds=15)
ZONE_FLOORS = (60, 70, 80, 90)  # percent of the maximal heart rate at which zones 2 to 5 begin
MAXIMAL_BPM, UNKNOWN_MAXIMAL_BPM = 220, 190  # the first less the age


def day(moment: str) -> Column:
    return F.to_date(moment).alias("activity_date")


def active_days(visits: DataFrame, sessions: DataFrame) -> DataFrame:
    """Days of members with a visit or the start of a session."""
    of_visits = visits.where(KNOWN).select("user_id", day("login_at"))
    return of_visits.union(sessions.where(STARTED).select("user_id", day("started_at"))).distinct()


def runs(days: DataFrame, *apart: str) -> DataFrame:
    """Days of members -> each with `begins`, the first of the days that lead up to it without a gap. Days that differ
    in `apart` do not belong together."""
    in_order = Window.partitionBy("user_id", *apart).orderBy("activity_date")
    run = F.date_sub("activity_date", F.row_number().over(in_order))  # the same for days that follow each other
    begins = F.min("activity_date").over(Window.partitionBy("user_id", *apart, "_run"))
    return days.withColumn("_run", run).withColumn("begins", begins).drop("_run")


def streaks(days: DataFrame, before: DataFrame) -> DataFrame:
    """Days of members, `active` or not, and the rows of the table of the day `before` them -> with `streak_days`."""
    carried = before.select(
        "user_id", F.date_add("activity_date", 1).alias("begins"), F.col("streak_days").alias("_had")
    )
    streak = F.datediff("activity_date", "begins") + 1 + F.coalesce("_had", F.lit(0))
    return (
        runs(days, "active")
        .join(carried, ["user_id", "begins"], "left")
        .withColumn("streak_days", F.when(F.col("active"), streak).otherwise(0).cast("bigint"))
    )


def heart(readings: DataFrame, sessions: DataFrame, profiles: DataFrame) -> DataFrame:
    """Workout readings, with up to 15 s before a day that matters -> of each its member, day and bpm, the `zone` from 1
    to 5, and the `span` (microseconds) for which it speaks."""
    start = sessions.where(STARTED).select(*SESSION, "started_at")
    born = profiles.select("user_id", "date_of_birth")
    of_session = Window.partitionBy(*SESSION).orderBy("read_at")
    since = F.greatest(
        F.coalesce(F.lag("read_at").over(of_session), F.col("started_at")),
        F.expr(f"read_at - INTERVAL {LONGEST_SPAN.seconds} SECONDS"),
    )
    years = rules.age(F.col("date_of_birth"), F.col("activity_date"))
    # `greatest` passes over NULL, so an unknown age is asked for first
    of_age = F.greatest(F.lit(MAXIMAL_BPM) - years, F.lit(1))
    maximal = F.when(years.isNull(), UNKNOWN_MAXIMAL_BPM).otherwise(of_age)
    # compared as decimals: 149.6 of 187 is exactly 80 %, which doubles do not say
    hundredfold = F.col("bpm").cast("decimal(15, 12)") * 100
    zone = F.lit(1)
    for floor in ZONE_FLOORS:
        zone = zone + F.when(hundredfold >= F.col("maximal") * floor, 1).otherwise(0)
    return (
        readings.join(start, [*SESSION])
        .withColumn("span", rules.micros_between(since, F.col("read_at")))
        .withColumn("activity_date", F.to_date("read_at"))
        .join(born, "user_id", "left")
        .withColumn("maximal", maximal)
        .select(*KEY, "bpm", "span", zone.alias("zone"))
    )


def activity(
    visits: DataFrame, sessions: DataFrame, beats: DataFrame, before: DataFrame, since: date | None = None
) -> DataFrame:
    """All that members did from the day `since` on: visits, sessions, `heart`; and the rows of the table of the day
    `before` it -> the days. Of sessions that start earlier the days are not whole."""
    exercised = F.when(F.col("status") == "completed", rules.micros_between(F.col("started_at"), F.col("ended_at")))
    of_visits = visits.where(KNOWN).select("user_id", day("login_at"), F.lit(True).alias("visit"))
    of_sessions = sessions.where(STARTED).select(
        "user_id", day("started_at"), F.lit(True).alias("session"), exercised.alias("exercised")
    )
    # one grouping of all instead of joins of three
    did = of_visits.unionByName(of_sessions, allowMissingColumns=True).unionByName(beats, allowMissingColumns=True)
    days = did.groupBy(*KEY).agg(
        F.count("visit").alias("visits"),
        F.count("session").alias("sessions"),
        rules.total(F.col("exercised")).alias("exercised"),
        *(F.sum(F.when(F.col("zone") == number, F.col("span"))).alias(f"zone_{number}") for number in range(1, 6)),
        rules.average(F.col("bpm")).alias("avg_bpm"),
        F.max("bpm").alias("max_bpm"),
    )
    active = F.col("visits") + F.col("sessions") > 0
    if since is not None:
        active = active & (F.col("activity_date") >= F.lit(since))

    def in_minutes(column: str) -> Column:
        return rules.minutes(F.coalesce(column, F.lit(0)))

    return streaks(days.withColumn("active", active), before).select(
        *KEY,
        "visits",
        "sessions",
        in_minutes("exercised").alias("minutes_exercising"),
        *(in_minutes(f"zone_{number}").alias(f"minutes_zone_{number}") for number in range(1, 6)),
        "avg_bpm",
        "max_bpm",
        "streak_days",
    )


def touched(changes: Changes) -> list[DataFrame]:
    run = changes.job
    visits, sessions = run.table(VISITS).where(KNOWN), run.table(SESSIONS).where(STARTED)
    frames, streaked = [], []
    if (feed := changes.of(VISITS)) is not None:
        streaked.append(feed.where(KNOWN).select("user_id", day("login_at")))
    if (feed := changes.of(SESSIONS)) is not None:
        streaked.append(feed.where(STARTED).select("user_id", day("started_at")))
        frames.append(feed.where("status = 'completed'").select("user_id", day("ended_at")))
    if (feed := changes.of(READINGS)) is not None:
        frames.append(feed.select("user_id", day("read_at")))
        # the reading after it speaks for less, or for more again, and may be of the next day
        later = F.expr(f"read_at + INTERVAL {LONGEST_SPAN.seconds} SECONDS")
        frames.append(feed.select("user_id", F.to_date(later).alias("activity_date")))
    if (feed := changes.of(PROFILES)) is not None:
        members = members_of_changed_profiles(feed, "date_of_birth")
        frames.append(members.among(run.table("gold.user_activity"), "user_id").select(*KEY))
    for frame in streaked:
        frames.append(frame)
        days = Slice.of(frame)
        if days.frame is not None and not days.is_nothing:
            frames.append(_days_that_follow(days, visits, sessions))
    return frames


def _days_that_follow(days: Slice, visits: DataFrame, sessions: DataFrame) -> DataFrame:
    """The active days after these that follow them without a gap: their streaks count these."""
    assert days.frame is not None
    later = active_days(
        visits.where(days.within("user_id")).where(days.from_day("login_at", "activity_date")),
        sessions.where(days.within("user_id")).where(days.from_day("started_at", "activity_date")),
    )
    follows = F.expr(
        "later.user_id = touched.user_id AND later.activity_date > touched.activity_date"
        " AND later.begins <= date_add(touched.activity_date, 1)"
    )
    return runs(later).alias("later").join(days.frame.alias("touched"), follows, "left_semi").select(*KEY)


def rows(run: job.Job, keys: Slice) -> DataFrame:
    of_members = keys.within("user_id")
    # all days from the first to the last, since a streak counts those between
    visits = run.table(VISITS).where(keys.spanning_days("login_at", "activity_date"))
    # also those of the evening before, whose readings go on
    sessions = run.table(SESSIONS).where(keys.spanning_days("started_at", "activity_date", earlier=THREE_HOURS))
    visits, sessions = keys.among(visits, "user_id"), keys.among(sessions, "user_id")
    readings = run.table(READINGS).where(of_members)
    on_the_day = readings.where(keys.on_days("read_at", "activity_date", earlier=LONGEST_SPAN))
    beats = heart(on_the_day, sessions, run.table(PROFILES).where(of_members))
    since = keys.earliest("activity_date")
    present = run.table("gold.user_activity").where(of_members)
    before = present.where(F.lit(False) if since is None else F.col("activity_date") == F.lit(since - DAY))
    return keys.among(activity(visits, sessions, beats, before, since), *KEY)


TABLE = Table(
    name="gold.user_activity",
    key=KEY,
    row_key=KEY,
    clustering=KEY,
    sources={VISITS: KNOWN, SESSIONS: STARTED, READINGS: "TRUE", PROFILES: "TRUE"},
    touched=touched,
    rows=rows,
)


def main(argv: list[str]) -> int:
    return run_table(TABLE, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
