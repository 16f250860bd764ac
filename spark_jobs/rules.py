"""The rules of the data contract that more than one table follows; each stands here once."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

AGE_BANDS = (18, 25, 35, 45, 55, 65, 75, 85, 95)  # lower bounds, inclusive
THREE_HOURS = timedelta(hours=3)  # the longest that a session can be, and as SQL
LONGEST_SESSION = f"INTERVAL {THREE_HOURS // timedelta(hours=1)} HOURS"
SESSION = ("user_id", "workout_id", "session_id")


def age(date_of_birth: Column, day: Column) -> Column:
    """Full years on that day. Who was born on a 29th of February is a year older on the 1st of March."""
    not_yet = F.month(day) * 100 + F.dayofmonth(day) < F.month(date_of_birth) * 100 + F.dayofmonth(date_of_birth)
    return F.year(day) - F.year(date_of_birth) - F.when(not_yet, 1).otherwise(0)


def age_band(date_of_birth: Column, day: Column) -> Column:
    """The age band on that day, as `25-35` (lower bound inclusive); `unknown` without a date of birth."""
    years = age(date_of_birth, day)
    band = F.when(date_of_birth.isNull(), "unknown").when(years < AGE_BANDS[0], f"under {AGE_BANDS[0]}")
    for low, high in pairwise(AGE_BANDS):
        band = band.when(years < high, f"{low}-{high}")
    return band.otherwise(f"{AGE_BANDS[-1]}+")


def micros_between(start: Column, end: Column) -> Column:
    return F.unix_micros(end) - F.unix_micros(start)


def total(micros: Column) -> Column:
    """The sum, NULL of none: as a decimal, since 37 visits that end in the year 9999 have more than 64 bits hold."""
    return F.sum(micros.cast("decimal(20, 0)"))


def minutes(micros: Column) -> Column:
    """Minutes with two decimals, rounded half up, from exact microseconds (not negative), of one span or in total."""
    raised = micros + 300_000
    return ((raised - raised % 600_000) / 600_000).cast("double") / 100


def average(bpm: Column) -> Column:
    """The mean, whatever the order of the rows: the sum is decimal, where addition is exact. NULL of none."""
    return F.sum(bpm.cast("decimal(15, 12)")).cast("double") / F.nullif(F.count(bpm), F.lit(0))


def visit_of_session(sessions: DataFrame, visits: DataFrame) -> DataFrame:
    """The sessions with `visit_id` and `gym_id` of the visit in which they start (NULL: in none).

    A session starts in a visit of its member with login_at <= started_at < logout_at, where an open visit has no end.
    Of several it is the one with the latest login, then the highest visit_id. `sessions` needs SESSION and started_at.
    """
    columns = sessions.columns
    held = visits.where("user_id IS NOT NULL").alias("visit")
    inside = (
        (F.col("start.user_id") == F.col("visit.user_id"))
        & (F.col("visit.login_at") <= F.col("start.started_at"))
        & (F.col("visit.logout_at").isNull() | (F.col("start.started_at") < F.col("visit.logout_at")))
    )
    return (
        sessions.alias("start")
        .join(held, inside, "left")
        .groupBy(*(f"start.{column}" for column in columns))
        .agg(F.max(F.struct("visit.login_at", "visit.visit_id", "visit.gym_id")).alias("_visit"))
        .select(*columns, "_visit.visit_id", "_visit.gym_id")
    )


def latest(rows: DataFrame, key: tuple[str, ...], *order: Column) -> DataFrame:
    """Of each key the row that comes last in `order` (ascending columns)."""
    last_first = Window.partitionBy(*key).orderBy(*(column.desc() for column in order))
    return rows.withColumn("_rank", F.row_number().over(last_first)).where("_rank = 1").drop("_rank")
