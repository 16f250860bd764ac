"""Borders of the rules that generated worlds meet too seldom."""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from spark_jobs import rules
from tests.oracle import gold
from tests.spark.pipeline import NOW

HALF_A_HUNDREDTH = 300_000  # microseconds of a minute


def test_minutes_are_rounded_half_up(spark: SparkSession) -> None:
    places = (0, 1, 2, 7, 5_999, 18_000)
    spans = [(2 * place + 1) * HALF_A_HUNDREDTH + off for place in places for off in (-1, 0, 1)]
    found = spark.createDataFrame([(span,) for span in spans], "span BIGINT").select(rules.minutes(F.col("span")))
    assert [row[0] for row in found.collect()] == [gold.minutes(span) for span in spans]


def test_a_total_holds_more_than_64_bits(spark: SparkSession) -> None:
    span = 252_000_000_000_000_000  # to the year 9999
    found = spark.range(37).select(rules.minutes(rules.total(F.lit(span)))).collect()
    assert [row[0] for row in found] == [gold.minutes(37 * span)]


def test_a_visit_holds_a_session_from_its_login_until_before_its_logout(spark: SparkSession) -> None:
    hour, moment = timedelta(hours=1), timedelta(microseconds=1)
    starts = [NOW - moment, NOW, NOW + hour - moment, NOW + hour]
    sessions = spark.createDataFrame(
        [(1, 1, number, start) for number, start in enumerate(starts)],
        "user_id BIGINT, workout_id BIGINT, session_id BIGINT, started_at TIMESTAMP",
    )
    visits = spark.createDataFrame(
        [(1, 5, 7, NOW, NOW + hour)],
        "user_id BIGINT, visit_id BIGINT, gym_id BIGINT, login_at TIMESTAMP, logout_at TIMESTAMP",
    )
    held = rules.visit_of_session(sessions, visits).orderBy("session_id").collect()
    assert [row["visit_id"] for row in held] == [None, 5, 5, None]
