"""Reconciliation finds and names each planted defect, and reports nothing where nothing is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from spark_jobs.quality import periods
from spark_jobs.quality import readings as readings_of_quality
from spark_jobs.quality.reconciliation import DefectsFound
from tests.spark.healthy import fill, reading, stream, world
from tests.spark.pipeline import NOW, Pipeline

# Of each table: how the row of a member is found, and a column to change. No member of a group lies beneath another's:
# what is planted in a source makes the rows above it pending.
BENEATH, MIDDLE, READ, ABOVE = (1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12)
PLANTED = {
    "silver.users": (BENEATH, "user_id = {m}", "registered_at = '2020-01-01'"),
    "silver.gym_visits": (BENEATH, "visit_id = {m}", "gym_id = 8"),
    "silver.workout_events": (BENEATH, "user_id = {m} AND action = 'stop'", "occurred_at = '2024-01-09'"),
    "silver.user_profile_changes": (BENEATH, "user_id = {m}", "city = 'Y'"),
    "silver.heart_rate": (BENEATH, "device_id = 100 + {m} AND bpm = 63.5", "bpm = 70"),
    "ops.quarantine": ((0, 1, None), "topic = 'workout' AND offset % 2 = {m}", ""),
    "silver.user_devices": (MIDDLE, "user_id = {m}", "mac_address = 'other'"),
    "silver.user_profile": (MIDDLE, "user_id = {m}", "city = 'Y'"),
    "silver.user_profile_history": (MIDDLE, "user_id = {m}", "city = 'Y'"),
    "silver.workout_sessions": (MIDDLE, "user_id = {m}", "status = 'open'"),
    "silver.workout_heart_rate": (READ, "user_id = {m} AND bpm = 63.5", "bpm = 70"),
    "gold.workout_summary": (ABOVE, "user_id = {m}", "city = 'Y'"),
    "gold.workout_completion": (ABOVE, "day(workout_date) = 1 + {m}", "age_band = 'unknown'"),
    "gold.gym_activity": (ABOVE, "user_id = {m}", "minutes_in_gym = 1"),
    "gold.user_activity": (ABOVE, "user_id = {m}", "streak_days = 9"),
    "gold.bpm_trends": (ABOVE, "device_id = 100 + {m}", "max_bpm = 200"),
}
# where a planted row has other effects than one of each
EXPECTED = {
    "ops.quarantine": {"missing": 1, "doubled": 1},
    # a changed key is a row that is missing and one that nobody said
    "silver.workout_events": {"missing": 2, "doubled": 1, "unexpected": 1},
    "gold.workout_completion": {"missing": 2, "doubled": 1, "unexpected": 1},
    # three minutes in which readings are lost, doubled and changed
    "gold.bpm_trends": {"missing": 1, "doubled": 1, "changed": 4},
}
# what names a row whose key has no member: an offset (the last two of the topic), a day
NAMED = {"ops.quarantine": "offset={0}", "gold.workout_completion": "workout_date=2024-01-{1:02d}"}
COMPARED = ("rows computed anew", "readings computed anew", "bronze = accepted + quarantined")


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    lake = Pipeline(spark, tmp_path_factory.mktemp("healthy"))
    fill(lake)
    yield lake
    lake.forget()


@pytest.fixture
def undone(lake: Pipeline) -> Iterator[None]:
    """Whatever a test does to the tables is undone."""
    tables = [table for table in PLANTED if table != "ops.quarantine"] + ["ops.quarantine", "bronze.kafka_multiplex"]
    before = {table: _version(lake, table) for table in tables}
    yield
    for table, version in before.items():
        if _version(lake, table) != version:
            lake.spark.sql(f"RESTORE TABLE spark_catalog.{table} TO VERSION AS OF {version}").collect()


def _version(lake: Pipeline, table: str) -> int:
    return int(lake.spark.sql(f"DESCRIBE HISTORY spark_catalog.{table} LIMIT 1").collect()[0]["version"])


def compare(lake: Pipeline, *arguments: str, now: datetime = NOW) -> list[dict[str, Any]]:
    """What a run writes; it fails exactly if there is a defect. By default the stream has gone on since it began."""
    run_id = uuid4().hex
    try:
        lake.run("quality.reconciliation", "--patience-seconds", "0", "--run-id", run_id, *arguments, now=now)
        failed = False
    except DefectsFound:
        failed = True
    found = [row for row in lake.rows("ops.reconciliation") if row["run_id"] == run_id]
    assert found
    assert failed == any(row["verdict"] == "defect" for row in found)
    return found


def reconcile(lake: Pipeline, *arguments: str) -> list[dict[str, Any]]:
    """The defects that a run finds."""
    return [row for row in compare(lake, *arguments) if row["verdict"] == "defect"]


@pytest.mark.usefixtures("undone")
def test_planted_defects_are_found_and_named_and_nothing_else_is(lake: Pipeline) -> None:
    assert reconcile(lake) == []
    assert reconcile(lake) == []

    for table, (members, row, change) in PLANTED.items():
        lost, doubled, changed = (row.format(m=member) for member in members)
        name = f"spark_catalog.{table}"
        lake.spark.sql(f"DELETE FROM {name} WHERE {lost}").collect()
        lake.spark.sql(f"INSERT INTO {name} SELECT * FROM {name} WHERE {doubled}").collect()
        if change:
            lake.spark.sql(f"UPDATE {name} SET {change} WHERE {changed}").collect()

    for arguments in ([], ["--full"]):
        found = {row["scope"]: row for row in reconcile(lake, *arguments) if row["what"] in COMPARED}
        assert set(found) == {*PLANTED, "workout"} - {"ops.quarantine"}
        wrong = {}
        for scope, row in found.items():
            table = "ops.quarantine" if scope == "workout" else scope
            kinds = {kind: row[kind] for kind in ("missing", "unexpected", "doubled", "changed") if row[kind]}
            if kinds != EXPECTED.get(table, {"missing": 1, "doubled": 1, "changed": 1}):
                wrong[table] = (kinds, row["detail"])
            for member in PLANTED[table][0][:2]:
                names = (
                    [NAMED[table].format(24 + member, 1 + member)]
                    if table in NAMED
                    else [f"={member}", f"={100 + member}"]
                )
                if not any(name in row["detail"] for name in names):
                    wrong[table] = (member, row["detail"])
        assert not wrong


@pytest.mark.usefixtures("undone")
def test_what_a_batch_has_half_written_is_pending_until_the_stream_has_gone_on(
    lake: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tables of four have the rows of a batch; then another batch ends, and the rest is not there yet."""
    assert reconcile(lake) == []
    name = "spark_catalog.silver.heart_rate"
    lake.spark.sql(f"INSERT INTO {name} VALUES (999, TIMESTAMP'2024-01-05 10:00:00Z', 60)").collect()
    refused, offset = "spark_catalog.ops.quarantine", lake.offsets["bpm"]
    one = lake.spark.table(refused).where("reason = 'conflicting_reading'").withColumn("offset", F.lit(offset))
    one.writeTo(refused).append()
    without_end = datetime.now(UTC) + timedelta(days=1)  # later than any batch has ended
    for _ in range(2):
        found = compare(lake, now=without_end)
        assert [row for row in found if row["verdict"] == "defect"] == []
        pending = {row["scope"]: row["pending"] for row in found if row["pending"]}
        assert pending == {"silver.heart_rate": 1, "gold.bpm_trends": 1}
    with monkeypatch.context() as with_kafka:
        with_kafka.setattr(readings_of_quality, "_may_be_at_work", lambda view, at: False)
        found = [row["scope"] for row in compare(lake, now=without_end) if row["verdict"] == "defect"]
        assert found == ["silver.heart_rate", "gold.bpm_trends"]

    lake.offsets["bpm"] += 1  # the record that was refused is nowhere
    stream(lake, [reading(2, 600, 70)], 1)
    wrong = {row["scope"]: (row["missing"], row["unexpected"]) for row in reconcile(lake)}
    assert wrong == {"bpm": (0, 1), "silver.heart_rate": (0, 1), "gold.bpm_trends": (1, 0)}


@pytest.mark.usefixtures("undone")
def test_what_jobs_have_not_read_yet_is_pending_and_then_checked(lake: Pipeline) -> None:
    assert reconcile(lake) == []
    lake.land(world(range(13, 16)))
    stream(lake, [reading(13, second, 70) for second in range(1, 4)], 2)
    assert reconcile(lake) == []
    lake.run_all(jobs=("silver.users", "silver.user_devices", "silver.workout_events", "silver.workout_sessions"))
    assert reconcile(lake) == []
    lake.run_all()
    assert reconcile(lake) == []
    lake.spark.sql("DELETE FROM spark_catalog.gold.workout_summary WHERE user_id = 14").collect()
    found = reconcile(lake)
    assert [row["scope"] for row in found if row["what"] in COMPARED] == ["gold.workout_summary"]
    assert [row["scope"] for row in found if row["what"] == "sums by day"] == [
        "silver.workout_sessions = gold.workout_summary count(*)"
    ]


@pytest.mark.usefixtures("undone")
def test_a_reading_that_neither_silver_nor_quarantine_has_is_missed(lake: Pipeline) -> None:
    lake.spark.sql("DELETE FROM spark_catalog.silver.heart_rate WHERE device_id = 105").collect()
    lake.spark.sql("DELETE FROM spark_catalog.ops.quarantine WHERE reason = 'conflicting_reading'").collect()
    found = {row["what"]: row for row in reconcile(lake, "--full") if row["scope"] == "bpm"}
    of_records = found["bronze = accepted + duplicate + quarantined"]
    assert (of_records["missing"], of_records["changed"]) == (5, 1)


def test_days_are_compared_though_what_arrived_on_one_was_refused_on_another(lake: Pipeline) -> None:
    for first in (NOW, datetime.now(UTC)):  # when records arrived, and when they were put into quarantine
        days = [str((first + timedelta(days=number)).date()) for number in (-1, 1)]
        assert reconcile(lake, "--from-date", days[0], "--to-date", days[1]) == []


def test_periods_that_overlap_or_leave_a_gap_are_wrong(spark: SparkSession) -> None:
    rows = [(1, 1, 3), (1, 2, None), (2, 1, 2), (2, 3, None), (3, 1, 2), (3, 2, None)]
    history = spark.createDataFrame(rows, "user_id INT, valid_from INT, valid_to INT")
    assert [row["user_id"] for row in periods.overlapping(history, "user_id").collect()] == [1]
    gaps = periods.followed(history, "user_id").where("valid_to < next_from")
    assert [row["user_id"] for row in gaps.collect()] == [2]
