"""`gold.user_activity`: one row is a member's day with a visit, a session or a workout reading.

Key: user_id, activity_date (UTC). From `silver.gym_visits`, `silver.workout_sessions`, `silver.workout_heart_rate` and
`silver.user_profile` (date of birth). A reading speaks for the time since the previous one of its session, or since
the session's start, at most 15 s; its zone follows from twelve decimals of its bpm. The streak counts the consecutive
days up to this one with a visit or a session's start; a day that has only readings, of a session that started the day
before, has none.
"""

from __future__ import annotations

import sys
from datetime import timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from spark_jobs import job, rules
from spark_jobs.gold.touches import members_of_changed_profiles
from spark_jobs.incremental import Changes, Table, run_table
from spark_jobs.rules import SESSION
from spark_jobs.slices import Slice

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


def runs(days: DataFrame) -> DataFrame:
    """Active days -> each with `run`, the same date for all days that follow each other without a gap, and `place`."""
    in_order = Window.partitionBy("user_id").orderBy("activity_date")
    numbered = days.withColumn("_number", F.row_number().over(in_order))
    run = F.date_sub("activity_date", F.col("_number"))
    of_run = Window.partitionBy("user_id", "run").orderBy("activity_date")
    return numbered.withColumn("run", run).withColumn("place", F.row_number().over(of_run)).drop("_number")


def streaks(days: DataFrame, before: DataFrame) -> DataFrame:
    """Active days of members from some day on, and `before` (user_id, activity_date, streak_days): the day before it
    -> user_id, activity_date, streak_days."""
    begins = F.min("activity_date").over(Window.partitionBy("user_id", "run"))
    carried = before.select(
        "user_id", F.date_add("activity_date", 1).alias("_begins"), F.col("streak_days").alias("_had")
    )
    return (
        runs(days)
        .withColumn("_begins", begins)
        .join(carried, ["user_id", "_begins"], "left")
        .select(*KEY, (F.col("place") + F.coalesce("_had", F.lit(0))).cast("bigint").alias("streak_days"))
    )


def heart(readings: DataFrame, sessions: DataFrame, profiles: DataFrame) -> DataFrame:
    """Workout readings, with up to 15 s before a day that matters -> by member and day: microseconds in each zone, and
    min, mean and max of bpm."""
    start = sessions.select(*SESSION, "started_at")
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
    spans = (
        readings.join(start, [*SESSION])
        .withColumn("span", rules.micros_between(since, F.col("read_at")))
        .withColumn("activity_date", F.to_date("read_at"))
        .join(born, "user_id", "left")
        .withColumn("maximal", maximal)
        .withColumn("zone", zone)
    )
    return spans.groupBy(*KEY).agg(
        *(F.sum(F.when(F.col("zone") == number, F.col("span"))).alias(f"zone_{number}") for number in range(1, 6)),
        rules.average(F.col("bpm")).alias("avg_bpm"),
        F.max("bpm").alias("max_bpm"),
    )


def activity(visits: DataFrame, sessions: DataFrame, beats: DataFrame, streak: DataFrame) -> DataFrame:
    """Visits, sessions, `heart` and `streaks` of some days -> these days."""
    exercised = F.when(F.col("status") == "completed", rules.micros_between(F.col("started_at"), F.col("ended_at")))
    of_visits = visits.where(KNOWN).groupBy("user_id", day("login_at")).agg(F.count("*").alias("visits"))
    of_sessions = (
        sessions.where(STARTED)
        .groupBy("user_id", day("started_at"))
        .agg(F.count("*").alias("sessions"), F.sum(exercised).alias("exercised"))
    )

    def or_none(column: str) -> Column:
        return F.coalesce(column, F.lit(0).cast("bigint"))

    return (
        of_visits.join(of_sessions, [*KEY], "full")
        .join(beats, [*KEY], "full")
        .join(streak, [*KEY], "left")
        .select(
            *KEY,
            or_none("visits").alias("visits"),
            or_none("sessions").alias("sessions"),
            rules.minutes(or_none("exercised")).alias("minutes_exercising"),
            *(rules.minutes(or_none(f"zone_{number}")).alias(f"minutes_zone_{number}") for number in range(1, 6)),
            "avg_bpm",
            "max_bpm",
            or_none("streak_days").alias("streak_days"),
        )
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
    of_run = Window.partitionBy("user_id", "run")
    spanned = runs(later).withColumns({"first": F.min(KEY[1]).over(of_run), "last": F.max(KEY[1]).over(of_run)})
    follows = F.expr(
        "later.user_id = touched.user_id AND later.activity_date > touched.activity_date"
        " AND later.first <= date_add(touched.activity_date, 1)"
    )
    return spanned.alias("later").join(days.frame.alias("touched"), follows, "left_semi").select(*KEY)


def rows(run: job.Job, keys: Slice) -> DataFrame:
    visits = run.table(VISITS).where(KNOWN).where(keys.within("user_id"))
    sessions = run.table(SESSIONS).where(STARTED).where(keys.within("user_id"))
    readings = run.table(READINGS).where(keys.within("user_id"))
    profiles = run.table(PROFILES).where(keys.within("user_id"))
    if not keys.has("activity_date"):
        none = run.table("gold.user_activity").where("FALSE")
        days = activity(
            visits, sessions, heart(readings, sessions, profiles), streaks(active_days(visits, sessions), none)
        )
        return keys.among(days, "user_id")
    assert keys.frame is not None
    on_the_day = readings.where(keys.on_days("read_at", "activity_date", earlier=LONGEST_SPAN))
    # also those of the evening before, whose readings go on; that day itself is left out at the end
    begun = sessions.where(keys.on_days("started_at", "activity_date", earlier=timedelta(hours=3)))
    since_touched = active_days(
        visits.where(keys.from_day("login_at", "activity_date")),
        sessions.where(keys.from_day("started_at", "activity_date")),
    )
    first = keys.frame.groupBy("user_id").agg(
        F.min("activity_date").alias("first"), F.max("activity_date").alias("last")
    )
    first = F.broadcast(first) if keys.known is not None else first
    between = since_touched.join(first, "user_id").where("activity_date BETWEEN first AND last").select(*KEY)
    present = run.table("gold.user_activity").where(keys.within("user_id")).where(keys.day_before("activity_date"))
    before = present.join(first, "user_id").where("activity_date = date_sub(first, 1)").select(*KEY, "streak_days")
    return keys.among(
        activity(
            visits.where(keys.on_days("login_at", "activity_date")),
            begun,
            heart(on_the_day, begun, profiles),
            streaks(between, before),
        ),
        *KEY,
    )


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
