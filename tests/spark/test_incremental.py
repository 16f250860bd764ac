"""What makes a run safe to repeat, to lose and to ask for: touched keys, bookkeeping, rebuilds, literal bounds."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs import incremental, job, slices
from spark_jobs.incremental import difference
from spark_jobs.slices import Slice
from tests.oracle import Reading, RegistrationVersion, VisitVersion, WorkoutEvent, World
from tests.oracle.facts import HOUR, MINUTE, SECOND, at
from tests.spark.pipeline import Pipeline, workout_message

TEN = at("2024-03-02T10:00:00")
SESSIONS = "silver.workout_sessions"
EVENTS = "silver.workout_events"
JOBS = (EVENTS, SESSIONS)


def event(action: str, when: int, user: int = 1, session: int = 1) -> WorkoutEvent:
    return WorkoutEvent(user, 1, session, action, when)


def told(pipeline: Pipeline, *events: WorkoutEvent) -> None:
    pipeline.produce("workout", map(workout_message, events))


def sessions(pipeline: Pipeline) -> dict[int, tuple[str, object, object]]:
    """By member."""
    return {row["user_id"]: (row["status"], row["started_at"], row["ended_at"]) for row in pipeline.rows(SESSIONS)}


def test_sessions_follow_their_events(pipeline: Pipeline) -> None:
    told(pipeline, event("start", TEN), event("stop", TEN, user=2))
    pipeline.run_all(jobs=JOBS)
    assert {user: row[0] for user, row in sessions(pipeline).items()} == {1: "open", 2: "stop_only"}

    told(pipeline, event("stop", TEN + HOUR), event("start", TEN - HOUR, user=2), event("start", TEN - HOUR, user=2))
    pipeline.run_all(jobs=JOBS)
    assert {user: row[0] for user, row in sessions(pipeline).items()} == {1: "completed", 2: "completed"}
    outcome = pipeline.outcome("silver.workout_events")
    assert dict(outcome["rows_in"])["workout"] == 3
    assert dict(outcome["rows_duplicate"]) == {"workout": 1}
    assert pipeline.outcome(SESSIONS)["touched"] == 2

    before = pipeline.versions()
    pipeline.run_all(jobs=JOBS)
    assert pipeline.versions() == before, "a run with nothing new has committed"
    assert pipeline.outcome(SESSIONS)["touched"] == 0


def test_a_run_that_dies_before_its_outcome_row_is_repaired_by_the_next(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(pipeline, event("start", TEN))
    pipeline.run_all(jobs=JOBS)
    told(pipeline, event("stop", TEN + HOUR), event("start", TEN, user=2))

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    for name in JOBS:
        with monkeypatch.context() as patched:
            patched.setattr(job, "record", dies)
            with pytest.raises(KeyboardInterrupt):
                pipeline.run(name)
        after_death = pipeline.versions()
        pipeline.run(name)
        assert pipeline.versions() == after_death, "the repeated run has written again"
    assert {user: row[0] for user, row in sessions(pipeline).items()} == {1: "completed", 2: "open"}


def test_how_far_a_job_has_read_is_found_in_the_newest_commits_or_else_in_the_table(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(pipeline, event("start", TEN))
    pipeline.run_all(jobs=JOBS)
    whole, asked = job.Job.table, []

    def table(run: job.Job, name: str) -> DataFrame:
        asked.append(name)
        return whole(run, name)

    monkeypatch.setattr(job.Job, "table", table)
    pipeline.run("silver.workout_events")
    assert (pipeline.outcome("silver.workout_events")["mode"], asked.count(job.JOB_RUNS)) == ("incremental", 0)
    pipeline.run(SESSIONS)
    monkeypatch.setattr(job, "RECENT_RUNS", 1)  # the newest commit is another job's
    pipeline.run("silver.workout_events")
    assert (pipeline.outcome("silver.workout_events")["mode"], asked.count(job.JOB_RUNS)) == ("incremental", 1)


def test_a_run_that_another_has_overtaken_between_its_questions_does_not_take_the_source_for_made_anew(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(pipeline, event("start", TEN))
    pipeline.run_all(jobs=JOBS)
    answers, version = iter([-1]), incremental.version
    monkeypatch.setattr(incremental, "version", lambda job, table: next(answers, None) or version(job, table))
    pipeline.run(SESSIONS)
    assert pipeline.outcome(SESSIONS)["mode"] == "incremental"


def test_a_failed_run_says_so_and_the_next_reads_what_it_did_not(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(pipeline, event("start", TEN))
    pipeline.run_all(jobs=JOBS)
    told(pipeline, event("stop", TEN + HOUR))
    pipeline.run("silver.workout_events")
    with monkeypatch.context() as patched:
        patched.setattr(incremental, "merge", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pipeline.run(SESSIONS)
    outcome = pipeline.outcome(SESSIONS)
    assert (outcome["status"], outcome["error_class"]) == ("failed", "ZeroDivisionError")
    pipeline.run(SESSIONS)
    assert sessions(pipeline)[1][0] == "completed"


def test_an_open_session_is_abandoned_by_the_clock_alone_and_only_after_three_hours(pipeline: Pipeline) -> None:
    told(pipeline, event("start", TEN))
    start = datetime(2024, 3, 2, 10, tzinfo=UTC)
    pipeline.run_all(jobs=JOBS, now=start + timedelta(hours=1))
    assert sessions(pipeline)[1][0] == "open"
    pipeline.run(SESSIONS, now=start + timedelta(hours=3))
    assert sessions(pipeline)[1][0] == "open"
    pipeline.run(SESSIONS, now=start + timedelta(hours=3, microseconds=1))
    assert sessions(pipeline)[1][0] == "abandoned"
    told(pipeline, event("stop", TEN + 3 * HOUR))
    pipeline.run_all(jobs=JOBS, now=start + timedelta(days=1))
    assert sessions(pipeline)[1][0] == "completed"


def test_a_rebuild_repairs_what_was_asked_for_and_keeps_the_books(pipeline: Pipeline) -> None:
    day = 24 * HOUR
    told(pipeline, *(event("start", TEN - user * day, user) for user in range(1, 5)))
    pipeline.run_all(jobs=JOBS)
    pipeline.spark.sql(f"UPDATE {SESSIONS} SET status = 'completed'")
    versions = dict(pipeline.outcome(SESSIONS)["source_versions"])

    def broken() -> set[int]:
        return {user for user, row in sessions(pipeline).items() if row[0] == "completed"}

    pipeline.run(SESSIONS, "--keys", "1")
    assert broken() == {2, 3, 4}
    pipeline.run(SESSIONS, "--from-date", "2024-02-28", "--to-date", "2024-02-28")
    assert broken() == {2, 4}
    pipeline.spark.sql(f"INSERT INTO {SESSIONS} VALUES (9, 9, 9, NULL, NULL, 'stop_only')")
    pipeline.spark.sql(f"INSERT INTO {SESSIONS} SELECT * FROM {SESSIONS} WHERE user_id IN (3, 4, 9)")
    pipeline.run(SESSIONS, "--full")
    assert broken() == set()
    assert sorted(row["user_id"] for row in pipeline.rows(SESSIONS)) == [1, 2, 3, 4], "rows held twice are held once"
    assert pipeline.outcome(SESSIONS)["mode"] == "rebuild"
    pipeline.run(SESSIONS)
    assert pipeline.outcome(SESSIONS)["mode"] == "incremental"
    assert dict(pipeline.outcome(SESSIONS)["source_versions"]) == versions


def test_a_rebuild_of_days_mends_what_was_told_of_them_whenever_it_was_told(pipeline: Pipeline) -> None:
    leap_day = at("2020-02-29T10:00:00")
    told(pipeline, event("start", leap_day), event("start", leap_day + 24 * HOUR, user=2), event("start", TEN, user=3))
    pipeline.run(EVENTS)
    right = Counter(tuple(row.values()) for row in pipeline.rows(EVENTS))
    pipeline.spark.sql(f"DELETE FROM {EVENTS} WHERE user_id < 3")
    pipeline.spark.sql(f"INSERT INTO {EVENTS} SELECT 4, 1, 1, 'stop', TIMESTAMP '2020-02-29 23:59:59.999999'")
    pipeline.run(EVENTS, "--from-date", "2020-02-29", "--to-date", "2020-02-29")
    assert {row["user_id"] for row in pipeline.rows(EVENTS)} == {1, 3}
    pipeline.run(EVENTS, "--from-date", "2020-03-01", "--to-date", "2020-03-01")
    assert Counter(tuple(row.values()) for row in pipeline.rows(EVENTS)) == right


def test_a_rebuild_of_days_removes_visits_that_nobody_told_of(pipeline: Pipeline) -> None:
    visits = "silver.gym_visits"
    pipeline.run(visits)
    pipeline.spark.sql(f"INSERT INTO {visits} VALUES (1, NULL, 'mac', 1, TIMESTAMP '2024-03-02 10:00:00', NULL)")
    pipeline.run(visits, "--from-date", "2024-03-01", "--to-date", "2024-03-01")
    assert len(pipeline.rows(visits)) == 1
    pipeline.run(visits, "--from-date", "2024-03-02", "--to-date", "2024-03-02")
    assert pipeline.rows(visits) == []


def test_when_the_change_feed_is_gone_everything_is_recomputed(pipeline: Pipeline) -> None:
    told(pipeline, event("start", TEN))
    pipeline.run_all(jobs=JOBS)
    told(pipeline, event("stop", TEN + HOUR))
    pipeline.run("silver.workout_events")
    spark = pipeline.spark
    spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    spark.sql("OPTIMIZE silver.workout_events")
    spark.sql("VACUUM silver.workout_events RETAIN 0 HOURS")
    pipeline.run(SESSIONS)
    assert pipeline.outcome(SESSIONS)["mode"] == "everything"
    assert sessions(pipeline)[1][0] == "completed"


def test_a_deleted_source_row_takes_its_row_away(pipeline: Pipeline) -> None:
    told(pipeline, event("start", TEN), event("start", TEN, user=2))
    pipeline.run_all(jobs=JOBS)
    pipeline.spark.sql("DELETE FROM silver.workout_events WHERE user_id = 2")
    pipeline.run(SESSIONS)
    assert set(sessions(pipeline)) == {1}


def test_an_erased_registration_gives_its_device_back(pipeline: Pipeline) -> None:
    registrations = [RegistrationVersion(user, 10, "mac-10", TEN + user * HOUR, user) for user in (1, 2)]
    pipeline.land(World(registrations))
    pipeline.run("silver.user_devices")
    assert {row["user_id"]: row["valid_to"] is None for row in pipeline.rows("silver.user_devices")} == {
        1: False,
        2: True,
    }
    pipeline.spark.sql("DELETE FROM bronze.registrations WHERE user_id = 2")
    pipeline.run("silver.user_devices")
    assert [(row["user_id"], row["valid_to"]) for row in pipeline.rows("silver.user_devices")] == [(1, None)]


def test_a_visit_that_ends_earlier_gives_its_session_back(pipeline: Pipeline) -> None:
    def visit(logout_at: int, version: int) -> VisitVersion:
        return VisitVersion(1, "mac-10", 7, TEN - HOUR, logout_at, version)

    def gym() -> list[int | None]:
        pipeline.run_all(jobs=("silver.user_devices", "silver.gym_visits", *JOBS, "gold.workout_summary"))
        return [row["gym_id"] for row in pipeline.rows("gold.workout_summary")]

    told(pipeline, event("start", TEN), event("stop", TEN + HOUR))
    pipeline.land(World([RegistrationVersion(1, 10, "mac-10", TEN - 24 * HOUR, 1)], [visit(TEN + HOUR, 1)]))
    assert gym() == [7]
    pipeline.land(World(visits=[visit(TEN - MINUTE, 2)]))
    assert gym() == [None]


def test_what_comes_in_several_commits_is_read_whole(pipeline: Pipeline) -> None:
    told(pipeline, event("start", TEN))
    pipeline.run_all(jobs=JOBS)
    for user in (2, 3, 4):
        told(pipeline, event("start", TEN, user))
    pipeline.run_all(jobs=JOBS)
    assert set(sessions(pipeline)) == {1, 2, 3, 4}


def test_refused_records_are_in_quarantine_once_with_bytes_place_and_reason(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = [b"\xff\x00", b'{"user_id":"1"}', None, workout_message(event("start", TEN)), b"[" * 9]
    pipeline.produce("workout", hostile, key=b"\x00key")
    with monkeypatch.context() as patched:
        patched.setattr(incremental, "merge", lambda *_: 1 / 0)  # dies after the quarantine was written
        with pytest.raises(ZeroDivisionError):
            pipeline.run("silver.workout_events")
    pipeline.run("silver.workout_events")
    found = sorted(pipeline.rows("ops.quarantine"), key=lambda row: row["offset"])
    assert [(row["offset"], row["reason"], row["value"]) for row in found] == [
        (0, "invalid_utf8", b"\xff\x00"),
        (1, "wrong_type", b'{"user_id":"1"}'),
        (2, "no_value", None),
        (4, "malformed_json", b"[" * 9),
    ]
    assert {(row["source"], row["topic"], row["partition"], row["key"]) for row in found} == {
        ("kafka", "workout", 0, b"\x00key")
    }
    outcome = pipeline.outcome("silver.workout_events")
    assert (dict(outcome["rows_in"])["workout"], dict(outcome["rows_quarantined"])["workout"]) == (5, 4)


ROW = "id BIGINT, part BIGINT, value DOUBLE, names ARRAY<STRING>"


def test_a_difference_says_insert_update_delete_and_nothing_of_equal_rows(spark: SparkSession) -> None:
    wanted = spark.createDataFrame(
        [(1, None, 1.0, ["a"]), (2, None, None, None), (3, 3, 3.0, ["c"]), (5, None, 0.0, [])], ROW
    )
    existing = spark.createDataFrame(
        [(1, None, 1.0, ["a"]), (2, None, 2.0, None), (4, 4, 4.0, ["d"]), (5, None, 0.0, []), (5, None, 0.0, [])], ROW
    )
    found = difference(wanted, existing, wanted.columns, ("id", "part"), old=("value",)).toArrow().to_pylist()
    said = {(row["id"], row["_change"]): (row["value"], row["_old_value"]) for row in found}
    assert len(said) == len(found)
    assert said == {
        (2, "update"): (None, 2.0),
        (3, "insert"): (3.0, None),
        (4, "delete"): (None, 4.0),
        (5, "delete"): (0.0, 0.0),
        (5, "again"): (0.0, 0.0),
    }


@pytest.mark.parametrize("few", [pytest.param(5_000, id="known-here"), pytest.param(2, id="too-many-to-know")])
def test_a_slice_lets_exactly_its_keys_through(spark: SparkSession, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(slices, "FEW", few)
    moment = F.timestamp_micros(F.lit(TEN) + F.col("id") * MINUTE)
    table = spark.range(100).select(F.when(F.col("id") != 7, F.col("id")).alias("id"), moment.alias("moment"))
    wanted = table.where("id IN (3, 50) OR id IS NULL OR id > 90").union(table.where("id = 3"))
    chosen = Slice.of(wanted)
    assert (chosen.known is None) == (few == 2)
    found = {row["id"] for row in chosen.among(table, "id", "moment").toArrow().to_pylist()}
    assert found == {3, 50, None, *range(91, 100)}
    assert table.where(chosen.within("moment")).count() >= len(found)


def test_a_slice_of_days_reads_from_midnight_to_midnight(spark: SparkSession) -> None:
    days = Slice.of(spark.createDataFrame([(date(2024, 2, 29),), (date(2024, 3, 2),)], "day DATE"))
    moments = [at("2024-02-28T23:59:59"), at("2024-02-29"), at("2024-03-01") - 1, at("2024-03-01"), at("2024-03-02")]
    table = spark.createDataFrame([(moment,) for moment in moments], "micros BIGINT")
    table = table.withColumn("moment", F.timestamp_micros("micros"))
    found = {row["micros"] for row in table.where(days.on_days("moment", "day")).toArrow().to_pylist()}
    assert found == {moments[1], moments[2], moments[4]}


def test_bounds_skip_the_files_of_others(pipeline: Pipeline) -> None:
    for user in range(1, 6):
        told(pipeline, event("start", TEN + user * SECOND, user))
        pipeline.run("silver.workout_events")
    pipeline.run(SESSIONS)
    chosen = Slice.of(
        pipeline.spark.createDataFrame([(3, 1, 1)], "user_id BIGINT, workout_id BIGINT, session_id BIGINT")
    )
    events = pipeline.spark.table("silver.workout_events")
    files = chosen.among(events, "user_id", "workout_id", "session_id").select("_metadata.file_path").distinct().count()
    assert events.select("_metadata.file_path").distinct().count() == 5
    assert files == 1


def test_a_late_reading_before_midnight_shortens_what_the_next_day_begins_with(pipeline: Pipeline) -> None:
    midnight, device = at("2024-03-10T00:00:00"), 10
    readings = [Reading(device, midnight + second * SECOND, 120.0) for second in (5, 20)]
    registered = RegistrationVersion(1, device, "mac-10", TEN, 1)
    events = [event("start", midnight - 10 * MINUTE), event("stop", midnight + 10 * MINUTE)]
    pipeline.land(World([registered], workout_events=events, readings=readings))
    pipeline.run_all()

    def zone_2() -> float:
        [row] = [row for row in pipeline.rows("gold.user_activity") if row["activity_date"] == date(2024, 3, 10)]
        return float(row["minutes_zone_2"])

    assert zone_2() == 0.5
    pipeline.land(World(readings=[Reading(device, midnight - 2 * SECOND, 100.0)]))
    pipeline.run_all()
    assert zone_2() == 0.37


def test_a_streak_goes_on_from_the_days_before_those_that_change_whatever_began_that_evening(
    pipeline: Pipeline,
) -> None:
    def exercised(user: int, day: int, hour: int) -> list[WorkoutEvent]:
        start = at(f"2024-03-{day:02}T{hour:02}:00:00")
        return [event("start", start, user, 100 * day + hour), event("stop", start + HOUR, user, 100 * day + hour)]

    def streaks(user: int) -> dict[int, int]:
        rows = [row for row in pipeline.rows("gold.user_activity") if row["user_id"] == user]
        return {row["activity_date"].day: row["streak_days"] for row in rows}

    told(pipeline, *exercised(1, 8, 12), *exercised(1, 9, 22), *exercised(1, 10, 10))
    told(pipeline, *exercised(2, 9, 8), *exercised(2, 10, 8), *exercised(2, 11, 8))
    pipeline.run_all()
    assert streaks(1) == {8: 1, 9: 2, 10: 3}
    told(pipeline, *exercised(1, 10, 18), *exercised(2, 12, 8), *exercised(1, 14, 8))
    pipeline.run_all()
    assert streaks(1) == {8: 1, 9: 2, 10: 3, 14: 1}
    assert streaks(2) == {9: 1, 10: 2, 11: 3, 12: 4}


def test_a_device_that_comes_back_has_a_new_period_and_ends_the_others(pipeline: Pipeline) -> None:
    said = [
        RegistrationVersion(user, 10, "mac-10", TEN + hour * HOUR, hour) for hour, user in enumerate((1, 2, 1, 1), 1)
    ]
    for version in said:
        pipeline.land(World([version]))
        pipeline.run("silver.user_devices")
    periods = sorted(
        (row["valid_from"], row["user_id"], row["valid_to"]) for row in pipeline.rows("silver.user_devices")
    )
    moments = [job.instant(TEN + hour * HOUR) for hour in (1, 2, 3)]
    assert periods == [
        (moments[0], 1, moments[1]),
        (moments[1], 2, moments[2]),
        (moments[2], 1, None),
    ]
