"""Each table as a function of the rows beneath, on many worlds at once, in memory: quick, and every border is met."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs.declarations import statement
from spark_jobs.gold import gym_activity, user_activity, workout_completion, workout_summary
from spark_jobs.platform import Platform
from spark_jobs.silver import (
    gym_visits,
    user_devices,
    user_profile,
    user_profile_changes,
    user_profile_history,
    users,
    workout_events,
    workout_heart_rate,
    workout_sessions,
)
from spark_jobs.streaming import readings
from tests.oracle import KEYS, World, differences, expected_tables
from tests.oracle.facts import instant
from tests.spark.pipeline import (
    ARRIVAL,
    NOW,
    REGISTRATIONS,
    VISITS,
    profile_message,
    registration_row,
    visit_row,
    workout_message,
)
from tests.spark.test_worlds import world_of
from tests.worlds import NOW as NOW_MICROS

WORLDS = max(8, int(os.environ.get("FITNESS_WORLDS", 0)))
Beneath = Callable[[str], DataFrame]

MADE: dict[str, Callable[[Beneath], DataFrame]] = {
    "silver.users": lambda of: users.members(of("bronze.registrations")),
    "silver.user_devices": lambda of: user_devices.worn(of("bronze.registrations")),
    "silver.user_profile": lambda of: user_profile.profiles(user_profile_changes.accepted(of("user_profile"))),
    "silver.user_profile_history": lambda of: user_profile_history.periods(
        user_profile_changes.accepted(of("user_profile"))
    ),
    "silver.gym_visits": lambda of: gym_visits.visits(of("bronze.gym_visits"), of("silver.user_devices")),
    "silver.workout_events": lambda of: workout_events.accepted(of("workout")),
    "silver.workout_sessions": lambda of: workout_sessions.sessions(of("silver.workout_events"), NOW),
    "silver.workout_heart_rate": lambda of: workout_heart_rate.readings_in(
        workout_heart_rate.worn_in(of("silver.workout_sessions"), of("silver.user_devices")), of("silver.heart_rate")
    ),
    "gold.bpm_trends": lambda of: readings.trends(
        of("silver.heart_rate").withColumn("minute", readings.minute_number(F.col("read_at")))
    ),
    "gold.workout_summary": lambda of: workout_summary.summaries(
        of("silver.workout_sessions").where("status = 'completed'"),
        of("silver.workout_heart_rate"),
        of("silver.gym_visits"),
        of("silver.user_profile"),
    ),
    "gold.workout_completion": lambda of: workout_completion.completion(
        of("silver.workout_sessions"), of("silver.gym_visits"), of("silver.user_profile")
    ),
    "gold.gym_activity": lambda of: gym_activity.activity(
        of("silver.gym_visits"), of("silver.workout_sessions"), of("silver.gym_visits")
    ),
    "gold.user_activity": lambda of: user_activity.activity(
        of("silver.gym_visits"),
        of("silver.workout_sessions"),
        user_activity.heart(of("silver.workout_heart_rate"), of("silver.workout_sessions"), of("silver.user_profile")),
        of("gold.user_activity").where("FALSE"),
    ),
}


def columns_of(table: str) -> dict[str, str]:
    """The declared columns of a table, with their types."""
    body = statement(table, Platform(), "c").split("(\n", 1)[1].split("\n)", 1)[0]
    return {line.split()[0]: line.split()[1] for line in body.splitlines()}


def together(worlds: list[World]) -> World:
    """Worlds side by side: each with ids of its own."""
    whole = World()
    for number, world in enumerate(worlds):
        step = 100_000 * number
        for part in fields(World):
            for fact in getattr(world, part.name):
                moved = {name: getattr(fact, name) + step for name in ("user_id", "visit_id") if hasattr(fact, name)}
                moved |= {"device_id": fact.device_id + step} if hasattr(fact, "device_id") else {}
                if getattr(fact, "mac_address", None):
                    moved["mac_address"] = f"{fact.mac_address}-{number}"
                getattr(whole, part.name).append(
                    fact._replace(**moved) if hasattr(fact, "_replace") else replace(fact, **moved)
                )
    return whole


@pytest.fixture(scope="module")
def world() -> World:
    return together([world_of(seed) for seed in range(WORLDS)])


@pytest.fixture(scope="module")
def expected(world: World) -> dict[str, list[dict[str, Any]]]:
    return expected_tables(world, NOW_MICROS)


@pytest.fixture(scope="module")
def beneath(spark: SparkSession, world: World, expected: dict[str, list[dict[str, Any]]]) -> Beneath:
    """Rows of a table by its name: bronze as it arrived, silver as it should be."""

    def records(values: list[bytes]) -> DataFrame:
        rows = [(number, ARRIVAL, value) for number, value in enumerate(values)]
        return spark.createDataFrame(rows, "offset BIGINT, kafka_timestamp TIMESTAMP, value BINARY")

    def of(name: str) -> DataFrame:
        match name:
            case "bronze.registrations":
                return spark.createDataFrame([registration_row(v) for v in world.registrations], REGISTRATIONS)
            case "bronze.gym_visits":
                return spark.createDataFrame([visit_row(v) for v in world.visits], VISITS)
            case "user_profile":
                return records([profile_message(change) for change in world.profile_changes])
            case "workout":
                return records([workout_message(event) for event in world.workout_events])
        columns = columns_of(name)
        rows = [tuple(row[column] for column in columns) for row in expected[name]]
        return spark.createDataFrame(rows, ", ".join(f"{column} {kind}" for column, kind in columns.items()))

    return of


@pytest.mark.parametrize("table", MADE)
def test_a_table_is_what_the_rules_say(beneath: Beneath, expected: dict[str, list[dict[str, Any]]], table: str) -> None:
    found = MADE[table](beneath).toArrow().to_pylist()
    assert expected[table], "no rows prove nothing"
    wrong = differences(table, expected[table], found, KEYS[table])
    assert not wrong, wrong


assert instant(NOW_MICROS) == NOW
