"""Jobs fail, and layers overlap: a job may see its sources at moments that do not fit together. Once all have run, each
table is what the rules say."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from spark_jobs import incremental
from tests.oracle import (
    KEYS,
    ProfileChange,
    Reading,
    RegistrationVersion,
    VisitVersion,
    WorkoutEvent,
    World,
    differences,
    expected_tables,
)
from tests.oracle.facts import HOUR, MINUTE, SECOND, at
from tests.spark.pipeline import JOBS, Pipeline
from tests.spark.test_worlds import EXAMPLES, SOME_WORLDS, batches, compare, has_facts
from tests.worlds import NOW, worlds

NOON = at("2024-01-05") + 12 * HOUR
MEMBER = World([RegistrationVersion(1, 101, "mac-1", NOON - 24 * HOUR, 1)])


def joined(*worlds: World) -> World:
    return World(*([fact for world in worlds for fact in getattr(world, name)] for name in World.__dataclass_fields__))


def session(start: int, stop: int) -> World:
    return World(workout_events=[WorkoutEvent(1, 1, 1, "start", start), WorkoutEvent(1, 1, 1, "stop", stop)])


def of(pipeline: Pipeline, table: str, *parts: World) -> str:
    """What is wrong with a table when these facts have arrived; nothing if it is as it should be."""
    return differences(table, expected_tables(joined(*parts), NOW)[table], pipeline.rows(table), KEYS[table]) or ""


def test_a_session_moves_and_gold_knows_it_before_its_readings_do(pipeline: Pipeline) -> None:
    readings = World(readings=[Reading(101, NOON + second * SECOND, 120.0) for second in range(1, 60)])
    now, earlier = session(NOON, NOON + HOUR), session(NOON - 4 * HOUR, NOON - 4 * HOUR + 30 * MINUTE)
    jobs = ["silver.user_devices", "silver.workout_events", "silver.workout_sessions", "gold.workout_summary"]
    all_jobs = [*jobs[:3], "silver.workout_heart_rate", jobs[3]]
    for part in (MEMBER, readings, now):
        pipeline.land(part)
    pipeline.run_all(jobs=all_jobs)
    pipeline.land(earlier)
    pipeline.run_all(jobs=jobs)
    [row] = pipeline.rows("gold.workout_summary")
    assert row["readings"] == 59, "this is not what was to be tried"
    pipeline.run_all(jobs=all_jobs)
    assert not of(pipeline, "gold.workout_summary", MEMBER, readings, now, earlier)


@settings(SOME_WORLDS, max_examples=EXAMPLES // 2)
@given(world=worlds(15).filter(has_facts), order=st.integers(0, 2**32), parts=st.integers(2, 3))
def test_any_world_while_jobs_fail_or_come_in_another_order_is_what_the_rules_say(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, world: World, order: int, parts: int
) -> None:
    pipeline = Pipeline(spark, tmp_path_factory.mktemp("world"))
    dice = random.Random(order)
    try:
        for part in batches(world, order, parts):
            pipeline.land(part)
            pipeline.run_all(jobs=dice.sample(JOBS, dice.randrange(len(JOBS))))
        pipeline.run_all()
        compare(pipeline, world)
    finally:
        pipeline.forget()


def test_a_text_that_spark_would_replace_is_that_text(pipeline: Pipeline) -> None:
    texts = ["${MAC}", "${env:PATH}", "$", "${", "a'b\\$", "\\u0024"]
    jobs = ["silver.users", "silver.user_devices", "silver.gym_visits", "gold.gym_activity"]
    visits = World(visits=[VisitVersion(n, text, n, NOON, NOON + HOUR, n) for n, text in enumerate(texts, 2)])
    registered = World([RegistrationVersion(n, 100 + n, text, NOON - HOUR, n) for n, text in enumerate(texts, 2)])
    facts: list[World] = []
    for part in (MEMBER, visits, registered):
        pipeline.land(part)
        pipeline.run_all(jobs=jobs)
        facts.append(part)
        assert not of(pipeline, "silver.gym_visits", *facts)
        assert not of(pipeline, "gold.gym_activity", *facts)


def test_what_two_runs_wrote_where_the_table_was_packed_between_their_looks_is_mended(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.land(MEMBER)
    pipeline.run("silver.users")
    another = World([RegistrationVersion(2, 102, "mac-2", NOON, 2)])
    pipeline.land(another)
    append = incremental._append

    def append_beside_another_run(run, table, rows):  # type: ignore[no-untyped-def]
        """The other one looked at the table before it was packed, and writes first."""
        monkeypatch.setattr(incremental, "_append", append)
        settings = ("spark.databricks.delta.write.txnAppId", "spark.databricks.delta.write.txnVersion")
        ours = {name: run.spark.conf.get(name) for name in settings}
        run.spark.conf.set(settings[1], str(int(ours[settings[1]]) - 1))
        append(run, table, rows)
        for name, value in ours.items():
            run.spark.conf.set(name, value)
        append(run, table, rows)

    monkeypatch.setattr(incremental, "_append", append_beside_another_run)
    pipeline.spark.sql("ALTER TABLE spark_catalog.silver.users SET TBLPROPERTIES ('a' = 'b')")
    doubled: list[int] = []
    merge_alone = incremental._merge_alone

    def merge_alone_noted(run, table, keys):  # type: ignore[no-untyped-def]
        doubled.append(len(pipeline.rows("silver.users")))
        merge_alone(run, table, keys)

    monkeypatch.setattr(incremental, "_merge_alone", merge_alone_noted)
    pipeline.run("silver.users")
    assert doubled == [1, 3], "this is not what was to be tried"
    assert sorted(row["user_id"] for row in pipeline.rows("silver.users")) == [1, 2]


def test_what_is_said_of_one_position_is_the_same_whatever_came_first(pipeline: Pipeline) -> None:
    said = [ProfileChange((7, 0), "r", 1, NOON, city=city) for city in ("B", "A", "C")]
    for change in said:
        pipeline.land(World(profile_changes=[change]))
        pipeline.run("silver.user_profile_changes")
    [row] = pipeline.rows("silver.user_profile_changes")
    pipeline.run("silver.user_profile_changes", "--full")
    assert pipeline.rows("silver.user_profile_changes") == [row]
    assert row["city"] == "A"
